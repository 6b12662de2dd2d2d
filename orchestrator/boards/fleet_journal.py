"""Roll-outs as they go on, each a file of the fleet's folder: what `edgeward board fleet list` and the dashboard show of them."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from json import dumps
from math import isfinite
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from orchestrator.boards.rollout import BoardResult, Outcome, Rollout
from orchestrator.errors import EdgewardError
from orchestrator.files import replace_file
from orchestrator.mishaps import sentence
from orchestrator.wire.plain import many, plain
from orchestrator.wire.records import parse_object
from orchestrator.wire.special_files import open_file
from orchestrator.wire.topics import check_name

FOLDER = "rollouts"
KEPT = 10
"""Roll-outs of which there is a file; of more, the oldest files are removed."""
RUNNING, FINISHED, HALTED, LOST = "running", "finished", "halted", "lost"
"""LOST is never written: the file says RUNNING, and nothing was added to it for LOST_S."""
WAITING, UPDATING = "waiting", "updating"
"""Of a board besides its Outcome."""
BEAT_S, LOST_S = 5.0, 30.0
"""A roll-out under way writes its file every BEAT_S, even where nothing happened."""
_LEAST_S = 0.5
"""Between two writes."""
_MOST_BYTES = 8 << 20
_VERSION = 1
_OUTCOMES = (WAITING, UPDATING, *(outcome.value for outcome in Outcome))


class Journal:
    """`with` it a roll-out is under way. A disk that is full costs the file, with one call of `warn`, and never the roll-out.

    The file is written by a thread of its own: no board's update waits for a disk.
    """

    def __init__(
        self,
        folder: Path,
        federation: str,
        kind: str,
        rollout: Rollout,
        boards: Sequence[str],
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        began = time.time()
        self._path = folder / FOLDER / f"{int(began * 1000):015d}-{os.getpid()}.json"
        self._warn, self._warned = warn, False
        self._most = rollout.most_failures
        plan = rollout.plan(boards)
        self._boards: Dict[str, Dict[str, Any]] = {
            name: {"stage": stage, "outcome": WAITING, "why": ""}
            for stage, names in enumerate(plan, 1)
            for name in names
        }
        self._about: Dict[str, Any] = {
            "version": _VERSION,
            "federation": federation,
            "kind": kind,
            "digest": rollout.digest,
            "stages": list(rollout.stages),
            "failures": rollout.most_failures,
            "began_at": began,
            "state": RUNNING,
            "why": "",
            "ended_at": None,
        }
        self._lock, self._changed, self._over = threading.Lock(), threading.Event(), threading.Event()
        self._writer = threading.Thread(target=self._keep_up, name="journal", daemon=True)

    def __enter__(self) -> Journal:
        self._write()
        self._remove_oldest()
        self._writer.start()
        return self

    def __exit__(self, _: object, error: Optional[BaseException], __: object) -> None:
        if error is not None:
            self._end(HALTED, f"it ended with an error: {plain(sentence(error))}")
        self._over.set()
        self._changed.set()
        self._writer.join()
        self._write()

    def noting(self, update: Callable[[str], BoardResult]) -> Callable[[str], BoardResult]:
        """`update` of one board, with a note when it begins and what became of it."""

        def noted(name: str) -> BoardResult:
            self._note(name, UPDATING, "")
            result = update(name)
            self.note(result)
            return result

        return noted

    def note(self, result: BoardResult) -> None:
        self._note(result.board, result.outcome.value, result.why)

    def end(self, results: Sequence[BoardResult], asked: bool) -> None:
        """asked: whether somebody asked it to end."""
        for result in results:
            self.note(result)
        failed = sum(result.outcome is Outcome.FAILED for result in results)
        held = any(result.outcome is Outcome.HELD for result in results)
        why = "it was asked to end" if asked else ""
        if failed > self._most:
            why = f"{many(failed, 'board')} failed, more than the {self._most} that may"
        self._end(HALTED if held else FINISHED, why)

    def _note(self, name: str, outcome: str, why: str) -> None:
        with self._lock:
            self._boards[name].update(outcome=outcome, why=plain(why))
        self._changed.set()

    def _end(self, state: str, why: str) -> None:
        with self._lock:
            self._about.update(state=state, why=why, ended_at=time.time())

    def _keep_up(self) -> None:
        while not self._over.is_set():
            self._changed.wait(BEAT_S)
            self._changed.clear()
            self._write()
            self._over.wait(_LEAST_S)

    def _write(self) -> None:
        with self._lock:
            content = dumps({**self._about, "updated_at": time.time(), "boards": self._boards}, separators=(",", ":"))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path, content.encode(), mode=0o600)
        except OSError as error:
            if not self._warned:
                self._warn(f"{self._path}: the roll-out goes on, but is not shown elsewhere: {sentence(error)}")
            self._warned = True

    def _remove_oldest(self) -> None:
        for path in _files(self._path.parent)[KEPT:]:
            with suppress(OSError):  # which is no reason to end a roll-out
                path.unlink()


@dataclass
class Rollouts:
    """Of a fleet's folder, read again where a file changed. A file that is damaged is one entry that says so."""

    folder: Path
    _known: Dict[Path, Tuple[Any, Dict[str, Any]]] = field(default_factory=dict)

    def read(self, now: float) -> List[Dict[str, Any]]:
        """Newest first. `now`: Unix seconds."""
        known: Dict[Path, Tuple[Any, Dict[str, Any]]] = {}
        for path in _files(self.folder / FOLDER)[:KEPT]:
            try:
                found = path.stat()
                stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
                before = self._known.get(path)
                known[path] = before if before is not None and before[0] == stamp else (stamp, _summary(path))
            except FileNotFoundError:  # removed in this moment, for a newer one
                continue
            except (OSError, EdgewardError, ValueError, KeyError, TypeError, AttributeError) as error:
                known[path] = (None, {"name": path.stem, "problem": plain(f"{path.name} cannot be read: {error}")})
        self._known = known
        return [_as_of(now, entry) for _, entry in known.values()]


def _files(folder: Path) -> List[Path]:
    """Newest first, by their names. A writer's file that is not whole yet begins with a dot."""
    try:
        return sorted((path for path in folder.iterdir() if path.match("[0-9]*.json")), reverse=True)
    except OSError:  # nothing was rolled out yet
        return []


def _as_of(now: float, entry: Dict[str, Any]) -> Dict[str, Any]:
    lost = entry.get("state") == RUNNING and now - entry["updated_at"] > LOST_S
    return {**entry, "state": LOST} if lost else entry


def _summary(path: Path) -> Dict[str, Any]:
    """What a file says, checked. ValueError and its like for one that is damaged."""
    with open_file(path) as file:
        content = parse_object(file.read(_MOST_BYTES + 1), _MOST_BYTES)
    if content is None or content.get("version") != _VERSION:
        raise ValueError(f"it is no roll-out of version {_VERSION}")
    stages = [_time(percent) for percent in content["stages"]]
    boards = [_board(check_name(name, "board"), of, len(stages)) for name, of in content["boards"].items()]
    ended = content["ended_at"]
    state = content["state"]
    if state not in (RUNNING, FINISHED, HALTED):
        raise ValueError(f"state {plain(state, 40)!r}")
    return {
        "name": path.stem,
        "state": state,
        "why": plain(content["why"]),
        **{name: plain(content[name], 80) for name in ("federation", "kind", "digest")},
        "failures": _whole(content["failures"]),
        **{name: _time(content[name]) for name in ("began_at", "updated_at")},
        "ended_at": None if ended is None else _time(ended),
        "counts": _counts(boards),
        "stages": [
            {"percent": percent, "counts": _counts([board for board in boards if board["stage"] == number])}
            for number, percent in enumerate(stages, 1)
        ],
        "boards": sorted(boards, key=lambda board: (_FIRST.get(board["outcome"], 9), board["board"])),
    }


_FIRST = {outcome: place for place, outcome in enumerate((Outcome.FAILED.value, UPDATING, Outcome.ABSENT.value))}
"""What is looked at first."""


def _counts(boards: Sequence[Dict[str, Any]]) -> Dict[str, int]:
    found = Counter(board["outcome"] for board in boards)
    return {outcome: found[outcome] for outcome in _OUTCOMES}


def _board(name: str, said: Dict[str, Any], stages: int) -> Dict[str, Any]:
    if said["outcome"] not in _OUTCOMES or not 1 <= _whole(said["stage"]) <= stages:
        raise ValueError(f"what became of {name}")
    return {"board": name, "stage": said["stage"], "outcome": said["outcome"], "why": plain(said["why"])}


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{plain(value, 40)!r}: a whole number")
    return value


def _time(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value) or not 0 <= value < 1e11:
        raise ValueError(f"{plain(value, 40)!r}: a number")
    return float(value)
