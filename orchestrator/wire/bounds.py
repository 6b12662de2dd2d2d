"""What a declaration may hold: each function says in words what is wrong with a value, or nothing.

A dataclass collects what all of its values have against them and refuses itself once, with every reason on a line of its own.
"""

import difflib
import ipaddress
import math
import re
import unicodedata
from collections import Counter
from typing import Iterable, List, Sequence, Union

Number = Union[int, float]

MAX_SECONDS = 1e9
"""Thirty years: "for ever", and what every clock can wait for."""

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
"""Of a host's name, between its dots."""

MAX_NODES = 100_000
"""More than any broker serves; what is larger is a slip of the keyboard."""


_MOST_REPEATED = 5

_TWINS = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422"
    "\u0425\u0406\u0408\u0405\u03bf\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u0396",
    "aeopcyxijsABEKMHOPCTXIJSoABEHIKMNOPTYXZ",
)
"""Letters of the Cyrillic and Greek alphabets that look like Latin ones."""


def skeleton(text: str) -> str:
    """What a reader sees: two texts with the same skeleton look alike (after Unicode Technical Standard 39)."""
    return unicodedata.normalize("NFKC", text).translate(_TWINS)


def near(value: object, known: Iterable[str], least: float = 0.6) -> str:
    """`, did you mean 'x'?` where a known name resembles `value`, whatever the case of either; else nothing.

    least: of the letters of both names together, the share that must agree.

    Of a name that looks the same it is said how the two are written.
    """
    names = {name.casefold(): name for name in known}
    text = str(value)[:64]
    twin = next((name for name in names.values() if name != text and skeleton(name) == skeleton(text)), None)
    if twin is not None:
        return f", did you mean {twin!r}? They look the same and are not: {text!a} and {twin!a}"
    found = difflib.get_close_matches(text.casefold(), list(names), 1, least)
    return f", did you mean {names[found[0]]!r}?" if found else ""


def one_of(name: str, value: object, known: Sequence[str]) -> List[str]:
    """Of a closed set of names."""
    return [] if value in known else [f"{name} {value!r}: expected one of {', '.join(known)}{near(value, known)}"]


def within(name: str, value: Number, low: Number, high: Number, expected: str = "") -> List[str]:
    """A finite number in [low, high]; NaN is in no range. `expected` describes the range where the numbers alone do not."""
    if math.isfinite(value) and low <= value <= high:
        return []
    return [f"{name}: {value}, expected {expected or f'{low:g} to {high:g}'}"]


def positive(name: str, value: Number, expected: str = "a positive number") -> List[str]:
    """A finite number above 0."""
    return [] if math.isfinite(value) and value > 0 else [f"{name}: {value}, expected {expected}"]


def not_negative(name: str, value: Number, expected: str = "0 or more") -> List[str]:
    """A finite number of 0 or more."""
    return [] if math.isfinite(value) and value >= 0 else [f"{name}: {value}, expected {expected}"]


def seconds(name: str, value: Number, zero: str = "") -> List[str]:
    """A time to wait. zero: what 0 means, where it means something."""
    if value == 0 and zero:
        return []
    in_range = math.isfinite(value) and 0 < value <= MAX_SECONDS
    expected = f"{f'0 ({zero}), or ' if zero else ''}seconds above 0, at most {MAX_SECONDS:g}"
    return [] if in_range else [f"{name}: {value}, expected {expected}"]


def count(name: str, value: int, low: int = 1, high: int = 1_000_000) -> List[str]:
    """A whole number of things there can be."""
    return [] if low <= value <= high else [f"{name}: {value}, expected {low} to {high}"]


def at_least_one(name: str, value: int) -> List[str]:
    return [] if value >= 1 else [f"{name}: {value}, at least 1 is needed"]


def host_name(name: str, value: str) -> List[str]:
    """A host's name or an IP address, as it stands alone (no scheme, no port)."""
    try:
        ipaddress.ip_address(value.partition("%")[0])  # without the zone of a link-local address
    except ValueError:
        labels = value[:254].split(".")
        labels = labels[:-1] if labels[-1] == "" and len(labels) > 1 else labels  # a name from the root ends with a dot
        if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            return [f"{name}: {value!r} is neither a host's name nor an IP address"]
    return []


def twice(option: str, values: Iterable[object]) -> List[str]:
    """A line for each value that is there more than once, of the first few."""
    repeated = [value for value, times in Counter(values).items() if times > 1][:_MOST_REPEATED]
    return [f"{option}: {_quoted(value)} is there twice" for value in repeated]


def _quoted(value: object) -> str:
    return f"the pair {' and '.join(map(repr, value))}" if isinstance(value, tuple) else repr(value)


def refuse(reasons: Iterable[str]) -> None:
    """Raises ValueError with every reason on a line of its own, if there is one."""
    lines = list(reasons)
    if lines:
        raise ValueError("\n".join(lines))
