"""Notes which functions of a tree carry an update, a record or a board's report; benchmarks/ways.py loads it into processes.

A function carries a value that is in one of its arguments, or in what it returns, also within lists, tuples, mappings and
dataclasses; what a function keeps in variables of its own, and objects of other classes in their attributes, is not looked at.
In a node: the record from the file's text on, as an array from where the number in it is found, and from there through every
function that gets or makes a table of it, up to the end of a round's training; then the update, as an array of its size (so of
weights, too), then as the bytes of its message. In the gateway: those bytes, and arrays of that size until the strategy has
aggregated. In a monitor: whatever holds a line or record of the kind `metrics`.
"""

import atexit
import csv
import inspect
import json
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Dict, Iterator, List, Optional, Tuple

TREE, OUT = os.environ.get("WAYS_TREE", ""), os.environ.get("WAYS_OUT", "")
_DEEP, _MANY = 4, 64
_SETTLED_S = 3.0
"""After which a monitor has every board introduced."""


def parts(value: Any, depth: int = 0) -> Iterator[Any]:
    """The texts, numbers and arrays in a value."""
    kind = type(value)
    if kind is memoryview:
        yield bytes(value)
    elif kind in (str, bytes, bytearray, float) or (kind.__module__ == "numpy" and hasattr(value, "dtype")):
        yield value
    elif depth < _DEEP:
        held: List[Any] = []
        if kind in (list, tuple) or hasattr(kind, "_fields"):
            held = list(value)[:_MANY]
        elif kind is dict:
            held = list(value.values())[:_MANY]
        elif hasattr(kind, "__dataclass_fields__"):
            held = [getattr(value, name, None) for name in kind.__dataclass_fields__]
        for each in held:
            yield from parts(each, depth + 1)


class Way:
    """Which files carry one kind of value, in the order in which they first do, and which functions of them."""

    def __init__(self) -> None:
        self.files: Dict[str, Dict[str, None]] = {}

    def add(self, code: CodeType) -> None:
        name = code.co_filename[len(TREE) + 1 :]
        self.files.setdefault(name, {})[getattr(code, "co_qualname", code.co_name)] = None


class Follower(ABC):
    """Sees each call and return of the tree's functions. values: of the arguments, or what is returned."""

    def __init__(self) -> None:
        self.ways: Dict[str, Way] = {}

    def way(self, name: str) -> Way:
        return self.ways.setdefault(name, Way())

    @abstractmethod
    def seen(self, frame: FrameType, returned: bool, values: List[Any]) -> None:
        """One call or return."""


class Node(Follower):
    def __init__(self, data: Path) -> None:
        super().__init__()
        with data.open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        self.text = next(c for c in cells if c.replace(".", "").isdecimal() and "." in c and cells.count(c) == 1)
        self.number = float(self.text)
        self.tables: Dict[int, Any] = {}  # by id; kept, so that no id is used again
        self.sums: Dict[int, Any] = {}
        self.size = 0
        self.needle = b""
        self.over = False

    def seen(self, frame: FrameType, returned: bool, values: List[Any]) -> None:
        found = list(parts(values))
        name = getattr(frame.f_code, "co_qualname", frame.f_code.co_name)
        if self.over:
            return
        if self.size:
            self._update(frame, name, returned, found)
        elif returned and name == "NoisySum.release":  # the sum is noised, and no record any more
            self.sums.update((id(each), each) for each in found)
        elif any(self._record(each) for each in found) or self._made(frame, returned, found):
            self.way("record").add(frame.f_code)
        if not self.size and returned and name == "GradientTrainer.train":
            self.size = values[0].size
            self.tables = {}
            self.way("update").add(frame.f_code)

    def _record(self, each: Any) -> bool:
        if isinstance(each, str):
            return self.text in each
        if isinstance(each, (bytes, bytearray)):
            return self.text.encode() in each
        if isinstance(each, float):
            return each == self.number
        if each.ndim >= 2 and each.dtype.kind == "f" and bool((each == each.dtype.type(self.number)).any()):
            self.tables[id(each)] = each
        return id(each) in self.tables

    def _made(self, frame: FrameType, returned: bool, found: List[Any]) -> bool:
        """Whether numbers in `found` were made of known ones: who makes or passes them holds those, too."""
        made = [each for each in found if getattr(each, "size", 0) >= 2 and each.dtype.kind in "fi"]
        made = [each for each in made if id(each) not in self.sums]
        if not returned:  # weights, which go along with tables, are none of them
            made = [each for each in made if each.ndim > 1 or id(each.base) in self.tables]
        holder = frame if returned else frame.f_back
        if not made or holder is None:
            return False
        held = list(holder.f_locals.values())
        if any(each.ndim > 1 for each in made):
            held += list(getattr(holder.f_locals.get("self"), "__dict__", {}).values())
        if not any(id(each) in self.tables for each in parts(held)):
            return False
        self.tables.update((id(each), each) for each in made)
        return True

    def _update(self, frame: FrameType, name: str, returned: bool, found: List[Any]) -> None:
        if returned and name == "encode_body" and not self.needle:
            given = [each for value in frame.f_locals.values() for each in parts(value)]
            if any(carries(each, self.size, b"") for each in given):
                (body,) = found
                self.needle = body[len(body) // 2 :][:32]
                (Path(OUT) / "needle.json").write_text(json.dumps([self.needle.hex(), self.size]))
        if any(carries(each, self.size, self.needle) for each in found):
            self.way("update").add(frame.f_code)
            self.over = returned and name == "Outbox.next"


def carries(each: Any, size: int, needle: bytes) -> bool:
    """Whether it is an array of so many values, or bytes that hold these."""
    if isinstance(each, (bytes, bytearray)):
        return bool(needle) and needle in each
    return bool(getattr(each, "size", 0) == size)


class Gateway(Follower):
    def __init__(self) -> None:
        super().__init__()
        self.known: Optional[Tuple[bytes, int]] = None
        self.here = self.over = False

    def seen(self, frame: FrameType, returned: bool, values: List[Any]) -> None:
        if self.over:
            return
        if self.known is None:
            path = Path(OUT) / "needle.json"
            if not path.exists() or not path.read_text():
                return
            needle, size = json.loads(path.read_text())
            self.known = bytes.fromhex(needle), size
        found = list(parts(values))
        self.here = self.here or any(isinstance(each, bytes) and self.known[0] in each for each in found)
        if self.here and any(carries(each, self.known[1], self.known[0]) for each in found):
            self.way("update").add(frame.f_code)
        self.over = self.here and returned and frame.f_code.co_name == "aggregate"


class Monitor(Follower):
    def __init__(self) -> None:
        super().__init__()
        self.since = time.monotonic() + _SETTLED_S

    def seen(self, frame: FrameType, returned: bool, values: List[Any]) -> None:
        if time.monotonic() < self.since:
            return
        for each in parts(values):
            text = each.decode("utf-8", "replace") if isinstance(each, (bytes, bytearray)) else each
            if isinstance(text, str) and "metrics" in text:
                self.way("report").add(frame.f_code)


def _arguments(code: CodeType) -> int:
    """How many of a function's variables are its arguments, `*` and `**` among them."""
    named = code.co_argcount + code.co_kwonlyargcount
    return named + bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)


def follower() -> Optional[Follower]:
    """Of this process, by its command line; None for others."""
    words = sys.argv
    if "node" in words and "node-1" in words:
        return Node(Path(words[words.index("--data") + 1]))
    if "gateway" in words and "run" in words:
        return Gateway()
    return Monitor() if "monitor" in words else None


def follow() -> None:
    """From now on, in all threads, until the process ends; then writes what was seen."""
    seen: List[Optional[Follower]] = []
    busy = threading.local()

    def profile(frame: FrameType, event: str, value: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(TREE) or "/.venv/" in code.co_filename:
            return
        if getattr(busy, "on", False):
            return
        busy.on = True
        try:
            if not seen:
                seen.append(follower())
            if seen[0] is not None:
                arguments = code.co_varnames[: _arguments(code)]
                given = [frame.f_locals.get(name) for name in arguments if name not in ("self", "cls")]
                seen[0].seen(frame, event == "return", [value] if event == "return" else given)
        finally:
            busy.on = False

    def write() -> None:
        sys.setprofile(None)
        if seen and seen[0] is not None:
            ways = {name: {file: list(of) for file, of in way.files.items()} for name, way in seen[0].ways.items()}
            (Path(OUT) / f"{type(seen[0]).__name__}.json").write_text(json.dumps(ways))

    atexit.register(write)
    threading.setprofile(profile)
    sys.setprofile(profile)
