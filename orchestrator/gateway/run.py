"""A run as the store holds it: how it begins, what it leaves."""

import hashlib
import json
from dataclasses import replace
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from model_export.manifest import MOST_HEADS
from orchestrator.errors import RoundError, UsageError
from orchestrator.gateway.run_store import STATE_PREFIX, RunStore
from orchestrator.privacy.clipping import default_clip_norm
from orchestrator.privacy.mask_graph import complete_up_to, enough_neighbours, least_neighbours, may_withhold
from orchestrator.privacy.participation import secret_sample
from orchestrator.privacy.standardization import range_scaling
from orchestrator.rounds.fedbuff import FedBuff
from orchestrator.rounds.fuala import LEAST_NODES, kept_heads, models_in
from orchestrator.rounds.norm_bound import DEFAULT, OPTION, bounded, multiple_of
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.robust import Median
from orchestrator.rounds.selection import Rule
from orchestrator.rounds.steps import ENCRYPTED_STEPS, MASKED_STEPS
from orchestrator.rounds.strategies import STRATEGIES, make_strategy
from orchestrator.rounds.strategy import Strategy
from orchestrator.wire.plain import as_run_name
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.stated import later_fields, stated_of
from orchestrator.wire.task import Rounds, Selection, Task, task_from_dict, task_to_dict
from orchestrator.wire.training import Training


def run_id(task: Task, number: int = 1) -> str:
    """A name for the `number`-th training of a task: readable, and another one where what the task states changes.

    Fields that have their default take no part, so that a field a later version adds renames no run.
    """
    return _named(task, json.dumps(stated_of(task), sort_keys=True), number)


def run_in(store: RunStore, task: Task, number: int = 1) -> str:
    """The name of the `number`-th training of a task in this store, which may be one that an earlier version gave."""
    name = run_id(task, number)
    before = _name_before(task, number, _named_apart(store, task))
    return before if store.find_run(name) is None and store.find_run(before) is not None else name


def _named(task: Task, stated: str, number: int) -> str:
    name = f"{as_run_name(task.name)}-{hashlib.sha256(stated.encode()).hexdigest()[:8]}"
    return name if number == 1 else f"{name}-{number}"


def _name_before(task: Task, number: int = 1, other: bool = False) -> str:
    """As version 0.1 named runs: by all fields. A task that states no clip norm was named as one that states 1.

    `other`: named apart from one that states 1.
    """
    if task.privacy.on and not task.privacy.clip_norm:
        task = replace(task, privacy=replace(task.privacy, clip_norm=1.0))
    return _named(task, repr(task) + later_fields(task) + ("other clip norm" if other else ""), number)


def _named_apart(store: RunStore, task: Task) -> bool:
    """Whether the store has this task's earlier name for one that differs in what is meant by its clip norm alone."""
    name = _name_before(task)
    stored = store.find_run(name)
    if stored is None or not task.privacy.on:
        return False
    before = task_from_dict(stored[0], f"stored run {name}").privacy
    if task.privacy.clip_norm:
        return before.clip_norm != task.privacy.clip_norm
    # Of before such tasks had a tally: then it stated 1, or nothing.
    return before.clip_tally and before.clip_norm != default_clip_norm(task)


def plan_of(task: Task, key: bytes) -> Plan:
    """What the coordinator needs of a task: with it, the journal alone gives the state of the run.

    key: the run's secret "selection".
    """
    rounds, strategy = task.rounds, strategy_of(task)
    check_neighbours(task)
    return Plan(
        task.training.rounds,
        rounds.nodes,
        rounds.quorum,
        rounds.deadline_s,
        rounds.attempts,
        rounds.gather_s,
        task.standardizes,
        Rule(task.selection.cohort, task.selection.sampling_rate, key),
        isinstance(strategy, FedBuff),
        strategy.max_staleness if isinstance(strategy, FedBuff) else 0,
        task.evaluation.on,
        rounds.provided,
        task.privacy.bands if task.privacy.on else 1,
        {"plain": (), "masked": MASKED_STEPS, "ckks": ENCRYPTED_STEPS}[task.aggregation.method],
        task.aggregation.least,
        task.aggregation.key_holder,
        task.aggregation.colluding,
        complete_up_to(task.aggregation.neighbours) if task.aggregation.method == "masked" else 0,
        may_withhold(task.aggregation.colluding),
        rounds.minimum_nodes,
        secret_sample(task),
    )


def check_neighbours(task: Task) -> None:
    """Raises UsageError where masks between so few neighbours would not hide what the expected number of nodes send."""
    for reason in neighbour_objections(task.aggregation, task.rounds, task.selection):
        raise UsageError(f"task {task.name!r}: {reason}")


def neighbour_objections(aggregation: Aggregation, rounds: Rounds, selection: Selection) -> Iterator[str]:
    """Why masks would not hide what the expected number of nodes send."""
    degree = 2 * -(-aggregation.neighbours // 2)
    if aggregation.method != "masked":
        return
    for parties in sorted({selection.cohort or rounds.nodes, selection.cohort or rounds.least_nodes}, reverse=True):
        if not enough_neighbours(parties, aggregation.colluding, degree):
            yield (
                f"of {parties} nodes with {degree} neighbours each, {aggregation.colluding} may work with the gateway, and "
                "around some node could be as many as the honest ones: set aggregation.neighbours to "
                f"{least_neighbours(parties, aggregation.colluding)} or more"
            )
            return


def strategy_of(task: Task) -> Strategy:
    """The task's strategy; UsageError for one that does not exist, or that its quorum cannot serve."""
    for reason in strategy_objections(task.training, task.rounds, task.selection, task.aggregation.secure):
        raise UsageError(f"task {task.name!r}: {reason}")
    training = task.training
    return make_strategy(training.strategy, training.server_learning_rate, training.options)


def strategy_objections(
    training: Training, rounds: Rounds, selection: Selection, secure: bool = False
) -> Iterator[str]:
    """Why there is no such strategy, or none that these rounds can serve."""
    try:
        strategy = make_strategy(training.strategy, training.server_learning_rate, training.options)
    except ValueError as error:
        yield from str(error).split("\n")
        return
    if secure and training.options.get(OPTION):
        yield (
            f"option {OPTION!r} bounds single updates, and secure sums show none: leave it out; values are bounded by "
            "aggregation.update_range, or by clipping on the node"
        )
    if isinstance(strategy, FedBuff) and selection.sampling_rate:
        yield (
            f"fedbuff ends a round with its {rounds.quorum}th update, so which nodes are in it is not a "
            "Poisson sample: leave selection.sampling_rate out, or choose another strategy"
        )
    if selection.sampling_rate and strategy.least_updates > 1:
        yield (
            f"a Poisson sample may hold a single node, strategy {training.strategy!r} needs "
            f"{strategy.least_updates}: use selection.cohort, or choose another strategy"
        )
    if rounds.quorum < strategy.least_updates:
        yield (
            f"strategy {training.strategy!r} needs {strategy.least_updates} updates a round, the quorum is "
            f"{rounds.quorum}: raise rounds.quorum, or choose another strategy"
        )
    elif training.cross_scored and rounds.least_nodes < LEAST_NODES:
        yield (
            f"strategy {training.strategy!r} has each model scored by three other nodes, and a run may begin with "
            f"{rounds.least_nodes}: raise rounds.nodes (and rounds.minimum_nodes) to {LEAST_NODES} or more, or choose another "
            "strategy"
        )
    elif isinstance(strategy, Median):
        yield from strategy.idle(rounds.quorum)


def norm_multiple(task: Task) -> float:
    """Of the median norm, to which the gateway shortens updates; 0 where it does not.

    By default where a strategy takes a mean and there is no privacy: noise makes norms what they are, and sums show none.
    """
    if not bounded(STRATEGIES[task.training.strategy]) or task.aggregation.secure or (task.privacy.central):
        return 0.0
    return multiple_of(task.training.options, 0.0 if task.privacy.on else DEFAULT)


class Trained(NamedTuple):
    """What a bundle is made of: float32 weights (P,), and the standardization of its inputs in raw units."""

    weights: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    heads: Optional[np.ndarray] = None
    """float32 (nodes, P): models whose last layers are kept beside that of `weights`; None where none are."""
    heads_left_out: int = 0


class RunResult:
    """What a finished run leaves: weights to quantize, standardization, and the figures of every round."""

    def __init__(self, store: RunStore, run: str, task: Task, records: Dict[str, int]) -> None:
        self.task = task
        self.weights = final_weights(store, run, task)
        self.mean, self.std = standardization(store, run, task)
        self.rounds = trained_rounds(store, run, task)
        self.heads, self.heads_left_out = heads_of(store, run, task)
        self.nodes = store.nodes(run)
        self.records = records
        self.sums = [
            r for r in store.results(run) if "opened" in r
        ]  # of secure rounds, statistics and evaluation included

    def observed(self, certified: bool) -> Dict[str, Any]:
        """What a privacy statement says of secure rounds beyond what was declared."""
        opened = [len(r["nodes"]) for r in self.sums if r["opened"]]
        if not opened:
            return {}
        skipped = sum(not r["opened"] for r in self.sums)
        keys = "certified" if certified else "first use"
        return {"least_survivors": min(opened), "rounds_skipped": skipped, "keys": keys}


def final_weights(store: RunStore, run: str, task: Task) -> np.ndarray:
    """float32 (P,): the last round's weights, the best round's, or the mean over the tail of rounds, as the task says."""
    tail, best = store.vector(run, "tail"), store.vector(run, "best")
    if task.training.tail_average and tail is not None:
        counted = sum(r["round"] > tail_starts_after(task) for r in trained_rounds(store, run, task))
        return (tail / counted).astype(np.float32)
    if task.training.best and best is not None:
        return best
    weights = store.vector(run, "weights")
    if weights is None:
        raise RoundError(f"run {run} has no weights")
    return weights


def heads_of(store: RunStore, run: str, task: Task) -> Tuple[Optional[np.ndarray], List[str]]:
    """(float32 (nodes, P): the last models of nodes whose output layers are kept, by name; nodes whose are not).

    None where the strategy keeps none, or too few are left for a spread.
    """
    if not task.training.cross_scored:
        return None, []
    state = {name[len(STATE_PREFIX) :]: vector for name, vector in store.vectors(run, STATE_PREFIX).items()}
    kept, left_out = kept_heads(state)
    models = models_in(state)
    if len(kept) < 2:
        return None, sorted(models)
    return np.stack([models[node] for node in kept[:MOST_HEADS]]).astype(np.float32), [*left_out, *kept[MOST_HEADS:]]


def trained_rounds(store: RunStore, run: str, task: Task) -> List[Dict[str, Any]]:
    """Figures of the training rounds there were, without the statistics before and the evaluation after them."""
    return [r for r in store.results(run) if task.stages.trains(r["round"])]


def tail_starts_after(task: Task) -> int:
    return task.training.rounds // 2


def standardization(store: RunStore, run: str, task: Task) -> Tuple[np.ndarray, np.ndarray]:
    """(mean, std), float32 of the input shape, in raw units."""
    if task.schema.kind == "signal":
        shape = task.schema.input_shape
        return np.zeros(shape, np.float32), np.ones(shape, np.float32)
    mean, std = store.vector(run, "mean"), store.vector(run, "std")
    if mean is None or std is None:
        return range_scaling(task.schema)
    return mean, std


def open_run(store: RunStore, run: str, task: Task, graph: bytes, weights: np.ndarray) -> Tuple[Task, bytes]:
    """Creates the run, or returns the stored one's task and graph; UsageError if it was another task."""
    stored = store.find_run(run)
    if stored is None:
        store.create_run(run, task_to_dict(task), graph, weights)
        return task, graph
    before = task_from_dict(stored[0], f"stored run {run}")
    if (before.name, before.schema, before.model, before.analysis) != (
        task.name,
        task.schema,
        task.model,
        task.analysis,
    ):
        raise UsageError(
            f"run {run!r} exists with another task ({before.name!r}); choose another --run or state folder"
        )
    return before, stored[1]
