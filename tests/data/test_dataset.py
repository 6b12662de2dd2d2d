import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.data import table as table_module
from orchestrator.data.dataset import CLAMPED_SHARE, clamped_columns, load_dataset
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

SCHEMA = Schema(
    "table",
    "sick",
    ("no", "yes"),
    {"0": 0, "1": 1},
    (Feature("age", 0, 100), Feature("pain", categories=("1", "2", "?"))),
)
SIGNAL = Schema("signal", "y", ("N", "V"), {"0": 0, "2": 1}, samples=4, unit_scale=2.0)


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "data.csv"
    path.write_text(text)
    return path


def test_a_table_is_encoded_in_schema_order_whatever_the_files_order(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffsick,extra,pain,age\n1,x,2.0,50\n0,y,?,130\n\n")
    data = load_dataset(path, SCHEMA)
    np.testing.assert_array_equal(data.x, np.array([[50, 0, 1, 0], [100, 0, 0, 1]], np.float32))
    assert data.y.tolist() == [1, 0]


def test_a_schema_of_many_categories_makes_no_more_of_a_file_than_a_node_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway chooses how wide a record is: 8 bytes a value, not a Python object, and an end to all of them together."""
    categories = tuple(str(i) for i in range(1000))
    schema = replace(SCHEMA, features=(Feature("pain", categories=categories),))
    path = table(tmp_path, "pain,sick\n" + "7,0\n999,1\n" * 500)
    tracemalloc.start()
    data = load_dataset(path, schema)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.flatnonzero(data.x[:2]).tolist() == [7, 1000 + 999]
    assert peak < 2.7 * 8 * data.x.size + (2 << 20)
    monkeypatch.setattr(table_module, "MOST_VALUES", 999 * 1000)
    with pytest.raises(DataError, match="999 records of 1000 values are as many as a node reads"):
        load_dataset(path, schema)


def test_many_rows_take_what_their_numbers_take(tmp_path: Path) -> None:
    rows, features = 20_000, tuple(Feature(f"f{i}", 0, 10) for i in range(4))
    names = ",".join([*(feature.name for feature in features), "sick"])
    path = table(tmp_path, names + "\n" + "1.5,2.5,3.5,4.5,1\n0.5,1,2,3,0\n" * (rows // 2))
    tracemalloc.start()
    data = load_dataset(path, replace(SCHEMA, features=features))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.x[:2].tolist() == [[1.5, 2.5, 3.5, 4.5], [0.5, 1, 2, 3]]
    assert data.y is not None
    assert data.places is not None
    assert (data.y[:2].tolist(), data.records, data.places.tolist()[-1]) == ([1, 0], rows, rows + 1)
    assert peak < 180 * rows + (1 << 20)  # 57 are read, 16 + 16 float32 made of them; a tuple for each row took 340


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is empty"),
        ("age,pain,sick\n", "no usable record"),
        ("age,sick\n1,0\n", ":1: no column 'pain'.*age, sick"),
        ("age,age,pain,sick\n1,1,1,0\n", ":1: column 'age' occurs twice"),
        ("age,pain,sick\n1,1,0\n2,1\n", ":3: 2 values, expected 3"),
        ("age,pain,sick\n1,1,0\nold,1,0\n", ":3: column 'age': 'old' is not a number"),
        ("age,pain,sick\n1,1,0\nNaN,1,0\n", ":3: column 'age' is missing"),
        ("age,pain,sick\ninf,1,0\n", ":2: column 'age': 'inf' is not a finite"),
        ("age,pain,sick\n,1,0\n", ":2: column 'age' is missing.*drop_missing"),
        ("age,pain,sick\n1,3,0\n", ":2: column 'pain': '3' is not one of 1, 2, ?"),
        ("age,pain,sick\n1,1,2\n", ":2: column 'sick': label '2' is not in the task's schema .known: 0, 1"),
        ('age,pain,sick\n1,"1,0\n', "not CSV"),
    ],
)
def test_a_table_that_does_not_fit_names_file_line_and_column(tmp_path: Path, text: str, reason: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(DataError, match=reason) as caught:
        load_dataset(path, SCHEMA)
    assert str(path) in str(caught.value)


def test_a_missing_value_has_no_logarithm(tmp_path: Path) -> None:
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("crp", 0.5, 500, transform="log"),))
    x = load_dataset(table(tmp_path, "crp,y\n1,0\n,1\nNA,0\n"), schema, gaps=True).x
    np.testing.assert_array_equal(x, [[0.0], [np.nan], [np.nan]])


def test_values_beyond_the_range_are_counted_by_column(tmp_path: Path) -> None:
    schema = Schema(
        "table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("age", 0, 1), Feature("bmi", 10, 60), Feature("z", 0, 9))
    )
    rows = "".join(f"{20 + n},{9 if n == 0 else 25},{n % 9},{n % 2}\n" for n in range(200))
    data = load_dataset(table(tmp_path, "age,bmi,z,y\n" + rows), schema)
    assert data.clamped == (("age", 200), ("bmi", 1))
    assert data.x[:, 0].tolist() == [1.0] * 200
    (worst, text), (share, _) = clamped_columns(data, schema)
    assert (worst, share) == (1.0, 0.005)
    assert text.startswith("column 'age': 200 of 200 values (100.00%) are beyond the task's range 0 to 1")
    assert worst > CLAMPED_SHARE > share
    inside = load_dataset(table(tmp_path, "age,bmi,z,y\n0,60,9,0\n1,10,0,1\n"), schema)
    assert clamped_columns(inside, schema) == [], "the ends of a range are in it"


def test_a_missing_file_names_what_is_there(tmp_path: Path) -> None:
    table(tmp_path, "x")
    with pytest.raises(DataError, match="other.csv: no such file; .* has data.csv"):
        load_dataset(tmp_path / "other.csv", SCHEMA)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(DataError, match="a binary file"):
        load_dataset(path, SCHEMA)


def test_rows_without_a_value_are_dropped_when_the_schema_says_so(tmp_path: Path) -> None:
    schema = Schema(
        "table",
        "y",
        ("a", "b"),
        {"0": 0, "1": 1, "2": 1},
        (Feature("v", 0, 9),),
        columns=("v", "w", "y"),
        drop_missing=True,
    )
    data = load_dataset(table(tmp_path, "1,?,0\n?,1,1\n3,1,2\n"), schema)
    assert data.x.tolist() == [[1.0], [3.0]]
    assert data.y.tolist() == [0, 1]


def write(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def test_a_signal_is_scaled_and_shaped(tmp_path: Path) -> None:
    data = load_dataset(write(tmp_path, x=np.arange(8, dtype=np.int16).reshape(2, 4), y=np.array([0, 2])), SIGNAL)
    assert data.x.shape == (2, 4, 1)
    assert data.x[1, 0, 0] == 2.0
    assert data.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.zeros((2, 4))}, "no array 'y'"),
        ({"x": np.zeros((2, 5)), "y": np.zeros(2)}, r"expected numbers of shape \(records, 4, 1\)"),
        ({"x": np.zeros((2, 4)), "y": np.zeros(3)}, "like x"),
        ({"x": np.full((2, 4), np.nan), "y": np.zeros(2)}, "record 0 of x.*not a finite"),
        ({"x": np.zeros((2, 4)), "y": np.array([0, 1])}, "record 1 of y: label '1' is not in"),
        ({"x": np.array([["a"] * 4] * 2), "y": np.zeros(2)}, "expected numbers"),
        ({"x": np.array([object()], object), "y": np.zeros(1)}, "not a readable"),
    ],
)
def test_a_signal_file_that_does_not_fit(tmp_path: Path, arrays: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_dataset(write(tmp_path, **arrays), SIGNAL)


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = write(tmp_path, x=np.zeros((2, 4)), y=np.zeros(2))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="not a readable .npz"):
        load_dataset(path, SIGNAL)
