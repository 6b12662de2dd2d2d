"""A bulk export of FHIR resources as a table: a row a patient, as plain Python counts it; whatever does not fit is named."""

import datetime
import gzip
import json
import logging
import random
import statistics
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from fhir_samples import (
    AGE,
    DIABETES,
    DIABETIC,
    HBA1C,
    ID,
    LOINC,
    PRESSURE,
    SYSTOLIC,
    UCUM,
    Resource,
    coded,
    condition,
    described,
    export,
    measured,
    observation,
    patient,
    quantity,
    table_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.data.dataset import load_dataset
from orchestrator.data.described import is_live, versions_of
from orchestrator.data.sources import fhir_columns, fhir_folder, fhir_reading, fhir_values
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

SCHEMA = Schema(
    "table",
    "diabetes",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (Feature("age", 0, 120), Feature("hba1c", 2, 20)),
    drop_missing=True,
    patient="patient",
)
DAY = datetime.date(2026, 11, 27)


def resources(path: Path) -> List[Resource]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def birthdays(born: datetime.date) -> int:
    """How many there were by DAY, counted one by one."""
    return sum(
        (year, born.month, born.day) <= (DAY.year, DAY.month, DAY.day) for year in range(born.year + 1, DAY.year + 1)
    )


def test_age_and_diabetes_of_a_real_export_are_what_plain_python_counts(
    tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    folder = shared_data("fhir-synthea")
    given_out = Counter(
        (each["subject"]["reference"], code["code"])
        for each in resources(folder / "MedicationRequest.ndjson")
        for code in each["medicationCodeableConcept"]["coding"]
    )
    drug = given_out.most_common(1)[0][0][1]
    request = {"name": "requests", "from": "MedicationRequest", "code": drug, "take": "count"}
    path = described(tmp_path / "ward.toml", [ID, AGE, DIABETIC, request], folder=str(folder))
    diabetic = {
        each["subject"]["reference"]
        for each in resources(folder / "Condition.ndjson")
        if any(code["code"] == DIABETES for code in each["code"]["coding"])
    }
    assert diabetic
    assert table_of(path)[1:] == [
        [
            each["id"],
            str(birthdays(datetime.date.fromisoformat(each["birthDate"]))),
            str(int(f"Patient/{each['id']}" in diabetic)),
            str(given_out[f"Patient/{each['id']}", drug]),
        ]
        for each in resources(folder / "Patient.ndjson")
    ]


def test_the_same_table_as_csv_and_as_resources_is_the_same_dataset(tmp_path: Path) -> None:
    draw = random.Random(5)
    patients, conditions, observations, lines = [], [], [], ["patient,age,hba1c,diabetes"]
    for number in range(120):
        age, value, ill = draw.randint(0, 99), draw.uniform(3, 15), draw.random() < 0.3
        missing = draw.random() < 0.1
        born = f"{2026 - age}-{draw.randint(1, 11):02d}-05"
        patients.append(patient(f"p{number}", birthDate=born))
        conditions += [condition(f"c{number}", f"p{number}")] if ill else []
        observations += [] if missing else [observation(f"o{number}", f"p{number}", valueQuantity=quantity(value))]
        lines.append(f"p{number},{age},{'' if missing else repr(value)},{int(ill)}")
    draw.shuffle(observations)
    folder = export(tmp_path / "export", Patient=patients, Condition=conditions, Observation=observations)
    path = described(tmp_path / "w.toml", [ID, AGE, DIABETIC, measured("value", unit="%")], folder=folder.name)
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    one, other = load_dataset(path, SCHEMA), load_dataset(tmp_path / "t.csv", SCHEMA)
    assert one.patients is not None
    assert other.patients is not None
    assert one.x.tobytes() == other.x.tobytes()
    assert one.y.tobytes() == other.y.tobytes()
    assert one.patients.tobytes() == other.patients.tobytes()
    assert one.dropped == other.dropped > 0


def test_what_is_made_of_several_values(tmp_path: Path) -> None:
    draw = random.Random(3)
    made: Dict[str, List[Any]] = {f"p{number}": [] for number in range(9)}
    observations = []
    for number in range(300):
        name = f"p{draw.randint(0, 7)}"
        at = datetime.datetime(2026, 1, 1) + datetime.timedelta(minutes=30 * draw.randint(0, 8))
        ahead = draw.randint(-12, 12)
        local = at + datetime.timedelta(hours=ahead)
        written = f"{local.isoformat()}{'-' if ahead < 0 else '+'}{abs(ahead):02d}:00"
        value = draw.uniform(3, 15)
        made[name].append((at, f"o{number:03d}", value))
        observations.append(observation(f"o{number:03d}", name, written, valueQuantity=quantity(value)))
    folder = export(tmp_path / "export", Patient=[patient(name) for name in made], Observation=observations)
    columns = [
        {**measured(take, **({"unit": "%"} if take in ("first", "last", "mean") else {})), "name": take}
        for take in ("any", "count", "first", "last", "mean")
    ]
    path = described(tmp_path / "w.toml", columns, folder=folder.name)
    rows = table_of(path)[1:]
    for row, each in zip(rows, made.values()):
        values = [value for _, _, value in each]
        assert row[:2] == [str(int(bool(each))), str(len(each))]
        assert row[2:] == (
            [repr(min(each)[2]), repr(max(each)[2]), repr(statistics.mean(values))] if each else [""] * 3
        )
    shuffled = draw.sample(observations, len(observations))
    export(tmp_path / "export", Observation=shuffled)
    assert table_of(path)[1:] == rows, "the order of resources is not the order of events"


def one_value(tmp_path: Path, column: Dict[str, Any], *said: Dict[str, Any]) -> str:
    """The cell of the only patient, whose observations say so."""
    observations = [
        observation(f"o{number}", "a", f"2026-01-0{number + 1}", **each) for number, each in enumerate(said)
    ]
    folder = export(tmp_path / "export", Patient=[patient("a")], Observation=observations)
    return table_of(described(tmp_path / "w.toml", [column], folder=folder.name))[1][0]


GLUCOSE = {"value": 180.156, "unit": "mg per dL", "system": UCUM, "code": "mg/dL"}


@pytest.mark.parametrize(
    ("column", "said", "cell"),
    [
        (measured("value", unit="%"), {"valueQuantity": quantity(6.5)}, "6.5"),
        (measured("value", unit="%"), {"valueQuantity": {"value": 7, "unit": "%"}}, "7"),
        (measured("value"), {"valueQuantity": {"value": 7}}, "7"),
        (measured("value", unit="mg/dL"), {"valueQuantity": GLUCOSE}, "180.156"),
        (
            measured("value", unit="g/dL", other_units=["mg/dL"]),
            {"valueQuantity": {"value": 250, "unit": "mg/dL"}},
            "0.25",
        ),
        (measured("value", unit="%"), {"valueQuantity": {"unit": "%"}}, ""),
        (measured("value", unit="%"), {"dataAbsentReason": coded("unknown")}, ""),
        (measured("value", unit="%", bounds="limit"), {"valueQuantity": {**quantity(5), "comparator": "<"}}, "5"),
        (measured("value", unit="%", bounds="leave out"), {"valueQuantity": {**quantity(5), "comparator": "<"}}, ""),
        (measured("value"), {"valueInteger": 3}, "3"),
        (measured("mean"), {"valueInteger": 3}, "3"),
        (measured("value"), {"valueBoolean": False}, "false"),
        (measured("value"), {"valueString": " AB Rh+ "}, "AB Rh+"),
        (measured("value"), {"valueCodeableConcept": coded("266919005")}, "266919005"),
        (
            measured("value", value_system="http://b"),
            {
                "valueCodeableConcept": {
                    "coding": [{"system": "http://a", "code": "1"}, {"system": "http://b", "code": "2"}]
                }
            },
            "2",
        ),
        (measured("any"), {"valueRatio": {}}, "1"),
        (measured("value", system="http://other"), {"valueInteger": 3}, ""),
        ({**measured("value"), "code": "x", "codes": []}, {"valueInteger": 3}, ""),
    ],
)
def test_a_value(tmp_path: Path, column: Dict[str, Any], said: Dict[str, Any], cell: str) -> None:
    assert one_value(tmp_path, column, said) == cell


def test_a_value_in_another_unit_is_converted_where_that_is_declared(tmp_path: Path) -> None:
    column = measured("mean", unit="mmol/L", other_units=["mg/dL"], substance="glucose")
    got = one_value(tmp_path, column, {"valueQuantity": GLUCOSE}, {"valueQuantity": quantity(20, "mmol/L")})
    assert float(got) == pytest.approx(15.0, rel=1e-12)  # 180.156 mg/dL are 10 mmol/L


@pytest.mark.parametrize(
    ("column", "said", "why"),
    [
        (measured("last", unit="%"), quantity(48, "mmol/mol"), "unit 'mmol/mol', expected '%'; no conversion is known"),
        (
            measured("last", unit="mmol/L", substance="glucose"),
            quantity(90, "mg/dL"),
            r"unit 'mg/dL', expected 'mmol/L'; other_units = \[\"mg/dL\"\] converts such values",
        ),
        (measured("last", unit="%"), {"value": 6}, "has no unit, expected '%'"),
        (measured("last"), quantity(6), "has unit '%', and the column declares none; set unit = \"%\" if it is right"),
        (
            measured("last", unit="%"),
            {**quantity(5), "comparator": "<"},
            r"is a bound \(< 5\), no value; set bounds = \"limit\"",
        ),
        (measured("last", unit="%"), quantity("6.5"), "valueQuantity.value is no finite number"),
        (measured("last", unit="%"), quantity(True), "valueQuantity.value is no finite number"),
        (measured("last", unit="%"), quantity(10**400), "valueQuantity.value is no finite number"),
        # The code of UCUM says what the unit is, not the text beside it.
        (
            measured("last", unit="mg/dL"),
            {**GLUCOSE, "unit": "mg/dL", "code": "mmol/L"},
            "unit 'mmol/L', expected 'mg/dL'",
        ),
    ],
)
def test_a_quantity_that_is_not_what_the_column_declares(tmp_path: Path, column: Any, said: Any, why: str) -> None:
    with pytest.raises(DataError, match=rf"/export/Observation\.ndjson:1: column 'hba1c': {why}"):
        one_value(tmp_path, column, {"valueQuantity": said})


@pytest.mark.parametrize(
    ("column", "said", "why"),
    [
        (measured("last"), {"valueRatio": {}}, "has valueRatio, which is not read"),
        (measured("last", unit="%"), {"valueInteger": 3}, "has valueInteger, which has no unit"),
        (measured("mean"), {"valueString": "3"}, "has valueString, which is no number, so there is no mean"),
        (measured("last"), {"valueString": "a", "valueInteger": 3}, "has valueString and valueInteger"),
        (
            measured("last"),
            {"valueCodeableConcept": {"coding": [{"system": "http://a", "code": "1"}, {"code": "2"}]}},
            "has a code in several systems .*set value_system",
        ),
        (measured("last"), {"valueInteger": 3, "effectiveDateTime": None}, "has no date"),
        (
            measured("last"),
            {"valueInteger": 3, "effectiveDateTime": "2.1.2026"},
            "'2.1.2026' is not a date as 2026-11-27",
        ),
        (measured("last"), {"valueInteger": 3, "effectiveDateTime": "2026-02-30"}, "day is out of range"),
    ],
)
def test_a_value_that_is_not_read(tmp_path: Path, column: Any, said: Any, why: str) -> None:
    with pytest.raises(DataError, match=rf"Observation\.ndjson:1: column 'hba1c': .*{why}"):
        one_value(tmp_path, column, said)


def test_one_value_is_not_chosen_among_several(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"Observation\.ndjson:2: column 'hba1c': is the patient's second value; take first"
    ):
        one_value(tmp_path, measured("value"), {"valueInteger": 3}, {"valueInteger": 3})


def test_a_component_of_an_observation(tmp_path: Path) -> None:
    parts = [
        {"code": coded("8462-4", LOINC), "valueQuantity": quantity(70, "mm[Hg]")},
        {"code": coded(SYSTOLIC, LOINC), "valueQuantity": quantity(121, "mm[Hg]")},
    ]
    column = {**measured("last", unit="mm[Hg]"), "code": PRESSURE, "component": SYSTOLIC}
    said = {"code": coded(PRESSURE, LOINC), "component": parts}
    assert one_value(tmp_path, column, said) == "121"
    with pytest.raises(DataError, match=rf"has component '{SYSTOLIC}' twice"):
        one_value(tmp_path, column, {**said, "component": parts + parts})


def whole(tmp_path: Path, **files: List[Any]) -> List[List[str]]:
    folder = export(tmp_path / "export", **files)
    return table_of(described(tmp_path / "w.toml", [ID, DIABETIC], folder=folder.name))[1:]


def test_what_is_not_so_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    statuses = ("entered-in-error", "refuted", "confirmed", "provisional")
    conditions = [
        condition(f"c{number}", f"p{number}", verificationStatus=coded(status, "http://x"))
        for number, status in enumerate(statuses)
    ]
    rows = whole(tmp_path, Patient=[patient(f"p{number}") for number in range(4)], Condition=conditions)
    assert rows == [["p0", "0"], ["p1", "0"], ["p2", "1"], ["p3", "1"]]
    assert "export: left out: 2 Condition entered in error, refuted or not done" in caplog.text
    wrong = {"status": "entered-in-error", "valueInteger": 9}
    assert one_value(tmp_path, measured("last"), {"valueInteger": 3}, wrong) == "3"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Procedure", {"status": "not-done"}),
        ("Immunization", {"status": "not-done"}),
        ("MedicationStatement", {"status": "not-taken"}),
        ("MedicationAdministration", {"status": "entered-in-error"}),
        ("MedicationRequest", {"status": "active", "doNotPerform": True}),
        ("AllergyIntolerance", {"verificationStatus": coded("refuted")}),
        ("DiagnosticReport", {"status": "cancelled"}),
    ],
)
def test_each_type_has_its_own_fields(tmp_path: Path, kind: str, said: Dict[str, Any]) -> None:
    of = fhir_columns.KINDS[kind]
    base = {"resourceType": kind, of.concept: coded("7"), of.subject: {"reference": "Patient/a"}}
    files = {"Patient": [patient("a")], kind: [{**base, "id": "x"}, {**base, "id": "y"}, {**base, "id": "z", **said}]}
    folder = export(tmp_path / "export", **files)
    column = {"name": "n", "from": kind, "codes": ["8", "7"], "take": "count"}
    assert table_of(described(tmp_path / "w.toml", [column], folder=folder.name))[1] == ["2"]


@pytest.mark.parametrize(
    "medication", [{"medicationReference": {"reference": "x"}}, {"medication": {"concept": coded("7")}}]
)
def test_a_medication_that_is_named_otherwise(tmp_path: Path, medication: Dict[str, Any]) -> None:
    said = {"resourceType": "MedicationRequest", "id": "m", "subject": {"reference": "Patient/a"}, **medication}
    folder = export(tmp_path / "export", Patient=[patient("a")], MedicationRequest=[said])
    column = {"name": "n", "from": "MedicationRequest", "code": "7", "take": "count"}
    with pytest.raises(
        DataError, match=r"MedicationRequest\.ndjson:1: names its medication otherwise than by medicationCodeable"
    ):
        table_of(described(tmp_path / "w.toml", [column], folder=folder.name))


def test_resources_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir_reading, "MOST", 3)
    people = [patient(f"p{number}") for number in range(3)]
    assert len(whole(tmp_path, Patient=people, Condition=[condition(f"c{number}", "p0") for number in range(3)])) == 3
    with pytest.raises(DataError, match="export: more than 3 of type Condition, as many as a node uses"):
        whole(tmp_path, Condition=[condition(f"c{number}", "p0") for number in range(4)])
    with pytest.raises(DataError, match="export: more than 3 of type Patient"):
        whole(tmp_path, Patient=[*people, patient("p3")])


@pytest.mark.parametrize("reference", ["Patient/a", "urn:uuid:a", "Patient/a/_history/3"])
def test_a_reference(tmp_path: Path, reference: str) -> None:
    said = condition("c", "a", subject={"reference": reference})
    assert whole(tmp_path, Patient=[patient("a"), patient("b")], Condition=[said]) == [["a", "1"], ["b", "0"]]


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ({"reference": "Patient/b"}, "subject: there is no Patient 'b'; export both at the same time"),
        (
            {"reference": "https://other/Patient/a"},
            "'https://other/Patient/a' names no patient here; expected Patient/ID",
        ),
        ({"reference": "#a"}, "'#a' names no patient here"),
        ({"identifier": {"value": "a"}}, "'' names no patient here"),
        ("Patient/a", "subject is no object"),
        ({"reference": ["Patient/a"]}, "subject.reference is no text"),
    ],
)
def test_a_reference_to_nobody(tmp_path: Path, subject: Any, why: str) -> None:
    said = [condition("c", "a"), condition("d", "a", subject=subject)]
    with pytest.raises(DataError, match=rf"/export/Condition\.ndjson:2: .*{why}"):
        whole(tmp_path, Patient=[patient("a")], Condition=said)


def test_what_is_about_no_patient_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    said = condition("c", "a", subject={"reference": "Group/a"})
    assert whole(tmp_path, Patient=[patient("a")], Condition=[said]) == [["a", "0"]]
    assert "1 Condition of no patient" in caplog.text


def test_a_patient_who_is_recorded_twice_is_one(tmp_path: Path) -> None:
    link = [{"type": "replaced-by", "other": {"reference": "Patient/new"}}]
    rows = whole(tmp_path, Patient=[patient("old", link=link), patient("new")], Condition=[condition("c", "old")])
    assert rows == [["new", "1"]]


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
    folder = export(
        tmp_path / "export", **{"Patient.000": [patient("a")], "2.Patient": ["", patient("b", birthDate="9")]}
    )
    export(
        folder,
        **{"Condition_1": [condition("c", "b")], "Condition.000": [condition("d", "a", "1")], "MyCondition": ["x"]},
    )
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


def test_what_does_not_fit_the_schema_is_said_by_the_line_of_the_patient(tmp_path: Path) -> None:
    folder = export(tmp_path / "export", Patient=[patient("a", gender="male"), "", patient("b", gender="other")])
    path = described(tmp_path / "w.toml", [{"name": "sex", "from": "Patient", "path": "gender"}], folder=folder.name)
    schema = Schema("table", "", (), {}, (Feature("sex", categories=("male", "female")),))
    with pytest.raises(DataError, match=r"w\.toml: .*export/Patient\.ndjson:3: column 'sex': 'other'"):
        load_dataset(path, schema)


MISTAKES: Dict[str, Any] = {
    "both": ({"folder": "x", "server": "https://h"}, [AGE], "folder or server: one of the two"),
    "neither": ({}, [AGE], "folder or server: one of the two"),
    "a token for a folder": ({"folder": "x", "token": "t"}, [AGE], "belong to a server"),
    "pages of a folder": (
        {"folder": "x", "page_size": 9, "pages": 3, "timeout_s": 1.0},
        [AGE],
        "page_size, pages, timeout_s: belong to a server, and `folder` has none",
    ),
    "authorities of http": ({"server": "http://localhost", "ca_file": "ca"}, [AGE], "ca_file: belongs to https"),
    "plain https": ({"server": "https://h", "plain_http": True}, [AGE], "plain_http: belongs to http"),
    "a system of numbers": (
        {"folder": "x"},
        [measured("last", unit="%", value_system="s")],
        "value_system: of values that are codes",
    ),
    "no columns": ({"folder": "x"}, [], "columns.*is missing"),
    "http": ({"server": "http://fhir.example/r4"}, [AGE], "http shows patients' data to the network; use https"),
    "a user": ({"server": "https://me:secret@h/r4"}, [AGE], "expected an address without a user"),
    "a question": ({"server": "https://h/r4?x=1"}, [AGE], "expected an address without a user"),
    "ftp": ({"server": "ftp://h/r4"}, [AGE], "expected an address such as https"),
    "a port": ({"server": "https://h:99999/r4"}, [AGE], "Port out of range"),
    "pages": ({"server": "https://h", "pages": 0}, [AGE], "pages: 0, expected 1 to"),
    "twice": ({"folder": "x"}, [AGE, AGE], "columns: 'age' occurs twice"),
    "a slip": ({"folder": "x", "foldr": "y"}, [AGE], "foldr: unknown, did you mean 'folder'"),
    "a type": (
        {"folder": "x"},
        [{**DIABETIC, "from": "Conditions"}],
        "from 'Conditions'.*did you mean 'Condition'",
    ),
    "no type": ({"folder": "x"}, [{"name": "a"}], r"columns\[0\].*'?from'? is missing"),
    "a path": ({"folder": "x"}, [{**ID, "path": "birthdate"}], "path 'birthdate'.*did you mean 'birthDate'"),
    "no day": ({"folder": "x"}, [{**AGE, "at": "now"}], "at 'now': path 'age' needs a day"),
    "a day too many": ({"folder": "x"}, [{**ID, "at": "2026-01-01"}], "at: belongs to path 'age'"),
    "a patient that is counted": ({"folder": "x"}, [{**ID, "take": "any"}], "take: does not go with from = 'Patient'"),
    "a unit of a condition": (
        {"folder": "x"},
        [{**DIABETIC, "unit": "%"}],
        "unit: does not go with from = 'Condition'",
    ),
    "a part of a count": (
        {"folder": "x"},
        [measured("any", component="1")],
        "component: does not go with take = 'any'",
    ),
    "a path of a condition": (
        {"folder": "x"},
        [{**DIABETIC, "path": "id"}],
        "path: does not go with from = 'Condition'",
    ),
    "no code": ({"folder": "x"}, [{**DIABETIC, "code": ""}], "code: one code, or several"),
    "no take": (
        {"folder": "x"},
        [{"name": "d", "from": "Condition", "code": "1"}],
        "take '': expected one of any, count",
    ),
    "a value of a condition": ({"folder": "x"}, [{**DIABETIC, "take": "last"}], "take 'last': needs a value"),
    "a unit of a count": ({"folder": "x"}, [measured("count", unit="%")], "unit: does not go with take = 'count'"),
    "units": (
        {"folder": "x"},
        [measured("last", unit="%", other_units=["kg"])],
        "other_units: .*no way from one to the other",
    ),
    "an unknown key": (
        {"folder": "x"},
        [{**DIABETIC, "sytem": "y"}],
        r"columns\[0\]\.sytem: unknown, did you mean 'system'",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_a_description_is_said_of_it(tmp_path: Path, what: str) -> None:
    source, columns, why = MISTAKES[what]
    with pytest.raises(DataError, match=rf"(?s)w\.toml: source:.*{why}"):
        table_of(described(tmp_path / "w.toml", columns, **source))


def test_a_table_is_no_signal(tmp_path: Path) -> None:
    path = described(tmp_path / "w.toml", [AGE], folder="x")
    schema = Schema("signal", "y", ("a", "b"), {"0": 0, "1": 1}, samples=4)
    with pytest.raises(DataError, match="source.kind 'fhir' holds rows of a table, and the task's records are signals"):
        load_dataset(path, schema)


def test_a_changed_export_is_another_version(tmp_path: Path) -> None:
    folder = export(tmp_path / "export", Patient=[], Condition=[])
    path = described(tmp_path / "w.toml", [AGE], folder=folder.name)
    assert versions_of(path) == [path, folder / "Condition.ndjson", folder / "Patient.ndjson"]
    assert versions_of(described(path, [AGE], server="https://h", token="t")) == [path, tmp_path / "t"]


def test_a_server_s_data_may_change_unseen_and_a_folder_s_may_not(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    assert is_live(described(path, [AGE], server="https://h"))
    assert not is_live(described(path, [AGE], folder="export"))
    assert is_live(described(path, [], "postgresql", database="d", table="t"))
    assert not is_live(described(path, [], "wfdb", folder="f"))
    assert not is_live(described(path, [], "sybase", folder="f"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "Patient/a", "1960", "%", "final"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["coding", "code", "value"]), inner, max_size=2)
    ),
    max_leaves=4,
)
WHOLE = [
    {**PERSON, "link": [{"type": "seealso", "other": {"reference": "Patient/b"}}]},
    condition("c", "a", verificationStatus=coded("confirmed")),
    observation("o", "a", valueQuantity=quantity(6.5), component=[{"code": coded(HBA1C, LOINC)}]),
]


@settings(max_examples=150)
@given(st.data())
def test_whatever_stands_in_a_field_is_read_or_refused_by_its_line(tmp_path_factory: Any, data: Any) -> None:
    files = json.loads(json.dumps(WHOLE))
    place = data.draw(st.sampled_from(files))
    for _ in range(data.draw(st.integers(1, 4))):
        inside = place
        while True:
            key = data.draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
            if not isinstance(inside[key], (dict, list)) or not inside[key] or data.draw(st.booleans()):
                break
            inside = inside[key]
        inside[key] = data.draw(JSON)
        if not place:
            break
    folder = tmp_path_factory.mktemp("fuzz")
    export(folder, Patient=files[:1], Condition=files[1:2], Observation=files[2:])
    paths = [{"name": each, "from": "Patient", "path": each} for each in fhir_columns.PATHS if each != "age"]
    part = {**measured("last"), "name": "part", "component": HBA1C}
    columns = [AGE, *paths, DIABETIC, measured("mean", unit="%"), part]
    said = "ndjson:1: "
    try:
        table_of(described(folder / "w.toml", columns, folder="."))
    except DataError as error:
        said = str(error)
    assert "ndjson:1: " in said


def test_columns_of_one_file_are_of_one_patient(tmp_path: Path) -> None:
    """A patient's cells never come from another's resources, in whatever order they are."""
    draw, people = random.Random(8), [f"p{number}" for number in range(40)]
    ill = set(draw.sample(people, 15))
    order = draw.sample(people, 40)
    conditions = [condition(f"c{name}", name) for name in draw.sample(sorted(ill), 15)]
    rows = whole(tmp_path, Patient=[patient(name) for name in order], Condition=conditions)
    assert rows == [[name, str(int(name in ill))] for name in order]
    assert np.sum([row[1] == "1" for row in rows]) == 15
