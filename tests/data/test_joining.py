"""A description makes columns of other tables with any number of rows a patient: what pandas counts, in every format."""

import datetime
import logging
import tracemalloc
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from descriptions import describe
from joined_tables import (
    LABS,
    MADE,
    PATIENTS,
    SCHEMA,
    Table,
    day,
    described,
    drawn,
    joined,
    refused,
    table_of,
    written,
)

from orchestrator.data.dataset import load_dataset
from orchestrator.data.described import versions_of
from orchestrator.data.sources.registry import service_tables
from orchestrator.errors import DataError


def by_pandas(people: Table, labs: Table) -> Any:
    """A frame with a row a patient and a column for each of MADE."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    patients = pandas.DataFrame(people, columns=PATIENTS)
    rows = pandas.DataFrame(labs, columns=LABS).merge(patients, left_on="fall", right_on="case")
    rows["at"] = pandas.to_datetime(rows["sampled"], format="ISO8601")
    days = (rows["at"].dt.normalize() - pandas.to_datetime(rows["admission"])).dt.days
    made = patients.set_index("case")
    chosen = rows[rows["code"].isin(["CRP", "CRP2"]) & rows["value"].notna()].sort_values(["at", "value"])
    within = {"ever": chosen, "before": chosen[days[chosen.index].between(-30, 0)]}
    known = made["admission"].notna()
    for name, found in within.items():
        groups = found.groupby("case")["value"]
        for take, how in (
            ("first", "first"),
            ("last", "last"),
            ("mean", "mean"),
            ("minimum", "min"),
            ("maximum", "max"),
        ):
            made[f"{take}_{name}"] = getattr(groups, how)().astype(float)
        made[f"count_{name}"] = groups.size().reindex(made.index).fillna(0)
    made["any_ever"] = rows[rows["code"] == "CRP"].groupby("case").size().reindex(made.index).gt(0).astype(float)
    urgent = rows[days.between(-30, 0) & (rows["urgent"] == 1)].groupby("case").size()
    made["any_before"] = urgent.reindex(made.index).gt(0).astype(float)
    made["rows"] = rows.groupby("case").size().reindex(made.index).fillna(0)
    made.loc[~known, ["count_before", "any_before"]] = np.nan
    return made[list(MADE)]


@pytest.mark.parametrize("seed", range(4))
def test_every_take_is_what_pandas_counts(tmp_path: Path, seed: int) -> None:
    people, labs = drawn(seed)
    found = load_dataset(joined(tmp_path, people, labs), SCHEMA, gaps=True)
    expected = by_pandas(people, labs).to_numpy(float)
    assert 0 < np.isnan(expected).sum() < expected.size / 2
    np.testing.assert_allclose(found.x[:, 2:], expected, rtol=1e-14)
    assert found.y.tolist() == [row[3] for row in people]


ANN, BOB = ["ann", "f", "2026-03-31", 1], ["bob", "m", "2026-03-01", 0]
LAB = ["ann", "2026-03-31", "CRP", 5, 0]


def test_a_patient_without_rows_has_no_value_but_a_count(tmp_path: Path) -> None:
    ann, bob = table_of(joined(tmp_path, [ANN, BOB], [LAB, ["bob", "2026-03-02", "CRP", 7, 1]]))
    assert (ann["last_before"], ann["count_before"], bob["last_ever"]) == ("5", "1", "7")
    assert {take: bob[f"{take}_before"] for take in ("first", "last", "mean", "minimum", "maximum")} == dict.fromkeys(
        ("first", "last", "mean", "minimum", "maximum"), ""
    )
    assert (bob["count_before"], bob["any_before"], bob["any_ever"]) == ("0", "0", "1")
    (nobody,) = table_of(joined(tmp_path, [["cy", "m", None, 0]], [["cy", "2026-03-02", "CRP", 7, 1]]))
    assert (nobody["count_before"], nobody["any_before"], nobody["count_ever"]) == ("", "", "1"), "no day to count from"


@pytest.mark.parametrize(("offset", "counts"), [(-31, 0), (-30, 1), (-1, 1), (0, 1), (1, 0)])
def test_both_ends_of_a_window_are_in_it_whatever_the_time_of_day(tmp_path: Path, offset: int, counts: int) -> None:
    at = (datetime.date(2026, 3, 31) + datetime.timedelta(days=offset)).isoformat()
    for time in ("", "T00:00", " 23:59:59.999", "T12:00Z", "T23:30+02:00"):
        (found,) = table_of(joined(tmp_path, [ANN], [["ann", at + time, "CRP", 5, 0]]))
        assert found["count_before"] == str(counts), time


def test_of_one_moment_the_greater_value_is_the_later_and_offsets_from_utc_count(tmp_path: Path) -> None:
    rows = [["ann", "2026-03-01", "CRP", value, 0] for value in (9, 10, 2)]
    for order in (rows, rows[::-1]):
        (found,) = table_of(joined(tmp_path, [ANN], order))
        assert (found["first_ever"], found["last_ever"]) == ("2", "10")
    rows = [
        ["ann", f"2026-03-01T{at}", "CRP", value, 0] for at, value in (("10:30+02:00", 1), ("09:00Z", 2), ("08:00", 0))
    ]
    (found,) = table_of(joined(tmp_path, [ANN], rows))
    assert (found["first_ever"], found["last_ever"]) == ("0", "2")


def test_an_offset_in_a_written_date_counts(tmp_path: Path) -> None:
    rows = [
        ["ann", f"01.03.2026 {at}", "CRP", value, 0]
        for at, value in (("10:30+0200", 1), ("09:00+0000", 2), ("23:59-0800", 3))
    ]
    joined(tmp_path, [ANN], rows)
    events = {"file": "labs.csv", "date": "%d.%m.%Y %H:%M%z"}
    (found,) = table_of(described(tmp_path, {"file": "patients.csv"}, events))
    assert (found["first_ever"], found["last_ever"], found["count_before"]) == ("1", "3", "3")


def test_without_a_date_the_order_of_the_file_counts(tmp_path: Path) -> None:
    written(tmp_path / "labs.csv", LABS, [["ann", "?", "CRP", value, 0] for value in (9, 10, 2)])
    written(tmp_path / "patients.csv", PATIENTS, [ANN])
    made = {take: {"table": "labs", "take": take, "column": "value"} for take in ("first", "last")}
    tables = {"labs": {"key": "fall", "file": "labs.csv"}}
    path = describe(tmp_path, {"file": "patients.csv"}, rows={"patient": "case"}, tables=tables, columns=made)
    (found,) = table_of(path)
    assert (found["first"], found["last"]) == ("9", "2")


def test_formulas_use_columns_of_all_tables(tmp_path: Path) -> None:
    made = {
        "last": {"table": "labs", "take": "last", "column": "value", "unit": "mg/dL", "to": "mg/L"},
        "first": {"table": "labs", "take": "first", "column": "sampled", "where": {"value": ["7.0", "9"]}},
        "n": {"table": "labs", "take": "count", "column": "urgent", "missing": ["0"]},
        "came": {"column": "admission"},
        "wait": {"formula": "days(came, first)"},
        "much": {"formula": "(last > 50) * wait"},
    }
    rows = [
        ["ann", "2026-03-01T08:00", "CRP", 7.0, 0],
        ["ann", "2026-03-20", "CRP", 6, 1],
        ["bob", "2026-02-27", "LDH", 9, 1],
    ]
    ann, bob = table_of(joined(tmp_path, [ANN, BOB], rows, made))
    assert (ann["last"], ann["first"], ann["n"]) == ("60.0", "2026-03-01T08:00", "1")
    assert (ann["wait"], ann["much"]) == ("30", "30")
    assert (bob["last"], bob["wait"], bob["much"]) == ("90.0", "2", "2")


def test_rows_of_nobody_in_the_patients_table_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shared.csv").write_text("case\nbob\n")
    labs = [LAB, ["x", "2026-03-01", "CRP", 1, 1], ["y", "soon", "CRP", "much", 1], ["x", "2026-03-02", "CRP", 1, 1]]
    path = joined(tmp_path, [ANN, BOB], [*labs, ["bob", "soon", "CRP", 9, 0]], rows={"leave_out": "shared.csv"})
    with caplog.at_level(logging.INFO):
        assert [row["case"] for row in table_of(path)] == ["ann"]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [
        f"{tmp_path / 'labs.csv'}: left out: 3 rows of 2 keys that the patients' table does not have (column 'fall')"
    ], "who is left out is no stranger"
    assert versions_of(path) == [path, *(tmp_path / name for name in ("patients.csv", "shared.csv", "labs.csv"))]


def test_a_value_that_no_row_has_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = {"n": {"table": "labs", "take": "count", "where": {"code": ["crp"]}}}
    table_of(joined(tmp_path, [ANN], [LAB], made))
    assert "no patient's row has what `where` of columns.n asks for" in caplog.text


def test_one_row_a_patient_is_joined(tmp_path: Path) -> None:
    twice = [["ann", "f", "2026-01-01", 0], BOB, ANN]
    said = refused(joined(tmp_path, twice, [LAB]))
    assert "patients.csv:4: column 'case': 'ann' has row 2 already" in said
    assert "`keep` in [rows]" in said
    rows = table_of(joined(tmp_path, twice, [LAB], rows={"keep": "last"}))
    assert [(row["case"], row["count_before"]) for row in rows] == [("ann", "1"), ("bob", "0")]
    spaces = [["ann ", "f", "2026-01-01", 0], ANN]
    assert ":3: column 'case': 'ann' has row 2 already" in refused(joined(tmp_path, spaces, [LAB]))


WRONG: Dict[str, Tuple[List[Any], str]] = {
    "a date": (
        ["ann", "31.03.2026", "CRP", 5, 0],
        "labs.csv:3: column 'sampled': '31.03.2026' is not a date as 2026-11-27",
    ),
    "a day that is none": (
        ["ann", "2026-02-30", "CRP", 5, 0],
        "labs.csv:3: column 'sampled': '2026-02-30' is not a date",
    ),
    "an hour that is none": (
        ["ann", "2026-03-01T24:01", "CRP", 5, 0],
        "labs.csv:3: column 'sampled': '2026-03-01T24:01'",
    ),
    "no date": (["ann", None, "CRP", 5, 0], "labs.csv:3: column 'sampled': empty; 'first_ever' goes by it: fill it in"),
    "no number": (
        ["ann", "2026-03-01", "CRP", "5.5 mg", 0],
        "labs.csv:3: column 'mean_ever': '5.5 mg' is not a number, so there is no mean: write the number without its",
    ),
    "an infinite one": (
        ["ann", "2026-03-01", "CRP", "1e999", 0],
        "labs.csv:3: column 'maximum_ever': '1e999' is not a number",
    ),
    "no truth": (
        ["ann", "2026-03-31", "LDH", 5, "ja"],
        "labs.csv:3: column 'any_before': 'ja' is neither 1, true nor 0, false",
    ),
    "nobody": (["", "2026-03-31", "CRP", 5, 0], "labs.csv:3: column 'fall': empty; every record must say whose it is"),
    "a marker of nobody": (["NA", "2026-03-31", "CRP", 5, 0], "labs.csv:3: column 'fall': 'NA' stands for no value"),
    "half a row": (["ann", "2026-03-31"], "labs.csv:3: 2 values, expected 5"),
    "an open quote": (['"ann', "2026-03-31", "CRP", 5, 0], "labs.csv:3: not CSV"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_row_is_said_by_its_own_file_row_and_column(tmp_path: Path, what: str) -> None:
    row, said = WRONG[what]
    assert said in refused(joined(tmp_path, [ANN, BOB], [LAB, row]))


def test_problems_of_all_tables_are_listed_together(tmp_path: Path) -> None:
    people = [["ann", "f", "31.3.2026", 1], BOB, BOB]
    labs = [["ann", "2026-03-01", "CRP", "?!", 0], ["bob", "gestern", "CRP", 1, 1]]
    said = refused(joined(tmp_path, people, labs)).splitlines()
    assert said[0].endswith("patients.csv: 6 problems:")
    assert said[1].startswith(
        "  patients.csv:2: column 'admission': '31.3.2026' is not a date as 2026-11-27; `date` of its column"
    )
    assert said[2].startswith("  patients.csv:4: column 'case': 'bob' has row 3 already")
    assert said[-1].startswith("  labs.csv:3: column 'sampled': 'gestern'")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labs": {"key": "falll"}}, "tables.labs: key: no column 'falll', did you mean 'fall'?; the table has fall,"),
        ({"labs": {"when": "sample"}}, "tables.labs: when: no column 'sample', did you mean 'sampled'?; the table has fall,"),
        ({"labs": {"file": "lab.csv"}}, "lab.csv: No such file"),
        ({"labs": {"file": ""}}, "either `file`, or of the PostgreSQL server"),
        ({"labs": {"table": "labs"}}, "either `file`, or of the PostgreSQL server"),
        ({"labs": {"file": "", "table": "labs", "delimiter": ";"}}, "delimiter, encoding: of a text in `file`"),
        ({"labs": {"file": "", "query_file": "q", "encoding": "latin-1"}}, "delimiter, encoding: of a text in `file`"),
        ({"labs": {"file": "", "table": "labs"}}, 'tables.labs: table: of a server; [source] has kind = "postgresql" then'),
        ({"labs": {"key": ""}}, "key: empty; it names the column that says whose a row is"),
        ({"labs": {"date": "%d.%m"}}, "names no day"),
        ({"labs": {"when": "", "date": "%d.%m.%Y"}}, "date: `when` names the column that is written so"),
        ({"labs": {"when": ""}, "n": {"days": [0, 1], "anchor": "admission"}}, "days: [tables.labs] says with `when` which"),
        ({"labs": {"delimiter": ";;"}}, "delimiter ';;': expected one character"),
        ({"rows": {"patient": ""}}, "tables: [rows] patient is needed"),
        ({"n": {"table": "lab"}}, "columns.n: table 'lab': there is no [tables.lab], did you mean 'labs'?"),
        ({"n": {"table": ""}}, "take: of rows in another table; `table` says which"),
        ({"n": {"take": "newest"}}, "take 'newest': expected one of first, last, mean, minimum, maximum, count, any"),
        ({"n": {"take": ""}}, "take '': expected one of"),
        ({"n": {"take": "mean"}}, "columns.n: column: no column 'n'; the table has fall,"),
        ({"n": {"missing": ["0"]}}, "missing: of the cells of a column; `column` says which"),
        ({"n": {"take": "mean", "column": "sampled", "date": "%Y%m%d"}}, "date: of a date there is no mean"),
        ({"n": {"where": {"code": []}}}, "where: a column without a value that it may have"),
        ({"n": {"where": {"code": "CRP"}}}, "is not a list"),
        ({"n": {"where": {"codes": ["CRP"]}}}, "columns.n: where: no column 'codes', did you mean 'code'?; the table has fall,"),
        ({"n": {"days": [0, 1]}}, "anchor and days: one is given without the other"),
        ({"n": {"anchor": "admission"}}, "anchor and days: one is given without the other"),
        ({"n": {"anchor": "admision", "days": [0, 1]}}, "anchor: no column 'admision', did you mean 'admission'?"),
        ({"n": {"anchor": "n", "days": [0, 1]}}, "anchor: no column 'n'; the table has case, sex, admission, dead"),
        ({"n": {"anchor": "admission", "days": [1, 0]}}, "days [1, 0]: expected the first and the last that count"),
        ({"n": {"anchor": "admission", "days": [30]}}, "days [30]: expected the first and the last"),
        ({"n": {"anchor": "admission", "days": [-10**9, 0]}}, "100,000 at most"),
        ({"n": {"formula": "1"}}, "formula: stands alone, without table"),
        ({"more": {"visits": {"key": "fall", "file": "labs.csv"}}}, "tables.visits: no column is made of it"),
        ({"f": {"formula": "n + admision"}}, "columns.f: formula: no column 'admision', did you mean 'admission'?"),
        ({"s": {"column": "sex"}, "f": {"formula": "n + sex"}}, "'sex' is the table's own name of a column that"),
    ],
)  # fmt: skip
def test_a_wrong_description_says_what_to_change(tmp_path: Path, change: Dict[str, Any], said: str) -> None:
    n = {"table": "labs", "take": "count", **change.get("n", {})}
    written(tmp_path / "patients.csv", PATIENTS, [ANN])
    written(tmp_path / "labs.csv", LABS, [LAB])
    labs = {"key": "fall", "when": "sampled", "file": "labs.csv", **change.get("labs", {})}
    path = describe(
        tmp_path,
        {"file": "patients.csv"},
        rows={"patient": "case", **change.get("rows", {})},
        tables={"labs": labs, **change.get("more", {})},
        columns={"n": n, **{name: change[name] for name in ("s", "f") if name in change}},
    )
    found = refused(path)
    assert said in found
    assert "ward.toml" in found or "lab.csv" in said


def test_first_and_last_of_a_server_need_a_date(tmp_path: Path) -> None:
    made = {"x": {"table": "labs", "take": "last", "column": "value"}}
    source = {"kind": "postgresql", "database": "d", "table": "p"}
    said = refused(described(tmp_path, source, {"table": "labs", "when": ""}, made))
    assert "columns.x: take 'last': a server's rows have no order" in said


@pytest.mark.parametrize("kind", ["omop", "fhir", "wfdb", "sybase"])
def test_tables_are_of_a_server_that_has_several(tmp_path: Path, kind: str) -> None:
    made = {"x": {"table": "labs", "take": "count"}}
    said = refused(described(tmp_path, {"kind": kind}, {"table": "labs"}, made))
    assert 'tables.labs: table: of a server; [source] has kind = "postgresql" then' in said
    with pytest.raises(DataError, match=r"w\.toml: tables\.labs: a source of kind 'fhir' has no tables but its own"):
        next(service_tables(tmp_path / "w.toml", {"kind": "fhir"}, {"labs": {"table": "labs"}}))


def test_what_is_kept_of_events_does_not_grow_with_their_number(tmp_path: Path) -> None:
    people, peaks = [[f"p{number}", "f", "2026-03-31", 0] for number in range(50)], []
    for rows in (3_000, 6_000):
        labs = [[f"p{n % 50}", day(n % 90), "CRP", n % 97 / 7, n % 2] for n in range(rows)]
        path = joined(tmp_path, people, labs, {name: MADE[name] for name in ("last_ever", "mean_before")})
        tracemalloc.start()
        table_of(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 50_000, "of 3,000 rows more"


def test_a_change_of_the_joined_table_is_a_change_of_the_data(tmp_path: Path) -> None:
    people, labs = drawn(3)
    digest = load_dataset(joined(tmp_path, people, labs), SCHEMA, gaps=True).digest()
    assert load_dataset(joined(tmp_path, people, labs[::-1]), SCHEMA, gaps=True).digest() == digest
    case, at = people[0][0], "2026-01-01"
    more = [*labs, [case, at, "CRP", 1000, 0]]
    assert load_dataset(joined(tmp_path, people, more), SCHEMA, gaps=True).digest() != digest
