"""Plain data to dataclasses, strictly: every mistake is reported with its place, and nothing is turned into what it is not.

cattrs is imported when it is first needed: a node that reads no configuration does without it until a task comes.
"""

import dataclasses
import json
import math
import re
from functools import lru_cache
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple, Union, get_args, get_origin, get_type_hints

from orchestrator.errors import UsageError
from orchestrator.wire.bounds import near
from orchestrator.wire.plain import unprintable

_CALLED = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
_type_hints = lru_cache(maxsize=None)(get_type_hints)


@lru_cache(maxsize=None)  # making one takes longer than using it
def _converter() -> Any:
    from cattrs import Converter

    converter = Converter(forbid_extra_keys=True, detailed_validation=True)

    # cattrs turns any value into a float/int/str it can; in a configuration that is a mistake.
    def strict(kind: type, accepted: Tuple[type, ...]) -> None:
        def structure(value: Any, _: Any) -> Any:
            if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
                raise ValueError(f"{_brief(value)} is not {_CALLED[kind]}")
            if isinstance(value, (int, float)):
                _check_number(value)
            return kind(value)

        converter.register_structure_hook(kind, structure)

    def text_or_numbers(value: Any, _: Any) -> Union[str, Tuple[float, ...]]:
        if isinstance(value, str):
            return value
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{value!r} is neither a word nor a list of numbers")
        return tuple(converter.structure(one, float) for one in value)

    converter.register_structure_hook(Union[str, Tuple[float, ...]], text_or_numbers)
    strict(float, (int, float))
    strict(int, (int,))
    strict(str, (str,))
    strict(bool, (bool,))

    # A text is a sequence of letters too: `tasks = "*-study"` would allow tasks of any name.
    def structure_list(value: Any, kind: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            hint = f": write [{json.dumps(value, ensure_ascii=False)}]" if isinstance(value, str) else ""
            raise ValueError(f"{value!r} is not a list{hint}")
        return tuple(converter.structure(value, List[kind.__args__[0]]))

    converter.register_structure_hook_func(lambda kind: getattr(kind, "__origin__", None) is tuple, structure_list)
    return converter


def _check_number(value: Union[int, float]) -> None:
    """ValueError for what no declaration means, and no peer could count with: NaN, infinity, integers beyond 64 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"a whole number of {value.bit_length()} bits is too large")


def unstructure(instance: Any) -> Any:
    """A dataclass as plain data."""
    return _converter().unstructure(instance)


def structure(data: Dict[str, Any], kind: Any, where: str) -> Any:
    """Builds a dataclass from plain data, reporting all mistakes at once. Texts anywhere in it must be printable."""
    built, mistakes = attempt(data, kind)
    if mistakes:
        raise UsageError(f"{where}:\n  " + "\n  ".join(mistakes))
    return built


def attempt(data: Any, kind: Any) -> Tuple[Optional[Any], List[str]]:
    """(the dataclass, nothing), or (None, what is wrong with the data, a line each)."""
    # All of it is read by people: who may name a column may not turn round what an owner reads before approving.
    hidden = [f"{place}: holds characters that cannot be printed: {text}" for place, text in unprintable(data)]
    if hidden:
        return None, hidden[:20]
    shapeless: Dict[str, str] = {}
    built, mistakes = _build(_shaped(data, kind, "", shapeless), kind)
    if not shapeless:
        return built, mistakes
    if "" in shapeless:
        return None, [shapeless[""]]
    others = [line for line in mistakes if not any(_related(line.partition(": ")[0], place) for place in shapeless)]
    return None, [f"{place}: {text}" if place else text for place, text in shapeless.items()] + others


_SHAPELESS = object()
"""What nothing can be built of, so that the table around it is not looked at as a whole."""


def _build(data: Any, kind: Any) -> Tuple[Optional[Any], List[str]]:
    from cattrs import BaseValidationError

    try:
        return _converter().structure(data, kind), []
    except BaseValidationError as error:
        return None, _explain(error, kind, "")
    except (TypeError, ValueError) as error:
        return None, str(error).split("\n")


def _shaped(value: Any, kind: Any, place: str, shapeless: Dict[str, str]) -> Any:
    """The value, without what stands in the place of a table or list and is neither; why is in `shapeless`.

    cattrs takes whatever has the methods it calls: a text for a list of its letters.
    """
    origin, of = get_origin(kind), get_args(kind)
    if origin is Union:
        kinds = [each for each in of if each is not type(None)]
        return value if value is None or len(kinds) > 1 else _shaped(value, kinds[0], place, shapeless)
    if dataclasses.is_dataclass(kind) or origin is dict:
        if not isinstance(value, dict):
            shapeless[place] = f"{_brief(value)} is not a table{_brackets(value, place)}"
            return _SHAPELESS
        known = _type_hints(kind) if origin is None else {key: of[1] for key in value}
        inside = f"{place}." if place else ""
        return {
            key: _shaped(each, known[key], f"{inside}{key}" if origin is None else f"{place}[{key}]", shapeless)
            if key in known
            else each
            for key, each in value.items()
        }
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            shapeless[place] = f"{_brief(value)} is not a list; values in a list stand in [ ]"
            return _SHAPELESS
        return [_shaped(each, of[0], f"{place}[{number}]", shapeless) for number, each in enumerate(value)]
    return value


def _related(one: str, other: str) -> bool:
    """Whether one of two places is in the other, or they are the same."""
    outer, inner = sorted((one, other), key=len)
    return inner == outer or not outer or inner.startswith((outer + ".", outer + "["))


def _brackets(value: Any, place: str) -> str:
    if isinstance(value, list) and len(value) == 1 and place and not place.endswith("]"):
        return f"; [[{place}]] begins a list, [{place}] a table"
    return ""


def _brief(value: Any) -> str:
    text = str(value) if hasattr(value, "isoformat") else repr(value)  # dates are values of TOML
    return text if len(text) <= 80 else f"{text[:80]}..."


def _explain(error: BaseException, kind: Any, path: str) -> List[str]:
    """One line a mistake: dotted path, what is wrong, the nearest known name for an unknown one."""
    from cattrs import AttributeValidationNote, BaseValidationError, ForbiddenExtraKeysError, IterableValidationNote

    if isinstance(error, ForbiddenExtraKeysError):
        return [_explain_extra(str(key), error.cl, path, kind) for key in sorted(error.extra_fields)]
    if isinstance(error, BaseValidationError):
        lines: List[str] = []
        mistyped = _mistyped(error)
        for inner in error.exceptions:
            place = path
            for note in getattr(inner, "__notes__", []):
                if isinstance(note, AttributeValidationNote):
                    place = f"{path}.{note.name}" if path else note.name
                elif isinstance(note, IterableValidationNote):
                    place = f"{path}[{note.index}]"
            if isinstance(inner, KeyError) and inner.args[0] in mistyped:
                continue  # said of the key that is there in its place
            if place == path and not isinstance(inner, (BaseValidationError, ForbiddenExtraKeysError)):
                lines.extend(placed(line, path, error.cl) for line in str(inner).split("\n"))
            else:
                lines.extend(_explain(inner, kind, place))
        return lines
    reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
    return [f"{path}: {line}" if path else line for line in reason.split("\n")]


def _names_of(cl: Any) -> Set[str]:
    return {field.name for field in dataclasses.fields(cl)} if dataclasses.is_dataclass(cl) else set()


def placed(line: str, path: str, table: Any) -> str:
    """A line of the table (a dataclass) at `path` with its place: it begins with a key of it, or is about all of it."""
    if not path:
        return line
    return f"{path}.{line}" if re.split(r"\W", line, maxsplit=1)[0] in _names_of(table) else f"{path}: {line}"


def _mistyped(error: Any) -> Set[str]:
    """Keys that are missing, each of which a key that is unknown looks like."""
    from cattrs import ForbiddenExtraKeysError

    missing = [inner.args[0] for inner in error.exceptions if isinstance(inner, KeyError)]
    unknown = {
        str(key)
        for inner in error.exceptions
        if isinstance(inner, ForbiddenExtraKeysError)
        for key in inner.extra_fields
    }
    known = _names_of(error.cl)
    return {name for name in missing for key in unknown if f"did you mean {name!r}" in near(key, known)}


_SLIP = 0.9
"""Likeness of a key that is known elsewhere to one that is known here: it may be either."""


def _explain_extra(key: str, cl: Any, path: str, root: Any) -> str:
    known = [f.name for f in dataclasses.fields(cl)]
    elsewhere = [place for place, table in _tables(root, "") if key in {f.name for f in dataclasses.fields(table)}]
    meant = near(key, known, _SLIP) + f", it belongs to [{elsewhere[0]}]" if elsewhere else near(key, known)
    return f"{path + '.' if path else ''}{key}: unknown{meant or ', known here: ' + ', '.join(known)}"


def _tables(kind: Any, path: str) -> Iterator[Tuple[str, Any]]:
    """(dotted path, dataclass) of the tables in a dataclass."""
    for name, inner in get_type_hints(kind).items() if dataclasses.is_dataclass(kind) else ():
        if dataclasses.is_dataclass(inner):
            place = f"{path}.{name}" if path else name
            yield place, inner
            yield from _tables(inner, place)
