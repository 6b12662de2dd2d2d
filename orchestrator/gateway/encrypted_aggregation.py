"""The gateway's side of secure rounds under CKKS: masked vectors stay here, encrypted pads go to the key holder.

    context    the key holder makes keys for this attempt and signs them for the nodes
    encrypted  with the round's message the nodes get them; each sends its masked vector and its encrypted pad, both signed
    decrypt    the key holder gets signatures and ciphertexts, and says what the pads add up to: the gateway takes it off

Masked vectors never go to the key holder, who could read them. Answers are read from the store one after another: memory does not
grow with the number of nodes.
"""

from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, RoundError, WireError
from orchestrator.gateway.aggregation import MAX_MESSAGE_BYTES, Tensors
from orchestrator.gateway.secure_aggregation import Counts, Request, SecureAggregation
from orchestrator.privacy.ckks import BITS, MOST_PARTIES, Receiver, SumPlan
from orchestrator.privacy.secure_session import LEAST_SURVIVORS
from orchestrator.privacy.vector_layout import Summed
from orchestrator.rounds.events import Aggregate, Announce
from orchestrator.rounds.steps import CONTEXT, DECRYPT, ENCRYPTED, ENCRYPTED_STEPS
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.counted import Counted
from orchestrator.wire.encrypted_steps import Ciphertext, KeysAsked, KeysMade, Terms, Vouched
from orchestrator.wire.secure_steps import Attempt, Form, Step, Weight
from orchestrator.wire.sizes import MOST_CONTEXT_BYTES


class EncryptedAggregation(SecureAggregation):
    """Rounds of one run whose sums a key holder opens."""

    _STEPS = ENCRYPTED_STEPS
    _receiver: Optional[Tuple[Tuple[int, int], Receiver]] = None  # (round, attempt), what checks its answers

    def _most_tensors(self, step: Any) -> int:
        values = self._answers.most_values()
        if step == ENCRYPTED:
            return 4 * values + SumPlan(values, LEAST_SURVIVORS).ciphertext_bytes
        return MOST_CONTEXT_BYTES if step == CONTEXT else 4 * values if step == DECRYPT else 0

    def request(self, action: Announce, counts: Mapping[str, Tuple[int, int]]) -> Request:
        """Of the step "context". `counts`: of all nodes that may be in the sum."""
        parties = self._fix_form(action, counts).parties
        wanted = KeysAsked(parties, self._layout(action).size)
        return Request({**self._about(action), **wanted.written()}, {})

    def opening(self, action: Announce, counts: Counts) -> Tuple[Dict[str, Any], Tensors]:
        header, tensors = self._context(action)
        keys, form = KeysMade.read(header).written(), self._fix_form(action, {}).written()
        return {"attempt": action.attempt, "step": ENCRYPTED, **form, **keys}, {"context": tensors["context"]}

    def passed_on(self, action: Announce) -> Iterator[bytes]:
        """Of the step "decrypt": bodies for the key holder, each to be sent when the one before has come."""
        announced = self._announcement(action, self._layout(action))
        terms = Terms(announced, self._exchange.said(action, ENCRYPTED, Vouched))
        yield encode_body({**self._about(action), **terms.written()}, level=1)
        for node, body in self._exchange.bodies(action, ENCRYPTED):
            ciphertext = np.frombuffer(_part(body, "ciphertext"), np.uint8)
            about = {**self._about(action), "told": announced}
            yield encode_body({**about, **Ciphertext(node).written()}, {"ciphertext": ciphertext}, level=1)

    def check_answer(self, step: str, header: Dict[str, Any], tensors: Tensors) -> None:
        if step == CONTEXT:
            _check_bytes(tensors, "context")
            KeysMade.read(header)
            try:  # here, where it is the key holder's fault, and not at the first node's answer
                Receiver(tensors["context"].tobytes())
            except PrivacyError as error:
                raise WireError(str(error)) from error
        elif step == ENCRYPTED:
            _check_bytes(tensors, "masked")
            _check_bytes(tensors, "ciphertext")
            vouched = Vouched.read(header)
            Weight.read(header).check()
            masked, ciphertext = (tensors[name].tobytes() for name in ("masked", "ciphertext"))
            try:  # here, where it costs one node its place, and not the whole sum at the key holder
                receiver = self._receiver_of(Attempt.read(header))
                receiver.check(masked, ciphertext, (vouched.digest, vouched.masked_digest))
            except PrivacyError as error:
                raise WireError(str(error)) from error
        elif step == DECRYPT:
            total = tensors.get("sum")
            if total is None or total.dtype != np.uint32 or total.ndim != 1:
                raise WireError("an opened sum came without its values")

    def _form(self, number: int, counts: Mapping[str, Tuple[int, int]]) -> Form:
        """For the largest nodes that could be in the sum: who will be is not known when keys are made."""
        if not counts:
            raise RoundError(f"the store lacks the form of round {number}: was it edited?")
        cohort = self._task.selection.cohort or MOST_PARTIES
        parties = max(self._task.aggregation.least, min(len(counts), cohort, MOST_PARTIES))
        records, units = (sum(sorted((c[i] for c in counts.values()), reverse=True)[:parties]) for i in (0, 1))
        return Form(BITS, parties, units, records)

    def _open(self, action: Aggregate) -> Dict[str, Summed]:
        layout = self._layout(action)
        body = self._exchange.body(action, DECRYPT, self._task.aggregation.key_holder)
        if body is None:
            raise RoundError(f"the store lacks the sum of round {action.round}: was it edited?")
        pads = decode_body(body, MAX_MESSAGE_BYTES)[1]["sum"]
        masked = (_part(answer, "masked") for _, answer in self._exchange.bodies(action, ENCRYPTED))
        total = self._receiver_of(action).open(masked, pads)
        self._summed = dict(self._exchange.headers(action, ENCRYPTED))
        self._units = sum(Counted.read(header).units for header in self._summed.values())
        return layout.decode(total)

    def _about(self, action: Any) -> Dict[str, Any]:
        return Step(self._run, action.round, action.attempt, action.step).written()

    def _context(self, action: Any) -> Tuple[Dict[str, Any], Tensors]:
        """The key holder's answer for the action's attempt."""
        body = self._exchange.body(action, CONTEXT, self._task.aggregation.key_holder)
        if body is None:
            raise RoundError(f"the store lacks the public keys of round {action.round}: was it edited?")
        return decode_body(body, MAX_MESSAGE_BYTES)

    def _receiver_of(self, at: Any) -> Receiver:
        """What checks and opens the answers of an attempt; `at`: anything with its round and number."""
        attempt = at.round, at.attempt
        if self._receiver is None or self._receiver[0] != attempt:
            _, tensors = self._context(Announce(attempt[0], (), CONTEXT, attempt[1]))
            self._receiver = attempt, Receiver(tensors["context"].tobytes())
        return self._receiver[1]


def _part(body: bytes, name: str) -> bytes:
    return decode_body(body, MAX_MESSAGE_BYTES)[1][name].tobytes()


def _check_bytes(tensors: Tensors, name: str) -> None:
    tensor = tensors.get(name)
    if tensor is None or tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise WireError(f"an answer without its {name}")
