"""A bulk export of FHIR resources as a table: a row a patient, as plain Python counts it; whatever does not fit is named."""

import datetime
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
    PERSON,
    Resource,
    coded,
    condition,
    described,
    export,
    measured,
    observation,
    one_value,
    patient,
    quantity,
    table_of,
    whole,
)
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.data.dataset import load_dataset
from orchestrator.data.described import is_live, versions_of
from orchestrator.data.sources import fhir_columns, fhir_reading
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


@examples(150)
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
