"""Survival: Kaplan and Meier's curve (1958) with bands, Nelson and Aalen's cumulative hazard, and the log-rank test.

Times are counted in the steps of a public grid over their range. A record is in one cell: its group, its step, and whether the
event was seen or the record was lost to view; who was at risk follows from that. So the curves are those of all records together,
exactly where the grid has a step for each time that occurs (such as one a day). One round.
"""

from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.base import CERTAINTY, Analysis, Cell, Folded, Result, State, Sums, Table, Total, interval
from orchestrator.analyses.blocks import CELLS, EVERYBODY, MARGINS, Block, aside, places
from orchestrator.wire.bounds import count, near, refuse
from orchestrator.wire.schema import Feature, Schema

MOST_STEPS = 10_000


@dataclass(frozen=True)
class SurvivalOptions:
    """Of kind "survival"."""

    time: str  # column with the time to the event, or until which a record was in view: a number without transform [a column]
    event: str  # column that says which: two categories, the second is the event [a column]
    by: str = ""  # column with categories whose curves are compared [a column, or empty for one curve]
    steps: int = (
        50  # of equal width over the range of time; a time on the edge of one is in the one it begins [1 to 10000]
    )

    def __post_init__(self) -> None:
        refuse(count("steps", self.steps, 1, MOST_STEPS))


class Curve(NamedTuple):
    """Of one group, each (steps,): records at risk, events, records lost to view, survival, its band, cumulative hazard."""

    risk: np.ndarray
    events: np.ndarray
    lost: np.ndarray
    survival: np.ndarray
    low: np.ndarray
    high: np.ndarray
    hazard: np.ndarray
    known: int  # steps up to which all of it is worth showing


class Survival(Analysis):
    """The vector: for each group and step events and records lost to view; in the last cell records that lack a value."""

    Options = SurvivalOptions
    in_steps = True

    def __init__(self, schema: Schema, options: SurvivalOptions) -> None:
        self._places: Dict[str, Tuple[Feature, int]] = {}
        column = 0
        for feature in schema.features:
            self._places[feature.name] = feature, column
            column += feature.width
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The columns are there, and of the kinds they need to be."""
        named = {
            "time": self.options.time,
            "event": self.options.event,
            **({"by": self.options.by} if self.options.by else {}),
        }
        for option, name in named.items():
            if name not in self._places:
                yield f"{option}: no column {name!r} in the schema{near(name, self._places)}"
                continue
            feature = self._places[name][0]
            if option == "time" and (feature.categories or feature.transform):
                yield f"time: {name!r}; it is a number without transform"
            if option == "event" and len(feature.categories) != 2:
                yield f"event: {name!r}; it is a column with two categories, of which the second is the event"
            if option == "by" and not feature.categories:
                yield f"by: {name!r} is a number; curves are compared by a column with categories"
        if len(set(named.values())) < len(named):
            yield "event: time, event and by have to be different columns"

    @property
    def rounds(self) -> int:
        """All sums are of one."""
        return 1

    @property
    def sums(self) -> Sums:
        """A record is in one cell."""
        return Sums(2 * len(self._groups) * self.options.steps + 1, 1.0)

    @property
    def _groups(self) -> Tuple[str, ...]:
        return self._places[self.options.by][0].categories if self.options.by else ("",)

    def begin(self, seed: int) -> np.ndarray:
        """Nodes need no numbers."""
        return np.zeros(1, np.float32)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        times = x[:, self._places[self.options.time][1]]
        seen, used = self._level(self.options.event, x)
        group = np.zeros(len(x), np.int64)
        if self.options.by:
            group, grouped = self._level(self.options.by, x)
            used &= grouped
        used &= ~np.isnan(times)
        step = np.searchsorted(self._edges, np.where(used, times, 0.0), side="right") - 1
        step = np.clip(step, 0, self.options.steps - 1)
        found = np.zeros((len(x), self.sums.size))
        cell = np.where(used, (group * self.options.steps + step) * 2 + (1 - seen), self.sums.size - 1)
        found[np.arange(len(x)), cell] = 1.0
        return found

    def _level(self, name: str, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(number of each record's level, whether it has one)."""
        feature, column = self._places[name]
        levels = x[:, column : column + feature.width]
        return levels.argmax(axis=1), levels.sum(axis=1) > 0.5

    @property
    def _edges(self) -> np.ndarray:
        return np.linspace(*self._places[self.options.time][0].range, self.options.steps + 1)

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Of each group, by step, events and records lost to view; both together, and all groups, are the times' histograms."""
        found, cells = [], places(0, len(self._groups), self.options.steps, 2)
        columns = (self.options.time, self.options.event)
        for group, level in enumerate(self._groups):
            among = (self.options.by, level) if level else EVERYBODY
            for place, what in enumerate(("events", "lost to view")):
                name = f"{what} {level}".strip()
                found.append(Block(name, CELLS, cells[group, :, place], columns, among, ordered=True, what=what))
            time = (self.options.time,)
            found.append(Block(f"times {level}".strip(), MARGINS, cells[group].T, time, among, ordered=True))
        if self.options.by:
            found.append(Block("times of all groups", MARGINS, cells.transpose(0, 2, 1), time, ordered=True))
            for place, what in enumerate(("events", "lost to view")):
                of_all = cells[:, :, place]
                found.append(Block(f"{what} of all groups", MARGINS, of_all, columns, ordered=True, what=what))
        return [*found, aside("left out", cells.size)]

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The sums are the result."""
        state = {"total": total.values, "deviation": np.array([total.deviation])}
        return asked, Folded(state, {"units": float(total.values.sum())}, done=True)

    def result(self, state: State, units: str) -> Result:
        """Tables "groups", "survival" of each group, and "log-rank" where groups are compared."""
        deviation, groups = float(state["deviation"][0]), self._groups
        cells = state["total"][:-1].reshape(len(groups), self.options.steps, 2)
        curves = [curve_of(events, lost, deviation) for events, lost in cells.transpose(0, 2, 1)]
        rows = [self._summary(name, curve) for name, curve in zip(groups, curves)]
        heads = ("group", units, "events", "median", "from", "to")
        tables = [Table("groups", heads, rows)]
        tables += [self._table(name, curve) for name, curve in zip(groups, curves)]
        notes = list(self._notes(float(state["total"][-1]), deviation, units))
        if len(groups) > 1 and not deviation:
            found = log_rank(cells[:, :, 0], cells[:, :, 1])
            tables.append(Table("log-rank", ("chi squared", "degrees of freedom", "p"), [found] if found else []))
        return Result(tables, notes)

    def _table(self, name: str, curve: Curve) -> Table:
        edges, rows = self._edges, []
        for step in range(self.options.steps):
            counts = (_plain(curve.risk[step]), _plain(curve.events[step]), _plain(curve.lost[step]))
            figures: Tuple[Cell, ...] = (None,) * 4
            if step < curve.known:
                figures = tuple(float(each[step]) for each in (curve.survival, curve.low, curve.high, curve.hazard))
            rows.append((float(edges[step]), *counts, *figures))
        heads = (self.options.time, "at risk", "events", "lost to view", "survival", "low", "high", "cumulative hazard")
        return Table(f"survival {name}".strip(), heads, rows, "survival")

    def _summary(self, name: str, curve: Curve) -> Tuple[Cell, ...]:
        """Of a group: the first time at which survival, and the ends of its band, are at most a half."""
        edges = self._edges[:-1]

        def when(values: np.ndarray) -> Cell:
            below = np.flatnonzero(values[: curve.known] <= 0.5)
            return float(edges[below[0]]) if below.size else None

        counts = _plain(curve.events.sum() + curve.lost.sum()), _plain(curve.events.sum())
        return (name or "all", *counts, when(curve.survival), when(curve.low), when(curve.high))

    def _notes(self, left_out: float, deviation: float, units: str) -> Iterator[str]:
        low, high = self._places[self.options.time][0].range
        width = (high - low) / self.options.steps
        yield f"times are counted in steps of {width:.4g}; survival is after the events of a step, bands are of 95 % (log-log)"
        if left_out > interval(deviation):
            yield f"{left_out:.6g} {units} that lack a value were left out"
        if deviation:
            within = f"with 95 % it is within {interval(deviation):.3g} of what would be there without"
            yield (
                f"every count carries noise: {within}. Bands count it to first order; curves end where it hides who is at risk, "
                "and there is no log-rank test"
            )

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is seen of what."""
        by = f", by {quoted(self.options.by)} of {len(self._groups)}" if self.options.by else ""
        time, event = quoted(self.options.time), quoted(self.options.event)
        return [
            f"survival: {time} until {event} in {self.options.steps} steps{by}; of each step events, and records lost to view"
        ]


def curve_of(events: np.ndarray, lost: np.ndarray, deviation: float) -> Curve:
    """From counts (steps,) with noise of this standard deviation on each. Greenwood's variance, a band on the log-log scale.

    That has no ends where survival is 1 or 0: there the band is Wilson's interval (1927) of none, or of all, of those at risk.
    """
    steps = len(events)
    both = events + lost
    risk = both[::-1].cumsum()[::-1]
    summed = 2.0 * np.arange(steps, 0, -1)  # cells that are in it
    noisy = deviation * np.sqrt(summed)
    enough = risk > np.maximum(interval(1.0) * noisy, 0.5)
    known = steps if enough.all() else int(np.argmin(enough))
    safe = np.where(enough, risk, 1.0)
    share = np.clip(events / safe, 0.0, 1.0)
    survival = np.cumprod(1.0 - share)
    hazard = np.cumsum(share)
    left = np.where(safe - events > 0, safe - events, np.inf)
    sampled = np.cumsum(np.maximum(events, 0.0) / (safe * left))
    drawn = np.cumsum(deviation**2 * (1.0 + share**2 * summed) / safe**2)
    inside = (survival > 0) & (survival < 1)
    logarithm = np.log(np.where(inside, survival, 0.5))
    width = CERTAINTY * np.sqrt(sampled + drawn) / np.abs(logarithm)
    low = np.exp(logarithm * np.exp(np.minimum(width, 50.0)))
    high = np.exp(logarithm * np.exp(-width))
    # At 1 and at 0 that scale has no ends: those at risk make a share of 1, or of 0, with Wilson's interval.
    surely = np.maximum(risk - interval(1.0) * noisy, 0.0)
    before = np.maximum.accumulate(np.append(1.0, np.where(survival > 0, high, 0.0))[:-1])
    low = np.where(inside, low, np.where(survival > 0, surely / (surely + CERTAINTY**2), 0.0))
    high = np.where(inside, high, np.where(survival > 0, 1.0, before * CERTAINTY**2 / (surely + CERTAINTY**2)))
    return Curve(risk, events, lost, survival, low, high, hazard, known)


def log_rank(events: np.ndarray, lost: np.ndarray) -> Optional[Tuple[Cell, ...]]:
    """(chi squared, degrees of freedom, p) that all groups, (groups, steps) each, have one curve; None where nothing tells."""
    risk = (events + lost)[:, ::-1].cumsum(axis=1)[:, ::-1]
    all_risk, all_events = risk.sum(axis=0), events.sum(axis=0)
    used = (all_risk > 1) & (all_events > 0)
    share = risk[:, used] / all_risk[used]
    expected = share * all_events[used]
    weight = all_events[used] * (all_risk[used] - all_events[used]) / (all_risk[used] - 1)
    variance = np.diag((weight * share).sum(axis=1)) - (weight * share) @ share.T
    apart = (events[:, used] - expected).sum(axis=1)
    present = np.flatnonzero(risk[:, 0] > 0)
    if len(present) < 2:
        return None
    kept = present[:-1]
    try:
        found = float(apart[kept] @ np.linalg.solve(variance[np.ix_(kept, kept)], apart[kept]))
    except np.linalg.LinAlgError:
        return None
    from scipy.special import gammaincc  # late: nodes do without, and a gateway until its end

    return found, len(kept), float(gammaincc(len(kept) / 2, max(found, 0.0) / 2))


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
