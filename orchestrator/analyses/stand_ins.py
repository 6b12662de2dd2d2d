"""What else is wrong with a declaration: a mistake in one option hides none in another, for which defaults stand in its place."""

import re
from dataclasses import MISSING, fields
from typing import Any, Callable, Dict, Iterator, List, Mapping, Set, Tuple, get_type_hints

from orchestrator.wire.structure import attempt

_ABSENT = re.compile(r"no column '")
"""Of a line about a name that the schema does not have, whatever is said beside it."""

_TRIES = 4


def hidden_mistakes(
    declared: Mapping[str, Any], options: Any, wrong: List[str], compute: Callable[[Any], Any]
) -> Iterator[str]:
    """What would be said next, once the mistakes `wrong` were gone, as far as it does not hang on what stands in their place.

    options: the dataclass. compute: raises ValueError, a line for each reason, where the schema does not have what options name.
    """
    hints = get_type_hints(options)
    numbers = {name for name, hint in hints.items() if hint in (int, float)}
    figures = numbers | {name for name, hint in hints.items() if hint in (Tuple[int, ...], Tuple[float, ...])}
    needed = {field.name for field in fields(options) if field.default is MISSING and field.default_factory is MISSING}
    replaced = _options_in(wrong) | (set(declared) - set(hints)) | (needed - set(declared))
    for _ in range(_TRIES):
        usable: Dict[str, Any] = {name: declared[name] for name in declared if name in hints and name not in replaced}
        stand_ins = {name: "" if hints[name] is str else ("a", "b") for name in needed - set(usable)}
        built, more = attempt({**stand_ins, **usable}, options)
        if built is not None:
            break
        found = _options_in(more) - replaced
        yield from (line for line in more if _option(line) in found & numbers)
        # A default may not fit the number beside it, nor the word.
        words = {name for name, hint in hints.items() if hint is str} - needed if numbers <= replaced else set()
        replaced |= found or (numbers | words)
    else:
        return
    try:
        compute(built)
    except ValueError as error:
        lines = [line for line in str(error).split("\n") if _option(line) not in replaced]
        yield from (line for line in lines if replaced <= figures or _ABSENT.search(line))


def _options_in(lines: List[str]) -> Set[str]:
    return {_option(line) for line in lines}


def _option(line: str) -> str:
    """That a line is about: its first word."""
    return re.split(r"\W", line, maxsplit=1)[0]
