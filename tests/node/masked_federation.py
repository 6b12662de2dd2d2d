"""Nodes' sides of masked rounds with an honest gateway between them, whose messages a test may change."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Type

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.gateway.store import Store
from orchestrator.node.contribution import Contribution
from orchestrator.node.peers import Peers
from orchestrator.node.run import Run
from orchestrator.node.secure import Contribute, MaskedRound
from orchestrator.node.store import NodeStore
from orchestrator.privacy.mask_graph import complete_up_to
from orchestrator.privacy.standardization import range_scaling
from orchestrator.privacy.vector_layout import Layout
from orchestrator.rounds.events import Aggregate, Announce
from orchestrator.rounds.steps import KEYS, MASKED, MASKED_STEPS, REVEAL, SHARES
from orchestrator.wire.body import encode_body
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, digest_of, task_to_dict
from orchestrator.wire.training import Training

SIZE = 6
NODES = ("a", "b", "c", "d", "e")
MANY = tuple("abcdefghijklmno")
"""So many that with 12 neighbours not all are neighbours."""

RECORDS = {name: 10 * i for i, name in enumerate(NODES, 1)}
Answer = Tuple[Dict[str, Any], Dict[str, np.ndarray]]
Lie = Callable[[str, Dict[str, Any]], Dict[str, Any]]

OPEN = Privacy(unit="none")
DISTRIBUTED = Privacy(noise="distributed", noise_multiplier=1.0)


def make_task(privacy: Privacy = OPEN, **aggregation: Any) -> Task:
    schema = Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    secure = Aggregation("masked", update_range=8.0, **aggregation)
    rules = Rounds(nodes=5, quorum=max(3, secure.least))
    return Task("t", schema, {}, Training(rounds=3), privacy, rules, aggregation=secure)


def value_of(name: str) -> np.ndarray:
    return np.full(SIZE, 1.0 + MANY.index(name) % 5, np.float32)


def records_of(name: str) -> int:
    return 10 * (1 + MANY.index(name))


class Federation:
    """Gateway and nodes in memory. `computed` and `charged`: how often a node computed, and told its ledger of, a release."""

    def __init__(
        self,
        folder: Path,
        task: Optional[Task] = None,
        names: Sequence[str] = NODES,
        kind: Type[MaskedRound] = MaskedRound,
    ) -> None:
        """kind: the node's side, which a test may weaken."""
        self.kind = kind
        self.folder, self.task, self.names = folder, task or make_task(), tuple(names)
        self.store = Store(folder / "gateway.sqlite")
        self.store.create_run("run", task_to_dict(self.task), b"graph", np.zeros(SIZE, np.float32))
        self.gateway = SecureAggregation(self.store, "run", self.task, None, "test")
        self.stores = {name: NodeStore(folder / f"{name}.sqlite") for name in names}
        self.peers = {name: Peers(name, self.stores[name], first_sight=True) for name in names}
        self.computed: List[str] = []
        self.charged: List[Tuple[str, int]] = []
        self.rounds: Dict[str, MaskedRound] = {}
        self.runs: Dict[str, Run] = {}
        self.number, self.attempt, self.run = 1, 1, "run"
        self.steady: Sequence[str] = ()
        self.learns_nothing: Sequence[str] = ()
        """Nodes that are shown a model from which nothing is learned: what they compute vanishes from a sum."""
        self.shown: Dict[str, Dict[str, Optional[np.ndarray]]] = {}
        """By node, what it is shown of a model in another way than the rest; None for what is left out."""
        mean, std = range_scaling(self.task.schema)
        self.model = {"weights": np.zeros(SIZE, np.float32), "mean": mean, "std": std}

    def begin(self, attempt: int = 1, number: int = 1) -> None:
        self.number, self.attempt = number, attempt
        for name in self.names:
            self.rounds[name] = self.round_of(name)

    def round_of(self, name: str) -> MaskedRound:
        """The node's side of the open attempt."""
        count, store = records_of(name), self.stores[name]
        data = Dataset(np.zeros((count, 1), np.float32), np.zeros(count, np.int32))
        digest = digest_of(task_to_dict(self.task), b"graph")
        if name not in self.runs:  # one that was killed has none
            self.runs[name] = Run(self.run, digest, self.task, b"graph", data, data.take(np.zeros(count, bool)))
        run = self.runs[name]
        store.before_release = lambda run, number: self.charged.append((name, number))

        message = {"kind": "round", "run": self.run, "round": self.number, "attempt": self.attempt}
        return self.kind(
            "test",
            run,
            message,
            self.model_for(name),
            name,
            self.peers[name],
            store,
            self.contribute_of(name),
            steady=name in self.steady,
        )

    def model_for(self, name: str) -> Dict[str, np.ndarray]:
        """What the gateway shows one node."""
        changed = self.shown.get(name, {})
        if name in self.learns_nothing:
            changed = {**changed, "weights": np.full(SIZE, 1e30, np.float32)}
        return {what: value for what, value in {**self.model, **changed}.items() if value is not None}

    def contribute_of(self, name: str) -> Contribute:
        """What computes for a node: an update that names it."""

        def contribute(number: int, header: Any, tensors: Any, layout: Layout) -> Contribution:
            noisy = self.task.privacy.on
            if name in self.learns_nothing:
                return Contribution({"update": np.zeros(SIZE, np.int64 if noisy else np.float32)}, {}, {})
            self.computed.append(name)
            # What a second draw of the noise would be is seen at once: it is another number.
            steps = np.full(SIZE, 1000 * len(self.computed), np.int64)
            part = layout.parts[0]
            return Contribution({part.name: (steps if noisy else value_of(name))[: part.size]}, {}, {})

        return contribute

    def asked(self, step: str, name: str) -> Dict[str, Any]:
        """What an honest gateway says to one node."""
        if step == KEYS:
            return {"step": KEYS}
        counts = {n: (records_of(n), records_of(n)) for n in self.names}
        request = self.gateway.request(Announce(self.number, self.names, step, self.attempt), counts)
        return {**request.fields, **request.own.get(name, {})}

    def step(self, step: str, names: Optional[Sequence[str]] = None, lie: Optional[Lie] = None) -> Dict[str, Answer]:
        answers = {}
        messages = {name: self.asked(step, name) for name in names or self.names}
        for name, message in messages.items():
            answers[name] = self.rounds[name].answer(lie(name, message) if lie else message)
            self.gateway.check_answer(step, *answers[name])
        for name, answer in answers.items():
            self.store.put_answer("run", self.number, self.attempt, step, name, encode_body(*answer))
        return answers

    def until(self, step: str) -> None:
        """All steps before this one, with everybody."""
        self.begin(self.attempt, self.number)
        for before in self.steps[: self.steps.index(step)]:
            self.step(before)

    @property
    def steps(self) -> Sequence[str]:
        sparse = len(self.names) > complete_up_to(self.task.aggregation.neighbours)
        return (KEYS, REVEAL, *MASKED_STEPS[1:]) if sparse else MASKED_STEPS

    def vectors(self, lie: Optional[Lie] = None) -> None:
        """From keys to masked vectors; the numbers they are made with come with one of the two steps."""
        for step in (SHARES, MASKED):
            self.step(step, lie=lie)

    def open(self, names: Optional[Sequence[str]] = None) -> np.ndarray:
        """float (SIZE,): by how much the round's sum moves the weights."""
        action = Aggregate(self.number, tuple(names or self.names), self.attempt)
        return np.asarray(self.gateway.outcome(action, 0.0).vectors["weights"] - self.model["weights"])


def mean_of(names: Sequence[str]) -> float:
    total = sum(records_of(n) for n in names)
    return float(sum(records_of(n) * value_of(n)[0] for n in names) / total)


def other_key(federation: Federation, name: str, **parts: bytes) -> Lie:
    """The keys of `name` in everybody's message, with some fields replaced."""

    def lie(_: str, message: Dict[str, Any]) -> Dict[str, Any]:
        adverts = dict(message["adverts"])
        adverts[name] = {**adverts[name], **parts}
        return {**message, "adverts": adverts}

    return lie
