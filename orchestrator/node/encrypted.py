"""This node's side of one round under CKKS: it checks whose the public keys are, encrypts its vector, and signs the ciphertext.

It speaks once in an attempt, so one that dies before its ciphertext was sent may come back and send it. The vector is stored
before it is encrypted: another attempt at the round carries the same noise. That only one attempt's sum is ever opened is
the key holder's part (node/key_holder.py), and that all nodes in it were told the same model.
"""

from typing import Any, Callable, Dict

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.node.secure import Answer, SecureRound
from orchestrator.privacy.ckks import Encryptor, SumPlan, context_message, sign_summand
from orchestrator.privacy.ckks_blocks import tenseal
from orchestrator.rounds.secure import ENCRYPTED, PREPARED
from orchestrator.wire.body import require
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

    def _begin(self) -> None:
        if self.attempt == PREPARED:
            raise PrivacyError("nothing is exchanged for an encrypted round before it is announced")

    def _steps(self) -> Dict[str, Callable[[Dict[str, Any]], Answer]]:
        return {ENCRYPTED: self._encrypted}

    def _encrypted(self, header: Dict[str, Any]) -> Answer:
        layout = self._layout_of(header)
        encryptor = self._encryptor(header)
        wanted = SumPlan(layout.size, require(header, "parties", int), float(layout.bound), 1.0)
        if encryptor.plan != wanted:
            raise PrivacyError(f"the key holder's keys are for {encryptor.plan}, this round's sum is {wanted}")
        values, weights = self._values(layout)
        vector = layout.encode(values, weights, np.random.default_rng())
        ciphertext = encryptor.encrypt(vector.astype(np.float64))
        summand = sign_summand(self._name, ciphertext, self._session, self._peers.sign, self._told(layout))
        signed = {"digest": summand.digest, "signature": summand.signature, "credential": self._peers.credential}
        return {**self._counts(), **signed}, {"ciphertext": np.frombuffer(ciphertext, np.uint8)}

    def _encryptor(self, header: Dict[str, Any]) -> Encryptor:
        """For the keys that came with the round, once they are known to be the key holder's, made for this attempt."""
        aggregation = self.run.task.aggregation
        context = self._tensors.get("context")
        if context is None:
            raise WireError(f"round {self.number} came without the key holder's public keys")
        public = context.tobytes()
        holder = aggregation.key_holder
        credentials = {holder: require(header, "credential", bytes)}
        self._peers.admit_all(credentials, self.run.certificates, key_holder=True)
        message = context_message(self._session, public, aggregation.least, aggregation.checked)
        if not self._peers.verify(holder, message, require(header, "signature", bytes)):
            raise PrivacyError(
                f"these public keys are not signed by {holder} for this attempt and for sums over at least "
                f"{aggregation.least} nodes: they may be the gateway's, who could read what is encrypted for them"
            )
        return Encryptor(public)
