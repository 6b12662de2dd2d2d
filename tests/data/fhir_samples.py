"""Invented FHIR resources, and descriptions of them."""

import json
from pathlib import Path
from typing import Any, Dict, List

from orchestrator.data.described import read_description
from orchestrator.data.sources.registry import service_rows

Resource = Dict[str, Any]

SNOMED, LOINC, UCUM = "http://snomed.info/sct", "http://loinc.org", "http://unitsofmeasure.org"
DIABETES, HBA1C, SYSTOLIC, PRESSURE = "44054006", "4548-4", "8480-6", "85354-9"


def patient(name: str, **said: Any) -> Resource:
    return {"resourceType": "Patient", "id": name, **said}


def coded(code: str, system: str = SNOMED) -> Dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def condition(name: str, whose: str, code: str = DIABETES, **said: Any) -> Resource:
    return {
        "resourceType": "Condition",
        "id": name,
        "code": coded(code),
        "subject": {"reference": f"Patient/{whose}"},
        **said,
    }


def quantity(value: Any, unit: str = "%") -> Dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def observation(name: str, whose: str, at: str = "2026-01-01", **said: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": coded(HBA1C, LOINC),
        "subject": {"reference": f"Patient/{whose}"},
        "effectiveDateTime": at,
        **said,
    }


def export(folder: Path, **files: List[Any]) -> Path:
    """A folder with TYPE.ndjson of each type. What is no resource is written as it is."""
    folder.mkdir(exist_ok=True)
    for kind, resources in files.items():
        lines = [each if isinstance(each, str) else json.dumps(each) for each in resources]
        (folder / f"{kind}.ndjson").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def described(path: Path, columns: List[Dict[str, Any]], kind: str = "fhir", **source: Any) -> Path:
    """A description at `path`."""
    lines = ["[source]", f'kind = "{kind}"', *(f"{key} = {json.dumps(value)}" for key, value in source.items())]
    for column in columns:
        lines += ["[[source.columns]]", *(f"{key} = {json.dumps(value)}" for key, value in column.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def table_of(path: Path) -> List[List[str]]:
    """The rows of a description, names first."""
    return [cells for _, cells in service_rows(path, read_description(path).service)]


AGE = {"name": "age", "from": "Patient", "path": "age", "at": "2026-11-27"}
ID = {"name": "patient", "from": "Patient", "path": "id"}
DIABETIC = {"name": "diabetes", "from": "Condition", "code": DIABETES, "system": SNOMED, "take": "any"}


def measured(take: str, **said: Any) -> Dict[str, Any]:
    return {"name": "hba1c", "from": "Observation", "code": HBA1C, "system": LOINC, "take": take, **said}


def whole(tmp_path: Path, **files: List[Any]) -> List[List[str]]:
    """The rows that are made of an export with these files: patients, and whether each is diabetic."""
    folder = export(tmp_path / "export", **files)
    return table_of(described(tmp_path / "w.toml", [ID, DIABETIC], folder=folder.name))[1:]


def one_value(tmp_path: Path, column: Dict[str, Any], *said: Dict[str, Any]) -> str:
    """The cell of the only patient, whose observations say so."""
    observations = [
        observation(f"o{number}", "a", f"2026-01-0{number + 1}", **each) for number, each in enumerate(said)
    ]
    folder = export(tmp_path / "export", Patient=[patient("a")], Observation=observations)
    return table_of(described(tmp_path / "w.toml", [column], folder=folder.name))[1][0]


PERSON = patient(
    "a",
    active=True,
    gender="female",
    birthDate="1960-11",
    deceasedDateTime="2020-01-01",
    maritalStatus=coded("M", "http://m"),
    address=[
        {"use": "old", "postalCode": "1"},
        {"use": "home", "postalCode": "2", "city": "B", "state": "S", "district": "D", "country": "C"},
        {"use": "work", "postalCode": "3", "city": "B"},
        {"use": "home", "postalCode": "4", "period": {"end": "2001"}},
    ],
    identifier=[{"system": "http://x", "value": "17"}, {"system": "http://y", "value": "18"}],
)
