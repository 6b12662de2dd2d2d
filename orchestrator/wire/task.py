"""What a federation learns: data schema, model, training, privacy, rounds. Read from edgeward.toml, sent to every node.

All of it is frozen and checked when built: a `Task` that exists is one that makes sense by itself.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, Tuple

from orchestrator.errors import UsageError
from orchestrator.rounds.declared import MEAN_STRATEGIES, declared
from orchestrator.rounds.stages import ANALYSIS, TRAINING, Stages
from orchestrator.wire.bounds import MAX_NODES, at_least_one, count, not_negative, one_of, refuse, seconds, within
from orchestrator.wire.codec import CODECS, ERROR_FEEDBACK, EXACT
from orchestrator.wire.cross_scored import objections
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Schema
from orchestrator.wire.sizes import too_many_cells
from orchestrator.wire.structure import structure, unstructure
from orchestrator.wire.training import BALANCED, ONLY_OF_NUMBERS, Training

FORMAT = 1
WEIGHTS = ("float32", "int8")

NO_USE = "of tasks that train a model, and this one has an analysis: leave it out"

LATER: Tuple[Tuple[str, str, Any], ...] = (
    ("privacy", "clip_tally", False),
    ("privacy", "score_noise_multiplier", 0.0),
    ("training", "class_weights", ()),
    ("rounds", "weights", "float32"),
    ("schema", "target", {}),
)
"""(table, field, default) of what tasks did not have when runs were first named, and decisions made, by all that a task says.

It is left out where it has its default, so that a run keeps its name, and its nodes' approvals, when the gateway is updated.
"""


@dataclass(frozen=True)
class Rounds:
    """When a round starts, ends, and when it fails."""

    nodes: int = 2  # nodes that are wanted; a run starts when so many are here [1 to 100000]
    quorum: int = 1  # updates a round needs [1 to nodes]
    # seconds after which a round ends with a quorum, or is announced again without one [above 0 to 1e9]
    deadline_s: float = 120.0
    attempts: int = 3  # announcements of one round before the run fails [1 to 1000000]
    gather_s: float = 600.0  # seconds to wait for nodes; without them and minimum_nodes the run stops [above 0 to 1e9]
    provided: bool = False  # rounds begin when a higher gateway begins them [set by `edgeward gateway relay`]
    # nodes a run starts with when gather_s is over; 0: no fewer than nodes [0, or quorum to nodes]
    minimum_nodes: int = 0
    # how a round's weights travel to nodes: whole; or, to those that have the ones before, as their change in 8 bits, which the
    # weights themselves then follow [float32, int8]
    weights: str = field(default="float32", repr=False)

    def __post_init__(self) -> None:
        wrong = [*within("nodes", self.nodes, 1, MAX_NODES), *at_least_one("quorum", self.quorum)]
        wrong += not_negative("minimum_nodes", self.minimum_nodes)
        if not wrong and self.quorum > self.nodes:
            wrong.append(f"quorum: {self.quorum}, expected 1 to nodes = {self.nodes}")
        elif not wrong and self.minimum_nodes and not self.quorum <= self.minimum_nodes <= self.nodes:
            wrong.append(
                f"minimum_nodes: {self.minimum_nodes}, expected quorum = {self.quorum} to nodes = {self.nodes}, or 0 for all"
            )
        wrong += [*seconds("deadline_s", self.deadline_s), *seconds("gather_s", self.gather_s)]
        wrong += count("attempts", self.attempts)
        wrong += one_of("weights", self.weights, WEIGHTS)
        refuse(wrong)

    @property
    def least_nodes(self) -> int:
        """How many a run starts with at least."""
        return self.minimum_nodes or self.nodes


@dataclass(frozen=True)
class Selection:
    """Which nodes a training round asks: those that fit, then `cohort` of them in turn, or a Poisson sample of them.

    labels: what a node's owner must have said of it (`edgeward node run --label site=icu`). The limits are on what a node
    reports of itself; a node that does not report a limited value is passed over. 0 switches a limit off.
    """

    # what a node's owner must have said of it (node run --label site=icu) [name = text]
    labels: Dict[str, str] = field(default_factory=dict)
    cohort: int = 0  # nodes a round, those longest not asked first; 0: all [0, or quorum or more]
    sampling_rate: float = 0.0  # or every node by itself with this probability; 0: no sample [0 to 1]
    # percent a node must report; a machine without a battery counts as full; 0: no limit [0 to 100]
    minimum_battery: float = 0.0
    maximum_temperature_c: float = 0.0  # degrees Celsius a node may report; 0: no limit [0 to 1000]
    minimum_free_memory_mib: float = 0.0  # MiB a node must report as free; 0: no limit [0 to 1e9]
    seen_within_s: float = 0.0  # seconds since a node was last heard; it reports every 30 s; 0: no limit [0 to 1e9]

    def __post_init__(self) -> None:
        wrong = []
        wrong += [*count("cohort", self.cohort, 0, MAX_NODES), *within("sampling_rate", self.sampling_rate, 0, 1)]
        if self.cohort and self.sampling_rate:
            wrong.append("cohort and sampling_rate exclude each other: a fixed number of nodes, or a Poisson sample")
        for name, most in (("minimum_battery", 100), ("maximum_temperature_c", 1000), ("minimum_free_memory_mib", 1e9)):
            wrong += within(name, getattr(self, name), 0, most)
        wrong += seconds("seen_within_s", self.seen_within_s, "no limit")
        refuse(wrong)


@dataclass(frozen=True)
class Evaluation:
    """Federated evaluation: a share of every node's records is never trained on, and only sums over it are sent."""

    # of each node's records (or patients) that is never trained on; 0: no federated evaluation [0 to 0.9]
    share: float = 0.0
    every: int = 1  # rounds from one evaluation to the next; the last round always has one [1 to 1000000]
    bins: int = 20  # of confidence, for calibration and AUC [2 to 1000]

    def __post_init__(self) -> None:
        wrong = within("share", self.share, 0, 0.9, "0 (no federated evaluation) to 0.9")
        wrong += [*count("every", self.every), *count("bins", self.bins, 2, 1000)]
        refuse(wrong)

    @property
    def on(self) -> bool:
        return self.share > 0


@dataclass(frozen=True)
class Task:
    """Everything a node needs to know before it can decide whether to take part."""

    name: str  # of the task, and of the model on a board [text of 1 to 32 bytes]
    schema: Schema  # the data every node must have [a table]
    model: Dict[str, Any]  # what is trained; its kinds are below [a table; with an analysis left out]
    training: Training = field(default_factory=Training)  # how nodes and gateway train [a table]
    privacy: Privacy = field(default_factory=Privacy)  # differential privacy [a table]
    rounds: Rounds = field(default_factory=Rounds)  # when a round starts, ends and fails [a table]
    selection: Selection = field(default_factory=Selection)  # which nodes a round asks [a table]
    evaluation: Evaluation = field(default_factory=Evaluation)  # evaluation on records the nodes hold out [a table]
    aggregation: Aggregation = field(default_factory=Aggregation)  # who sees what a single node sent [a table]
    # how updates travel that are sent one by one; secure sums have their own encoding [int8, int4, top10, float16, float32]
    codec: str = "int8"
    seed: int = 0  # of the first weights and of drawn rows; noise is never seeded [0 or more]
    # what is computed in place of a model; its kinds are below; left out: a model is trained [a table]
    analysis: Dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        refuse(self.objections())

    def objections(self) -> Iterator[str]:
        """Why its tables, each of which makes sense by itself, make none together."""
        yield from self._own()
        yield from self._pipeline()

    def _own(self) -> Iterator[str]:
        yield from one_of("codec", self.codec, CODECS)
        yield from not_negative("seed", self.seed)
        read = declared(self.training.strategy).whole_updates
        if read and self.codec in ERROR_FEEDBACK:
            yield f"codec {self.codec!r}: {self.training.strategy} reads {read} off whole updates; use int8 or int4"
        weights, classes = self.training.class_weights, len(self.schema.classes)
        if weights and self.schema.target:
            yield f"training.class_weights: of classes, and the schema has target {self.schema.learned.kind!r}: leave it out"
        elif weights and not isinstance(weights, str) and len(weights) != classes:
            yield f"training.class_weights: {len(weights)} numbers, the schema has {classes} classes"
        if self.evaluation.on:
            yield from too_many_cells(self.schema.learned.size(self.evaluation.bins) - 1)
        yield from self._metric()
        cohort = self.selection.cohort
        if cohort and cohort < self.rounds.quorum:
            yield f"selection.cohort: {cohort}, fewer than the quorum of {self.rounds.quorum}"
        yield from self._analysed() if self.analysis else self._trained()

    def _metric(self) -> Iterator[str]:
        metric, learned = self.training.metric, self.schema.learned
        if self.schema.target and metric not in learned.metrics:
            yield f"training.metric: {metric!r}, and of target {learned.kind!r} there are {', '.join(learned.metrics)}"
        elif metric in ONLY_OF_NUMBERS and not self.schema.target:
            yield f"training.metric: {metric!r} is of a number, and the schema has classes: choose loss, accuracy or auc"

    def _trained(self) -> Iterator[str]:
        if not self.schema.labelled and not self.schema.target:
            yield "schema.label, schema.classes, schema.label_values: missing; they say what is to be learned"

    def _analysed(self) -> Iterator[str]:
        """What a task that trains nothing has no use for: left standing it would mean nothing, in silence."""
        own = Training(rounds=self.training.rounds, parameters=self.training.parameters)
        unused = (
            ("model", bool(self.model)),
            ("training", self.training != own),
            ("evaluation", self.evaluation != Evaluation()),
            ("schema.label", self.schema.kind == "table" and self.schema.labelled and not self.schema.target),
            ("schema.target", bool(self.schema.target)),
            ("codec", self.codec != Task.codec),
            ("rounds.weights", self.rounds.weights != Rounds.weights),
            ("aggregation.update_range", self.aggregation.update_range != Aggregation.update_range),
            ("privacy.records_per_patient", self.privacy.records_per_patient != Privacy.records_per_patient),
        )
        for name, stated in unused:
            if stated:
                what = "; list the column among the features" if name == "schema.label" else ""
                yield f"{name}: {NO_USE}{what}"
        if self.schema.drop_missing:
            yield "schema.drop_missing: an analysis counts values that are missing: leave it out"
        if self.privacy.unit == "node":
            yield "analysis: with privacy.unit 'node' noise would hide every figure: choose 'record' or 'patient'"
        if self.privacy.on and self.privacy.sampling_rate != 1.0:
            yield f"privacy.sampling_rate: {self.privacy.sampling_rate:g}, and an analysis is of all records: leave it out"
        if self.selection.cohort:
            yield "selection.cohort: it would leave nodes out of the sum, and an analysis is of all records: leave it out"
        if self.privacy.on and self.privacy.runs != 1:
            yield f"privacy.runs: {self.privacy.runs}, and an analysis is not computed again: leave it out"
        if self.rounds.provided or self.selection.sampling_rate:
            yield "analysis: works neither through a relay nor with selection.sampling_rate"

    def _pipeline(self) -> Iterator[str]:
        """Why stages cannot hold together."""
        privacy, aggregation, strategy = self.privacy, self.aggregation, self.training.strategy
        if privacy.distributed and not aggregation.secure:
            yield (
                "privacy.noise 'distributed' makes only sums private: set aggregation.method to 'masked' (or 'ckks')"
            )
        if privacy.distributed and privacy.within_node and self.training.local_steps != 1:
            yield (
                f"privacy.noise 'distributed' with local_steps {self.training.local_steps}: a node's second step would go on "
                "from a first one with a share of the noise only; use one step a round, or noise 'node'"
            )
        if self.training.class_weights == BALANCED and privacy.within_node:
            yield (
                f"training.class_weights 'balanced' with privacy.unit {privacy.unit!r}: how many records of each class a node "
                "has is private, and no noise covers it. Give numbers, from what is known of the classes elsewhere: of a class "
                "with the share p of the records, 1 / (classes x p), such as [0.56, 4.5] for one in nine"
            )
        if privacy.on and privacy.unit == "patient" and not self.schema.patient:
            yield "privacy.unit 'patient': schema.patient must name the column that says whose record it is"
        if self.training.cross_scored:
            yield from objections(strategy, self.schema, self.evaluation.on, self.rounds.provided)
        if (aggregation.secure or privacy.unit == "node") and not declared(strategy).of_mean:
            why = "shows only the sum of updates" if aggregation.secure else "bounds only their mean"
            what = f"aggregation.method {aggregation.method!r}" if aggregation.secure else "privacy.unit 'node'"
            yield (
                f"{what} {why}, strategy {strategy!r} needs each of them: choose one of {', '.join(MEAN_STRATEGIES)}"
            )
        if privacy.unit == "node" and self.training.personal != "none":
            yield "training.personal: personal parts together with privacy.unit 'node' are not supported"
        if privacy.distributed and self.training.personal != "none":
            yield (
                "training.personal: personal parts together with privacy.noise 'distributed' are not supported: a "
                "node's own step would have to be clipped and noised apart; choose noise 'node', or personal 'none'"
            )
        if privacy.unit == "node" and self.evaluation.on and privacy.noise == "gateway":
            yield (
                "evaluation.share: federated evaluation with privacy.noise 'gateway' is not supported: give [evaluation] rows, "
                "or leave it out"
            )
        if privacy.unit == "node" and self.standardizes:
            yield (
                "privacy.unit 'node' with federated standardization: one node's sums would need noise as large as they are; "
                "set schema.standardization to 'range'"
            )
        if aggregation.secure and (self.rounds.provided or self.selection.sampling_rate):
            yield (
                f"aggregation.method {aggregation.method!r} works neither through a relay nor with selection.sampling_rate: a "
                "sample may be smaller than a sum may be"
            )
        if aggregation.secure and self.rounds.quorum < aggregation.least:
            yield (
                f"rounds.quorum: {self.rounds.quorum}, fewer than the {aggregation.least} nodes (honest + colluding) an "
                "opened sum must be over"
            )
        if privacy.central and aggregation.secure:
            yield (
                f"privacy.noise 'gateway' with aggregation {aggregation.method!r}: the gateway could not clip what it does not "
                "see; use noise 'distributed'"
            )
        if privacy.bands > 1 and self.selection.cohort * privacy.bands > self.rounds.least_nodes:
            yield (
                f"privacy.bands {privacy.bands} with a cohort of {self.selection.cohort}: {self.rounds.least_nodes} nodes are "
                "too few for each to sit out in between"
            )
        if privacy.bands > 1 and not self.selection.cohort:
            yield "privacy.bands: nodes must take turns, set selection.cohort to how many a round asks"

    @property
    def travels_as(self) -> str:
        """The codec of what a node sends of the task's own work; of an analysis as it is."""
        return self.codec if self.trains else EXACT

    @property
    def steps(self) -> int:
        """Noised gradient steps one record can take part in."""
        return self.training.rounds * self.training.local_steps

    @property
    def stages(self) -> Stages:
        """What is computed in which round."""
        return Stages(
            self.training.rounds, self.standardizes, self.evaluation.on, ANALYSIS if self.analysis else TRAINING
        )

    @property
    def trains(self) -> bool:
        """Whether a model comes of it; else the result of an analysis."""
        return not self.analysis

    @property
    def last_round(self) -> int:
        """Number of the last round a node is asked for: with federated evaluation one more than it trains."""
        return self.stages.last

    def evaluates(self, round_number: int) -> bool:
        """Whether a node's answer to this round carries its evaluation of the weights that came with it."""
        if not self.evaluation.on or round_number < 2:
            return False
        return (round_number - 1) % self.evaluation.every == 0 or round_number == self.last_round

    def scores(self, round_number: int) -> bool:
        """Whether a node's answer to this round carries its score of another node's model, of the round before."""
        return self.training.cross_scored and round_number > 1 and self.stages.of(round_number) == TRAINING

    @property
    def scorings(self) -> int:
        """Scores a node gives in one run."""
        return max(0, self.training.rounds - 1) if self.training.cross_scored else 0

    @property
    def evaluations(self) -> int:
        """Releases of evaluation sums in one run."""
        return -(-self.training.rounds // self.evaluation.every) if self.evaluation.on else 0

    @property
    def standardizes(self) -> bool:
        """Whether there is a statistics round."""
        return self.trains and self.schema.standardization == "federated" and bool(self.schema.numbers())


def digest_of(declared: Dict[str, Any], graph: bytes) -> str:
    """SHA-256 over training graph and declared task: what a run is, what an owner's decision is for."""
    return hashlib.sha256(graph + json.dumps(declared, sort_keys=True).encode()).hexdigest()


def task_to_dict(task: Task) -> Dict[str, Any]:
    """Plain maps, lists, numbers and text, without fields of LATER that have their default."""
    written = dict(plain_data(task), format=FORMAT)
    for table, name, default in LATER:
        if written[table][name] == (list(default) if isinstance(default, tuple) else default):
            del written[table][name]
    if not task.analysis:
        del written["analysis"]
    return written


def plain_data(declared: Any) -> Dict[str, Any]:
    """A task or a part of one as plain data; a category's lacking range is left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if v is not None}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return dict(plain(unstructure(declared)))


def task_from_dict(data: Dict[str, Any], where: str = "task") -> Task:
    """Builds a Task; raises UsageError listing every mistake with its place in `where`."""
    if _holds_bytes(data):
        raise UsageError(f"{where}: holds bytes, where text and numbers are meant")
    data = dict(data)
    version = data.pop("format", FORMAT)
    if version != FORMAT:
        raise UsageError(f"{where}: format {version}, this program reads format {FORMAT}: update the older side")
    return structure(_without_old_defaults(data), Task, where)


def _without_old_defaults(data: Dict[str, Any]) -> Dict[str, Any]:
    """A declaration as it is written now: categories used to come with the range 0 to 1, which meant nothing."""
    schema = data.get("schema")
    features = schema.get("features") if isinstance(schema, dict) else None
    if not isinstance(features, (list, tuple)):
        return data

    def today(feature: Any) -> Any:
        old = isinstance(feature, dict) and feature.get("categories")
        if not old or (feature.get("minimum"), feature.get("maximum")) != (0.0, 1.0):
            return feature
        return {name: value for name, value in feature.items() if name not in ("minimum", "maximum")}

    return {**data, "schema": {**data["schema"], "features": [today(feature) for feature in features]}}


def _holds_bytes(value: Any) -> bool:
    """Whether plain data could not be written as JSON, as tasks are where they are kept and named by a digest."""
    if isinstance(value, (dict, list, tuple)):
        return any(map(_holds_bytes, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bytes)
