"""This node's side of one secure round: keys, shares, its masked vector, and help in opening the sum (rounds/secure.py).

What protects the node is in privacy/secure_sum.py; here its steps meet messages. A vector with noise is stored before it is
masked, so that a round attempted again carries the same noise; and once this node has helped to open a sum of a round it is in no
other sum of that round, whatever the gateway says. Rounds under CKKS: node/encrypted.py.
"""

import logging
from abc import ABC, abstractmethod
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.node.contribution import EVALUATION, STATISTICS, Contribution, Run
from orchestrator.node.peers import Peers
from orchestrator.node.store import NodeStore
from orchestrator.privacy.secure_sum import MODEL, Advert, Party, Session, digest_of_told, session_id
from orchestrator.privacy.vector_layout import Layout, parts_of
from orchestrator.rounds.secure import CONFIRM, FORESEEN, KEYS, MASKED, NEXT, PREPARED, SHARES, UNMASK
from orchestrator.wire.body import decode_body, encode_body, require, require_map

log = logging.getLogger("edgeward.node")

Tensors = Dict[str, np.ndarray]
Answer = Tuple[Dict[str, Any], Tensors]
Contribute = Callable[[int, Dict[str, Any], Tensors, Layout], Contribution]

MAX_BODY_BYTES = 512 << 20


class SecureRound(ABC):
    """One attempt. Feed it the gateway's messages; each gives this node's answer, the same one when it comes again."""

    def __init__(
        self,
        federation: str,
        run: Run,
        announced: Dict[str, Any],
        tensors: Tensors,
        name: str,
        peers: Peers,
        store: NodeStore,
        contribute: Contribute,
        party: Optional[Party] = None,
    ) -> None:
        """`announced` and `tensors`: the round's message. `party`: with keys and shares exchanged during the round before.

        Raises PrivacyError where the node must not take part.
        """
        self.run, self.number, self.attempt = run, require(announced, "round", int), require(announced, "attempt", int)
        self._session = session_id(federation, run.id, self.number, self.attempt)
        self._federation, self._prepared = federation, party
        self._announced, self._tensors, self._name = announced, tensors, name
        self._peers, self._store, self._contribute = peers, store, contribute
        self._answers: Dict[str, Answer] = {}
        self._begin()

    def answer(self, header: Dict[str, Any]) -> Answer:
        """(header fields, tensors) that answer a step's message. Raises PrivacyError or WireError saying why there is none."""
        step = require({"step": KEYS, **header}, "step", str)
        if step not in self._answers:
            steps = self._steps()
            if step not in steps:
                raise WireError(f"a secure round has no step {step!r} in this version")
            fields, tensors = steps[step](header)
            about = {"kind": "step", "run": self.run.id, "round": self.number, "attempt": self.attempt, "step": step}
            self._answers[step] = ({**about, **fields}, tensors)
        return self._answers[step]

    @abstractmethod
    def _begin(self) -> None:
        """Raises PrivacyError where the node must not take part."""

    @abstractmethod
    def _steps(self) -> Dict[str, Callable[[Dict[str, Any]], Answer]]:
        """step -> what answers its message."""

    def _layout_of(self, header: Dict[str, Any]) -> Layout:
        parameters = 0 if self.number == 0 else self._update_size()
        parts = parts_of(self.run.task, self.number, parameters)
        counts = (require(header, key, int) for key in ("bits", "parties", "units", "records"))
        return Layout(parts, *counts)

    def _told(self, layout: Layout) -> bytes:
        """Digest of what all nodes of a sum must have been told alike."""
        model = {name: self._tensors[name] for name in MODEL if name in self._tensors}
        return digest_of_told(self.run.digest, layout.form, model)

    def _counts(self) -> Dict[str, Any]:
        return {"records": self.run.stated, "units": self.run.stated_units}

    def _update_size(self) -> int:
        weights = self._tensors.get("weights")
        if weights is None:
            raise WireError(f"round {self.number} came without weights")
        return int(weights.size) - self.run.task.training.personal_parameters

    def _values(self, layout: Layout) -> Tuple[Tensors, Dict[str, int]]:
        """The vector's parts and the weights of its means; those of an earlier attempt, if there was one."""
        run = self.run
        values = self._computed(layout)
        weights = {name: run.stated for name in values}
        times = {part.name: part.times for part in layout.parts}
        for name, count in ((STATISTICS, run.units), (EVALUATION, run.held_out.records)):
            if name in values and values[name].dtype != np.dtype("<i8"):  # a sum without noise: send it as a mean
                values[name] = values[name] / max(1, count)
                # Who held out far more than its share counts for less: sums have no room for it.
                weights[name] = min(count, times[name] * run.stated)
        return values, weights

    def _computed(self, layout: Layout) -> Tensors:
        """The vector's parts, computed once and stored."""
        run = self.run
        body = self._store.released(run.id, self.number, run.digest)
        if body is not None:
            return dict(decode_body(body, MAX_BODY_BYTES)[1])
        parts, keep, _ = self._contribute(self.number, self._announced, self._tensors, layout)
        self._store.release(run.id, self.number, run.digest, encode_body({}, parts, level=1), keep)
        return dict(parts)


class MaskedRound(SecureRound):
    """One attempt at a masked sum."""

    following: Optional[Party] = None
    """With keys, and perhaps shares, for the next round."""

    def _begin(self) -> None:
        if self._store.opened(self.run.id, self.number):
            raise PrivacyError(f"this node has helped to open a sum of round {self.number} already")
        if (self._prepared is not None) != (self.attempt == PREPARED):
            raise PrivacyError("this node has no keys for this round from the one before")
        self._party = self._prepared or self._new_party(self._session)

    def _computed(self, layout: Layout) -> Tensors:
        """Without noise, and without a part that this node trains on, memory is enough: what is lost can be computed again."""
        run = self.run
        if run.task.privacy.on or run.task.training.personal_parameters:
            return super()._computed(layout)
        if run.parts is None or run.parts[0] != self.number:
            self._store.released(run.id, self.number, run.digest)  # raises for a round that is over
            parts, _, _ = self._contribute(self.number, self._announced, self._tensors, layout)
            self._store.charge(run.id, self.number)
            run.parts = (self.number, parts)
        return dict(run.parts[1])

    def _new_party(self, session: bytes) -> Party:
        aggregation, peers = self.run.task.aggregation, self._peers
        terms = (aggregation.neighbours, aggregation.least, aggregation.colluding)
        return Party(Session(session, *terms), self._name, peers.sign, peers.verify)

    def precedes(self, run: Run, header: Dict[str, Any]) -> bool:
        """Whether the announced attempt is the one this round prepared."""
        return (run.id, header.get("round"), header.get("attempt")) == (self.run.id, self.number + 1, PREPARED)

    def _steps(self) -> Dict[str, Callable[[Dict[str, Any]], Answer]]:
        return {
            KEYS: self._keys,
            SHARES: self._shares,
            MASKED: self._masked,
            CONFIRM: self._confirm,
            UNMASK: self._unmask,
        }

    def _keys(self, _: Dict[str, Any]) -> Answer:
        return self._keys_of(self._party), {}

    def _keys_of(self, party: Party) -> Dict[str, Any]:
        advert = party.advertise()
        keys = {"channel": advert.channel_key, "mask": advert.mask_key, "signature": advert.signature}
        return {**keys, "credential": self._peers.credential}

    def _shares(self, header: Dict[str, Any]) -> Answer:
        return {"shares": self._share(self._party, require(header, "adverts", dict))}, {}

    def _share(self, party: Party, keys_of: Dict[str, Any]) -> Dict[str, bytes]:
        adverts: List[Advert] = []
        for name, told in keys_of.items():
            if not isinstance(told, dict):
                raise WireError(f"the keys of {name} are {told!r}")
            self._peers.admit(name, require(told, "credential", bytes))
            keys = (require(told, key, bytes) for key in ("channel", "mask", "signature"))
            adverts.append(Advert(name, *keys))
        return party.share(adverts)

    def _masked(self, header: Dict[str, Any]) -> Answer:
        layout = self._layout_of(header)
        values, weights = self._values(layout)
        vector = layout.encode(values, weights, np.random.default_rng())
        masked = self._party.mask(vector, require_map(header, "shares", bytes), layout.bits, self._told(layout))
        answer = self._counts()
        foreseen = self._party.foresee()
        if foreseen is not None:
            answer[FORESEEN] = foreseen
        if self.number < self.run.task.last_round:
            following = session_id(self._federation, self.run.id, self.number + 1, PREPARED)
            self.following = self._new_party(following)
            answer[NEXT] = self._keys_of(self.following)
        return answer, {"masked": np.frombuffer(masked, np.uint8)}

    def _confirm(self, header: Dict[str, Any]) -> Answer:
        return {"signature": self._party.confirm(require(header, "survivors", list))}, {}

    def _unmask(self, header: Dict[str, Any]) -> Answer:
        foreseen = require({FORESEEN: False, **header}, FORESEEN, bool)
        shares = self._party.unmask(require_map(header, "signatures", bytes), foreseen)
        self._store.note_opened(self.run.id, self.number, self.run.digest)  # before anybody can open anything
        answer: Dict[str, Any] = {"shares": {name: [kind, share] for name, (kind, share) in shares.items()}}
        if self.following is not None and header.get(NEXT):
            try:
                answer[NEXT] = {"shares": self._share(self.following, require(header, NEXT, dict))}
            except (
                PrivacyError,
                WireError,
            ) as error:  # the next round begins with keys then, and says what is wrong with them
                log.info("round %d: no keys for the next one yet: %s", self.number, error)
                self.following = None
        return answer, {}
