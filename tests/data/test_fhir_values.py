"""Values of FHIR resources as cells: units, codes, components; one that cannot be read is named, none is guessed."""

from pathlib import Path
from typing import Any, Dict

import pytest
from fhir_samples import (
    LOINC,
    PRESSURE,
    SYSTOLIC,
    UCUM,
    coded,
    measured,
    one_value,
    quantity,
)

from orchestrator.errors import DataError

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
