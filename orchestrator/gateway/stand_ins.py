"""A table of an edgeward.toml with other values in the place of those that are wrong, so that the rest of it can be looked at.

For every wrong value there are several that could be meant. What is wrong whichever of them stands there is a mistake of its own;
what is wrong with some of them cannot be judged, and is not said.
"""

import random
import re
from dataclasses import MISSING, fields
from itertools import islice
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from orchestrator.gateway.broker import KINDS
from orchestrator.rounds.declared import STRATEGIES
from orchestrator.wire.codec import CODECS
from orchestrator.wire.protection import AGGREGATIONS, MECHANISMS, NOISE_AT, UNITS
from orchestrator.wire.schedule import SCHEDULES
from orchestrator.wire.schema import Schema
from orchestrator.wire.structure import attempt
from orchestrator.wire.targets.registry import KIND, TARGETS
from orchestrator.wire.task import WEIGHTS
from orchestrator.wire.training import BALANCED, METRICS, PERSONAL

Place = Tuple[str, ...]
"""Keys and numbers that lead to a value, from the outside."""

WORDS: Mapping[Place, Mapping[str, Tuple[str, ...]]] = {
    ("gateway",): {"broker": (*KINDS, "mqtt://localhost")},
    ("task",): {"codec": tuple(CODECS)},
    ("task", "schema"): {"kind": ("table", "signal"), "standardization": ("federated", "range")},
    ("task", "training"): {
        "strategy": tuple(STRATEGIES),
        "schedule": tuple(SCHEDULES),
        "metric": METRICS,
        "personal": tuple(PERSONAL),
    },
    # Who writes a unit that there is not wants one, so that the numbers beside it count.
    ("task", "privacy"): {"unit": UNITS[1:], "noise": NOISE_AT, "mechanism": MECHANISMS},
    ("task", "rounds"): {"weights": WEIGHTS},
    ("task", "aggregation"): {"method": AGGREGATIONS},
}
"""Table -> key -> the words of a closed set that it may be; elsewhere any text may be."""

_TOKEN = re.compile(r"\.?([\w-]+)|\[([^\]\n]*)\]")
_MOST_VARIANTS = 40
_DRAWN = 12
_TRIES = 8
_TYPES: Mapping[Any, Tuple[Any, ...]] = {
    bool: (False, True),
    int: (0, 1, 2, 5, 20, 1000, 100_000),
    float: (0.0, 1.0, 0.5, 1e-3, 100.0, -1e6, 1e6),
    str: ("?", "??"),
    Union[str, Tuple[float, ...]]: ((), (1.0, 1.0), BALANCED),
}


class StoodIn(NamedTuple):
    """What became of a table. `built`: as dataclasses, with one set of stand-ins after another; empty where none would fit."""

    built: List[Any]
    mistakes: List[str]
    """Lines that were hidden so far, by their places in the table."""
    replaced: Set[Place]


def place_of(line: str, data: Any) -> Place:
    """Where a line's mistake is: as much of what it begins with as there is, or could be, in the data."""
    found: List[str] = []
    at = 0
    while True:
        token = _TOKEN.match(line, at)
        if not token or (found and line[at] not in ".["):
            return tuple(found)
        name = token.group(1) if token.group(2) is None else token.group(2).strip("'\"")
        if isinstance(data, dict) and (token.group(2) is None or name in data):
            data = data.get(name)
        elif isinstance(data, (list, tuple)) and name.isdecimal() and int(name) < len(data):
            data = data[int(name)]
        else:
            return tuple(found)
        found.append(name)
        at = token.end()


def inside(place: Place, others: Iterable[Place]) -> bool:
    """Whether a place is one of the others, or in it."""
    return any(place[: len(other)] == other for other in others)


def stand_in(table: Any, kind: Any, place: Place, wrong: Iterable[Place]) -> StoodIn:
    """Of a table at `place`, in which the values at `wrong` are known to be wrong already; () is all of it."""
    whole = () in wrong or not isinstance(table, dict)
    table = {} if whole else table
    replaced: Set[Place] = {(field.name,) for field in fields(kind)} if whole else set(wrong)
    said: List[str] = []
    for _ in range(_TRIES):
        built, sets = _tried(table, kind, place, replaced)
        if built:
            return StoodIn(built, said, replaced)
        new = {line: place_of(line, table) for line in in_all(sets)}
        new = {line: where for line, where in new.items() if not inside(where, replaced)}
        sure = [line for line in new if _stays(line, new, table, kind, place, replaced)]
        said += sure
        found = {new[line] for line in sure or new} or {place_of(line, table) for lines in sets for line in lines}
        if found <= replaced or () in found:
            break
        replaced |= found
    return StoodIn([], said, replaced)


def _stays(
    line: str, new: Mapping[str, Place], table: Dict[str, Any], kind: Any, place: Place, replaced: Set[Place]
) -> bool:
    """Whether a line is said whatever stands where other new lines are about."""
    others = set(new.values()) - {new[line]}
    if not others or () in others:
        return True
    return line in in_all(_tried(table, kind, place, replaced | others)[1])


def _tried(table: Dict[str, Any], kind: Any, place: Place, replaced: Set[Place]) -> Tuple[List[Any], List[List[str]]]:
    """(what could be built of the table with one set of stand-ins after another; the lines about it with those that fit)."""
    tried = [attempt(variant, kind) for variant in _variants(table, kind, place, replaced)]
    built = [one for one, _ in tried if one is not None]
    sets = [lines for _, lines in tried]
    fitting = [lines for lines in sets if not any(_related(place_of(line, table), replaced) for line in lines)]
    return built, fitting or sets


def _related(place: Place, others: Set[Place]) -> bool:
    """Whether a line may be of a stand-in: of its place, of one in it, or of the table in a list that it is in."""
    around = not place or place[-1].isdecimal()
    return inside(place, others) or (around and any(other[: len(place)] == place for other in others))


def in_all(sets: List[List[str]]) -> List[str]:
    """The lines that every set has, in their order."""
    shared = set(sets[0]).intersection(*sets) if sets else set()
    return [line for line in dict.fromkeys(sets[0] if sets else ()) if line in shared]


def _variants(table: Dict[str, Any], kind: Any, place: Place, replaced: Set[Place]) -> Iterator[Dict[str, Any]]:
    """The table with stand-ins: the first of each, then one after another of each, then some drawn for all of them at once."""
    choices = {one: _choices(one, table, kind, place) for one in sorted(replaced, key=lambda one: (len(one), one))}
    first = {one: values[0] for one, values in choices.items()}
    others = ({**first, one: value} for one, values in choices.items() for value in values[1:])
    draw = random.Random(0)
    drawn = ({one: draw.choice(values) for one, values in choices.items()} for _ in range(_DRAWN))
    yield _filled(table, first)
    yield from (_filled(table, chosen) for chosen in islice(others, _MOST_VARIANTS))
    if len(choices) > 1:
        yield from (_filled(table, chosen) for chosen in drawn)


_ABSENT = object()


def _filled(table: Dict[str, Any], chosen: Mapping[Place, Any]) -> Dict[str, Any]:
    filled: Any = table
    for place, value in chosen.items():
        filled = put(filled, place, value)
    return dict(filled)


def put(data: Any, place: Place, value: Any) -> Any:
    """The data with another value in a place, or without one."""
    first, rest = place[0], place[1:]
    if isinstance(data, (list, tuple)):
        number = int(first)
        changed = [put(data[number], rest, value) if rest else value] if number < len(data) else []
        return [*data[:number], *changed, *data[number + 1 :]]
    if not isinstance(data, dict):
        return data
    if rest:
        return {**data, first: put(data.get(first, {}), rest, value)}
    return {key: each for key, each in data.items() if key != first} if value is _ABSENT else {**data, first: value}


def _choices(one: Place, table: Dict[str, Any], kind: Any, place: Place) -> List[Any]:
    """Values that could be meant in a place of a table, the likeliest first."""
    if kind is Schema and one[0] in _SCHEMA:
        special = _SCHEMA[one[0]](one, table)
        if special:
            return special
    known = {field.name: field for field in fields(kind)}
    if one[0] not in known:
        return [_ABSENT]
    hint = get_type_hints(kind)[one[0]]
    if len(one) > 1:
        return _of_type(_inner(hint, one[1:]), ())
    field = known[one[0]]
    default = field.default if field.default is not MISSING else None
    if field.default_factory is not MISSING:
        default = field.default_factory()
    words = WORDS.get(place, {}).get(one[0])
    needed = field.default is MISSING and field.default_factory is MISSING
    likely: Tuple[Any, ...] = () if needed else (_ABSENT,)
    if words:
        return [*likely, *(word for word in words if word != default)]
    return _of_type(hint, likely)


def _of_type(hint: Any, likely: Tuple[Any, ...]) -> List[Any]:
    if hint in _TYPES:
        return [*likely, *_TYPES[hint]]
    if get_origin(hint) is Union:
        return [*likely, None, *_of_type(next(each for each in get_args(hint) if each is not type(None)), ())]
    if get_origin(hint) is tuple:
        return [*likely, *([] if likely else [()])]
    if get_origin(hint) is dict or hint is dict:
        return [*likely, *([] if likely else [{}])]
    return [*likely] or ["?"]


def _inner(hint: Any, place: Place) -> Any:
    """The type of what is in a place of a value of the type `hint`."""
    for name in place:
        arguments = get_args(hint)
        if get_origin(hint) is tuple:
            hint = arguments[0]
        elif get_origin(hint) is dict:
            hint = arguments[1]
        elif hasattr(hint, "__dataclass_fields__"):
            hint = get_type_hints(hint).get(name)
    return hint


# Of a schema, whose parts name each other


def _features(one: Place, table: Dict[str, Any]) -> List[Any]:
    listed = table.get("features")
    invented = {"name": "?", "minimum": 0, "maximum": 1}
    if len(one) == 1:
        if not isinstance(listed, (list, tuple)):
            return [[invented], [{**invented, "name": "??"}], []]
        kept = list({str(each.get("name")): each for each in listed if isinstance(each, dict)}.values())
        return [kept, [invented], [{**invented, "name": "??"}]]
    feature = listed[int(one[1])] if isinstance(listed, (list, tuple)) and int(one[1]) < len(listed) else None
    names = [f"?{one[1]}", f"??{one[1]}"]
    if len(one) == 2:
        name = feature.get("name") if isinstance(feature, dict) else None
        named = [name] if isinstance(name, str) and name else names
        return [
            {"name": each, **rest}
            for each in named
            for rest in ({"minimum": 0, "maximum": 1}, {"categories": ["?", "??"]})
        ]
    known: Dict[str, List[Any]] = {
        "name": names,
        "minimum": [0.0, 1e-3, 1.0, -1e6, 1e6, _ABSENT],
        "maximum": [1e6, 1.0, 120.0, 0.0, _ABSENT],
        "categories": [["?", "??"], _ABSENT],
        "transform": [_ABSENT, "log"],
    }
    return known.get(one[2], [_ABSENT])


def _classes(one: Place, table: Dict[str, Any]) -> List[Any]:
    values = table.get("label_values")
    numbers = [v for v in values.values() if isinstance(v, int)] if isinstance(values, dict) else []
    least = max([2, *(number + 1 for number in numbers if number < 1000)])
    several = [[f"?{i}" for i in range(count)] for count in (least, least + 1)]
    return [*several, []] if len(one) == 1 else ["?", "??"]


def _label_values(one: Place, table: Dict[str, Any]) -> List[Any]:
    classes = table.get("classes")
    count = len(classes) if isinstance(classes, (list, tuple)) and len(classes) > 1 else 2
    return [{f"?{i}": i for i in range(count)}, {}] if len(one) == 1 else [0, 1]


def _target(one: Place, table: Dict[str, Any]) -> List[Any]:
    given = table.get("target")
    given = given if isinstance(given, dict) else {}
    if len(one) == 2 and one[1] != KIND and str(given.get(KIND)) in TARGETS:
        hints = get_type_hints(TARGETS[str(given[KIND])].Options)
        return _of_type(hints[one[1]], (_ABSENT,)) if one[1] in hints else [_ABSENT]
    if len(one) == 2 and one[1] != KIND:
        return [_ABSENT]
    found = [{**given, KIND: kind, **more} for kind in TARGETS for more in ({}, {"minimum": 0, "maximum": 1})]
    found += [{KIND: kind, **more} for kind in TARGETS for more in ({}, {"minimum": 0, "maximum": 1})]
    return found if len(one) == 1 else [each[KIND] for each in found[::2]]


_SCHEMA: Mapping[str, Any] = {
    "features": _features,
    "classes": _classes,
    "label_values": _label_values,
    "target": _target,
}


def unknown_key(line: str, data: Any) -> Optional[Tuple[Place, List[Place]]]:
    """(the key that a line calls unknown, the keys that it may have been meant for); None for another line."""
    if ": unknown" not in line:
        return None
    place = place_of(line, data)
    meant = [(*place[:-1], name) for name in re.findall(r"did you mean '(\w+)'", line)]
    meant += [(*table.split("."), place[-1]) for table in re.findall(r"it belongs to \[([\w.]+)\]", line)]
    return place, meant
