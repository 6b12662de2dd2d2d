"""This node's side of one secure round: keys, shares, its masked vector, and help in opening the sum (rounds/secure.py).

What protects the node is in privacy/secure_sum.py; here its steps meet messages. A vector with noise is stored before it is
masked, so that a round attempted again carries the same noise; and once this node has helped to open a sum of a round it is in no
other sum of that round, whatever the gateway says. Rounds under CKKS: node/encrypted.py.
"""

import logging
from abc import ABC, abstractmethod
from typing import AbstractSet, Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from orchestrator.analyses.registry import KIND, analysis_of
from orchestrator.errors import PrivacyError, WireError
from orchestrator.node.analysed import asked_of
from orchestrator.node.contribution import Contribution
from orchestrator.node.peers import Peers
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.privacy.releases import kinds_in, noise_multipliers
from orchestrator.privacy.secure_sum import CERTIFICATES, MODEL, Advert, Party, Session, digest_of_announced, session_id
from orchestrator.privacy.vector_layout import Layout, parts_of
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS
from orchestrator.rounds.steps import CONFIRM, KEYS, MASKED, NEXT, PREPARED, REVEAL, SHARES, UNMASK
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.protection import LEAST_NOISE
from orchestrator.wire.secure_steps import (
    AllKeys,
    AllNonces,
    Asked,
    Attempt,
    AttemptOf,
    Expectation,
    Form,
    Keys,
    NextKeys,
    Nonce,
    Opening,
    Shares,
    Signature,
    Signatures,
    Step,
    Survivors,
    Weight,
)

log = logging.getLogger("edgeward.node")

Tensors = Dict[str, np.ndarray]
Answer = Tuple[Dict[str, Any], Tensors]
Contribute = Callable[[int, Dict[str, Any], Tensors, Layout], Contribution]

MAX_BODY_BYTES = 512 << 20

_MOST_DRAWS = 16
"""Attempts at a round in which a node reveals a nonce, however many a task allows."""

MODEL_FIELD = "model"
"""Field of a stored vector with the digest of what it was computed from."""

SAID = "said"
"""Field of a stored vector with what goes with it (`Run.said`)."""


class SecureRound(ABC):
    """One attempt. Feed it the gateway's messages; each gives this node's answer, the same one when it comes again."""

    following: Optional[Party] = None
    """With keys, and perhaps shares, for the next round, where this one prepares it."""

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
        steady: bool = False,
    ) -> None:
        """`announced` and `tensors`: the round's message. `party`: with keys and shares exchanged during the round before.

        `steady`: all masked sums of a run that carry no noise are over the same nodes, or this one is in none (see MaskedRound).
        Raises PrivacyError where the node must not take part.
        """
        at = Attempt.read(announced)
        self.run, self.number, self.attempt = run, at.round, at.attempt
        self._session = session_id(federation, run.id, self.number, self.attempt)
        self._federation, self._prepared, self._steady = federation, party, steady
        self._announced, self._tensors, self._name = announced, tensors, name
        self._peers, self._store, self._contribute = peers, store, contribute
        self._answers: Dict[str, Answer] = {}
        self._begin()

    def precedes(self, at: AttemptOf) -> bool:
        """Whether the announced attempt is the one after this round, to which `following` goes along."""
        return at == AttemptOf(self.run.id, self.number + 1, PREPARED)

    def is_at(self, at: AttemptOf) -> bool:
        """Whether a message is of this attempt."""
        return at == AttemptOf(self.run.id, self.number, self.attempt)

    def answer(self, header: Dict[str, Any]) -> Answer:
        """(header fields, tensors) that answer a step's message. Raises PrivacyError or WireError saying why there is none."""
        step = Asked.read(header).step
        self._peers.refresh()
        if step not in self._answers:
            steps = self._steps()
            if step not in steps:
                raise WireError(f"a secure round has no step {step!r} in this version")
            fields, tensors = steps[step](header)
            about = Step(self.run.id, self.number, self.attempt, step)
            self._answers[step] = ({**about.written(), **fields}, tensors)
        return self._answers[step]

    @abstractmethod
    def _begin(self) -> None:
        """Raises PrivacyError where the node must not take part."""

    @abstractmethod
    def _steps(self) -> Dict[str, Callable[[Dict[str, Any]], Answer]]:
        """step -> what answers its message."""

    @property
    def _stage(self) -> str:
        return self.run.task.stages.of(self.number)

    def _layout_of(self, form: Form) -> Layout:
        parameters = 0 if self._stage == STATISTICS else self._update_size()
        parts = parts_of(self.run.task, self.number, parameters)
        return Layout(parts, form.bits, form.parties, form.units, form.records)

    def _announcement(self, layout: Layout) -> bytes:
        """Digest of what must have been announced to all nodes of a sum alike."""
        model = {name: self._tensors[name] for name in MODEL if name in self._tensors}
        if self.run.certificates:
            model[CERTIFICATES] = np.frombuffer(self._peers.view(self.run.certificates), np.uint8)
        return digest_of_announced(self.run.digest, layout.form, model)

    def _counts(self) -> Dict[str, Any]:
        return {**Weight(self.run.stated, self.run.stated_units).written(), **self.run.said}

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
        run, model = self.run, self.model_digest()
        body = self._store.released(run.id, self.number, run.digest)
        if body is not None:
            header, parts = decode_body(body, MAX_BODY_BYTES)
            self.check_model(header.get(MODEL_FIELD, model))
            run.said = header.get(SAID, {})
            return dict(parts)
        parts, keep, _ = self._contribute(self.number, self._announced, self._tensors, layout)
        body = encode_body({MODEL_FIELD: model, SAID: run.said}, parts, level=1)
        self._store.release(run.id, self.number, run.digest, body, keep)
        return self._computed(layout)

    def model_digest(self) -> str:
        """Of what this attempt starts from, hexadecimal: the same for the same numbers, without what is this node's own part."""
        # Zero has two signs, which adding it makes one.
        model = {
            n: np.asarray(self._tensors[n], np.float32).ravel() + np.float32(0) for n in MODEL if n in self._tensors
        }
        if "weights" in model:
            model["weights"] = model["weights"][: model["weights"].size - self.run.task.training.personal_parameters]
        return digest_of_announced("model", (), model).hex()

    def check_model(self, digest: str) -> None:
        """Raises PrivacyError unless the vector of an earlier attempt goes with what this one says all start from.

        All in a sum get the same model now. Had others got another one before, one from which nothing is learned, what
        they computed then and send now would vanish from the sum, and the updates of those that computed now stand alone.
        """
        if digest != self.model_digest():
            raise PrivacyError(f"round {self.number} began with another model in an earlier attempt")


class MaskedRound(SecureRound):
    """One attempt at a masked sum.

    Sums without noise. Two sums of one model (or of the statistics of one schema, or of one kind of analysis that asks the same,
    whatever its options) over different nodes differ in what single nodes sent: over n nodes and over n - 1, the difference is a
    node's update. So a node helps to open such sums over one set of nodes: of the same model in whatever run, round or attempt,
    and where `steady` of all models in the same run. It checks this when it learns who is in the session, before it gives
    anything (`_shares`, `_masked`), and again for who is left (`_confirm`, `_unmask`); what it helps with is on the disk before
    it does.

    What that gives: no combination of opened sums equals what one honest node sent. Count honest nodes only. Those that help to
    open a sum are more than half of those in it (`Session.majority`), and they help with no sum over another set. Let a sum over
    the set S_i have the factor a_i in the combination, and w be what this gives for each node. Over those that helped with S_i,
    |w| adds up to at least |a_i| for each of them, less what other sums take off there; and all that S_i takes off elsewhere is
    |a_i| for each of its others, which are fewer. So |w| adds up to at least the sum of all |a_i|. Were w 1 for one node and 0
    for all others, the |a_i| would add up to 1 at most and those of the sums that node is in to 1: no a_i is negative, every
    sum has that node in it, and nobody else in these sums could have w = 0.

    What it does not give. A model is the same only where all its numbers are: a gateway may change one in its last place, or a
    range of the schema, and updates to nearly the same model are nearly the same. Only `steady` covers that, within a run.
    Without noise and without `steady` a node that leaves or joins between rounds shows, nearly, in the difference of the sums;
    over two runs it does in any case. And nothing here hides what a sum itself shows of its nodes. Noise does (`[task.privacy]`):
    sums that carry it are not restricted so (a multiplier below 0.1 counts as none). The newest 20,000 sums are remembered.
    """

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
            run.parts = (self.number, self.model_digest(), parts)
        self.check_model(run.parts[1])
        return dict(run.parts[2])

    def _new_party(self, session: bytes) -> Party:
        aggregation, peers = self.run.task.aggregation, self._peers
        terms = (aggregation.neighbours, aggregation.least, aggregation.colluding)
        return Party(Session(session, *terms), self._name, peers.sign, peers.verify)

    def _steps(self) -> Dict[str, Callable[[Dict[str, Any]], Answer]]:
        return {
            KEYS: self._keys,
            REVEAL: self._reveal,
            SHARES: self._shares,
            MASKED: self._masked,
            CONFIRM: self._confirm,
            UNMASK: self._unmask,
        }

    def _note_opened(self) -> None:
        sums = {scope: _named(self._party.agreed) for scope in self._scopes()}
        self._store.note_opened(self.run.id, self.number, self.run.digest, sums)

    def _scopes(self) -> Dict[str, str]:
        """Scope -> what sums of it have in common: all must be over the same nodes. None where sums carry noise."""
        if self._noisy():
            return {}
        if self._stage == STATISTICS:  # without a model: these follow from the data and the schema's ranges alone
            schema = repr(self.run.task.schema)
            scopes = {f"statistics {digest_of_announced(schema, (), {}).hex()}": "of the same statistics"}
        elif self._stage == ANALYSIS:
            scopes = {f"analysis {self._question().hex()}": "of the same analysis"}
        else:
            scopes = {f"model {self.model_digest()}": "of the same model"}
        return {**scopes, f"run {self.run.id}": "of this run"} if self._steady else scopes

    def _question(self) -> bytes:
        """Digest of what an analysis is asked. Options are left out: other ones change a part of the sum, or nothing of it. So is
        the kind where nothing is asked: a histogram and the bins of a quantile are the same counts.
        """
        task = self.run.task
        analysis = analysis_of(task)
        question = analysis.question(asked_of(analysis, self._tensors.get("weights"), self.number))
        scope = analysis.scope(question) + 0.0  # no -0.0
        kind = task.analysis[KIND] if scope.size else ""
        return digest_of_announced(repr((task.schema, kind)), (), {"question": scope})

    def _noisy(self) -> bool:
        """Whether every part of this round's vector carries noise worth the name."""
        task = self.run.task
        noises = noise_multipliers(task)
        return task.privacy.on and min(noises.get(kind, 0.0) for kind in kinds_in(task, self.number)) >= LEAST_NOISE

    def check_sum(self, nodes: AbstractSet[str]) -> None:
        """Raises PrivacyError where a sum over these nodes would differ in single ones from a sum opened before."""
        for scope, what in self._scopes().items():
            before = self._store.sum_over(scope)
            if before is not None and before != _named(nodes):
                raise PrivacyError(
                    f"this node has helped to open a sum {what} over other nodes: with a second one without noise the difference "
                    "would show what single nodes sent"
                )

    def _keys(self, _: Dict[str, Any]) -> Answer:
        keys = self._keys_of(self._party).written()
        keys["credential"] = keys.pop("credential")  # the last of them, as all versions write it
        return keys, {}

    def _keys_of(self, party: Party, ahead: bool = False) -> Keys:
        advert = party.advertise(ahead)
        signed = advert.channel_key, advert.mask_key, advert.signature
        return Keys(*signed, self._peers.credential, advert.commitment)

    def _reveal(self, header: Dict[str, Any]) -> Answer:
        run, adverts = self.run, self._adverts_of(AllKeys.read(header).adverts)
        most = min(run.task.rounds.attempts, _MOST_DRAWS)
        if not 1 <= self.attempt <= most:
            raise PrivacyError(f"attempt {self.attempt} of at most {most}: each draws again who is whose neighbour")
        nonce = self._party.reveal(adverts)
        if not self._store.note_revealed(run.id, self.number, self.attempt):
            raise PrivacyError(
                f"this node has revealed its nonce in attempt {self.attempt} at round {self.number} before"
            )
        return Nonce(nonce).written(), {}

    def _shares(self, header: Dict[str, Any]) -> Answer:
        asked = AllNonces.read(header)
        shares = self._party.share(self._adverts_of(asked.adverts), asked.nonces)
        self.check_sum(self._party.parties)
        return Shares(shares).written(), {}

    def _adverts_of(self, keys_of: Dict[str, Keys]) -> List[Advert]:
        self._peers.admit_all({name: keys.credential for name, keys in keys_of.items()}, self.run.certificates)
        return [Advert.of(name, keys) for name, keys in keys_of.items()]

    def _masked(self, header: Dict[str, Any]) -> Answer:
        self._party.check_signatures()  # the owner may have withdrawn a peer since keys were exchanged
        layout, shares = self._layout_of(Form.read(header)), Shares.read(header).shares
        if not self._party.sparse:
            self.check_sum({*shares, self._name})
        self._party.open_shares(shares)  # whatever can be wrong with the message is, before a sample is drawn
        values, weights = self._values(layout)
        vector = layout.encode(values, weights, np.random.default_rng())
        masked = self._party.mask(vector, shares, layout.bits, self._announcement(layout))
        answer, foreseen = self._counts(), self._party.foresee()
        coming: Optional[Keys] = None
        if self.number < self.run.task.last_round and not self._party.sparse:
            following = session_id(self._federation, self.run.id, self.number + 1, PREPARED)
            self.following = self._new_party(following)
            coming = self._keys_of(self.following, ahead=True)
        return {**answer, **Expectation(foreseen, coming).written()}, {"masked": np.frombuffer(masked, np.uint8)}

    def _confirm(self, header: Dict[str, Any]) -> Answer:
        signature = self._party.confirm(Survivors.read(header).survivors)
        self.check_sum(self._party.agreed)
        if self._party.sparse:
            # Fewer than half of the nodes may be asked for shares then, so what counts is the signature.
            self._note_opened()
        return Signature(signature).written(), {}

    def _unmask(self, header: Dict[str, Any]) -> Answer:
        signed = Signatures.read(header)
        shares = self._party.unmask(signed.signatures, signed.foreseen)
        coming: Optional[Shares] = None
        self.check_sum(self._party.agreed)
        self._note_opened()  # before anybody can open anything
        if self.following is not None and header.get(NEXT):
            try:
                coming = Shares(self.following.share(self._adverts_of(NextKeys.read(header).next)))
            except (
                PrivacyError,
                WireError,
            ) as error:  # the next round begins with keys then, and says what is wrong with them
                log.info("round %d: no keys for the next one yet: %s", self.number, error)
                self.following = None
        return Opening(shares, coming).written(), {}


def _named(nodes: AbstractSet[str]) -> str:
    return "\n".join(sorted(nodes))
