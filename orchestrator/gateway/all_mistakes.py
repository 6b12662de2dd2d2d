"""All mistakes of an edgeward.toml that is wrong in places: none hides another, and none is made up of what cannot be known."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from orchestrator.analyses.registry import KIND, make
from orchestrator.errors import UsageError
from orchestrator.gateway.checks import misfit, mistakes
from orchestrator.gateway.config_parts import Parts
from orchestrator.gateway.settings import Config, GatewaySettings
from orchestrator.gateway.stand_ins import WORDS, Place, StoodIn, in_all, inside, place_of, put, stand_in, unknown_key
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Schema
from orchestrator.wire.structure import attempt, placed
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task
from orchestrator.wire.training import Training

_SCHEMA: Place = ("task", "schema")
_TRAINING: Place = ("task", "training")
_MODEL: Place = ("task", "model")
_ANALYSIS: Place = ("task", "analysis")
_TABLES: Mapping[Place, Any] = {
    ("gateway",): GatewaySettings,
    _SCHEMA: Schema,
    _TRAINING: Training,
    ("task", "privacy"): Privacy,
    ("task", "rounds"): Rounds,
    ("task", "selection"): Selection,
    ("task", "evaluation"): Evaluation,
    ("task", "aggregation"): Aggregation,
}
_VALUES: Mapping[Place, Tuple[Any, ...]] = {
    ("evaluation",): ({}, {"?": "?"}),
    ("calibration",): ("", "?"),
    ("calibration_public",): (False, True),
    ("task", "name"): ("t",),
    ("task", "codec"): (Task.codec, *WORDS[("task",)]["codec"]),
    ("task", "seed"): (0,),
    _ANALYSIS: ({}, {KIND: "statistics"}),
    _MODEL: ({},),
}
"""Beside the tables: what could be meant where something wrong stands."""

_MOST_TOGETHER = 60


@dataclass(frozen=True)
class _Task(Task):
    """A task whose tables are not looked at together."""

    def __post_init__(self) -> None:
        """Leaves that for later."""


@dataclass(frozen=True)
class _File(Config):
    """The whole file, likewise."""

    task: _Task


def all_mistakes(data: Dict[str, Any], base: Optional[Path]) -> List[str]:
    """Of an edgeward.toml as plain data; with `base`, also what the files it names tell."""
    printable = _printable(data)
    hidden = [] if printable == data else attempt(data, _File)[1]
    unreadable = {place_of(line, printable) for line in hidden} - {()}
    found = [line for line in attempt(printable, _File)[1] if not inside(place_of(line, printable), unreadable)]
    unknown = [each for each in (unknown_key(line, printable) for line in found) if each is not None]
    for key, meant in unknown:
        if _is_table(printable, key, meant):
            moved = put(put(printable, meant[0], dict(_at(printable, key))), key, None)
            rest = all_mistakes(_without(moved, key), base)
            return list(dict.fromkeys([*(line for line in found if place_of(line, printable) == key), *hidden, *rest]))
    in_tables = [line for line in found if _in_table(place_of(line, printable))]
    of_key = {key: line for line in in_tables for key, _ in [unknown_key(line, printable) or ((), [])] if key}
    found = [*hidden, *(line for line in found if line not in in_tables)]
    wrong = {place for place in (place_of(line, printable) for line in found) if place}
    wrong |= {place for _, places in unknown for place in places if _at(printable, place) is None}
    tables = {place: _table(printable, place, wrong) for place in _TABLES}
    for place, stood in tables.items():
        for line in stood.mistakes:
            key = (*place, *place_of(line, _at(printable, place)))
            found.append(of_key.get(key) or placed(line, ".".join(place), _TABLES[place]))
        wrong |= {(*place, *inner) for inner in stood.replaced}
    together = in_all(list(_together(printable, tables, wrong, base)))
    found += [line for line in together if not inside(place_of(line, printable), wrong)]
    return list(dict.fromkeys(found))


def _in_table(place: Place) -> bool:
    return any(place[: len(table)] == table and place != table for table in _TABLES)


def _printable(value: Any) -> Any:
    """The data without what cannot be printed, which hides everything else."""
    if isinstance(value, str):
        return value if value.isprintable() else "?"
    if isinstance(value, dict):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _at(data: Any, place: Place) -> Any:
    for key in place:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _without(data: Dict[str, Any], place: Place) -> Dict[str, Any]:
    *outer, last = place
    table = dict(_at(data, tuple(outer)))
    del table[last]
    return dict(put(data, tuple(outer), table)) if outer else table


def _is_table(data: Dict[str, Any], key: Place, meant: List[Place]) -> bool:
    """Whether a key that is unknown is a table by another name, and there is none of the right name."""
    return (
        len(meant) == 1
        and (meant[0] in _TABLES or meant[0] == ("task",))
        and isinstance(_at(data, key), dict)
        and _at(data, meant[0]) is None
    )


def _table(data: Dict[str, Any], place: Place, wrong: Set[Place]) -> StoodIn:
    """One table with stand-ins for what is wrong in it, or around it."""
    own = {each[len(place) :] for each in wrong if each[: len(place)] == place}
    around = any(place[: len(each)] == each for each in wrong)
    table = _at(data, place)
    return stand_in({} if table is None else table, _TABLES[place], place, {()} if around else own)


def _together(
    data: Dict[str, Any], tables: Mapping[Place, StoodIn], wrong: Set[Place], base: Optional[Path]
) -> Iterator[List[str]]:
    """What is wrong with the tables as a whole, for one set of stand-ins after another."""
    choices: Dict[Place, Sequence[Any]] = {place: table.built or (None,) for place, table in tables.items()}
    choices.update({place: _values(data, place, wrong) for place in _VALUES})
    schema_known = not any(inside(each, [_SCHEMA]) or inside(_SCHEMA, [each]) for each in wrong)
    model_known = not any(inside(each, [_MODEL]) or inside(_MODEL, [each]) for each in wrong)
    columns_known = _columns_known(data, wrong)
    read: Dict[Path, str] = {}

    def unlike(path: Path, schema: Schema) -> str:
        """Reads each file once, and none for a schema that is not its own."""
        if not path.is_file():
            return misfit(path, schema)
        if schema_known and path not in read:
            read[path] = misfit(path, schema)
        return read.get(path, "")

    for turn in range(min(_MOST_TOGETHER, max(map(len, choices.values())))):
        chosen = {place: values[turn % len(values)] for place, values in choices.items()}
        chosen[_TRAINING] = _as_long(data, chosen)
        parts = _parts(chosen)
        known = parts._replace(
            schema=parts.schema if columns_known else None, model=parts.model if model_known else None
        )
        yield [*mistakes(known, base, unlike), *_contradictions(chosen)]


def _parts(chosen: Mapping[Place, Any]) -> Parts:
    analysis = chosen[_ANALYSIS]
    return Parts(
        chosen[("gateway",)],
        chosen[("evaluation",)],
        chosen[("calibration",)],
        chosen[("calibration_public",)],
        chosen[("task", "name")],
        chosen[_SCHEMA],
        chosen[_MODEL],
        chosen[_TRAINING],
        chosen[("task", "rounds")],
        chosen[("task", "selection")],
        chosen[("task", "evaluation")],
        chosen[("task", "aggregation")],
        chosen[("task", "privacy")],
        analysis if isinstance(analysis, dict) else {},
    )


def _contradictions(chosen: Mapping[Place, Any]) -> Iterator[str]:
    """Between the tables of a task, where all of them could be built."""
    declared: Dict[str, Any] = {field.name: chosen[("task", field.name)] for field in fields(Task)}
    if all(value is not None for value in declared.values()):
        yield from (placed(line, "task", Task) for line in _Task(**declared).objections())


def _values(data: Dict[str, Any], place: Place, wrong: Set[Place]) -> Tuple[Any, ...]:
    """What stands beside the tables; where it is wrong, each of what could."""
    around = [each for each in wrong if place[: len(each)] == each or each[: len(place)] == place]
    given = _at(data, place)
    if not around:
        return (_VALUES[place][0] if given is None else given,)
    if place == ("evaluation",) and isinstance(given, dict):
        return ({key: value if isinstance(value, str) else "?" for key, value in given.items()},)
    return _VALUES[place]


def _columns_known(data: Dict[str, Any], wrong: Set[Place]) -> bool:
    """Whether all names of columns are there: else an analysis of one may be of one that is wrong."""
    features = _at(data, (*_SCHEMA, "features"))
    if (
        _SCHEMA in wrong
        or ("task",) in wrong
        or (("task", "schema", "features") in wrong and not isinstance(features, list))
    ):
        return False
    named = [isinstance(each, dict) and isinstance(each.get("name"), str) for each in features or []]
    return all(named) and not any(each[:3] == (*_SCHEMA, "features") and each[4:] == ("name",) for each in wrong)


def _as_long(data: Dict[str, Any], chosen: Mapping[Place, Any]) -> Any:
    """The training: of an analysis with the rounds of its own where the file says none."""
    training, analysis, given = chosen[_TRAINING], chosen[_ANALYSIS], _at(data, _TRAINING)
    stated = isinstance(given, dict) and "rounds" in given
    if stated or not isinstance(analysis, dict) or not analysis or training is None or chosen[_SCHEMA] is None:
        return training
    try:
        return replace(training, rounds=make(analysis, chosen[_SCHEMA]).rounds)
    except (UsageError, ValueError):
        return training
