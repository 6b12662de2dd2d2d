"""How far the rounds of a run are: a bar at the foot of a terminal, or how long they will still take at the end of a line."""

import importlib.util
import sys
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, TextIO, Type

from orchestrator.cli import screen
from orchestrator.gateway.progress import Progress, describe, json_progress
from orchestrator.wire.plain import many, plain

_RECENT = 10
"""Rounds whose duration says how long the next ones will take."""
_ENDS = ("finished", "stopped", "failed")


@contextmanager
def shown(as_json: bool) -> Iterator[Progress]:
    """What shows a run's events: JSON lines; a bar where standard output is a terminal; lines elsewhere."""
    if as_json:
        yield json_progress
    elif sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        with RoundBar() as bar:
            yield bar
    else:
        yield Lines(sys.stdout)


class TimeLeft:
    """Seconds the training rounds will still take, from those of the last few."""

    def __init__(self) -> None:
        self._recent: List[float] = []

    def after(self, event: Dict[str, Any]) -> Optional[float]:
        """Of an event `aggregated`; None where nothing is known or left."""
        number, last = event["round"], event["of"]
        if number <= 1:
            self._recent = []
        if number == 0 or number >= last:
            return None
        self._recent = [*self._recent, float(event["seconds"])][-_RECENT:]
        return (last - number) * sum(self._recent) / len(self._recent)


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Lines:
    """A line an event, as a log or a pipe wants it."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._left = file, TimeLeft()

    def __call__(self, event: Dict[str, Any]) -> None:
        text = describe(event)
        left = self._left.after(event) if event["event"] == "aggregated" else None
        if text:
            print(text if left is None else f"{text}, about {duration(left)} left", file=self._file, flush=True)


class RoundBar:
    """A bar of the rounds; what else happens is printed above it. Needs rich."""

    def __init__(self, console: Any = None) -> None:
        self._console = screen.console() if console is None else console
        self._left = TimeLeft()
        self._bar: Any = None

    def __enter__(self) -> "RoundBar":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._end()

    def __call__(self, event: Dict[str, Any]) -> None:
        if event["event"] == "aggregated" and 1 <= event["round"] <= event["of"]:
            self._round(event)
            return
        if event["event"] in _ENDS:
            self._end()
        text = describe(event)
        if text:
            self._console.print(text, markup=False, soft_wrap=True)

    def _round(self, event: Dict[str, Any]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        if self._bar is None:
            columns = (
                TextColumn("round {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(20),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._bar = Progress(*columns, console=self._console, auto_refresh=False)
            self._task = self._bar.add_task("", total=event["of"], text="")
            self._bar.start()
        figures = "".join(
            f", {k} {event[k]:.3f}" for k in ("loss", "accuracy", "auc", "r2") if event.get(k) is not None
        )
        left = self._left.after(event)
        rest = "" if left is None else f", about {duration(left)} left"
        self._bar.update(
            self._task,
            completed=event["round"],
            text=plain(f"{many(event['updates'], 'node')} answered{figures}{rest}"),
        )
        self._bar.refresh()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
