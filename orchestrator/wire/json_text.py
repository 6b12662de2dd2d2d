"""JSON that somebody else wrote: whatever is wrong with it is one kind of error."""

import json
import math
from typing import Any, Union


def from_json(text: Union[str, bytes], finite: bool = True) -> Any:
    """What it holds. ValueError for what is not JSON, also where it is nested too deeply, or has more digits than Python reads.

    finite: numbers have to be, too; without, for a caller that names each one that is not.
    """
    number = _finite if finite else float
    try:
        return json.loads(text, parse_float=number, parse_constant=number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number
