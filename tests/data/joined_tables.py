"""Tables of patients and of their laboratory values, drawn, written and described, for tests that join them."""

import datetime
import random
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from descriptions import describe

from orchestrator.data.table import every_row
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

Table = List[List[Any]]


PATIENTS = ["case", "sex", "admission", "dead"]


LABS = ["fall", "sampled", "code", "value", "urgent"]


WINDOW = {"table": "labs", "anchor": "admission", "days": [-30, 0]}


CRP = {"column": "value", "where": {"code": ["CRP", "CRP2"]}}


MADE: Dict[str, Dict[str, Any]] = {
    **{
        f"{take}_{name}": {"take": take, **CRP, **how}
        for take in ("first", "last", "mean", "minimum", "maximum", "count")
        for name, how in (("ever", {"table": "labs"}), ("before", WINDOW))
    },
    "any_ever": {"table": "labs", "take": "any", "where": {"code": ["CRP"]}},
    "any_before": {**WINDOW, "take": "any", "column": "urgent"},
    "rows": {"table": "labs", "take": "count"},
}


SCHEMA = Schema(
    "table",
    "dead",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (
        Feature("sex", categories=("f", "m")),
        *(Feature(name, 0, 1000) for name in MADE),
    ),
    patient="case",
)


def day(number: int) -> str:
    return (datetime.date(2026, 1, 1) + datetime.timedelta(days=number)).isoformat()


def drawn(seed: int, patients: int = 40, labs: int = 400) -> Tuple[Table, Table]:
    """Some patients have no admission, some no lab, some labs no value and some nobody who is a patient; many have one day."""
    draw = random.Random(seed)
    cases = [f"Fäll {number}" for number in range(patients)]
    people = [
        [case, draw.choice("fm"), draw.choice([day(draw.randrange(90)), day(50), None]), draw.choice([0, 1])]
        for case in cases
    ]
    rows = [
        [
            draw.choice([*cases[:-5], "another", "who"]),
            day(draw.randrange(100)) + draw.choice(["", "T08:00:00", "T08:00:00", "T23:59:59"]),
            draw.choice(["CRP", "CRP2", "LDH"]),
            draw.choice([None, 0.1, 2.675, draw.randrange(100), round(draw.uniform(0, 99), 2)]),
            draw.choice([None, 0, 1]),
        ]
        for _ in range(labs)
    ]
    return people, rows


def written(path: Path, names: List[str], rows: Table) -> Path:
    cells = [["" if each is None else str(each) for each in row] for row in rows]
    path.write_text("".join(",".join(row) + "\n" for row in [names, *cells]), encoding="utf-8")
    return path


def joined(folder: Path, people: Table, labs: Table, made: Optional[Dict[str, Any]] = None, **more: Any) -> Path:
    """A description of two CSV files."""
    written(folder / "patients.csv", PATIENTS, people)
    written(folder / "labs.csv", LABS, labs)
    return described(folder, {"file": "patients.csv"}, {"file": "labs.csv"}, made, **more)


def described(folder: Path, source: Dict[str, Any], events: Dict[str, Any], made: Any = None, **more: Any) -> Path:
    return describe(
        folder,
        source,
        rows={"patient": "case", **more.pop("rows", {})},
        tables={"labs": {"key": "fall", "when": "sampled", **events}},
        columns=MADE if made is None else made,
        **more,
    )


def table_of(path: Path) -> List[Dict[str, str]]:
    """What a description makes of its files."""
    rows = [cells for _, cells in every_row(path)]
    return [dict(zip(rows[0], cells)) for cells in rows[1:]]


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        table_of(path)
    return str(caught.value)
