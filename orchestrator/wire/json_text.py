"""JSON that somebody else wrote: whatever is wrong with it is one kind of error."""

import json
import math
from typing import Any, Union


def from_json(text: Union[str, bytes]) -> Any:
    """What it holds; its numbers are finite.

    ValueError for what is not JSON, also where it is nested too deeply, or has a number no float or int can hold.
    """
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number
