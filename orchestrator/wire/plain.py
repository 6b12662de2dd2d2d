"""Text from elsewhere, made fit for people's eyes, and names from elsewhere, made fit for files.

What came over the wire, or out of a file somebody else wrote, may hold control characters (which move a terminal's cursor), line
ends (which forge lines of a log) and formatting characters (which turn the order of what is read round). All of it is shown and
logged through `plain`; what names a run is checked by `run_name`; what becomes part of a file's name goes through `file_name`,
or through `hex_name` where it is a digest.
"""

import hashlib
import logging
import re
import time
from typing import Any, Callable, Dict, Iterator, Tuple

from orchestrator.errors import WireError
from orchestrator.mishaps import sentence

LIMIT = 500
"""Characters of a text that is shown, unless a caller says otherwise."""

_CUT = "..."
_HEX = re.compile(r"[0-9a-f]{8,128}")
_FORMULA = re.compile(r"(^|[;\t])(?=[=+\-@\t\r])")
_RUN = re.compile(r"[A-Za-z0-9._-]{1,128}")


def plain(text: object, limit: int = LIMIT) -> str:
    """`text` on one line of printable characters, at most `limit` (3 or more) of them; twice is the same as once.

    Printable is what str.isprintable says: line ends, control and formatting characters and lone surrogates are not. In their
    place stands the escape of their code point, such as \\x1b or \\u202e. What is too long ends in "...".
    """
    whole = str(text)
    # No character's escape is shorter than the character: more than `limit` of them need not be looked at.
    shown = whole[: limit + 1]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else _escape(c) for c in shown)
    return shown if len(shown) <= limit else shown[: limit - len(_CUT)] + _CUT


def many(number: float, word: str, words: str = "") -> str:
    """Such as "1 file" and "1,200 files". words: of several, where it is not the word with an s."""
    return f"{number:,.0f} {word if round(number) == 1 else words or word + 's'}"


def when(seconds: float) -> str:
    """A time in seconds since 1970, for people: "2026-01-31 13:05 UTC"."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def plain_lines(text: str, limit: int = LIMIT) -> str:
    """Each line of `text` made plain; all but the first are indented, so that none passes for a line of its own."""
    return "\n    ".join(plain(line, limit) for line in text.split("\n"))


class PlainFormatter(logging.Formatter):
    """Of every log of a node or gateway: whatever a record quotes neither moves a cursor nor poses as another record."""

    def format(self, record: logging.LogRecord) -> str:
        return plain_lines(super().format(record), 4000)


class Sparing(logging.Filter):
    """For a log that strangers cause lines of: of each kind MOST an hour, then one in OF; one line of an exception."""

    MOST, OF = 20, 100
    _HOUR_S = 3600.0

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._since = now()
        self._seen: Dict[Tuple[str, str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if self._now() - self._since > self._HOUR_S:
            self._since, self._seen = self._now(), {}
        kind = (record.name, record.pathname, record.lineno)
        count = self._seen[kind] = self._seen.get(kind, 0) + 1
        if record.exc_info and record.exc_info[1] is not None:
            record.msg, record.args = f"{record.getMessage()}: {sentence(record.exc_info[1])}", ()
            record.exc_info = record.exc_text = None
        return count <= self.MOST or count % self.OF == 0


def plain_fields(value: Any, limit: int = LIMIT, depth: int = 50) -> Any:
    """Plain data with every text in it made plain, keys included, and bytes as hexadecimal digits.

    What is nested deeper than `depth` is left out.
    """
    if isinstance(value, str):
        return plain(value, limit)
    if isinstance(value, bytes):
        return plain(value[:limit].hex(), limit)
    if isinstance(value, (dict, list, tuple)) and depth == 0:
        return _CUT
    if isinstance(value, dict):
        inner = {key: plain_fields(held, limit, depth - 1) for key, held in value.items()}
        return {plain(key, limit) if isinstance(key, str) else key: held for key, held in inner.items()}
    if isinstance(value, (list, tuple)):
        return [plain_fields(held, limit, depth - 1) for held in value]
    return value


def csv_cell(value: Any) -> Any:
    """A cell of a CSV file: a text a spreadsheet would take for a formula gets an apostrophe in front, as is usual for that.

    So does the part behind a semicolon or tab, where spreadsheets of many countries begin another cell.
    """
    return _FORMULA.sub(r"\1'", value) if isinstance(value, str) else value


def unprintable(data: Any) -> Iterator[Tuple[str, str]]:
    """(place, what is there, plain) of every text in plain data that holds a character which is not printable."""
    waiting = [("", data)]  # a list, not recursion: depth is the other side's choice
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str) and not value.isprintable():
            yield place, plain(value)
        elif isinstance(value, dict):
            for key, inner in value.items():
                inside = f"{place}.{plain(key)}" if place else plain(key)
                if isinstance(key, str) and not key.isprintable():
                    yield inside, plain(key)
                waiting.append((inside, inner))
        elif isinstance(value, (list, tuple)):
            waiting.extend((f"{place}[{index}]", inner) for index, inner in enumerate(value))


def run_name(text: str) -> str:
    """`text`, if it may name a run: 1 to 128 of A-Z a-z 0-9 . _ -. WireError otherwise."""
    if not _RUN.fullmatch(text):
        raise WireError(f"run {plain(text, 64)!r}: a run's name is 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-'")
    return text


def as_run_name(text: str) -> str:
    """What of `text` may be in a run's name, at most 100 characters: everything else becomes '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:100]


def file_name(before: str, name: str, after: str) -> str:
    """BEFORE-NAME.AFTER, the one way a name from elsewhere gets into a path: it is no path itself, and not hidden.

    Names that differ only in case get files of different names, since some file systems (FAT, APFS, NTFS) see no case.
    """
    lower = run_name(name).lower()
    mark = "" if lower == name else "+" + hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{before}-{lower}{mark}.{after}"


def hex_name(digest: str) -> str:
    """`digest`, if it is 8 to 128 lower-case hexadecimal digits: the other kind of name that may be part of a path."""
    if not _HEX.fullmatch(digest):
        raise WireError(f"digest {plain(digest, 64)!r}: expected 8 to 128 of 0-9, a-f")
    return digest


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
