"""Runs over their rounds as a picture: metrics, bytes, seconds, epsilon. matplotlib without a display."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from orchestrator.errors import UsageError
from orchestrator.files import new_file
from orchestrator.gateway.history import RoundView

SUFFIXES = (".png", ".svg")


class Course(NamedTuple):
    """One run to draw. `epsilon`: (round, epsilon spent after it), empty without privacy."""

    run: str
    rounds: Sequence[RoundView]
    epsilon: Sequence[Tuple[int, float]]


def panels(courses: Sequence[Course]) -> Dict[str, Dict[str, Tuple[List[int], List[float]]]]:
    """panel -> line -> (rounds, values); a line without values, and a panel without lines, is left out."""
    found: Dict[str, Dict[str, Tuple[List[int], List[float]]]] = {}
    for course in courses:
        lines: Dict[str, List[Tuple[int, Any]]] = {
            "accuracy": [(r.number, r.accuracy) for r in course.rounds],
            "AUC": [(r.number, r.auc) for r in course.rounds],
            "loss": [(r.number, r.loss) for r in course.rounds],
            "bytes up": [(r.number, r.bytes_up) for r in course.rounds],
            "bytes down": [(r.number, r.bytes_down) for r in course.rounds],
            "seconds": [(r.number, r.seconds) for r in course.rounds],
            "epsilon": list(course.epsilon),
        }
        for panel, points in lines.items():
            known = [(number, float(value)) for number, value in points if value is not None]
            if known:
                found.setdefault(panel, {})[course.run] = ([n for n, _ in known], [v for _, v in known])
    return found


def draw(courses: Sequence[Course], path: Path) -> List[str]:
    """Writes the picture; returns its panels. UsageError for another suffix, no rounds, or a place it cannot write."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: a plot is written as {' or '.join(SUFFIXES)}")
    drawn = panels(courses)
    if not drawn:
        raise UsageError("none of these runs has a finished round to draw")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.2 * len(drawn)), layout="constrained")
    axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (panel, lines) in zip(axes, drawn.items()):
        for run, (rounds, values) in lines.items():
            axis.plot(rounds, values, marker=".", label=run)
        axis.set_ylabel(panel)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    axes[-1].set_xlabel("round")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    try:
        with new_file(path, replaces=True) as fresh:
            figure.savefig(fresh, dpi=120)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    return list(drawn)
