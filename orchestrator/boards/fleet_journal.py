"""Roll-outs as they go on, each a file of the fleet's folder: what `edgeward board fleet list` and the dashboard show of them."""

from __future__ import annotations

import os
import re
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
from orchestrator.wire.board_records import parse_object
from orchestrator.wire.plain import LIMIT, many, plain
from orchestrator.wire.special_files import open_file
from orchestrator.wire.topics import check_name

FOLDER = "rollouts"
KEPT = 10
"""Roll-outs of which there is a file; of more, the oldest files are removed."""
RUNNING, FINISHED, HALTED, FAILED, LOST = "running", "finished", "halted", "failed", "lost"
"""HALTED: before the turn of some boards. FAILED: each had its turn, and none has it, or too many failed. LOST is never
written: the file says RUNNING, and nothing was added to it for LOST_S."""
WAITING, UPDATING = "waiting", "updating"
"""Of a board besides its Outcome."""
BEAT_S, LOST_S = 5.0, 30.0
"""A roll-out under way writes its file every BEAT_S, even where nothing happened."""
_LEAST_S = 0.5
"""Between two writes."""
_MOST_BYTES = 8 << 20
_WHY_BYTES, _LEAST_WHY = _MOST_BYTES // 2, 16
"""Of all boards together, so that a file of many that failed can be read; and what each may say at least."""
_NAME = re.compile(r"([0-9]{15})-[0-9]+\.json")
"""Of a file: when it began, in milliseconds, and whose process it is. Until it is whole its name begins with a dot."""
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
        self._why_bytes = min(LIMIT, max(_LEAST_WHY, _WHY_BYTES // max(1, len(boards))))
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
            with self._lock:
                outcomes = {name: of["outcome"] for name, of in self._boards.items()}
            for name, outcome in outcomes.items():
                if outcome == WAITING:
                    self._note(name, Outcome.HELD.value, "the roll-out ended before its turn")
                elif outcome == UPDATING:
                    why = "the roll-out ended with an error during its update: order `info` to learn what it runs"
                    self._note(name, Outcome.FAILED.value, why)
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
        counts = Counter(result.outcome for result in results)
        failed, held = counts[Outcome.FAILED], counts[Outcome.HELD]
        state, why = HALTED if held else FINISHED, "it was asked to end" if asked else ""
        if failed > self._most:
            state = HALTED if held else FAILED
            why = f"{many(failed, 'board')} failed, more than the {self._most} that may"
        if results and not held and not counts[Outcome.UPDATED] + counts[Outcome.UNCHANGED]:
            state = FAILED
            absent = counts[Outcome.ABSENT]
            parts = [f"{failed} failed"] * bool(failed) + [f"{absent} {_were(absent)} not there"] * bool(absent)
            why = f"no board has it: {', '.join(parts)}"
        self._end(state, why)

    def _note(self, name: str, outcome: str, why: str) -> None:
        with self._lock:
            self._boards[name].update(outcome=outcome, why=_within(why, self._why_bytes))
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
                self._warned = True
                # Where the warning goes may fail for the same reason, a full disk say: no roll-out ends for want of a word.
                with suppress(Exception):
                    self._warn(f"{self._path}: the roll-out goes on, but is not shown elsewhere: {sentence(error)}")

    def _remove_oldest(self) -> None:
        with suppress(OSError):  # which is no reason to end a roll-out
            others = [path for path in _files(self._path.parent, time.time()) if path != self._path]
            for path in others[KEPT - 1 :]:
                with suppress(OSError):
                    path.unlink()


def _within(why: str, most: int) -> str:
    """On one line, and of at most so many bytes in the file, where what is no ASCII has up to twelve of a character."""
    short = plain(why, most)
    return short if len(dumps(short)) <= most + 2 else plain(short, max(3, most // 12))


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


@dataclass
class Rollouts:
    """Of a fleet's folder, read again where a file changed. A file that is damaged is one entry that says so."""

    folder: Path
    _known: Dict[Path, Tuple[Any, Dict[str, Any]]] = field(default_factory=dict)

    def read(self, now: float) -> List[Dict[str, Any]]:
        """Newest first. `now`: Unix seconds."""
        known: Dict[Path, Tuple[Any, Dict[str, Any]]] = {}
        try:
            paths = _files(self.folder / FOLDER, now)[:KEPT]
        except OSError as error:
            return [{"name": FOLDER, "problem": plain(f"{self.folder / FOLDER} cannot be read: {error.strerror}")}]
        for path in paths:
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
        began = {path: float(entry.get("began_at", _began(path))) for path, (_, entry) in known.items()}
        return [_as_of(now, known[path][1]) for path in sorted(known, key=lambda path: _place(began[path], now))]


def _files(folder: Path, now: float) -> List[Path]:
    """As `_place` orders them, by their names. OSError for a folder that cannot be read."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:  # nothing was rolled out yet
        return []
    return sorted(found, key=lambda path: _place(_began(path), now))


def _began(path: Path) -> float:
    """By its name."""
    return int(path.name.split("-")[0]) / 1000


def _place(began: float, now: float) -> Tuple[bool, float]:
    """Newest first. What began later than now, by a clock that was wrong then or is now, comes last and hides no other."""
    return began - now > LOST_S, -began


def _as_of(now: float, entry: Dict[str, Any]) -> Dict[str, Any]:
    """`lost` also where it was written in the future: then nothing was added since the clock was put back."""
    if "problem" in entry:
        return entry
    lost = entry["state"] == RUNNING and abs(now - entry["updated_at"]) > LOST_S
    return {**entry, "state": LOST if lost else entry["state"], "ahead": entry["began_at"] - now > LOST_S}


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
    if state not in (RUNNING, FINISHED, HALTED, FAILED):
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
