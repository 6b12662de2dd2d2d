"""What one FHIR R4 resource says for a column: its codes, whose it is, its value. ValueError with what is wrong with it.

Texts and numbers of a resource are as its server wrote them: any field may be of any type.
"""

import json
import math
import re
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple, Union

from orchestrator.data.cells import shown
from orchestrator.data.dates import day_alone, days_between, first_moment
from orchestrator.data.sources.fhir_columns import Column, Kind
from orchestrator.data.units import conversion
from orchestrator.wire.json_text import TwiceError, each_once

Resource = Dict[str, Any]
Value = Union[float, int, str, bool]

_UCUM = "http://unitsofmeasure.org"
_MOST_TEXT = 1000
_URN = "urn:uuid:"


def parsed(line: bytes) -> Resource:
    """The resource of a line of NDJSON, or the document of a server's page."""
    try:
        found = json.loads(line.decode("utf-8-sig"), parse_constant=_no_number, object_pairs_hook=each_once)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except TwiceError:
        raise
    except ValueError as error:
        raise ValueError(f"is no JSON: {str(error)[:120]}") from error
    if not isinstance(found, dict):
        raise ValueError("is no JSON object, as a resource is")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def table(value: Any, what: str) -> Resource:
    """An object, empty where there is none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    return value


def listed(value: Any, what: str) -> List[Any]:
    """A list, empty where there is none."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list")
    return value


def word(value: Any, what: str) -> str:
    """A text, empty where there is none."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MOST_TEXT:
        raise ValueError(f"{what} is no text of at most {_MOST_TEXT} characters")
    return value.strip()


def codings(concept: Any, what: str) -> List[Tuple[str, str]]:
    """(system, code) of each coding of a CodeableConcept."""
    found = [table(each, f"{what}.coding") for each in listed(table(concept, what).get("coding"), f"{what}.coding")]
    return [
        (word(each.get("system"), f"{what}.coding.system"), word(each.get("code"), f"{what}.coding.code"))
        for each in found
    ]


def has_code(found: List[Tuple[str, str]], codes: FrozenSet[str], system: str) -> bool:
    return any(code in codes and system in ("", of) for of, code in found)


def understood(resource: Resource) -> None:
    """ValueError where it says that its meaning is changed by something that is not read here."""
    for key in ("modifierExtension", "implicitRules"):
        if resource.get(key):
            raise ValueError(f"has {key}, which changes what it means in a way that is not read here; leave it out")


def untrue(resource: Resource, kind: Kind) -> bool:
    """Whether it is entered in error, refuted, or was never done."""
    said = resource.get(kind.status)
    if kind.status == "status":
        return word(said, "status") in kind.untrue or resource.get("doNotPerform") is True
    return any(code in kind.untrue for _, code in codings(said, kind.status))


def patient_of(reference: Any, what: str, base: str) -> str:
    """The id of the patient that a reference names; "" for none, where it names something else, such as a device.

    base: the address of the server it comes from, "" for a file; an absolute reference to another one is an error.
    """
    said = word(table(reference, what).get("reference"), f"{what}.reference")
    if said.startswith(_URN):
        return said[len(_URN) :]
    place = said
    if base and said.startswith(base + "/"):
        place = said[len(base) + 1 :]
    parts = place.split("/")
    if len(parts) == 2 or (len(parts) == 4 and parts[2] == "_history"):
        if parts[0] == "Patient" and parts[1]:
            return parts[1]
        if re.fullmatch(r"[A-Z][A-Za-z]+", parts[0]):
            return ""
    raise ValueError(f"{what}: {shown(said)} names no patient here; expected Patient/ID or urn:uuid:ID")


def observed_at(resource: Resource) -> int:
    """When an Observation was, in microseconds since 1970 (UTC); of a date without a time its first moment."""
    period = table(resource.get("effectivePeriod"), "effectivePeriod")
    known = (
        *(resource.get("effectiveDateTime"), resource.get("effectiveInstant")),
        *(period.get("start"), period.get("end"), resource.get("issued")),
    )
    said = next((each for each in known if each is not None), None)
    if said is None:
        raise ValueError("has no date (effectiveDateTime, effectivePeriod, issued), and first and last go by it")
    return first_moment(word(said, "effective"))


def observed(resource: Resource, column: Column) -> Optional[Value]:
    """The value of an Observation, or of its component; None where it has none."""
    if not column.component:
        return _value(resource, column)
    named = frozenset((column.component,))
    found = [
        part
        for part in (table(each, "component") for each in listed(resource.get("component"), "component"))
        if has_code(codings(part.get("code"), "component.code"), named, column.system)
    ]
    if len(found) > 1:
        raise ValueError(f"has component {column.component!r} twice; which one is meant?")
    return _value(found[0], column) if found else None


def _value(holder: Resource, column: Column) -> Optional[Value]:
    found = [key for key in holder if key.startswith("value")]
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f"has {found[0][:40]} and {found[1][:40]}; a value is one of them")
    key, value = found[0], holder[found[0]]
    if key == "valueQuantity":
        return _quantity(table(value, key), column)
    if column.unit:
        raise ValueError(f"has {key[:40]}, which has no unit, and the column declares {column.unit!r}; take out `unit`")
    if key == "valueInteger":
        return _number(value, key)
    if column.take == "mean":
        raise ValueError(f"has {key[:40]}, which is no number, so there is no mean; take first, last or value")
    if key == "valueCodeableConcept":
        return _code(value, column)
    if key == "valueBoolean" and isinstance(value, bool):
        return value
    if key in ("valueString", "valueDateTime", "valueTime"):
        return word(value, key) or None
    raise ValueError(f"has {key[:40]}, which is not read; a quantity, a code, a whole number, a text or true/false is")


def _number(value: Any, what: str) -> Union[int, float]:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(float(value)):
            return value
    except OverflowError:
        pass
    raise ValueError(f"{what} is no finite number")


def _quantity(said: Resource, column: Column) -> Optional[Value]:
    if said.get("value") is None:
        return None
    value = _number(said["value"], "valueQuantity.value")
    comparator = word(said.get("comparator"), "comparator")
    if comparator and column.bounds == "refuse":
        raise ValueError(
            f'is a bound ({comparator} {value}), no value; set bounds = "limit" (it counts as {value}) or "leave out"'
        )
    if comparator and column.bounds == "leave out":
        return None
    text, code = word(said.get("unit"), "unit"), word(said.get("code"), "code")
    coded = code if code and word(said.get("system"), "system") in ("", _UCUM) else ""
    unit = coded or text
    if unit == column.unit:
        return value
    if unit in column.other_units:
        a, b = conversion(unit, column.unit, column.substance)
        return a * value + b
    if not unit:
        raise ValueError(f"has no unit, expected {column.unit!r}")
    if not column.unit:
        raise ValueError(
            f'has unit {shown(unit)}, and the column declares none; set unit = "{unit[:40]}" if it is right'
        )
    raise ValueError(f"unit {shown(unit)}, expected {column.unit!r}; {_cure(unit, column)}")


def _cure(unit: str, column: Column) -> str:
    try:
        conversion(unit, column.unit, column.substance)
    except ValueError as error:
        return f"no conversion is known ({error})"
    return f'other_units = ["{unit}"] converts such values'


def _code(concept: Any, column: Column) -> Optional[str]:
    found = [
        (system, code)
        for system, code in codings(concept, "valueCodeableConcept")
        if code and column.value_system in ("", system)
    ]
    codes = sorted({code for _, code in found})
    if len(codes) > 1:
        systems = ", ".join(shown(system) for system, _ in found[:4])
        raise ValueError(f"has a code in several systems ({systems}); set value_system to the one that is meant")
    return codes[0] if codes else None


def of_patient(resource: Resource, column: Column) -> Optional[Value]:
    """The value of a column of a patient; None where there is none."""
    return PATHS[column.path](resource, column)


def _plain(resource: Resource, column: Column) -> Optional[Value]:
    return word(resource.get(column.path), column.path) or None


def _truth(resource: Resource, column: Column) -> Optional[Value]:
    return _true_or_false(resource, column.path)


def _true_or_false(resource: Resource, path: str) -> Optional[bool]:
    said = resource.get(path)
    if said is None or isinstance(said, bool):
        return said
    raise ValueError(f"{path} is neither true nor false")


def _deceased(resource: Resource, column: Column) -> Value:
    said = _true_or_false(resource, "deceasedBoolean")
    return int(bool(said or word(resource.get("deceasedDateTime"), "deceasedDateTime")))


def _age(resource: Resource, column: Column) -> Optional[Value]:
    """In whole years; where the day of birth is not known, only if it is the same for every day it may be."""
    said = word(resource.get("birthDate"), "birthDate")
    if not said:
        return None
    at, (first, last) = day_alone(column.at), days_between(said)
    oldest, youngest = (at.year - born.year - ((at.month, at.day) < (born.month, born.day)) for born in (first, last))
    if first > at:
        raise ValueError(f"birthDate {said} is after {column.at}, on which the age is asked for; set a later `at`")
    if oldest != youngest:
        raise ValueError(
            f"birthDate {said} is no whole date, so the age on {column.at} is {youngest} or {oldest}; set at = "
            f'"{column.at[:4]}-12-31", by when all have had their birthday'
        )
    return oldest


def _marital(resource: Resource, column: Column) -> Optional[Value]:
    return _only({code for _, code in codings(resource.get("maritalStatus"), "maritalStatus") if code}, "maritalStatus")


def _address(resource: Resource, column: Column) -> Optional[Value]:
    """Of the address that holds now; where several do, of the one at home."""
    part = column.path.split(".")[1]
    every = [table(each, "address") for each in listed(resource.get("address"), "address")]
    now = [
        each
        for each in every
        if each.get("use") != "old" and not table(each.get("period"), "address.period").get("end")
    ]
    found = {word(each.get(part), column.path) for each in now} - {""}
    if len(found) > 1:
        found = {word(each.get(part), column.path) for each in now if each.get("use") == "home"} - {""} or found
    return _only(found, column.path)


def _identifier(resource: Resource, column: Column) -> Optional[Value]:
    every = [table(each, "identifier") for each in listed(resource.get("identifier"), "identifier")]
    of = [each for each in every if column.system in ("", each.get("system")) and each.get("use") != "old"]
    return _only({word(each.get("value"), column.path) for each in of} - {""}, column.path)


def _only(found: Any, what: str) -> Optional[str]:
    if len(found) > 1:
        raise ValueError(f"has {len(found)} of {what}; which one is meant?")
    return next(iter(found), None)


PATHS: Dict[str, Callable[[Resource, Column], Optional[Value]]] = {
    **{each: _plain for each in ("id", "gender", "birthDate", "deceasedDateTime")},
    **{each: _truth for each in ("active", "deceasedBoolean")},
    "age": _age,
    "deceased": _deceased,
    "maritalStatus": _marital,
    **{f"address.{each}": _address for each in ("city", "district", "state", "postalCode", "country")},
    "identifier.value": _identifier,
}
"""The paths of fhir_columns.PATHS."""
