"""A description leads from a hospital's own table to the task's columns; what cannot be led there is named by row and column."""

import math
from dataclasses import replace
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.data.described import read_description, versions_of
from orchestrator.data.formula import Formula, FormulaError
from orchestrator.data.table import every_row
from orchestrator.data.units import conversion
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

SCHEMA = Schema(
    "table",
    "dead",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (Feature("age", 0, 120), Feature("sex", categories=("f", "m")), Feature("glucose", 0, 50), Feature("bmi", 5, 100)),
    patient="patient",
)
PLAIN = """patient,age,sex,glucose,bmi,dead
p1,63,f,5.550744687937,25,1
p2,41,m,11.101489375874,20,0
p3,80,f,2.7753723439685,31.25,0
"""
EXPORT = """Fallnr;geboren;Geschlecht;Glukose;kg;cm;gestorben
p1;27.11.1963;2;100;64;160;1
p2;01.01.1985;1;200;80,0;200;0
p3;15.06.1946;2;50;80;160;0
"""
WARD = """[source]
file = "export.csv"
delimiter = ";"

[columns.patient]
column = "Fallnr"
[columns.born]
column = "geboren"
date = "%d.%m.%Y"
[columns.age]
formula = "floor(years(today, born))"
[columns.sex]
column = "Geschlecht"
recode = { "1" = "m", "2" = "f" }
[columns.glucose]
column = "Glukose"
unit = "mg/dL"
to = "mmol/L"
substance = "glucose"
missing = ["-9"]
[columns.kg]
decimal_comma = true
[columns.bmi]
formula = "kg / ((cm / 100) * (cm / 100))"
[columns.dead]
column = "gestorben"
"""


def dated(export: str) -> str:
    """With today's date in each row."""
    lines = export.splitlines()
    return "\n".join([lines[0] + ";today", *(line + ";2026-11-27" for line in lines[1:])]) + "\n"


DATED = dated(EXPORT)


def ward(folder: Path, export: str = EXPORT, description: str = WARD, encoding: str = "utf-8") -> Path:
    (folder / "export.csv").write_text(dated(export), encoding=encoding)
    (folder / "ward.toml").write_text(description)
    return folder / "ward.toml"


def same(one: Dataset, other: Dataset) -> bool:
    patients = one.patients is not None and other.patients is not None and np.array_equal(one.patients, other.patients)
    return bool(np.allclose(one.x, other.x, rtol=1e-6) and np.array_equal(one.y, other.y) and patients)


def refused(path: Path, schema: Schema = SCHEMA) -> str:
    with pytest.raises(DataError) as raised:
        load_dataset(path, schema)
    return str(raised.value)


def test_another_hospitals_table_becomes_the_same_records(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text(PLAIN)
    described = load_dataset(ward(tmp_path), SCHEMA)
    assert same(described, load_dataset(tmp_path / "plain.csv", SCHEMA))
    assert described.places is not None
    assert described.places.tolist() == [2, 3, 4], "lines of the hospital's own file"


def test_a_formula_uses_what_another_one_computes(tmp_path: Path) -> None:
    """In an order that docs/data.md promises: those above."""
    more = '\n[columns.double]\nformula = "bmi * 2"\n[columns.heavy]\nformula = "double + age > 60"\n'
    names, *rows = [cells for _, cells in every_row(ward(tmp_path, description=WARD + more))]
    for row in rows:
        made = dict(zip(names, row))
        double = 2 * float(made["bmi"])
        assert float(made["double"]) == double
        assert made["heavy"] == str(int(double + float(made["age"]) > 60))
    below = WARD.replace("[columns.bmi]", '[columns.double]\nformula = "bmi * 2"\n[columns.bmi]')
    assert "columns.double: formula: 'bmi' is not above it" in refused(ward(tmp_path, description=below))


@pytest.mark.parametrize(
    ("written", "to", "usual"),
    [
        ("mmol/l", "mg/dl", ("mmol/L", "mg/dL")),
        ("\u03bcmol/L", "\u00b5mol/l", ("umol/L", "umol/L")),
        ("ml", "\u03bcl", ("mL", "uL")),
        ("mm[Hg]", "kPa", ("mmHg", "kPa")),
        ("[degF]", "degC", ("degF", "Cel")),
        ("[lb_av]", "kg", ("lb", "kg")),
    ],
)
def test_units_have_several_spellings(written: str, to: str, usual: Tuple[str, str]) -> None:
    substance = "glucose" if "mg/dl" in (written, to) else ""
    assert conversion(written, to, substance) == conversion(*usual, substance)


def test_latin_1_where_it_is_declared(tmp_path: Path) -> None:
    export = EXPORT.replace("p1;", "Müller;")
    description = WARD.replace('delimiter = ";"', 'delimiter = ";"\nencoding = "latin-1"')
    assert load_dataset(ward(tmp_path, export, description, "latin-1"), SCHEMA).records == 3
    assert "not UTF-8" in refused(ward(tmp_path, export, WARD, "latin-1"))


@pytest.mark.parametrize(
    ("encoding", "content", "why"),
    [
        ("utf-16", DATED.encode("utf-16-le"), "does not start with BOM; name the right `encoding`, perhaps utf-16-le"),
        ("utf-16", DATED.encode("utf-16-be"), "does not start with BOM; name the right `encoding`, perhaps utf-16-be"),
        ("utf-16", DATED.encode("utf-16")[:-1], "it ends inside a character; is it cut off?"),
        ("utf-16", b"\xff", "it ends inside a character"),
        ("utf-16-le", DATED.encode("utf-16-le") + b"\x00\xdc\x00\x00", ":5: not utf-16-le text"),
        ("utf-32", DATED.encode("utf-16"), "name the right `encoding`"),
        ("undefined", DATED.encode(), "name the right `encoding`"),
        ("utf-8", DATED.encode() + b"\xff\n", ":5: not utf-8 text"),
    ],
)
def test_text_that_is_not_of_the_declared_encoding(tmp_path: Path, encoding: str, content: bytes, why: str) -> None:
    path = ward(tmp_path, description=WARD.replace('delimiter = ";"', f'delimiter = ";"\nencoding = "{encoding}"'))
    (tmp_path / "export.csv").write_bytes(content)
    said = refused(path)
    assert why in said
    assert str(tmp_path / "export.csv") in said


@pytest.mark.parametrize(
    ("cells", "where"),
    [
        (("p2;01.01.1985;1", "p2;01.01.1985;3"), ":3: column 'sex': '3' is not in `recode` (1, 2)"),
        (("01.01.1985", "1985-01-01"), ":3: column 'born': '1985-01-01' is not a date as %d.%m.%Y"),
        (("p2;01.01.1985;1;200", "p2;01.01.1985;1;hoch"), ":3: column 'glucose': 'hoch' is not a number"),
        (("80,0;200", "80.0;200"), ":3: column 'kg': '80.0' has a point, and decimal_comma is set"),
        (("80,0;200", "80,0;0"), ":3: column 'bmi': 'kg / ((cm / 100) * (cm / 100))' has no value"),
        (("80,0;200;0", "80,0;200"), ":3: 7 values, expected 8"),
        (("p2;01.01.1985;1;200", "p2;01.01.1985;1;-9"), ":3: column 'glucose' is missing"),
        (
            ("p2;01.01.1985;1;200", "p2;01.01.1985;1;n/a"),
            ":3: column 'glucose': 'n/a'; if it stands for no value, list it",
        ),
    ],
)
def test_what_cannot_be_mapped_is_named(tmp_path: Path, cells: "tuple[str, str]", where: str) -> None:
    said = refused(ward(tmp_path, EXPORT.replace(*cells)))
    assert f"export.csv{where}" in said


def test_many_wrong_rows_are_listed_at_once(tmp_path: Path) -> None:
    rows = "".join(f"q{n};27.11.1963;{n};100;64;160;1\n" for n in range(3, 40))
    said = refused(ward(tmp_path, EXPORT + rows))
    assert "37 problems, the first 20" in said
    assert ":5: column 'sex': '3'" in said


def test_all_columns_that_the_table_lacks_are_named(tmp_path: Path) -> None:
    found = refused(ward(tmp_path, EXPORT.replace("Geschlecht", "sex").replace("gestorben", "tot")))
    assert (
        "columns.sex: no column 'Geschlecht'; columns.dead: no column 'gestorben', did you mean 'geboren'?; the table has"
        in found
    )


def test_a_description_of_no_text_has_no_delimiter_and_no_encoding(tmp_path: Path) -> None:
    """They would be read by nobody, and who wrote them believes otherwise."""
    (tmp_path / "t.jsonl").write_text('{"age": 1}\n')
    for said in ('delimiter = ";"', 'encoding = "latin-1"'):
        path = tmp_path / "ward.toml"
        path.write_text(f'[source]\nfile = "t.jsonl"\n{said}\n')
        assert f"t.jsonl: no text of separated values; the description's {said.split()[0]} would" in refused(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ('column = "Geschlecht"', 'column = "Geschlect"'),
            "columns.sex: no column 'Geschlect', did you mean 'Geschlecht'?; the table has Fallnr, geboren,",
        ),
        (("(cm / 100) * (cm", "(zm / 100) * (cm"), "columns.bmi: formula: no column 'zm'"),
        (('to = "mmol/L"', 'to = "mol"'), "columns[glucose].unit 'mol': unknown"),
        (('to = "mmol/L"\nsubstance = "glucose"', 'to = "mmol/L"'), "needs `substance`"),
        (('to = "mmol/L"', 'to = "kg"'), "there is no way from one to the other"),
        (('date = "%d.%m.%Y"', 'date = "%d.%m"'), "names no day"),
        (("kg / (", "open('x') / ("), "is not a date as 2026-11-27, the only text in a formula"),
        (("kg / (", "open(kg) / ("), "no function 'open'"),
        (("kg / (", "kg.real / ("), "holds something else than numbers, dates"),
        (("kg / (", "kg ** ("), "holds something else than numbers, dates"),
        (("recode = {", "recodes = {"), "recodes: unknown"),
        (('delimiter = ";"', 'delimiter = ";;"'), "expected one character"),
        (("bmi]\n", 'bmi]\nmissing = ["-9"]\n'), "columns[bmi].formula: stands alone, without missing"),
        (("bmi]\n", 'bmi]\nsubstance = "urea"\n'), "formula: stands alone, without substance"),
        (("bmi]\n", 'bmi]\ntake = "last"\ndays = [0, 1]\n'), "formula: stands alone, without take, days"),
        (('unit = "mg/dL"\nto = "mmol/L"\n', ""), "substance: belongs to `unit` and `to`"),
        (('to = "mmol/L"', 'to = "g/L"'), "substance: from mg/dL to g/L none is asked for"),
        (('date = "%d.%m.%Y"', 'date = "%d.%m.%Y"\ndecimal_comma = true'), "decimal_comma: of numbers"),
        (('delimiter = ";"', 'encoding = "latin-99"'), "encoding 'latin-99': unknown"),
        (('file = "export.csv"', 'file = "other.toml"'), "names another description"),
        (('file = "export.csv"', ""), "source: either `file`"),
        (('file = "export.csv"\ndelimiter = ";"', 'kind = "sybase"'), "source.kind 'sybase': unknown"),
        (
            ("[columns.dead]", '[rows]\nkeep = "newest"\n[columns.dead]'),
            "keep 'newest': expected of all, first, last, mean",
        ),
        (("[columns.dead]", '[rows]\nkeep = "last"\n[columns.dead]'), "needs patient"),
    ],
)
def test_a_wrong_description_says_what_to_change(tmp_path: Path, change: "tuple[str, str]", said: str) -> None:
    assert change[0] in WARD
    found = refused(ward(tmp_path, description=WARD.replace(*change)))
    assert said in found
    assert "ward.toml" in found


VISITS = """patient,visit,age,sex,glucose,bmi,dead
a,2026-03-01,60,f,5,20,0
b,2026-01-01,50,m,7,30,1
a,2026-02-01,59,f,9,22,0
a,2026-04-01,60,f,7,24,0
"""
VISITS_OF = """[source]
file = "visits.csv"
[rows]
patient = "patient"
keep = "{keep}"
{order}
"""


@pytest.mark.parametrize(
    ("keep", "order", "glucose"),
    [
        ("all", "", [5, 7, 9, 7]),
        ("first", "", [5, 7]),
        ("last", "", [7, 7]),
        ("first", 'order = "visit"', [9, 7]),
        ("last", 'order = "visit"', [7, 7]),
        ("first", 'order = "age"', [9, 7]),
    ],
)
def test_one_row_a_patient(tmp_path: Path, keep: str, order: str, glucose: List[float]) -> None:
    (tmp_path / "visits.csv").write_text(VISITS)
    path = tmp_path / "visits.toml"
    path.write_text(VISITS_OF.format(keep=keep, order=order))
    assert load_dataset(path, SCHEMA).x[:, 3].tolist() == glucose


def test_means_are_of_what_is_there_and_only_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text(
        VISITS.replace("a,2026-02-01,59,f,9", "a,2026-03-01,59,f,").replace("04-01", "03-01")
    )
    path = tmp_path / "visits.toml"
    path.write_text(VISITS_OF.format(keep="mean", order=""))
    found = load_dataset(path, SCHEMA)
    assert found.x[0].tolist() == pytest.approx([(60 + 59 + 60) / 3, 1, 0, 6, 22])
    (tmp_path / "visits.csv").write_text(VISITS)
    assert ":2: column 'visit': differs between the rows of one patient" in refused(path)


def test_a_row_of_nobody_is_no_patient(tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text(VISITS.replace("b,2026", ",2026"))
    path = tmp_path / "visits.toml"
    path.write_text(VISITS_OF.format(keep="last", order=""))
    assert ":3: column 'patient': empty; every record must say whose it is: fill it in" in refused(path)


def test_both_files_are_the_data(tmp_path: Path) -> None:
    path = ward(tmp_path)
    assert versions_of(path) == [path, tmp_path / "export.csv"]
    assert versions_of(tmp_path / "export.csv") == [tmp_path / "export.csv"]
    assert read_description(path).file == tmp_path / "export.csv"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + b * 2", 7),
        ("-a + 4", 3),
        ("(a < b) + (a >= b)", 1),
        ("min(a, b, 0.5) + max(a, b)", 3.5),
        ("log(exp(b)) + log10(100) + sqrt(4) + abs(-1) + floor(1.9)", 9),
        ("days('2025-03-01', d)", 59),
        ("years(d, e) * 365.25", 366),
        ("gap + 1", None),
    ],
)
def test_formulas(text: str, value: float) -> None:
    row = {"a": "1", "b": "3", "d": "2025-01-01T10:00", "e": "2024-01-01", "gap": ""}
    if value is None:
        assert Formula(text).value(row) is None
    else:
        assert math.isclose(Formula(text).value(row) or 0.0, value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a b",
            "a; b",
            "x = 1",
            "lambda: 1",
            "[a]",
            "a if a else b",
            "a and b",
            "not a",
            "a ** 9",
            "a % b",
            "a // b",
        ),
        *(
            "f'{a}'",
            "True",
            "1j",
            "1e999",
            "a < b < a",
            "min(a)",
            "open(a)",
            "a.b",
            "a()",
            "a[0]",
            "min(*a)",
            "log(x=a)",
        ),
        *("+" * 499 + "1", "(" * 250 + "1" + ")" * 250, "(a:=1)", "__import__('os')", "9" * 501),
    ],
)
def test_other_things_are_no_formulas(text: str) -> None:
    with pytest.raises(ValueError, match="formula"):
        Formula(text)


@pytest.mark.parametrize(
    "text", ["a / 0", "log(0)", "sqrt(-1)", "exp(1000)", "exp(700) * exp(700)", "a + t", "days(a, a)"]
)
def test_a_formula_without_a_value_says_so(text: str) -> None:
    with pytest.raises(FormulaError):
        Formula(text).value({"a": "1", "t": "text"})


@pytest.mark.parametrize(
    ("unit", "to", "substance", "value", "expected"),
    [
        ("mg/dL", "mmol/L", "glucose", 90.078, 5.0),
        ("mmol/L", "mg/dL", "cholesterol", 5.0, 193.332),
        ("umol/L", "mg/dL", "creatinine", 88.4017, 1.0),
        ("degF", "Cel", "", 98.6, 37.0),
        ("°C", "K", "", 0.0, 273.15),
        ("lb", "kg", "", 100.0, 45.359237),
        ("in", "cm", "", 10.0, 25.4),
        ("mmHg", "kPa", "", 120.0, 15.99869),
        ("a", "d", "", 2.0, 730.5),
        ("%", "1", "", 45.0, 0.45),
        ("g/dL", "g/L", "", 13.5, 135.0),
    ],
)
def test_units(unit: str, to: str, substance: str, value: float, expected: float) -> None:
    a, b = conversion(unit, to, substance)
    assert a * value + b == pytest.approx(expected, rel=1e-5)
    c, d = conversion(to, unit, substance)
    assert c * expected + d == pytest.approx(value, rel=1e-5)


def test_label_values_the_wrong_way_round_get_a_hint(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text(PLAIN)
    said = refused(tmp_path / "plain.csv", replace(SCHEMA, label_values={"no": 0, "yes": 1}))
    assert (
        'label_values has the names of the classes where the values of the file belong: write { "1" = 1, ... }' in said
    )
