"""What a FHIR patient says of a person: ages, addresses, death, fields by their path."""

from pathlib import Path
from typing import Any, Dict

import pytest
from fhir_samples import (
    AGE,
    PERSON,
    described,
    export,
    patient,
    table_of,
)

from orchestrator.data.sources import fhir_columns, fhir_values
from orchestrator.errors import DataError


@pytest.mark.parametrize(
    ("at", "born", "age"),
    [
        ("2026-11-27", "1960-11-27", "66"),
        ("2026-11-27", "1960-11-28", "65"),
        ("2027-02-28", "2024-02-29", "2"),
        ("2027-03-01", "2024-02-29", "3"),
        ("2026-12-31", "1960", "66"),
        ("2026-11-30", "1960-11", "66"),
        ("2026-10-01", "1960-11", "65"),
        ("2026-11-27", "2026-11-27", "0"),
    ],
)
def test_age(tmp_path: Path, at: str, born: str, age: str) -> None:
    folder = export(tmp_path / "export", Patient=[patient("a", birthDate=born), patient("b")])
    path = described(tmp_path / "w.toml", [{**AGE, "at": at}], folder=folder.name)
    assert table_of(path)[1:] == [[age], [""]]


@pytest.mark.parametrize(
    ("born", "why"),
    [
        ("1960", 'birthDate 1960 is no whole date, so the age on 2026-11-27 is 65 or 66; set at = "2026-12-31"'),
        ("1960-11", "birthDate 1960-11 is no whole date, so the age on 2026-11-27 is 65 or 66"),
        ("2027-01-01", "birthDate 2027-01-01 is after 2026-11-27"),
        ("27.11.1960", "'27.11.1960' is not a date as 2026-11-27"),
        ("1960-13-01", "month must be in 1..12"),
        ("1960-11-27T00:00:00Z", "is not a date as 2026-11-27: it has a time"),
        (1960, "birthDate is no text"),
    ],
)
def test_an_age_that_is_not_known(tmp_path: Path, born: Any, why: str) -> None:
    folder = export(tmp_path / "export", Patient=[patient("a", birthDate=born)])
    with pytest.raises(DataError, match=rf"Patient\.ndjson:1: column 'age': .*{why}"):
        table_of(described(tmp_path / "w.toml", [AGE], folder=folder.name))


@pytest.mark.parametrize(
    ("path", "cell"),
    {
        "id": "a",
        "active": "true",
        "gender": "female",
        "birthDate": "1960-11",
        "age": "66",
        "deceased": "1",
        "deceasedBoolean": "",
        "deceasedDateTime": "2020-01-01",
        "maritalStatus": "M",
        "address.city": "B",
        "address.district": "D",
        "address.state": "S",
        "address.postalCode": "2",
        "address.country": "C",
        "identifier.value": "18",
    }.items(),
)
def test_paths_of_a_patient(tmp_path: Path, path: str, cell: str) -> None:
    also = {"age": {"at": "2026-12-31"}, "identifier.value": {"system": "http://y"}}
    column = {"name": "v", "from": "Patient", "path": path, **also.get(path, {})}
    folder = export(tmp_path / "export", Patient=[PERSON])
    assert table_of(described(tmp_path / "w.toml", [column], folder=folder.name))[1] == [cell]
    assert set(fhir_values.PATHS) == set(fhir_columns.PATHS)


@pytest.mark.parametrize(
    ("said", "cell"), [({"deceasedBoolean": True}, "1"), ({"deceasedBoolean": False}, "0"), ({}, "0")]
)
def test_deceased(tmp_path: Path, said: Dict[str, Any], cell: str) -> None:
    folder = export(tmp_path / "export", Patient=[patient("a", **said)])
    column = {"name": "dead", "from": "Patient", "path": "deceased"}
    assert table_of(described(tmp_path / "w.toml", [column], folder=folder.name))[1] == [cell]


def test_one_of_several_addresses_is_not_guessed(tmp_path: Path) -> None:
    homes = [{"use": "home", "postalCode": "1"}, {"use": "home", "postalCode": "2"}]
    folder = export(tmp_path / "export", Patient=[patient("a", address=homes)])
    column = {"name": "zip", "from": "Patient", "path": "address.postalCode"}
    with pytest.raises(
        DataError, match=r"Patient\.ndjson:1: column 'zip': has 2 of address\.postalCode; which one is meant"
    ):
        table_of(described(tmp_path / "w.toml", [column], folder=folder.name))
