"""The gateway's side of secure rounds: what each step asks, from the answers to the one before, and the sum in the end.

Everything is made of what the store holds, so a gateway that begins again asks the same and opens the same sum. It never holds
anything from which a single node's vector could be read.
"""

from dataclasses import replace
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Type

import numpy as np

from orchestrator.errors import PrivacyError, RoundError, WireError
from orchestrator.gateway.aggregation import MAX_MESSAGE_BYTES, ROOM_BYTES, Aggregation, Evaluate, Tensors
from orchestrator.gateway.exchange import Exchange
from orchestrator.gateway.outcome import Outcome
from orchestrator.gateway.run import standardization
from orchestrator.gateway.run_store import RunStore
from orchestrator.privacy.noisy_sum import TALLY
from orchestrator.privacy.ring import from_ring
from orchestrator.privacy.secure_sum import (
    CERTIFICATES,
    MODEL,
    Advert,
    Aggregator,
    Ring,
    digest_of_announced,
    usable_key,
)
from orchestrator.privacy.vector_layout import UPDATE, Layout, Summed, bits_for, parts_of
from orchestrator.rounds.events import Aggregate, Announce, Arrived
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS
from orchestrator.rounds.steps import (
    CONFIRM,
    FORESEEN,
    KEYS,
    MASKED,
    MASKED_STEPS,
    NEXT,
    PREPARED,
    REVEAL,
    SHARES,
    UNMASK,
)
from orchestrator.rounds.strategy import move_by_mean
from orchestrator.wire.body import MAX_HEADER_BYTES, decode_body
from orchestrator.wire.counted import Counted
from orchestrator.wire.message import Message
from orchestrator.wire.secure_steps import (
    AllKeys,
    AllNonces,
    Expectation,
    Form,
    Keys,
    NextKeys,
    Nonce,
    Opening,
    Shares,
    SharesOf,
    Signature,
    Signatures,
    Step,
    Survivors,
    Weight,
)
from orchestrator.wire.task import Task, digest_of, task_to_dict
from orchestrator.wire.transparency import head_of, read_log, view_of

_NEXT_STEP = {MASKED: KEYS, UNMASK: SHARES}
_ANSWERS: Dict[str, Type[Message]] = {REVEAL: Nonce, SHARES: Shares, CONFIRM: Signature, UNMASK: Opening}
Counts = Mapping[str, Tuple[int, int]]
"""node -> (records, privacy units), as it joined."""

_FEW = 12
"""Nodes whose encrypted shares for each other (about 100 bytes each) are little beside a model."""


class Request(NamedTuple):
    """What a step asks. fields: the same for everybody; own: node -> what is for it alone."""

    fields: Dict[str, Any]
    own: Dict[str, Dict[str, Any]]


class SecureAggregation(Aggregation):
    """Rounds of one run whose sums are opened by the nodes together."""

    _STEPS: Tuple[str, ...] = MASKED_STEPS

    def __init__(self, store: RunStore, run: str, task: Task, evaluate: Optional[Evaluate], federation: str) -> None:
        super().__init__(store, run, task, evaluate)
        self._exchange = Exchange(store, run, federation, task.aggregation)
        self._opened: Dict[str, Summed] = {}
        self._units = 0  # of the nodes in the sum
        self._summed: Dict[str, Dict[str, Any]] = {}  # headers of their answers, by node
        self._task_digest = ""

    def most_unpacked(self, header: Dict[str, Any]) -> int:
        if header.get("kind") != "step":
            return ROOM_BYTES
        return ROOM_BYTES + MAX_HEADER_BYTES + self._most_tensors(header.get("step"))

    def most_sent(self) -> int:
        most = max(self.most_unpacked({"kind": "step", "step": step}) for step in self._STEPS)
        return min(MAX_MESSAGE_BYTES, most + most // 128 + ROOM_BYTES)

    def _most_tensors(self, step: Any) -> int:
        """Bytes of the tensors of an answer to this step."""
        return 4 * self._answers.most_values() if step == MASKED else 0

    def _longest(self, action: Aggregate) -> str:
        return ""

    # Steps

    def opening(self, action: Announce, counts: Counts) -> Tuple[Dict[str, Any], Tensors]:
        """(header fields, tensors) of the round's message, beside the model: the request of the step it begins."""
        fields: Dict[str, Any] = {"attempt": action.attempt, "prepared": action.attempt == PREPARED}
        if self.in_one_message(action):
            request = self.request(replace(action, nodes=self._exchange.parties(action)), counts)
            own = {node: alone["shares"] for node, alone in request.own.items()}
            fields.update({**request.fields, "kind": "round", **SharesOf(own).written()})
        return fields, {}

    def in_one_message(self, action: Announce) -> bool:
        """Whether a round that begins with the vectors tells all nodes in its own message what is for each: if it is little."""
        return action.attempt == PREPARED and len(self._exchange.parties(action)) <= _FEW

    def request(self, action: Announce, counts: Counts) -> Request:
        """What the step asks of the action's nodes. `counts`: node -> (records, privacy units), as it joined."""
        own: Dict[str, Dict[str, Any]] = {}
        asked: List[Message] = []
        if action.step == REVEAL:
            asked = [AllKeys(self._exchange.adverts(action))]
        elif action.step == SHARES:
            adverts = self._exchange.adverts(action)
            asked = [AllNonces(adverts, self._exchange.nonces(action) if self._exchange.sparse(len(adverts)) else {})]
        elif action.step == MASKED:
            asked = [self._fix_form(action, {name: counts[name] for name in self._exchange.parties(action)})]
            shared = {name: said.shares for name, said in self._exchange.said(action, SHARES, Shares).items()}
            for node in action.nodes:
                for_it = {sender: shares[node] for sender, shares in shared.items() if node in shares}
                own[node] = Shares(for_it).written()
        elif action.step == CONFIRM:
            asked = [Survivors(self._exchange.nodes(action, MASKED))]
        elif action.step == UNMASK:
            # Of an attempt before this one there may be keys of nodes that are not in this one.
            self._exchange.keep_only(_next(action), KEYS, self._exchange.nodes(action, MASKED))
            coming = self._exchange.adverts(_next(action))
            uncommitted = {name: replace(keys, commitment=b"") for name, keys in coming.items()}
            asked = [self._signatures(action), NextKeys(uncommitted)]
        fields = Step(self._run, action.round, action.attempt, action.step).written()
        for each in asked:
            fields.update(each.written())
        return Request(fields, own)

    def _signatures(self, action: Announce) -> Signatures:
        """Under the list of survivors; where nobody was asked to confirm it, all foresaw it."""
        confirmed = {name: said.signature for name, said in self._exchange.said(action, CONFIRM, Signature).items()}
        if confirmed:
            return Signatures(confirmed)
        expected = self._exchange.said(action, MASKED, Expectation)
        signed = {name: said.foreseen for name, said in expected.items() if said.foreseen is not None}
        return Signatures(signed, foreseen=True)

    def check_answer(self, step: str, header: Dict[str, Any], tensors: Tensors) -> None:
        """Raises WireError for an answer that no later step could use."""
        if step == KEYS:
            # Of keys without a commitment: nodes refuse them if it turns out that one is needed.
            _check_keys(Keys.read(header))
        elif step == MASKED:
            masked = tensors.get("masked")
            if masked is None or masked.dtype != np.uint8 or masked.ndim != 1:
                raise WireError("a masked vector came without its bytes")
            Weight.read(header).check()
            coming = Expectation.read(header).next
            if coming is not None:
                _check_keys(coming)
        elif step in _ANSWERS:
            _ANSWERS[step].read(header)

    def _fix_form(self, action: Announce, counts: Counts) -> Form:
        """The numbers all parties make their vectors with: computed once for an attempt, and kept."""
        form = self._exchange.form(action)
        if form is None:
            form = self._form(action.round, counts)
            self._exchange.fix(action, form)
        return form

    def _form(self, number: int, counts: Counts) -> Form:
        records, units = (sum(count[i] for count in counts.values()) for i in (0, 1))
        parts = parts_of(self._task, number, self._answers.size(number))
        bits = bits_for(parts, units, len(counts), self._task.aggregation.bits)
        return Form(bits, len(counts), units, records)

    def _layout(self, action: Any) -> Layout:
        """Of the vectors of the action's attempt."""
        parts = parts_of(self._task, action.round, self._answers.size(action.round))
        form = self._exchange.form(action)
        if form is None:
            raise RoundError(f"the store lacks the form of round {action.round}: was it edited?")
        return Layout(parts, form.bits, form.parties, form.units, form.records)

    def passed_on(self, action: Announce) -> Iterator[bytes]:
        """Bodies for a key holder, each to be sent when the one before has come; masks need none."""
        raise RoundError(f"step {action.step!r}: a masked sum has no key holder")

    def prepares(self, step: str, header: Dict[str, Any]) -> bool:
        """Whether an answer, checked before, brings something for the next round. In other steps nobody asked for that."""
        return step in _NEXT_STEP and NEXT in header

    def foresees(self, step: str, header: Dict[str, Any]) -> bool:
        """Whether an answer, checked before, is signed by who expects it to be in a certain sum."""
        return step == MASKED and FORESEEN in header

    def put_answer(self, event: Arrived, header: Dict[str, Any], body: bytes) -> None:
        """Stores an answer, with what it brings for the next round; inside the transaction of its event."""
        self._exchange.put(event, header, body, _NEXT_STEP.get(event.step, ""))

    # The sum

    def outcome(self, action: Aggregate, known: float) -> Outcome:
        """Raises PrivacyError when the sum cannot be opened; then nobody ever will."""
        self._opened = self._open(action) if action.nodes else {}
        self._exchange.drop_up_to(action.round)
        outcome = super().outcome(action, known)
        outcome.figures["opened"] = bool(action.nodes)
        if UPDATE in self._opened:
            outcome.figures["values_cut"] = self._opened[UPDATE].cut
        return outcome

    def _open(self, action: Aggregate) -> Dict[str, Summed]:
        layout = self._layout(action)
        keys, parties = self._exchange.adverts(action), self._exchange.parties(action)
        nonces = self._exchange.nonces(action) if self._exchange.sparse(len(keys)) else {}
        adverts, ring = [Advert.of(name, keys[name]) for name in parties], Ring(layout.bits, layout.size)
        aggregator = Aggregator(
            self._exchange.session(action), adverts, ring, self._announcement(action, layout), nonces
        )
        for name, said in self._exchange.said(action, SHARES, Shares).items():
            aggregator.take_shares(name, said.shares)
        self._units, self._summed = 0, {}
        for name, body in self._exchange.bodies(action, MASKED):
            header, tensors = decode_body(body, MAX_MESSAGE_BYTES)
            try:
                aggregator.take_masked(name, tensors["masked"].tobytes())
            except ValueError as error:
                raise PrivacyError(f"the vector of {name}: {error}") from error
            self._units += Counted.read(header).units
            self._summed[name] = header
        answers = {name: said.shares for name, said in self._exchange.said(action, UNMASK, Opening).items()}
        return layout.decode(from_ring(aggregator.open(answers), layout.bits))

    def _answer_headers(self, action: Aggregate) -> Dict[str, Dict[str, Any]]:
        return self._summed

    def _announcement(self, action: Any, layout: Layout) -> bytes:
        """Digest of what was announced to all nodes of the action's attempt."""
        model, log = self._model(action.round), read_log(self._store.certificates(self._run))
        if log:
            model[CERTIFICATES] = np.frombuffer(view_of(head_of(log)), np.uint8)
        return digest_of_announced(self._digest(), layout.form, model)

    def _digest(self) -> str:
        if not self._task_digest:
            stored = self._store.find_run(self._run)
            if stored is None:
                raise RoundError(f"the store lacks the task of run {self._run}: was it edited?")
            self._task_digest = digest_of(task_to_dict(self._task), stored[1])
        return self._task_digest

    def _model(self, number: int) -> Tensors:
        """What the round starts from, as it was announced."""
        if self._stages.of(number) == STATISTICS:
            return {}
        return dict(zip(MODEL, (self.weights(), *standardization(self._store, self._run, self._task))))

    # What the sum says

    def _statistics_total(self, action: Aggregate) -> Tuple[np.ndarray, float]:
        part = self._opened[STATISTICS]
        if self._task.privacy.on:
            return part.values, float(self._units)
        return part.values * part.weight, float(part.weight)

    def _analysis_total(self, action: Aggregate) -> np.ndarray:
        return self._opened[ANALYSIS].values

    def _moved(
        self, action: Aggregate, known: float, sums: Dict[str, np.ndarray], shared: np.ndarray
    ) -> Tuple[np.ndarray, Tensors]:
        if self._task.evaluates(action.round):
            self._take_sums(action, sums)
        if TALLY in self._opened:
            self._tallies.add(self._opened[TALLY].values, self._units, len(action.nodes))
        return move_by_mean(self._strategy, shared, self._mean(action), self._strategy_state())

    def _take_sums(self, action: Aggregate, sums: Dict[str, np.ndarray]) -> None:
        part = self._opened.get(EVALUATION)
        if part is not None:
            sums[""] = part.values if self._task.privacy.on else part.values * part.weight

    def _mean(self, action: Aggregate) -> np.ndarray:
        """float64 (P,): by how much the nodes in the sum would move the weights."""
        privacy, training, values = self._task.privacy, self._task.training, self._opened[UPDATE].values
        if not privacy.distributed:
            return values
        if privacy.of_nodes:
            # Of the expected number, not of those that came: what is divided by must not depend on one node.
            return values / (self._task.selection.cohort or self._task.rounds.nodes)
        gradient = values / (privacy.sampling_rate * self._units)
        return np.asarray(-training.learning_rate_at(action.round) * gradient)


def _check_keys(keys: Keys) -> None:
    for name, key in (("channel", keys.channel), ("mask", keys.mask)):
        if not usable_key(key):
            raise WireError(f"the key {name!r} is invalid: no secret can be agreed on with it")


def _next(action: Announce) -> Announce:
    return Announce(action.round + 1, action.nodes, KEYS, PREPARED)
