"""JSON that somebody else wrote: whatever is wrong with it is one kind of error."""

import json
import math
from collections import Counter
from typing import Any, Dict, List, Tuple, Union


def from_json(text: Union[str, bytes], finite: bool = True) -> Any:
    """What it holds. ValueError for what is not JSON, also where it is nested too deeply, or has more digits than Python reads.

    finite: numbers have to be, too; without, for a caller that names each one that is not.
    """
    number = _finite if finite else float
    try:
        return json.loads(text, parse_float=number, parse_constant=number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class TwiceError(ValueError):
    """An object has a name twice."""


def each_once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """An object of data about people, for json's object_pairs_hook: of two values of one name neither is known to be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise TwiceError(f"has {twice[:40]!r} twice; which one is meant? Take the other out")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number
