"""What nodes answered to the rounds of a run, read back from its store one by one: decoded, and checked against the task."""

from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np

from orchestrator.analyses.agents import PeerAnalysis
from orchestrator.analyses.blocks import ROUNDED, impossible
from orchestrator.analyses.registry import analysis_of
from orchestrator.errors import RoundError, WireError
from orchestrator.gateway.clipped import check_tally
from orchestrator.gateway.course import MOST_RECORDS
from orchestrator.gateway.run_store import RunStore
from orchestrator.privacy.noisy_sum import TALLY
from orchestrator.privacy.vector_layout import LIMBS
from orchestrator.rounds.events import Aggregate
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS
from orchestrator.wire.answering import Coded
from orchestrator.wire.body import decode_body
from orchestrator.wire.codec import EXACT, decode_update
from orchestrator.wire.counted import Counted
from orchestrator.wire.evaluation import check
from orchestrator.wire.plain import plain
from orchestrator.wire.task import Task

MAX_MESSAGE_BYTES = 512 << 20

MOST_MOVED = 1e15
"""What a value of an update may be: far beyond any that trains, and far below what float32 weights can hold."""

MOST_COUNTED = 2.0**40
"""What a sum over a node's records may be: what is summed is scaled to its range, and noise is no more."""

_ROUNDING = 1 + 1e-5
"""float32 has not all of a sum."""

_SPARE_VALUES = 64  # masked vectors carry their weights, and what was cut, beside the values

Tensors = Dict[str, np.ndarray]


class StoredAnswers:
    """Of one run. Memory does not grow with the number of nodes, and the order is that of their names."""

    def __init__(self, store: RunStore, run: str, task: Task) -> None:
        self._store, self._run, self._task, self._stages = store, run, task, task.stages
        self._parameters: Optional[int] = None  # read once: the weights may be large
        self._most = 0

    def weights(self) -> np.ndarray:
        """float32 (P,): what the run's rounds came to so far."""
        weights = self._store.vector(self._run, "weights")
        if weights is None:
            raise RoundError(f"run {self._run} has no weights in its store")
        return weights

    def of(self, action: Aggregate) -> Iterator[Tuple[str, Dict[str, Any], Tensors]]:
        """(node, header, tensors) of every answer that is in the round."""
        for node, body in self._store.updates(self._run, action.round, action.nodes):
            header, tensors = decode_body(body, MAX_MESSAGE_BYTES)
            yield node, header, tensors

    def vector(self, number: int, header: Dict[str, Any], tensors: Tensors) -> np.ndarray:
        """The update or sum in an answer to round `number`; WireError for one that is not as the task has it."""
        stage = self._stages.of(number)
        summed = stage == STATISTICS
        codec, said = (
            EXACT if stage == ANALYSIS else "float32" if summed else self._task.codec,
            Coded.read(header).codec,
        )
        if summed and said == EXACT and not self._task.privacy.on:
            codec = EXACT
        if said != codec:
            raise WireError(f"update in codec {plain(repr(said))}, the task says {codec!r}")
        return decode_update(tensors, codec, self.size(number))

    def evaluation(self, tensors: Tensors) -> np.ndarray:
        """The sums of federated evaluation in an answer."""
        return check(tensors.get("evaluation"), self._task.schema.learned.size(self._task.evaluation.bins))

    def size(self, number: int) -> int:
        """Values of the update or sum of round `number`."""
        if self._stages.of(number) == STATISTICS:
            return 2 * len(self._task.schema.numbers())
        if not self._task.trains:
            return self._task.training.parameters
        if self._parameters is None:
            self._parameters = int(self.weights().size)
        return self._parameters - self._task.training.personal_parameters

    def most_values(self) -> int:
        """Numbers in a node's answer to any round, at most."""
        if not self._most:
            task, held = self._task, self._store.vector(self._run, "weights")
            parameters = max(task.training.parameters, 0 if held is None else held.size)
            if not parameters:  # a relay's own task; its nodes' updates are bounded by what a message may be
                return MAX_MESSAGE_BYTES // 4
            if not task.trains:  # alone they travel as float64, in a sum in digits
                self._most = parameters * LIMBS + _SPARE_VALUES
                return self._most
            counts = task.schema.learned.size(task.evaluation.bins) if task.evaluation.on else 0
            self._most = max(parameters, 2 * len(task.schema.numbers())) + counts + _SPARE_VALUES
        return self._most

    def check(self, number: int, header: Dict[str, Any], tensors: Tensors) -> None:
        """Raises WireError for an answer that could not be aggregated, or that no records of the node add up to."""
        stage = self._stages.of(number)
        if stage != EVALUATION:
            update = self.vector(number, header, tensors)
            largest, most = float(np.abs(update).max(initial=0.0)), self._most_of(stage, header)
            if not largest <= most:
                raise WireError(f"update with a value of {largest:.3g}, at most {most:.3g} makes sense")
            check_tally(tensors.get(TALLY), MOST_COUNTED)
            if not self._task.privacy.on:
                self._check_exact(stage, header, update)
        if self._task.evaluates(number):
            self._check_evaluation(self.evaluation(tensors))

    def _most_of(self, stage: str, header: Dict[str, Any]) -> float:
        """What a value may be: no record adds more than 1 to a sum, but noise does."""
        if stage not in (STATISTICS, ANALYSIS):
            return MOST_MOVED
        return MOST_COUNTED if self._task.privacy.on else float(Counted.read(header).records) * _ROUNDING

    def _check_exact(self, stage: str, header: Dict[str, Any], sums: np.ndarray) -> None:
        if stage == STATISTICS and float(sums[len(sums) // 2 :].min(initial=0.0)) < 0:
            raise WireError("statistics with a sum of squares below 0")
        if stage == ANALYSIS:
            analysis = analysis_of(self._task)
            blocks = analysis.blocks(analysis.question(self.weights()))
            why = impossible(blocks, sums, float(Counted.read(header).records), ROUNDED in header)
            if not why and isinstance(analysis, PeerAnalysis) and analysis.exchanges(analysis.question(self.weights())):
                why = analysis.wrong_answer(sums)
            if why:
                raise WireError(f"sums that no records add up to: {why}")

    def _check_evaluation(self, sums: np.ndarray) -> None:
        """Cells of 0 or more, of which a record adds 1 in all, and a value of 0 to 1 (`Target.size`), unless there is noise."""
        most = MOST_COUNTED if self._task.privacy.on else float(MOST_RECORDS)
        cells, rest = float(sums[:-1].sum()), float(sums[-1])
        if float(np.abs(sums).max(initial=0.0)) > most:
            raise WireError(f"evaluation with a count of {np.abs(sums).max():.3g}, at most {most:.3g} makes sense")
        if not self._task.privacy.on and not (sums.min() >= 0 and rest <= cells * _ROUNDING):
            raise WireError(
                f"evaluation sums that no records add up to: least {sums.min():.3g}, {rest:.3g} of {cells:.3g}"
            )
