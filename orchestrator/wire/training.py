"""How a task is trained: strategy, steps, learning rate, and what the result is."""

import math
from dataclasses import dataclass, field
from typing import Dict, Iterator, Tuple, Union

from orchestrator.rounds.declared import declared
from orchestrator.wire.bounds import at_least_one, count, not_negative, one_of, positive, refuse, within
from orchestrator.wire.schedule import SCHEDULES, learning_rate_at

ONLY_OF_NUMBERS = ("mae", "rmse", "r2")
METRICS = ("loss", "accuracy", "auc", *ONLY_OF_NUMBERS)
FALLING = ("loss", "mae", "rmse")
"""Metrics of which less is better."""
BALANCED = "balanced"
MOST_CLASS_WEIGHT = 1000.0

PERSONAL = {"none": "", "intercept": "the intercept of the output layer", "head": "the output layer"}
"""Parts of the model that can stay on the node."""


@dataclass(frozen=True)
class Training:
    """How a node turns weights into an update, and the gateway updates into weights."""

    strategy: str = "fedavg"  # how updates become the next weights; its options are below [one of the strategies below]
    rounds: int = 20  # training rounds [1 to 1000000]
    local_steps: int = 1  # gradient steps a node takes a round (fedsgd: always 1) [1 to 100000]
    batch_size: int = 16  # records in a step without privacy; with it they are Poisson-sampled [1 to 1000000]
    learning_rate: float = 0.1  # of a node's steps, before the schedule [above 0 to 1000000]
    schedule: str = "constant"  # how the learning rate changes over rounds [constant, step, cosine, inverse-sqrt]
    warmup_rounds: int = 0  # rounds in which the rate rises to learning_rate [0 to rounds - 1]
    decay: float = 0.5  # schedule step: factor on the rate [above 0 to 1]
    decay_every: int = 10  # step: rounds between factors; inverse-sqrt: rounds that count as one [1 to 1000000]
    final_share: float = 0.0  # schedule cosine: share of the rate it falls towards [0 to 1]
    server_learning_rate: float = 1.0  # of the gateway's step with the mean update [above 0 to 1000000]
    tail_average: bool = False  # the result is the mean of the second half of the rounds' weights [true, false]
    # the result is the weights of the round with the best metric; not with tail_average [true, false]
    best: bool = False
    patience: int = 0  # rounds without a better metric after which the run stops; 0: never [0 or more]
    # what best and patience look at: of federated evaluation, else of the gateway's own rows [loss, accuracy, auc; of a target
    # that is a number loss, mae, rmse, r2]
    metric: str = "loss"
    personal: str = "none"  # part of the output layer that stays on each node [none, intercept, head]
    personal_parameters: int = 0  # how many of the last weights that is [set by the gateway]
    parameters: int = 0  # weights of the model [set by the gateway]
    options: Dict[str, float] = field(default_factory=dict)  # numbers of the strategy, listed below [option = number]
    # what a record of each class counts for; "balanced": by each node's own records [one number above 0 a class, balanced]
    class_weights: Union[str, Tuple[float, ...]] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        refuse([*self._numbers(), *self._weighing(), *self._combinations()])

    def _weighing(self) -> Iterator[str]:
        weights = self.class_weights
        if isinstance(weights, str):
            yield from one_of("class_weights", weights, (BALANCED,))
            return
        for weight in weights:
            if not (math.isfinite(weight) and 0 < weight <= MOST_CLASS_WEIGHT):
                yield f"class_weights: {weight:g}, expected numbers above 0, at most {MOST_CLASS_WEIGHT:g}"

    def _numbers(self) -> Iterator[str]:
        for name in ("rounds", "local_steps", "batch_size"):
            yield from at_least_one(name, getattr(self, name))
        for name in ("learning_rate", "server_learning_rate"):
            yield from positive(name, getattr(self, name))
        yield from one_of("metric", self.metric, METRICS)
        yield from one_of("personal", self.personal, tuple(PERSONAL))
        yield from one_of("schedule", self.schedule, SCHEDULES)
        yield from not_negative("patience", self.patience, "0 (never stop early) or more")
        if self.personal_parameters < 0 or (self.personal == "none" and self.personal_parameters):
            yield "personal_parameters: left out, or 0; the gateway plans it from the model"
        if self.parameters < 0:
            yield f"parameters: {self.parameters}; left out, or 0: the gateway plans it from the model"
        if self.warmup_rounds < 0:
            yield from not_negative("warmup_rounds", self.warmup_rounds)
        elif self.rounds >= 1 and self.warmup_rounds >= self.rounds:
            yield f"warmup_rounds: {self.warmup_rounds}, expected 0 to rounds - 1 = {self.rounds - 1}"
        yield from count("decay_every", self.decay_every)
        if not 0 < self.decay <= 1:
            yield f"decay: {self.decay}, expected a number in (0, 1]"
        yield from within("final_share", self.final_share, 0, 1)
        yield from (f"options.{n}: {v}, not a finite number" for n, v in self.options.items() if not math.isfinite(v))

    def _combinations(self) -> Iterator[str]:
        if self.best and self.tail_average:
            yield "best and tail_average exclude each other: the result is one round's weights, or a mean"
        if self.personal != "none" and (self.best or self.tail_average):
            yield (
                f"personal: parts that stay on a node ({self.personal}) are those of the last round: best and tail_average do "
                "not go with them"
            )
        if self.cross_scored and self.personal != "none":
            yield (
                f"strategy {self.strategy!r} has whole models scored by other nodes: personal parts never leave theirs; "
                "use 'none'"
            )
        if self.cross_scored and (self.best or self.tail_average):
            yield (
                f"strategy {self.strategy!r} keeps output layers of nodes' last models: best and tail_average, which "
                "take weights of other rounds, do not go with them"
            )
        if declared(self.strategy).one_step and self.local_steps != 1:
            yield f"local_steps: {self.strategy} takes exactly one gradient a round; use fedavg for more"

    @property
    def cross_scored(self) -> bool:
        """Whether a node scores the model of another beside its own update."""
        return declared(self.strategy).cross_scored

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
