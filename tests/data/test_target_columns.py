"""Columns of targets that are numbers, as a node reads them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from orchestrator.data.cells import UNLABELLED
from orchestrator.data.dataset import clamped_columns, load_dataset
from orchestrator.data.mock import mock_rows, write_signals
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.targets.number import CODES

NUMBER = {"kind": "number", "minimum": 0, "maximum": 40}
TABLE = Schema("table", "stay", (), {}, (Feature("age", 0, 100),), target=NUMBER)
SIGNAL = Schema("signal", "stay", (), {}, samples=4, target=NUMBER)


def written(folder: Path, text: str) -> Path:
    path = folder / "data.csv"
    path.write_text(text)
    return path


def test_numbers_become_codes_and_what_is_beyond_is_clamped_and_counted(tmp_path: Path) -> None:
    data = load_dataset(written(tmp_path, "stay,age\n10,50\n 40 ,60\n-3,1\n1e3,2\n2.5e1,3\n"), TABLE)
    assert data.y.tolist() == [CODES // 4, CODES, 0, CODES, CODES * 5 // 8]
    assert data.y.dtype == np.int32
    assert data.clamped == (("stay", 2),)
    (share, said), *_ = clamped_columns(data, TABLE)
    assert share == 0.4
    assert "column 'stay': 2 of 5 values (40.00%) are beyond the task's range 0 to 40" in said


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("long", r"data.csv:3: column 'stay': 'long' is not a number"),
        ("inf", r"data.csv:3: column 'stay': 'inf' is not a finite number"),
        ("", r"data.csv:3: column 'stay' is missing \(''\)"),
    ],
)
def test_what_is_no_number_is_named_with_its_line(tmp_path: Path, cell: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_dataset(written(tmp_path, f"stay,age\n1,50\n{cell},60\n"), TABLE)


def test_new_rows_need_no_label(tmp_path: Path) -> None:
    assert load_dataset(written(tmp_path, "age\n50\n"), TABLE, unlabelled=True).y.tolist() == [UNLABELLED]
    some = written(tmp_path, "age,stay\n50,\n60,10\n")
    assert load_dataset(some, TABLE, unlabelled=True).y.tolist() == [UNLABELLED, CODES // 4]
    with pytest.raises(DataError, match="no column 'stay'"):
        load_dataset(written(tmp_path, "age\n50\n"), TABLE)


def test_signals_have_numbers_too(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros((2, 4)), stay=np.array([10.0, 20.0]))
    assert load_dataset(path, SIGNAL).y.tolist() == [CODES // 4, CODES // 2]
    np.savez(path, x=np.zeros((2, 4)), stay=np.array([10.0, np.nan]))
    with pytest.raises(DataError, match="record 1 of stay: 'nan' is not a finite number"):
        load_dataset(path, SIGNAL)


def test_mock_rows_fit(tmp_path: Path) -> None:
    rows: List[List[str]] = list(mock_rows(TABLE, 30, seed=0))
    data = load_dataset(written(tmp_path, "\n".join(map(",".join, rows)) + "\n"), TABLE)
    assert len(set(data.y.tolist())) == 30
    assert data.clamped == ()
    write_signals(SIGNAL, tmp_path / "mock.npz", 5, seed=0)
    assert load_dataset(tmp_path / "mock.npz", SIGNAL).records == 5


def test_a_label_changes_the_digest(tmp_path: Path) -> None:
    digests: Any = {load_dataset(written(tmp_path, f"stay,age\n{stay},50\n"), TABLE).digest() for stay in (1, 1.001)}
    assert len(digests) == 2


LABELS = Schema("table", "", (), {}, (Feature("age", 0, 100),), target={"kind": "labels", "columns": ["fever", "rash"]})
COUNT = Schema("table", "visits", (), {}, (Feature("age", 0, 100),), target={"kind": "count", "maximum": 9})
NONE = Schema("table", "", (), {}, (Feature("age", 0, 100),), target={"kind": "none"})


def test_a_column_for_each_label(tmp_path: Path) -> None:
    assert load_dataset(written(tmp_path, "rash,age,fever\n1,50,0\n0,60,1\n1,3,1.0\n"), LABELS).y.tolist() == [2, 1, 3]
    with pytest.raises(DataError, match=r"data.csv:2: column 'fever': '2', '1': a label is 1 where"):
        load_dataset(written(tmp_path, "rash,age,fever\n1,50,2\n"), LABELS)
    with pytest.raises(DataError, match=r"data.csv:2: column 'rash' is missing"):
        load_dataset(written(tmp_path, "rash,age,fever\n,50,1\n"), LABELS)
    with pytest.raises(DataError, match=r"data.csv:2: column 'rash': 'yes' is not a number"):
        load_dataset(written(tmp_path, "rash,age,fever\nyes,50,1\n"), LABELS)
    with pytest.raises(DataError, match="no column 'rash'"):
        load_dataset(written(tmp_path, "age,fever\n50,1\n"), LABELS)
    assert load_dataset(written(tmp_path, "age,fever\n50,1\n"), LABELS, unlabelled=True).y.tolist() == [UNLABELLED]


def test_counts_are_whole(tmp_path: Path) -> None:
    data = load_dataset(written(tmp_path, "visits,age\n0,50\n12,60\n3.0,3\n"), COUNT)
    assert (data.y.tolist(), data.clamped) == ([0, 9, 3], (("visits", 1),))
    with pytest.raises(DataError, match=r"data.csv:2: column 'visits': '2.5': not a count"):
        load_dataset(written(tmp_path, "visits,age\n2.5,50\n"), COUNT)


def test_nothing_to_learn_takes_no_column(tmp_path: Path) -> None:
    assert load_dataset(written(tmp_path, "age\n50\n"), NONE).y.tolist() == [UNLABELLED]


TIME = replace(COUNT, target={"kind": "time-to-event", "event": "died", "ends": [1, 2]})


def test_a_time_has_its_event_beside_it(tmp_path: Path) -> None:
    assert load_dataset(written(tmp_path, "died,visits,age\n1,1.5,50\n0,1.5,50\n1,7,50\n"), TIME).y.tolist() == [
        4,
        1,
        2,
    ]
    with pytest.raises(DataError, match=r"data.csv:2: column 'visits': '-1', '1': a time is 0 or more"):
        load_dataset(written(tmp_path, "died,visits,age\n1,-1,50\n"), TIME)


@pytest.mark.parametrize("schema", [LABELS, COUNT, NONE, TIME])
def test_mock_rows_fit_every_target(tmp_path: Path, schema: Schema) -> None:
    rows = list(mock_rows(schema, 20, seed=0))
    assert load_dataset(written(tmp_path, "\n".join(map(",".join, rows)) + "\n"), schema).records == 20
