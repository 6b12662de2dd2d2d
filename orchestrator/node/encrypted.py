"""This node's side of one round under CKKS: it checks whose the public keys are, hides its vector, and signs what it sends.

The masked vector is for the gateway, the encrypted pad for the key holder (privacy/ckks.py). The node speaks once in an attempt,
so one that dies before it has spoken may come back and speak. The vector is stored before it is hidden: another attempt at the
round carries the same noise, under a new pad.

Two opened sums of a round would differ in what single nodes sent. That only one is opened, and that all nodes in it had the same
model, is the key holder's part (node/key_holder.py). This node sees to it that the key holder is one that remembers: it
answers no attempt at a round for keys of another journal than the attempt before, nor more attempts than the task has.
"""

from typing import Any, Callable, Dict

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.node.secure import MAX_BODY_BYTES, MODEL_FIELD, SAID, Answer, SecureRound, Tensors
from orchestrator.privacy.ckks import BITS, Encryptor, SumPlan, context_message, sign_summand
from orchestrator.privacy.ckks_blocks import tenseal
from orchestrator.privacy.vector_layout import Layout
from orchestrator.rounds.steps import ENCRYPTED, PREPARED
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.encrypted_steps import KeysMade, Vouched
from orchestrator.wire.secure_steps import Form
from orchestrator.wire.task import Task


def objection_to_encrypting(task: Task, name: str) -> str:
    """Why the node `name` can encrypt nothing for this task; "" where it can, or need not."""
    holder = task.aggregation.key_holder
    if not holder:
        return ""
    if holder == name:
        return (
            f"the task names {name} as its key holder: run `edgeward keyholder run` there, away from data and gateway"
        )
    try:
        tenseal()
    except PrivacyError as error:
        return str(error)
    return ""


class EncryptedRound(SecureRound):
    """One attempt at an encrypted sum."""

    _journal = b""  # of the key holder whose keys came with the round

    def _begin(self) -> None:
        attempts = self.run.task.rounds.attempts
        if self.attempt == PREPARED:
            raise PrivacyError("nothing is exchanged for an encrypted round before it is announced")
        if not 1 <= self.attempt <= attempts:
            raise PrivacyError(f"attempt {self.attempt} at a round of a task with {attempts} attempts at each")

    def _steps(self) -> Dict[str, Callable[[Dict[str, Any]], Answer]]:
        return {ENCRYPTED: self._encrypted}

    def _encrypted(self, header: Dict[str, Any]) -> Answer:
        form = Form.read(header)
        layout, encryptor = self._layout_of(form), self._encryptor(KeysMade.read(header))
        if layout.bits != BITS:
            raise PrivacyError(f"a vector of {layout.bits} bits a value was asked for: under CKKS they have {BITS}")
        wanted = SumPlan(layout.size, form.parties)
        if encryptor.plan != wanted:
            raise PrivacyError(f"the key holder's keys are for {encryptor.plan}, this round's sum is {wanted}")
        values, weights = self._values(layout)
        vector = layout.encode(values, weights, np.random.default_rng())
        hidden = encryptor.hide(vector, self._name, self._session)
        summand = sign_summand(self._name, hidden, self._session, self._peers.sign, self._announcement(layout))
        vouched = Vouched(*summand[1:], self._peers.credential)
        tensors = {name: np.frombuffer(getattr(hidden, name), np.uint8) for name in ("masked", "ciphertext")}
        return {**self._counts(), **vouched.written()}, tensors

    def _computed(self, layout: Layout) -> Tensors:
        """Stored with the journal and model they were computed for. Raises PrivacyError for the keys of another journal, and for
        another model: parts of different ones could make all of a sum vanish but one (`check_model`).
        """
        run, model = self.run, self.model_digest()
        body = self._store.released(run.id, self.number, run.digest)
        if body is None:
            parts, keep, _ = self._contribute(self.number, self._announced, self._tensors, layout)
            body = encode_body({"journal": self._journal, MODEL_FIELD: model, SAID: run.said}, parts, level=1)
            self._store.release(run.id, self.number, run.digest, body, keep)
            return self._computed(layout)
        header, stored = decode_body(body, MAX_BODY_BYTES)
        if header.get("journal") != self._journal:
            raise PrivacyError(
                f"the key holder of another attempt at round {self.number} kept another journal: it may have opened a sum "
                "that this one does not know of"
            )
        self.check_model(header.get(MODEL_FIELD, model))
        run.said = header.get(SAID, {})
        return dict(stored)

    def _encryptor(self, keys: KeysMade) -> Encryptor:
        """For the keys that came with the round, once they are known to be the key holder's, made for this attempt."""
        aggregation = self.run.task.aggregation
        context = self._tensors.get("context")
        if context is None:
            raise WireError(f"round {self.number} came without the key holder's public keys")
        public = context.tobytes()
        holder = aggregation.key_holder
        self._peers.admit_all({holder: keys.credential}, self.run.certificates, key_holder=True)
        self._journal = keys.journal
        message = context_message(self._session, public, aggregation.least, self._journal)
        if not self._peers.verify(holder, message, keys.signature):
            raise PrivacyError(
                f"these public keys are not signed by {holder} for this attempt and for sums over at least "
                f"{aggregation.least} nodes: they may be the gateway's, who could read what is encrypted for them"
            )
        return Encryptor(public)
