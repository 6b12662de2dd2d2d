"""How many gradients were clipped, of what nodes release of it: a private count beside each step's sum (privacy/noisy_sum.py)."""

import math
from typing import Any, Dict, Iterable, Mapping, Optional

import numpy as np

from orchestrator.analyses import intervals
from orchestrator.errors import WireError
from orchestrator.gateway.scores import SHOWN
from orchestrator.privacy.noisy_sum import training_sum
from orchestrator.wire.targets.shares import Z
from orchestrator.wire.task import Task


def check_tally(tally: Any, most: float) -> None:
    """Raises WireError for what no node can have counted; a node may leave it out."""
    if tally is None:
        return
    if not isinstance(tally, np.ndarray) or tally.shape != (1,) or tally.dtype != np.dtype("<f4"):
        raise WireError("tally of clipped units: expected float32 (1,)")
    if not abs(float(tally[0])) <= most:
        raise WireError(f"tally of clipped units: {float(tally[0]):.3g}, at most {most:.3g} makes sense")


class Tallies:
    """Of one round's nodes."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.nodes, self._sum, self._units = 0, 0.0, 0.0

    def add(self, tally: np.ndarray, units: int, nodes: int = 1) -> None:
        """What `nodes` nodes with `units` units, as they state them, counted in all steps of a round."""
        steps = self._task.training.local_steps
        self.nodes += nodes
        self._sum += float(tally[0])
        self._units += units * self._task.privacy.sampling_rate * steps

    def figures(self, parameters: int) -> Dict[str, Any]:
        """{share, interval, sum, units, deviation} of units in steps; share None where noise moves it too far to be shown."""
        steps = self._task.training.local_steps
        deviation = training_sum(self._task, parameters).tally_deviation * math.sqrt(self.nodes * steps)
        return share_of(self._sum, self._units, deviation)


def share_of(total: float, units: float, deviation: float) -> Dict[str, Any]:
    found: Dict[str, Any] = {"sum": total, "units": units, "deviation": deviation, "share": None, "interval": None}
    if units <= 0 or Z * deviation > SHOWN * units:
        return found
    half = Z * math.hypot(deviation, math.sqrt(max(total, 0.0)))  # how many units steps are over is drawn, too
    found["share"] = min(1.0, max(0.0, total / units))
    if half <= 0:  # of none in so many
        found["interval"] = list(intervals.share(0.0, units))
        return found
    found["interval"] = [min(1.0, max(0.0, (total + sign * half) / units)) for sign in (-1, 1)]
    return found


def of_run(rounds: Iterable[Mapping[str, Any]]) -> Optional[Dict[str, Any]]:
    """The rounds' figures together; None without any. Less of a sum of many is noise."""
    tallies = [result["clipped"] for result in rounds if result.get("clipped")]
    if not tallies:
        return None
    total, units = (sum(one[name] for one in tallies) for name in ("sum", "units"))
    return share_of(total, units, math.sqrt(sum(one["deviation"] ** 2 for one in tallies)))


def in_words(found: Optional[Mapping[str, Any]], clip_norm: float) -> str:
    """One line for people; "" where nothing was counted."""
    if not found:
        return ""
    if found["share"] is None:
        return f"how many gradients were longer than the clip norm {clip_norm:g}: too noisy to show"
    low, high = found["interval"]
    text = (
        f"{100 * found['share']:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of the gradients were longer than the clip norm "
        f"{clip_norm:g} and were shortened"
    )
    if low > 0.75:
        text += ": that costs calibration; leave clip_norm out, or raise it (`edgeward privacy plan` says how far)"
    return text
