"""Reads the part of PromQL that our rules and dashboards are written in, and says what they ask for.

Raises ValueError for what Prometheus would refuse: unbalanced or unknown things, a range where a value belongs and the reverse.
"""

import re
from typing import Dict, List, NamedTuple, Set, Tuple

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:e\d+)?)(?![\w])|(?P<name>[a-zA-Z_:][\w:]*)|(?P<string>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<operator>=~|!~|!=|==|>=|<=|[-+*/%<>=(){}\[\],])|(?P<duration>\d+[smhd])\b)"
)
_LEVELS = (("or",), ("and", "unless"), ("==", "!=", ">", "<", ">=", "<="), ("+", "-"), ("*", "/", "%"))
_FUNCTIONS = {"increase": ("range",), "rate": ("range",), "changes": ("range",), "time": (), "abs": ("vector",)}
NUMBER, VECTOR, RANGE = "number", "vector", "range"


class Selector(NamedTuple):
    metric: str
    matchers: Tuple[Tuple[str, str, str], ...]
    """(label, operator, value)"""


class Query:
    """`selectors`: what it reads; `labels`: those it matches sides or groups by."""

    def __init__(self, text: str) -> None:
        self.selectors: List[Selector] = []
        self.labels: Set[str] = set()
        self._tokens = _tokens(text)
        self._at = 0
        kind = self._binary(0)
        if self._peek() or kind == RANGE:
            raise ValueError(f"{text}: ends in {self._peek() or 'a range'!r}")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, wanted: str = "") -> str:
        token = self._peek()
        if not token or (wanted and token != wanted):
            raise ValueError(f"expected {wanted or 'more'} and not {token!r}, token {self._at} of {self._tokens}")
        self._at += 1
        return token

    def _binary(self, level: int) -> str:
        if level == len(_LEVELS):
            return self._primary()
        kind = self._binary(level + 1)
        while self._peek() in _LEVELS[level]:
            self._take()
            if self._peek() in ("on", "ignoring"):
                self._take()
                self.labels.update(self._names())
            other = self._binary(level + 1)
            if RANGE in (kind, other):
                raise ValueError("a range beside an operator")
            kind = VECTOR if VECTOR in (kind, other) else NUMBER
        return kind

    def _primary(self) -> str:
        token = self._take()
        if token == "(":
            kind = self._binary(0)
            self._take(")")
            return kind
        if token[0].isdigit():
            return NUMBER
        if not re.fullmatch(r"[a-zA-Z_:][\w:]*", token):
            raise ValueError(f"unexpected {token!r}")
        return self._call(token) if self._peek() == "(" else self._selector(token)

    def _call(self, name: str) -> str:
        if name not in _FUNCTIONS:
            raise ValueError(f"unknown function {name}")
        self._take("(")
        given: List[str] = []
        while self._peek() != ")":
            given.append(self._binary(0))
            if self._peek() == ",":
                self._take()
        self._take(")")
        if tuple(given) != _FUNCTIONS[name]:
            raise ValueError(f"{name} takes {_FUNCTIONS[name]} and not {given}")
        return VECTOR if given else NUMBER

    def _selector(self, metric: str) -> str:
        matchers = []
        if self._peek() == "{":
            self._take()
            while self._peek() != "}":
                label, operator, value = self._take(), self._take(), self._take()
                if operator not in ("=", "!=", "=~", "!~") or value[0] != '"':
                    raise ValueError(f"{metric}: no matcher {label} {operator} {value}")
                matchers.append((label, operator, value[1:-1]))
                if self._peek() == ",":
                    self._take()
            self._take("}")
        self.selectors.append(Selector(metric, tuple(matchers)))
        if self._peek() != "[":
            return VECTOR
        self._take()
        if not re.fullmatch(r"\d+[smhd]", self._take()):
            raise ValueError(f"{metric}: no duration")
        self._take("]")
        return RANGE

    def _names(self) -> List[str]:
        self._take("(")
        found = []
        while self._peek() != ")":
            found.append(self._take())
            if self._peek() == ",":
                self._take()
        self._take(")")
        return found


def _tokens(text: str) -> List[str]:
    found, at = [], 0
    while text[at:].strip():
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"{text}: cannot be read at {text[at:]!r}")
        found.append(token.group().strip())
        at = token.end()
    return found


Metrics = Dict[str, Dict[str, Set[str]]]
"""metric -> label -> its values, as a page of metrics has them."""
