"""How several values of a patient become one: the first, the last, their mean, ... Each in one pass and in little memory.

Everything is the same whatever the order in which values come, but for the first and last of equal keys.
"""

from fractions import Fraction
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Union

Value = Union[float, int, str, bool]


class Take(NamedTuple):
    """State is None before the first value."""

    add: Callable[[Any, Any, Any], Any]
    """(state, a value, its place in time) -> state. Only `first` and `last` use the place, of any type that has an order."""

    cell: Callable[[Any], Optional[Value]]
    """state -> the value; None for none"""


def _kept(state: Any) -> Optional[Value]:
    return None if state is None else state[1]


FIRST = Take(lambda state, value, key: (key, value) if state is None or key < state[0] else state, _kept)
LAST = Take(lambda state, value, key: (key, value) if state is None or key > state[0] else state, _kept)
MEAN = Take(
    lambda state, value, key: (state[0] + 1, state[1] + Fraction(value)) if state else (1, Fraction(value)),
    lambda state: None if state is None else float(state[1] / state[0]),
)
MINIMUM = Take(lambda state, value, key: value if state is None else min(state, value), lambda state: state)
MAXIMUM = Take(lambda state, value, key: value if state is None else max(state, value), lambda state: state)
COUNT = Take(lambda state, value, key: (state or 0) + 1, lambda state: state or 0)
ANY = Take(lambda state, value, key: True, lambda state: int(state is not None))

TAKES: Dict[str, Take] = {
    "first": FIRST,
    "last": LAST,
    "mean": MEAN,
    "minimum": MINIMUM,
    "maximum": MAXIMUM,
    "count": COUNT,
    "any": ANY,
}
OF_NUMBERS = ("mean", "minimum", "maximum")


def mean(values: Sequence[float]) -> float:
    """The float nearest to the mean, as `MEAN` has it. Not of no values."""
    return float(sum(map(Fraction, values)) / len(values))
