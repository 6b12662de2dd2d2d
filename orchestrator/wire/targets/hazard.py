"""The time to an event that not everybody has had yet: a hazard for each of a few intervals of time.

A model's outputs are logits of the probability that the event falls into an interval, of records that came as far: discrete-time
hazards (Singer and Willett 1993, Journal of Educational Statistics 18:155). A record that is lost from view within an interval
counts as having come to its beginning.
"""

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.wire.evaluation import LOSS_BOUND
from orchestrator.wire.targets.base import LOSS, Declared, Figures, Quoted
from orchestrator.wire.targets.shares import Z, of_mean

MOST_INTERVALS = 100


@dataclass(frozen=True)
class HazardOptions:
    """Of kind "time-to-event"."""

    event: str  # column: 1 where the time is that of the event, 0 where the record was lost from view then [a column]
    # ends of the intervals, in units of the time; what is in view longer counts as in view to the last [1 to 100 rising numbers
    # above 0]
    ends: Tuple[float, ...]


class Hazard(Declared):
    """The label, a time of 0 or more, and the event's column.

    With K intervals a record's code is k + (K + 1) event, k from 0 to K: the number of intervals it came through whole.
    """

    kind = "time-to-event"
    Options = HazardOptions
    metrics = (LOSS,)

    def objections(self) -> Iterator[str]:
        ends, event = self.options.ends, self.options.event
        if not 1 <= len(ends) <= MOST_INTERVALS:
            yield f"ends: {len(ends)}, expected 1 to {MOST_INTERVALS}"
        if not all(0 < end <= 1e30 for end in ends) or any(two <= one for one, two in zip(ends, ends[1:])):
            yield "ends: expected rising numbers above 0, up to 1e30"
        if not self.schema.label:
            yield "kind: 'time-to-event' needs schema.label, the column the time is in"
        if not event or event == self.schema.label:
            yield "event: names the column that says whether there was an event, another one than the time's"

    @property
    def columns(self) -> Tuple[str, ...]:
        return (self.schema.label, self.options.event)

    @property
    def outputs(self) -> int:
        return len(self.options.ends)

    @property
    def loss(self) -> Dict[str, Any]:
        return {"kind": "hazard"}

    @property
    def exported_words(self) -> str:
        return "for each interval the logit of its hazard: scale * (int8 - zero_point)"

    @property
    def steepness(self) -> float:
        """Of hazards of a half, in the intervals half of the records come through."""
        return 0.5 * math.sqrt((1 + self.outputs) / 2)

    def code(self, values: Sequence[float]) -> int:
        time, event = values
        if time < 0 or event not in (0.0, 1.0):
            raise ValueError("a time is 0 or more, and its event 1 where there was one and 0 where there was none yet")
        ends = self.options.ends
        whole = sum(end < time for end in ends) if event else sum(end <= time for end in ends)
        return whole + ((len(ends) + 1) if event and whole < len(ends) else 0)

    def invented(self, draw: np.random.Generator) -> List[str]:
        return [f"{draw.uniform(0, 1.1 * self.options.ends[-1]):.4g}", str(int(draw.integers(2)))]

    def words(self, quoted: Quoted) -> str:
        last = self.options.ends[-1]
        return f"the time {quoted(self.schema.label)} to {quoted(self.options.event)}, in {self.outputs} intervals up to {last:g}"

    def split(self, y: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(intervals come through whole int64 (n,), whether the next one has the event bool (n,))."""
        y = np.asarray(y, np.int64)
        return y % (self.outputs + 1), y > self.outputs

    def answers(self, outputs: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float64 (n, intervals): hazards."""
        whole, _ = self.split(y)
        wrong = (np.arange(self.outputs) < whole[:, np.newaxis]).astype(np.float64)
        return np.where(np.isfinite(outputs), 1 / (1 + np.exp(-np.clip(outputs, -40, 40))), wrong)

    def exported_answers(self, values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self.answers(values, y, x)

    def size(self, bins: int) -> int:
        """Records, and their losses."""
        return 2

    def count(self, y: np.ndarray, answers: np.ndarray, bins: int) -> np.ndarray:
        losses = np.minimum(self._losses(y, answers), LOSS_BOUND) / LOSS_BOUND
        return np.array([len(losses), losses.sum()], np.float64)

    def of_rows(self, y: np.ndarray, answers: np.ndarray) -> Figures:
        """concordance: of pairs of which it is known who had the event first, how many the model has right (Harrell 1982)."""
        losses, n = self._losses(y, answers), len(y)
        found = of_mean(losses)
        no_event = not self.split(y)[1].any()
        return {
            "records": float(n),
            "loss": float(losses.mean()),
            "concordance": concordance(*self.split(y), -np.log(1 - np.minimum(answers, 1 - 1e-12)).sum(axis=1)),
            "intervals": {} if found is None else {"loss": found},
            "warning": "no record has the event within the intervals: the loss says nothing about who will"
            if no_event
            else "",
        }

    def of_sums(self, sums: np.ndarray, bins: int, noise: float) -> Figures:
        n = float(sums[0])
        said: Dict[str, Any] = {"records": None, "loss": None, "intervals": {}, "warning": ""}
        moved = LOSS_BOUND * Z * noise / max(n, 1.0)
        if n >= 1 and Z * noise <= n / 2:
            said.update(records=float(round(n)), loss=LOSS_BOUND * min(1.0, max(0.0, float(sums[1]) / n)))
            if noise:
                said["intervals"]["loss"] = [max(0.0, said["loss"] - moved), said["loss"] + moved]
        if noise:
            said.update(noise={"loss": moved}, too_noisy=[name for name in ("records", "loss") if said[name] is None])
        return said

    def _losses(self, y: np.ndarray, answers: np.ndarray) -> np.ndarray:
        whole, event = self.split(y)
        places = np.arange(self.outputs)
        safe = np.clip(answers, 1e-12, 1 - 1e-12)
        through = -np.log(1 - safe) * (places < whole[:, np.newaxis])
        there = -np.log(safe) * ((places == whole[:, np.newaxis]) & event[:, np.newaxis])
        return np.asarray((through + there).sum(axis=1))

    def said(self, values: np.ndarray) -> Dict[str, Any]:
        survival = np.cumprod(1 - 1 / (1 + np.exp(-np.clip(values.astype(np.float64), -40, 40))))
        return {
            "without event": {f"at {end:g}": float(f"{share:.6g}") for end, share in zip(self.options.ends, survival)}
        }

    def summary(self, values: np.ndarray) -> Dict[str, Any]:
        survival = (1 - 1 / (1 + np.exp(-np.clip(values.astype(np.float64), -40, 40)))).prod(axis=1)
        return {f"mean share without event at {self.options.ends[-1]:g}": float(f"{survival.mean():.6g}")}

    def label(self, code: int) -> Any:
        ends, whole = (0.0, *self.options.ends), code % (self.outputs + 1)
        if code > self.outputs:
            return f"event between {ends[whole]:g} and {ends[whole + 1]:g}"
        return f"none up to {ends[whole]:g}"


def concordance(whole: np.ndarray, event: np.ndarray, risk: np.ndarray) -> Optional[float]:
    """Ties of risk count half. None where no pair can be compared."""
    right = pairs = 0.0
    for place in np.unique(whole[event]):
        first = risk[event & (whole == place)]
        later = np.sort(risk[whole > place])
        below, upto = np.searchsorted(later, first, "left"), np.searchsorted(later, first, "right")
        right += float((below + (upto - below) / 2).sum())
        pairs += float(len(first) * len(later))
    return right / pairs if pairs else None
