"""Reads the part of PromQL that our rules and dashboards are written in, says what they ask for, and answers it of one moment.

Raises ValueError for what Prometheus would refuse: unbalanced or unknown things, a range where a value belongs and the reverse.
"""

import operator
import re
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Sequence, Set, Tuple, Union

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:e\d+)?)(?![\w])|(?P<name>[a-zA-Z_:][\w:]*)|(?P<string>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<operator>=~|!~|!=|==|>=|<=|[-+*/%<>=(){}\[\],])|(?P<duration>\d+[smhd])\b)"
)
_LEVELS = (("or",), ("and", "unless"), ("==", "!=", ">", "<", ">=", "<="), ("+", "-"), ("*", "/", "%"))
_FUNCTIONS = {"increase": ("range",), "rate": ("range",), "changes": ("range",), "time": (), "abs": ("vector",)}
NUMBER, VECTOR, RANGE = "number", "vector", "range"
_COMPARE: Dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_COMPUTE: Dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}

Labels = FrozenSet[Tuple[str, str]]
Vector = Dict[Labels, float]
Sample = Tuple[str, Dict[str, str], float]
"""Metric, labels, value."""


class Moment(NamedTuple):
    """What there is to ask: samples of now and, for `offset`, of then."""

    now: float
    samples: Sequence[Sample]
    before: Sequence[Sample] = ()


Answer = Callable[[Moment], Union[float, Vector]]


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
        kind, self.answer = self._binary(0)
        """What it gives at a moment; ValueError where it asks for a range."""
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

    def _binary(self, level: int) -> Tuple[str, Answer]:
        if level == len(_LEVELS):
            return self._primary()
        kind, left = self._binary(level + 1)
        while self._peek() in _LEVELS[level]:
            word, on = self._take(), None
            if self._peek() in ("on", "ignoring"):
                ignoring = self._take() == "ignoring"
                named = self._names()
                self.labels.update(named)
                on = (ignoring, frozenset(named))
            other, right = self._binary(level + 1)
            if RANGE in (kind, other):
                raise ValueError("a range beside an operator")
            kind = VECTOR if VECTOR in (kind, other) else NUMBER
            left = _joined(word, left, right, on)
        return kind, left

    def _primary(self) -> Tuple[str, Answer]:
        token = self._take()
        if token == "(":
            whole = self._binary(0)
            self._take(")")
            return whole
        if token[0].isdigit():
            number = float(token)
            return NUMBER, lambda moment: number
        if not re.fullmatch(r"[a-zA-Z_:][\w:]*", token):
            raise ValueError(f"unexpected {token!r}")
        return self._call(token) if self._peek() == "(" else self._selector(token)

    def _call(self, name: str) -> Tuple[str, Answer]:
        if name not in _FUNCTIONS:
            raise ValueError(f"unknown function {name}")
        self._take("(")
        given: List[str] = []
        while self._peek() != ")":
            given.append(self._binary(0)[0])
            if self._peek() == ",":
                self._take()
        self._take(")")
        if tuple(given) != _FUNCTIONS[name]:
            raise ValueError(f"{name} takes {_FUNCTIONS[name]} and not {given}")
        if given:
            return VECTOR, _of_a_range
        return NUMBER, lambda moment: moment.now

    def _selector(self, metric: str) -> Tuple[str, Answer]:
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
        selector = Selector(metric, tuple(matchers))
        self.selectors.append(selector)
        if self._peek() == "offset":
            self._take()
            if not re.fullmatch(r"\d+[smhd]", self._take()):
                raise ValueError(f"{metric}: no duration")
            return VECTOR, lambda moment: _selected(selector, moment.before)
        if self._peek() != "[":
            return VECTOR, lambda moment: _selected(selector, moment.samples)
        self._take()
        if not re.fullmatch(r"\d+[smhd]", self._take()):
            raise ValueError(f"{metric}: no duration")
        self._take("]")
        return RANGE, _of_a_range

    def _names(self) -> List[str]:
        self._take("(")
        found = []
        while self._peek() != ")":
            found.append(self._take())
            if self._peek() == ",":
                self._take()
        self._take(")")
        return found


def _of_a_range(moment: Moment) -> Vector:
    raise ValueError("a range is not of one moment")


def _selected(selector: Selector, samples: Sequence[Sample]) -> Vector:
    matching: Dict[str, Callable[[str, str], bool]] = {
        "=": lambda held, wanted: held == wanted,
        "!=": lambda held, wanted: held != wanted,
        "=~": lambda held, wanted: bool(re.fullmatch(wanted, held)),
        "!~": lambda held, wanted: not re.fullmatch(wanted, held),
    }
    return {
        frozenset(labels.items()): value
        for metric, labels, value in samples
        if metric == selector.metric
        and all(matching[how](labels.get(label, ""), wanted) for label, how, wanted in selector.matchers)
    }


def _joined(word: str, left: Answer, right: Answer, on: Any) -> Answer:
    """`on`: (whether the labels are those not to match by, labels); None for all labels."""

    def key(labels: Labels) -> Labels:
        if on is None:
            return labels
        return frozenset((name, value) for name, value in labels if (name in on[1]) != on[0])

    def answer(moment: Moment) -> Union[float, Vector]:
        one, other = left(moment), right(moment)
        if not isinstance(one, dict) and not isinstance(other, dict):
            return _COMPUTE[word](one, other) if word in _COMPUTE else float(_COMPARE[word](one, other))
        if isinstance(one, dict) and isinstance(other, dict):
            return _of_vectors(word, one, other, key)
        many = one if isinstance(one, dict) else other
        assert isinstance(many, dict)
        found = {}
        for labels, value in many.items():
            pair = (value, other) if many is one else (one, value)
            if word in _COMPUTE:
                found[labels] = _COMPUTE[word](*pair)
            elif _COMPARE[word](*pair):
                found[labels] = value
        return found

    return answer


def _of_vectors(word: str, one: Vector, other: Vector, key: Callable[[Labels], Labels]) -> Vector:
    there = {key(labels): value for labels, value in other.items()}
    if word == "or":
        return {**{labels: value for labels, value in other.items() if key(labels) not in map(key, one)}, **one}
    if word in ("and", "unless"):
        return {labels: value for labels, value in one.items() if (key(labels) in there) == (word == "and")}
    both = {labels: (value, there[key(labels)]) for labels, value in one.items() if key(labels) in there}
    if word in _COMPUTE:
        return {labels: _COMPUTE[word](*pair) for labels, pair in both.items()}
    return {labels: pair[0] for labels, pair in both.items() if _COMPARE[word](*pair)}


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
