"""Figures of a run's rounds, however many there are: totals of all, the newest whole, points of curves through the others."""

from typing import Any, Dict, List, Optional

from orchestrator.gateway.cross_scores import STANDING
from orchestrator.gateway.figures import ANSWERS
from orchestrator.gateway.history import quality
from orchestrator.rounds.stages import FIRST_ROUND, Stages

NEWEST = 8
"""Rounds of which all figures are kept."""

MOST_POINTS = 100
"""Older rounds of which the quality is: with more, every second one of them is dropped."""

_FIELDS = ("round", "updates", "bytes_up", "bytes_down", "seconds", "codec_error", "loss", "accuracy", "auc")
_CURVES = ("loss", "accuracy", "auc")
_TOTALS = ("updates", "bytes_up", "bytes_down", "seconds")


class RoundFigures:
    """Feed `take` the results of rounds in their order; the newest may be given again, since figures come later."""

    def __init__(self, stages: Stages) -> None:
        self._trains = stages.trains
        self._newest: Dict[int, Dict[str, Any]] = {}
        self._points: Dict[int, Dict[str, Any]] = {}
        self._stride = 1
        self.done = 0
        """Training rounds there were."""
        self.totals: Dict[str, float] = dict.fromkeys(_TOTALS, 0)
        """Of all training rounds."""
        self.others: Dict[str, float] = dict.fromkeys(_TOTALS, 0)
        """Of the release before and the evaluation after them."""
        self.last: Dict[str, Any] = {}
        """The newest training round."""
        self.answers: Dict[str, float] = {}
        """Seconds from the announcement to the last message, of each node in the newest round there is."""
        self.standing: Dict[str, Dict[str, float]] = {}
        """How each node's models score and what its updates count for, where nodes score each other's; of its newest round."""
        self._scored: Dict[str, Dict[str, Any]] = {}

    @property
    def again_from(self) -> int:
        """The oldest round whose figures may still change."""
        return min(list(self._newest)[-2:], default=FIRST_ROUND)

    def take(self, result: Dict[str, Any], ended: Optional[float]) -> None:
        number = result["round"]
        row = {**{name: result.get(name) for name in _FIELDS}, **quality(result), "at": ended}
        if number not in self._newest:
            self._count(row)
        else:
            row["at"] = ended if ended is not None else self._newest[number]["at"]
        self._newest[number] = row
        if self._trains(number):
            self.last = row
        self.answers = {node: seconds for node, (seconds, _) in (result.get(ANSWERS) or {}).items()}
        self.standing = {**self.standing, **(result.get(STANDING) or {})}
        if result.get("loss") is not None and "intervals" in result:
            self._scored["own"] = result
        if result.get("federated"):
            self._scored["federated"] = result
        while len(self._newest) > NEWEST:
            self._age(self._newest.pop(next(iter(self._newest))))

    def rows(self) -> List[Dict[str, Any]]:
        """Oldest first: at most MOST_POINTS with round, loss, accuracy and AUC to five digits, then the newest whole."""
        return [*self._points.values(), *self._newest.values()]

    def scored(self) -> List[Dict[str, Any]]:
        """The newest results with figures of the gateway's own rows, and of records held out on nodes, whole."""
        return list(self._scored.values())

    def _count(self, row: Dict[str, Any]) -> None:
        trained = self._trains(row["round"])
        self.done += trained
        sums = self.totals if trained else self.others
        for name in _TOTALS:
            sums[name] += row[name]

    def _age(self, row: Dict[str, Any]) -> None:
        number = row["round"]
        if number % self._stride:
            return
        curves = {name: None if row[name] is None else float(f"{row[name]:.5g}") for name in _CURVES}
        self._points[number] = {"round": number, **curves}
        if len(self._points) > MOST_POINTS:
            self._stride *= 2
            self._points = {at: point for at, point in self._points.items() if at % self._stride == 0}
