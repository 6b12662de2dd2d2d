"""Files of a bulk export: their lines, their names, packed or not, and a folder that is not as it should be."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any, Dict, List

import pytest
from fhir_samples import (
    AGE,
    DIABETES,
    DIABETIC,
    ID,
    condition,
    described,
    export,
    patient,
    table_of,
    whole,
)

from orchestrator.data.dataset import load_dataset
from orchestrator.data.sources import fhir_folder
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

LINES: Dict[str, Any] = {
    "half a line": ('{"resourceType": "Cond', "is no JSON"),
    "a list": ("[1]", "is no JSON object, as a resource is"),
    "not a number": ('{"resourceType": "Condition", "x": NaN}', "is no JSON: NaN is not a number of JSON"),
    "a key twice": ('{"resourceType": "Condition", "id": "d", "id": "e"}', "has 'id' twice; which one is meant"),
    "very deep": ('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested too deeply"),
    "very many digits": ('{"x": ' + "9" * 5000 + "}", "is no JSON|is a resource of type 'None'"),
    "another type": (json.dumps(patient("b")), "is a resource of type 'Patient', expected Condition"),
    "no type": ("{}", "is a resource of type 'None', expected Condition"),
    "no id": (json.dumps(condition("", "a")), "has no id"),
    "a code that is a text": (json.dumps({**condition("d", "a"), "code": DIABETES}), "code is no object"),
    "codes that are none": (json.dumps({**condition("d", "a"), "code": {"coding": {}}}), "code.coding is no list"),
    "a modifier": (
        json.dumps({**condition("d", "a"), "modifierExtension": [{"url": "http://not"}]}),
        "has modifierExtension, which changes what it means",
    ),
    "the same id with another content": (
        json.dumps(condition("c", "a", note=[])),
        "id 'c' was there before, with another",
    ),
}


@pytest.mark.parametrize("what", LINES)
def test_a_line_that_is_no_resource_is_named(tmp_path: Path, what: str) -> None:
    line, why = LINES[what]
    with pytest.raises(DataError, match=rf"/export/Condition\.ndjson:3: {why}"):
        whole(tmp_path, Patient=[patient("a")], Condition=[condition("c", "a"), "", line])


def test_many_problems_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        whole(tmp_path, Patient=["{", patient("a")], Condition=["[]", condition("c", "b")])
    said = str(caught.value)
    assert "3 problems" in said
    assert all(each in said for each in ("export/Patient.ndjson:1:", "Condition.ndjson:1:", "Condition.ndjson:2:"))


def test_not_utf8(tmp_path: Path) -> None:
    folder = export(tmp_path / "export", Patient=[patient("a")], Condition=[])
    (folder / "Condition.ndjson").write_bytes(b'{"resourceType": "Condition", "text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"Condition\.ndjson:1: is no JSON: .*utf-8"):
        table_of(described(tmp_path / "w.toml", [DIABETIC], folder=folder.name))


def test_a_resource_that_is_there_twice_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    people = [patient("a"), patient("b")]
    files = {"Patient": [*people, people[0]], "Condition": [condition("c", "a"), condition("c", "a")]}
    assert whole(tmp_path, **files) == [["a", "1"], ["b", "0"]]
    assert "1 Condition repeated" in caplog.text
    assert "1 Patient repeated" in caplog.text


def test_files_of_a_type_may_be_several_and_packed(tmp_path: Path) -> None:
    files: Dict[str, List[Any]] = {
        "Patient.000": [patient("a")],
        "2.Patient": ["", patient("b", birthDate="9")],
        "Condition_1": [condition("c", "b")],
        "Condition.000": [condition("d", "a", "1")],
        "MyCondition": ["x"],
    }
    folder = export(tmp_path / "export", **files)
    packed = json.dumps(condition("e", "a")).encode() + b"\n"
    (folder / "1.Condition.ndjson.gz").write_bytes(gzip.compress(packed))
    path = described(tmp_path / "w.toml", [ID, DIABETIC], folder=folder.name)
    assert table_of(path)[1:] == [["b", "1"], ["a", "1"]]
    (folder / "1.Condition.ndjson.gz").write_bytes(gzip.compress(packed)[:-9])
    with pytest.raises(DataError, match=r"1\.Condition\.ndjson\.gz: cannot be unpacked after line \d.*cut off"):
        table_of(path)
    (folder / "1.Condition.ndjson.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"1\.Condition\.ndjson\.gz: cannot be unpacked"):
        table_of(path)


def test_a_line_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir_folder, "MOST_LINE", 1 << 16)
    folder = export(tmp_path / "export", Patient=[patient("a")])
    (folder / "Condition.ndjson.gz").write_bytes(gzip.compress(b"\n" + bytes(1 << 24)))
    with pytest.raises(DataError, match=r"export/Condition\.ndjson\.gz:2: a line of more than"):
        table_of(described(tmp_path / "w.toml", [DIABETIC], folder=folder.name))


def test_a_type_without_a_file(tmp_path: Path) -> None:
    folder = export(tmp_path / "export", Patient=[patient("a")])
    path = described(tmp_path / "w.toml", [DIABETIC], folder=folder.name)
    with pytest.raises(DataError, match=r"export: no Condition\.ndjson; it has Patient\.ndjson\. Export Condition too"):
        table_of(path)
    export(folder, Condition=[])
    assert table_of(path)[1:] == [["0"]]


def both_refuse(path: Path, why: str) -> None:
    """What reads a table's rows, and what a node does."""
    with pytest.raises(DataError, match=why):
        table_of(path)
    with pytest.raises(DataError, match=why):
        load_dataset(path, Schema("table", "diabetes", ("no", "yes"), {"0": 0, "1": 1}, (Feature("age", 0, 120),)))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    both_refuse(described(tmp_path / "w.toml", [AGE], folder="exprot"), "exprot: no such folder; `folder` names")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "Patient.ndjson").write_text("")
    both_refuse(
        described(tmp_path / "w.toml", [AGE], folder="Patient.ndjson"), "Patient.ndjson: a file; `folder` names"
    )


@pytest.mark.parametrize("failure", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: OSError) -> None:
    path = described(tmp_path / "w.toml", [AGE], folder="export")
    export(tmp_path / "export", Patient=[patient("a", birthDate="1960")])

    def denied(folder: Path) -> Any:
        raise failure

    monkeypatch.setattr(Path, "iterdir", denied)
    both_refuse(path, rf"export: cannot be listed \({failure.strerror}\)")


def test_a_file_that_vanishes_while_the_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = described(tmp_path / "w.toml", [AGE], folder="export")
    folder = export(tmp_path / "export", Patient=[patient("a", birthDate="1960")])
    monkeypatch.setattr(fhir_folder, "files_of", lambda *_: [folder / "Gone.ndjson"])
    with pytest.raises(DataError, match=r"Gone\.ndjson: No such file or directory"):
        table_of(path)
