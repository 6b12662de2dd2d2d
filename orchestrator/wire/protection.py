"""How a task protects its data: differential privacy, and who can see what a single node sent."""

import math
from dataclasses import dataclass, field
from typing import Iterator

from orchestrator.wire.bounds import MAX_NODES, at_least_one, count, not_negative, one_of, positive, refuse, within

UNITS = ("none", "record", "patient", "node")
NOISE_AT = ("node", "distributed", "gateway")
MECHANISMS = ("discrete-gaussian", "skellam")
AGGREGATIONS = ("plain", "masked", "ckks")
MAX_BANDS = 4096

LEAST_NEIGHBOURS = 12
"""In the graph of masks. Where a third of 100 nodes drop out one sum in five cannot be opened with 12, three in four with 8."""


MOST_COUNT_NOISE = 1000.0
"""Noise multiplier of the number of units a node states. With more, all that is bounded by that number would be loose."""

LEAST_NOISE = 0.1
"""Noise multiplier below which a release counts as one without noise: its epsilon is in the hundreds."""

HIDING_NOISE = 0.5
"""Below it a unit that is drawn into a sample is more or less shown (epsilon 10 at delta 1e-5): only not being drawn hides it."""

UNLIKELY = 0.01
"""What delta times units may be where only that hides them: delta is then the chance of each to be shown."""

OFTEN = 20.0
"""Sampling rate over delta from which most draws are beyond delta, so that epsilon has to cover what a draw shows."""

CERTAIN = 6.0
"""Deviations within which noise stays but for once in a billion times."""

NOISES = (
    "noise_multiplier",
    "statistics_noise_multiplier",
    "evaluation_noise_multiplier",
    "score_noise_multiplier",
    "count_noise_multiplier",
)
"""Noise on each kind of release; one of 0 is planned."""

_MOST = {
    "epsilon": 1e6,
    **dict.fromkeys(NOISES, 1e6),
    "count_noise_multiplier": MOST_COUNT_NOISE,
    "clip_norm": 1e12,
    "statistics_clip_norm": 1e12,
}
"""Beyond what any task has a use for, and where squares of floats still are floats."""


@dataclass(frozen=True)
class Privacy:
    """Differential privacy of a task. `unit` "none" trains without it, and says so everywhere.

    unit: what a claim is about: one record, all records of one patient, or everything one node has.
    noise: who adds it. "node": every node all of it, so that its answers are private by themselves. "distributed": every node
    a share, so that their sum is; only secure aggregation may show it. "gateway": the gateway, to the sum (unit node only).
    clip_norm: L2 bound of one unit's gradient (node: of its update). sampling_rate: probability with which a record or patient
    takes part in one step. noise_multiplier: standard deviation of the noise on a step's sum (node: on a round's), in units of
    what one unit can change it by. statistics_*: the same for the one release of standardization sums (see
    privacy/standardization.py). A noise or statistics field left at 0 is planned by the gateway before the first round; a
    clip_norm of 0, which is what a file that states none means, likewise (privacy/clipping.py).
    clip_tally: with every step's sum goes, under the same noise, how many units were clipped. Planned for new runs.
    """

    # what a claim is about: one record, one patient's records, all of a node; none: no privacy [none, record, patient, node]
    unit: str = "record"
    epsilon: float = 8.0  # what all releases of a run may spend together; noise is planned for it [above 0 to 1000000]
    delta: float = 1e-5  # probability with which the claim may fail; below 1 / units of every node [above 0, below 1]
    # L2 bound of one unit's gradient (unit node: of its update); left out or 0: by inputs, classes and epsilon [0 to 1e12]
    clip_norm: float = field(default=1.0, metadata={"left out": "by the model's size"})
    sampling_rate: float = 0.25  # probability with which a record or patient takes part in one step [above 0 to 1]
    # noise on a step's sum (node: a round's) over what one unit changes it by; 0: planned [0 to 1000000]
    noise_multiplier: float = 0.0
    statistics_clip_norm: float = 0.0  # bound of one unit's part of the standardization sums; 0: planned [0 to 1e12]
    statistics_noise_multiplier: float = 0.0  # noise on the standardization sums; 0: planned [0 to 1000000]
    evaluation_noise_multiplier: float = 0.0  # noise on every sum of federated evaluation; 0: planned [0 to 1000000]
    # noise on the number of units a node states; 0: planned, 0.3 to 20 times that of a step, 1000 at most [0 to 1000]
    count_noise_multiplier: float = 0.0
    # unit patient: rows of one that a step uses at most, a random choice of more [1 to 1048576]
    records_per_patient: int = 32
    # trainings the budget must last for; 2 or more to train again when boards report drift [1 to 1000000]
    runs: int = 1
    # who adds it: each node all of it; each node a share, for secure sums; the gateway [node, distributed, gateway]
    noise: str = "node"
    mechanism: str = "discrete-gaussian"  # law of the noise [discrete-gaussian, skellam]
    # unit node, noise gateway: clip_norm follows this quantile of the updates' norms; 0: it stays [0 to below 1]
    clip_quantile: float = 0.0
    clip_learning_rate: float = 0.2  # how fast it follows [above 0 to 1]
    # noise gateway: correlated over so many rounds; a node is then asked at most once in as many [1 to 4096]
    bands: int = 1
    # with each step's sum, how many units were clipped; not in repr, see task.LATER [set by the gateway]
    clip_tally: bool = field(default=False, repr=False)
    # noise on every score of another node's model, strategy fuala; 0: planned [0 to 1000000]
    score_noise_multiplier: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        wrong = one_of("unit", self.unit, UNITS)
        if self.unit != "none":
            wrong += [*self._numbers(), *self._stages()]
        refuse(wrong)

    def _numbers(self) -> Iterator[str]:
        yield from positive("epsilon", self.epsilon, "a positive number; unit = 'none' trains without privacy")
        if not 0 < self.delta < 1:
            yield f"delta: {self.delta}, expected a number between 0 and 1, below 1/records of every node"
        yield from count("runs", self.runs)
        if not 0 < self.sampling_rate <= 1:
            yield f"sampling_rate: {self.sampling_rate}, expected a number in (0, 1]"
        yield from not_negative("clip_norm", self.clip_norm, "0 (let it follow the model's size) or more")
        for name in (*NOISES, "statistics_clip_norm"):
            yield from not_negative(name, getattr(self, name), "0 (let the gateway plan it) or more")
        for name, most in _MOST.items():
            if most < getattr(self, name) < math.inf:
                yield f"{name}: {getattr(self, name):g}, at most {most:g}"
        if not 1 <= self.records_per_patient <= 1 << 20:
            yield f"records_per_patient: {self.records_per_patient}, expected 1 to {1 << 20}"
        if not 0 <= self.clip_quantile < 1:
            yield f"clip_quantile: {self.clip_quantile}, expected a number in [0, 1)"
        if not 0 < self.clip_learning_rate <= 1:
            yield f"clip_learning_rate: {self.clip_learning_rate}, expected a number in (0, 1]"
        yield from at_least_one("bands", self.bands)
        if self.bands > MAX_BANDS:
            yield f"bands: {self.bands}, at most {MAX_BANDS}: later coefficients are too small to matter"

    def _stages(self) -> Iterator[str]:
        yield from one_of("noise", self.noise, NOISE_AT)
        yield from one_of("mechanism", self.mechanism, MECHANISMS)
        if self.noise == "gateway" and self.unit != "node":
            yield (
                f"noise 'gateway' with unit {self.unit!r}: the gateway would see every node's answer without noise; use "
                "'node' or 'distributed'"
            )
        if 0 < self.clip_quantile < 1 and (self.unit, self.noise) != ("node", "gateway"):
            yield "clip_quantile: a clip norm that follows the updates is for unit 'node' with noise 'gateway'"
        if 1 < self.bands <= MAX_BANDS and self.noise != "gateway":
            yield f"bands: {self.bands}, more than 1 only with noise 'gateway'"

    @property
    def on(self) -> bool:
        return self.unit != "none"

    @property
    def local(self) -> bool:
        """Whether every answer is private by itself: each node adds all of the noise."""
        return self.on and self.noise == "node"

    @property
    def distributed(self) -> bool:
        """Whether a sum of answers is: each node adds a share of the noise, and only enough of them together make it whole."""
        return self.on and self.noise == "distributed"

    @property
    def central(self) -> bool:
        """Whether models alone are: the gateway adds the noise, and sees answers without."""
        return self.on and self.noise == "gateway"

    @property
    def count_noise(self) -> float:
        """Noise multiplier of the number of records or patients a node states: the declared, else five times that of a step."""
        return self.count_noise_multiplier or min(MOST_COUNT_NOISE, 5.0 * self.noise_multiplier)

    def most_units(self, stated: int) -> int:
        """How many records or patients a node has at most that states so many; of a node as the unit, `stated`."""
        return stated + (math.ceil(CERTAIN * self.count_noise) if self.within_node else 0)

    @property
    def within_node(self) -> bool:
        """Whether the unit is a part of what a node has: its gradients are clipped one unit at a time."""
        return self.unit in ("record", "patient")

    @property
    def of_patients(self) -> bool:
        """Whether the unit is all records of a patient: those of one are added up, or averaged, before they are clipped."""
        return self.unit == "patient"

    @property
    def of_nodes(self) -> bool:
        """Whether the unit is all that a node has: its whole update is clipped, and only a large fleet hides one."""
        return self.unit == "node"

    @property
    def answers_noised(self) -> bool:
        """Whether a node's answers leave it with noise on them, all of it or a share."""
        return self.local or self.distributed


@dataclass(frozen=True)
class Aggregation:
    """Who can see what a single node sent. "plain": the gateway. "masked": nobody while the parties are real and at most
    `colluding` of them help the gateway, which opens the sum (privacy/secure_sum.py). "ckks": neither the gateway nor the key
    holder, if they do not work together and the key holder does not see what nodes send to the gateway (privacy/ckks.py).

    honest: nodes whose vectors must be in a sum and that follow the protocol. Shares of distributed noise are made for that many,
    and no sum over fewer than honest + colluding nodes is opened. colluding: nodes that may work with the gateway.
    neighbours: of each node in the graph of masks; all others where there are fewer. Many nodes, or many that collude, need more
    (privacy/mask_graph.py), and a round of more nodes than neighbours has a step more.
    bits: of a masked value; 0: the gateway chooses 16, 24 or 32 so that sums cannot wrap around.
    update_range: without distributed noise, values of an update beyond it are cut.
    checked: true. False is retired: the key holder then took the gateway's word for what it opened.
    """

    # who sees single updates: the gateway; nobody, by masks; nobody, by one-time pads [plain, masked, ckks]
    method: str = "plain"
    honest: int = 3  # nodes in a sum that follow the protocol; shares of the noise are made for so many [3 to 100000]
    colluding: int = 0  # nodes that may work with the gateway [0 to 100000]
    neighbours: int = (
        20  # of each node in the graph of masks; many nodes, or many that collude, need more [12 to 100000]
    )
    bits: int = 0  # of a masked value; 0: the gateway chooses so that sums cannot wrap around [0, 16, 24, 32]
    update_range: float = 1.0  # without distributed noise, values of an update beyond it are cut [1e-30 to 1e30]
    key_holder: str = ""  # with ckks: name of who holds the key (keyholder run) [a name, or empty]
    checked: bool = True  # retired: leave it out [true]

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        yield from one_of("method", self.method, AGGREGATIONS)
        if self.honest < 3:
            yield f"honest: {self.honest}; a sum over one node is its update, and of two each knows the other's"
        elif self.honest > MAX_NODES:
            yield f"honest: {self.honest}, at most {MAX_NODES} nodes there can be"
        yield from count("colluding", self.colluding, 0, MAX_NODES)
        yield from count("neighbours", self.neighbours, LEAST_NEIGHBOURS, MAX_NODES)
        if self.bits not in (0, 16, 24, 32):
            yield f"bits: {self.bits}, expected 16, 24, 32, or 0 to let the gateway choose"
        yield from within("update_range", self.update_range, 1e-30, 1e30)
        if (self.method == "ckks") != bool(self.key_holder):
            yield "key_holder: named with method 'ckks', and only with it"
        if self.key_holder == "gateway":
            yield "key_holder 'gateway': the party that adds must not hold the key; run one on a machine of somebody else"
        if self.method == "ckks" and self.bits:
            yield "bits: of masked values; with ckks they are always 32"
        if not self.checked:
            yield (
                "checked = false is retired: a key holder that takes the gateway's sum opens one node's part for a gateway that "
                "passes it off as all. Leave it out: it adds up what nodes signed"
            )

    @property
    def secure(self) -> bool:
        return self.method != "plain"

    @property
    def least(self) -> int:
        """Fewest nodes a sum may be over."""
        return self.honest + self.colluding
