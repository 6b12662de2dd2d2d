"""What a federation learns: data schema, model, training, privacy, rounds. Read from edgeward.toml, sent to every node.

All of it is frozen and checked when built: a `Task` that exists is one that makes sense by itself.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.errors import UsageError
from orchestrator.wire.codec import CODECS, ERROR_FEEDBACK
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schedule import SCHEDULES, learning_rate_at
from orchestrator.wire.structure import structure, unstructure

FORMAT = 1
METRICS = ("loss", "accuracy", "auc")
MEAN_STRATEGIES = ("fedavg", "fedsgd", "fedprox", "fedadam", "fedyogi", "fedadagrad")
"""Strategies that need nothing but the mean of a round's updates: the only ones a secure sum can serve."""

PERSONAL = {"none": "", "intercept": "the intercept of the output layer", "head": "the output layer"}
"""Parts of the model that can stay on the node."""


@dataclass(frozen=True)
class Feature:
    """One column of a table. The range is public knowledge (never read off the data); values beyond it are clamped."""

    name: str
    minimum: float = 0.0
    maximum: float = 1.0
    categories: Tuple[str, ...] = ()  # non-empty: one-hot over these instead of a number

    def __post_init__(self) -> None:
        if not self.categories and not self.minimum < self.maximum:
            raise ValueError(f"feature {self.name!r}: minimum {self.minimum} is not below maximum {self.maximum}")

    @property
    def width(self) -> int:
        return len(self.categories) or 1


@dataclass(frozen=True)
class Schema:
    """The data every node must have.

    `table`: CSV, one record a row, `features` by column name. `signal`: .npz with `x` (n, samples) or
    (n, samples, channels) and the label array, divided by `unit_scale`.
    """

    kind: str
    label: str
    classes: Tuple[str, ...]
    label_values: Dict[str, int]  # value in the file -> class index; a value not listed is an error
    features: Tuple[Feature, ...] = ()
    columns: Tuple[str, ...] = ()  # names for a CSV without a header line
    missing_markers: Tuple[str, ...] = ("", "?", "NA", "nan", "NaN")
    standardization: str = "federated"  # or "range": scale numbers by their public ranges, nothing is released
    drop_missing: bool = False  # drop rows that lack a used value; otherwise they are an error
    samples: int = 0
    channels: int = 1
    unit_scale: float = 1.0
    patient: str = ""  # column (table) or array (signal) that says whose record it is: for privacy.unit "patient"

    def __post_init__(self) -> None:
        if self.kind not in ("table", "signal"):
            raise ValueError(f"kind {self.kind!r}: expected 'table' or 'signal'")
        if self.standardization not in ("federated", "range"):
            raise ValueError(f"standardization {self.standardization!r}: expected 'federated' or 'range'")
        if len(self.classes) < 2:
            raise ValueError("classes: at least two are needed")
        bad = {v: i for v, i in self.label_values.items() if not 0 <= i < len(self.classes)}
        if bad or not self.label_values:
            raise ValueError(f"label_values {bad or '{}'}: class indices run from 0 to {len(self.classes) - 1}")
        if self.kind == "table" and not self.features:
            raise ValueError("features: a table needs at least one")
        names = [f.name for f in self.features]
        if len(set(names)) != len(names):
            raise ValueError("features: a name occurs twice")
        if self.columns:
            wanted = [*names, self.label, *([self.patient] if self.patient else [])]
            lacking = [n for n in wanted if n not in self.columns]
            if lacking:
                raise ValueError(f"columns: {', '.join(lacking)} not among them")
        if self.kind == "signal" and (self.samples < 1 or self.channels < 1 or self.unit_scale == 0):
            raise ValueError("a signal needs samples >= 1, channels >= 1 and a unit_scale other than 0")

    @property
    def input_shape(self) -> Tuple[int, ...]:
        if self.kind == "signal":
            return (self.samples, self.channels)
        return (sum(f.width for f in self.features),)

    def numbers(self) -> List[Tuple[int, Feature]]:
        """(input column, feature) of the features that are numbers, hence standardized."""
        out, column = [], 0
        for feature in self.features:
            if not feature.categories:
                out.append((column, feature))
            column += feature.width
        return out


@dataclass(frozen=True)
class Training:
    """How a node turns weights into an update, and the gateway updates into weights."""

    strategy: str = "fedavg"
    rounds: int = 20
    local_steps: int = 1  # gradient steps a node takes a round (fedsgd: always 1)
    batch_size: int = 16  # without privacy; with it, records are Poisson-sampled
    learning_rate: float = 0.1
    schedule: str = "constant"  # or "step", "cosine", "inverse-sqrt": see wire/schedule.py
    warmup_rounds: int = 0  # rounds in which the rate rises to learning_rate
    decay: float = 0.5  # step: factor
    decay_every: int = 10  # step: rounds between factors; inverse-sqrt: rounds that count as one
    final_share: float = 0.0  # cosine: share of the rate it falls towards
    server_learning_rate: float = 1.0
    tail_average: bool = False  # result = mean of the second half of the rounds' weights
    best: bool = False  # result = the round's weights with the best `metric`
    patience: int = 0  # stop when `metric` has not improved for this many rounds; 0: never
    metric: str = "loss"  # or "accuracy", "auc": of federated evaluation, else of the gateway's own rows
    personal: str = "none"  # or "intercept", "head": that part of the output layer stays on each node
    personal_parameters: int = 0  # how many of the last weights that is; planned by the gateway
    parameters: int = 0  # of the model; planned by the gateway
    options: Dict[str, float] = field(default_factory=dict)  # of the strategy, see rounds/strategies.py

    def __post_init__(self) -> None:
        for name in ("rounds", "local_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}, at least 1 is needed")
        for name in ("learning_rate", "server_learning_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: {value}, expected a positive number")
        if self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r}: expected one of {', '.join(METRICS)}")
        if self.patience < 0:
            raise ValueError(f"patience: {self.patience}, expected 0 (never stop early) or more")
        if self.best and self.tail_average:
            raise ValueError("best and tail_average exclude each other: the result is one round's weights, or a mean")
        if self.personal not in PERSONAL:
            raise ValueError(f"personal {self.personal!r}: expected one of {', '.join(PERSONAL)}")
        if self.personal_parameters < 0 or (self.personal == "none" and self.personal_parameters):
            raise ValueError("personal_parameters: left out, or 0; the gateway plans it from the model")
        if self.parameters < 0:
            raise ValueError(f"parameters: {self.parameters}; left out, or 0: the gateway plans it from the model")
        if self.personal != "none" and (self.best or self.tail_average):
            raise ValueError("personal parts are those of the last round: best and tail_average do not go with them")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r}: expected one of {', '.join(SCHEDULES)}")
        if not 0 <= self.warmup_rounds < self.rounds:
            raise ValueError(f"warmup_rounds: {self.warmup_rounds}, expected 0 to rounds - 1 = {self.rounds - 1}")
        if not 0 < self.decay <= 1 or self.decay_every < 1 or not 0 <= self.final_share <= 1:
            raise ValueError("decay must be in (0, 1], decay_every at least 1, final_share in [0, 1]")
        if self.strategy == "fedsgd" and self.local_steps != 1:
            raise ValueError("local_steps: fedsgd takes exactly one gradient a round; use fedavg for more")

    def learning_rate_at(self, round_number: int) -> float:
        """The rate of a node's local steps in training round `round_number` (from 1)."""
        return learning_rate_at(
            round_number,
            self.rounds,
            self.learning_rate,
            self.schedule,
            self.warmup_rounds,
            self.decay,
            self.decay_every,
            self.final_share,
        )

    def travel_at(self, round_number: int) -> float:
        """Sum of the learning rates of a round's local steps: how far a node goes along a gradient of length 1."""
        return self.local_steps * self.learning_rate_at(round_number)


@dataclass(frozen=True)
class Rounds:
    """When a round starts, ends, and when it fails."""

    nodes: int = 2  # a run starts when this many are here
    quorum: int = 1  # a round needs this many updates
    deadline_s: float = 120.0  # a round ends then with a quorum, or is announced again without one
    attempts: int = 3  # announcements of one round before the run fails
    gather_s: float = 600.0  # how long to wait for `nodes`
    provided: bool = False  # rounds begin when a higher gateway begins them; set by `edgeward gateway relay`

    def __post_init__(self) -> None:
        if not 1 <= self.quorum <= self.nodes:
            raise ValueError(f"quorum: {self.quorum}, expected 1 to nodes = {self.nodes}")
        if self.deadline_s <= 0 or self.gather_s <= 0 or self.attempts < 1:
            raise ValueError("deadline_s and gather_s must be positive, attempts at least 1")


@dataclass(frozen=True)
class Selection:
    """Which nodes a training round asks: those that fit, then `cohort` of them in turn, or a Poisson sample of them.

    labels: what a node's owner must have said of it (`edgeward node run --label site=icu`). The limits are on what a node
    reports of itself; a node that does not report a limited value is passed over. 0 switches a limit off.
    """

    labels: Dict[str, str] = field(default_factory=dict)
    cohort: int = 0  # nodes a round, those longest not asked first; 0: all
    sampling_rate: float = 0.0  # or every node by itself with this probability
    minimum_battery: float = 0.0  # percent; a machine without a battery counts as full
    maximum_temperature_c: float = 0.0
    minimum_free_memory_mib: float = 0.0
    seen_within_s: float = 0.0  # a node reports every 30 s

    def __post_init__(self) -> None:
        if self.cohort < 0 or not 0 <= self.sampling_rate <= 1:
            raise ValueError("cohort must be 0 or more, sampling_rate in [0, 1]")
        if self.cohort and self.sampling_rate:
            raise ValueError(
                "cohort and sampling_rate exclude each other: a fixed number of nodes, or a Poisson sample"
            )
        for name in ("minimum_battery", "maximum_temperature_c", "minimum_free_memory_mib", "seen_within_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name}: {getattr(self, name)}, expected 0 (no limit) or more")


@dataclass(frozen=True)
class Evaluation:
    """Federated evaluation: a share of every node's records is never trained on, and only sums over it are sent."""

    share: float = 0.0  # of a node's records; 0: none
    every: int = 1  # rounds; the last one always
    bins: int = 20  # of confidence, for calibration and AUC

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 0.9:
            raise ValueError(f"share: {self.share}, expected 0 (no federated evaluation) to 0.9")
        if self.every < 1 or not 2 <= self.bins <= 1000:
            raise ValueError("every must be at least 1, bins 2 to 1000")

    @property
    def on(self) -> bool:
        return self.share > 0


@dataclass(frozen=True)
class Task:
    """Everything a node needs to know before it can decide whether to take part."""

    name: str
    schema: Schema
    model: Dict[str, Any]
    training: Training = field(default_factory=Training)
    privacy: Privacy = field(default_factory=Privacy)
    rounds: Rounds = field(default_factory=Rounds)
    selection: Selection = field(default_factory=Selection)
    evaluation: Evaluation = field(default_factory=Evaluation)
    aggregation: Aggregation = field(default_factory=Aggregation)
    codec: str = "int8"  # of updates that are sent one by one; secure sums have their own encoding
    seed: int = 0

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ValueError(f"codec {self.codec!r}: expected one of {', '.join(CODECS)}")
        if self.training.strategy == "scaffold" and self.codec in ERROR_FEEDBACK:
            raise ValueError(
                f"codec {self.codec!r}: scaffold reads control variates off whole updates; use int8 or int4"
            )
        cohort = self.selection.cohort
        if cohort and cohort < self.rounds.quorum:
            raise ValueError(f"selection.cohort: {cohort}, fewer than the quorum of {self.rounds.quorum}")
        self._check_pipeline()

    def _check_pipeline(self) -> None:
        """Refuses stages that cannot hold together, with the reason."""
        privacy, aggregation, strategy = self.privacy, self.aggregation, self.training.strategy
        if privacy.on and privacy.noise == "distributed" and not aggregation.secure:
            raise ValueError(
                "privacy.noise 'distributed' makes only sums private: set aggregation.method to 'masked' (or 'ckks')"
            )
        if privacy.on and privacy.noise == "distributed" and privacy.within_node and self.training.local_steps != 1:
            raise ValueError(
                f"privacy.noise 'distributed' with local_steps {self.training.local_steps}: a node's second step would go on "
                "from a first one with a share of the noise only; use one step a round, or noise 'node'"
            )
        if privacy.on and privacy.unit == "patient" and not self.schema.patient:
            raise ValueError("privacy.unit 'patient': schema.patient must name the column that says whose record it is")
        if (aggregation.secure or privacy.unit == "node") and strategy not in MEAN_STRATEGIES:
            why = "shows only the sum of updates" if aggregation.secure else "bounds only their mean"
            what = f"aggregation {aggregation.method!r}" if aggregation.secure else "privacy.unit 'node'"
            raise ValueError(
                f"{what} {why}, strategy {strategy!r} needs each of them: choose one of {', '.join(MEAN_STRATEGIES)}"
            )
        if privacy.unit == "node" and self.training.personal != "none":
            raise ValueError("personal parts together with privacy.unit 'node' are not supported")
        if privacy.unit == "node" and self.evaluation.on and privacy.noise == "gateway":
            raise ValueError(
                "federated evaluation with privacy.noise 'gateway' is not supported: give [evaluation] rows, or leave it out"
            )
        if privacy.unit == "node" and self.standardizes:
            raise ValueError(
                "privacy.unit 'node' with federated standardization: one node's sums would need noise as large as they are; "
                "set schema.standardization to 'range'"
            )
        if aggregation.secure and (self.rounds.provided or self.selection.sampling_rate):
            raise ValueError(
                f"aggregation {aggregation.method!r} works neither through a relay nor with selection.sampling_rate: a "
                "sample may be smaller than a sum may be"
            )
        if aggregation.secure and self.rounds.quorum < aggregation.least:
            raise ValueError(
                f"rounds.quorum: {self.rounds.quorum}, fewer than the {aggregation.least} nodes (honest + colluding) an "
                "opened sum must be over"
            )
        if privacy.on and privacy.noise == "gateway" and aggregation.secure:
            raise ValueError(
                f"privacy.noise 'gateway' with aggregation {aggregation.method!r}: the gateway could not clip what it does not "
                "see; use noise 'distributed'"
            )
        if privacy.bands > 1 and self.selection.cohort * privacy.bands > self.rounds.nodes:
            raise ValueError(
                f"privacy.bands {privacy.bands} with a cohort of {self.selection.cohort}: {self.rounds.nodes} nodes are too few "
                "for each to sit out in between"
            )
        if privacy.bands > 1 and not self.selection.cohort:
            raise ValueError("privacy.bands: nodes must take turns, set selection.cohort to how many a round asks")

    @property
    def steps(self) -> int:
        """Noised gradient steps one record can take part in."""
        return self.training.rounds * self.training.local_steps

    @property
    def last_round(self) -> int:
        """Number of the last round a node is asked for: with federated evaluation one more than it trains."""
        return self.training.rounds + self.evaluation.on

    def evaluates(self, round_number: int) -> bool:
        """Whether a node's answer to this round carries its evaluation of the weights that came with it."""
        if not self.evaluation.on or round_number < 2:
            return False
        return (round_number - 1) % self.evaluation.every == 0 or round_number == self.last_round

    @property
    def evaluations(self) -> int:
        """Releases of evaluation sums in one run."""
        return -(-self.training.rounds // self.evaluation.every) if self.evaluation.on else 0

    @property
    def standardizes(self) -> bool:
        """Whether there is a statistics round."""
        return self.schema.standardization == "federated" and bool(self.schema.numbers())


def digest_of(declared: Dict[str, Any], graph: bytes) -> str:
    """SHA-256 over training graph and declared task: what a run is, what an owner's decision is for."""
    return hashlib.sha256(graph + json.dumps(declared, sort_keys=True).encode()).hexdigest()


def task_to_dict(task: Task) -> Dict[str, Any]:
    """Plain maps, lists, numbers and text."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    return dict(plain(unstructure(task)), format=FORMAT)


def task_from_dict(data: Dict[str, Any], where: str = "task") -> Task:
    """Builds a Task; raises UsageError listing every mistake with its place in `where`."""
    if _holds_bytes(data):
        raise UsageError(f"{where}: holds bytes, where text and numbers are meant")
    data = dict(data)
    version = data.pop("format", FORMAT)
    if version != FORMAT:
        raise UsageError(f"{where}: format {version}, this program reads format {FORMAT}: update the older side")
    return structure(data, Task, where)


def _holds_bytes(value: Any) -> bool:
    """Whether plain data could not be written as JSON, as tasks are where they are kept and named by a digest."""
    if isinstance(value, (dict, list, tuple)):
        return any(map(_holds_bytes, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bytes)


def describe_model(model: Dict[str, Any]) -> str:
    """The model in a few words, for people."""
    rest = ", ".join(f"{k} {v}" for k, v in model.items() if k != "kind")
    return f"{model.get('kind', '?')}{' (' + rest + ')' if rest else ''}"


def objection_to(task: Task) -> Optional[str]:
    """Why no node should take part: a privacy claim that the declaration does not carry."""
    privacy = task.privacy
    if task.training.personal != "none" and not task.training.personal_parameters:
        return "the task wants a personal part and does not say which of the weights it is"
    if not privacy.on:
        return None
    if privacy.noise_multiplier <= 0 or (task.standardizes and privacy.statistics_noise_multiplier <= 0):
        return f"the task claims epsilon {privacy.epsilon:g} and declares no noise"
    if task.evaluation.on and privacy.evaluation_noise_multiplier <= 0:
        return f"the task claims epsilon {privacy.epsilon:g} and declares no noise on federated evaluation"
    return None


def oversized(task: Task, units: int) -> Optional[str]:
    """Why a node that trains on `units` privacy units should not take part: its delta would let a whole one leak."""
    privacy, share = task.privacy, task.evaluation.share
    units = round(units * max(1.0, share / (1 - share)))  # those held out may be more
    if privacy.within_node and privacy.delta * units >= 1:
        # A mechanism that publishes one random unit in full satisfies (0, 1/units)-DP.
        return (
            f"delta {privacy.delta:g} is not below 1/units = 1/{units}: it would allow a whole {privacy.unit} to leak"
        )
    return None
