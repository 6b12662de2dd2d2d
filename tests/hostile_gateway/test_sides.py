"""Attack: one row decides on which side of the split other rows are. Promise: whoever is removed or added, every other record
stays where it was, trained on or held out."""

from pathlib import Path
from typing import Any, List, NamedTuple, Sequence, Set

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import csv_of

from orchestrator.data.dataset import hold_out, load_dataset
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

FEATURES = (Feature("mark", 0.0, 1e6), Feature("x", -1.0, 1.0))
"""`mark` tells rows apart in the data sets that come out, which know no row numbers."""

NAMES = st.one_of(
    st.sampled_from(["a", "b", "c", "A", "0", "00", "-1"]), st.text("abcXYZ019 é字", min_size=1, max_size=5)
)


class Row(NamedTuple):
    mark: int
    x: float
    y: int
    who: str


class Sides(NamedTuple):
    trained: Set[int]
    held: Set[int]


@st.composite
def tables(draw: Any) -> List[Row]:
    """Few patients, so that most have several rows."""
    patients = draw(st.lists(NAMES, min_size=2, max_size=12, unique_by=str.strip))
    whose = draw(st.lists(st.sampled_from(patients), min_size=8, max_size=30))
    return [Row(i + 1, 0.25 * (i % 3), i % 2, who) for i, who in enumerate(whose)]


def sides(folder: Path, rows: Sequence[Row], patient: str, share: float, key: bytes) -> Sides:
    """Through the file, as a node reads it. Where one side would be empty the node takes no part: no rows on either."""
    path = folder / "table.csv"
    path.write_text(csv_of(Row._fields, [(*row[:3], f'"{row.who}"') for row in rows]), encoding="utf-8")
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, FEATURES, patient=patient)
    try:
        trained, held = hold_out(load_dataset(path, schema), share, key)
    except DataError:
        return Sides(set(), set())
    return Sides(*({round(float(v)) for v in side.x[:, 0]} for side in (trained, held)))


@pytest.mark.parametrize("patient", ["", "who"])
@settings(max_examples=15, deadline=None)
@given(rows=tables(), share=st.sampled_from([0.3, 0.5, 0.7]), key=st.binary(min_size=32, max_size=32))
def test_no_row_moves_another(
    tmp_path_factory: pytest.TempPathFactory, rows: List[Row], patient: str, share: float, key: bytes
) -> None:
    """Each row in turn is missing. Whatever unit a task claims: sides do not know it."""
    folder = tmp_path_factory.mktemp("sides")
    full = sides(folder, rows, patient, share, key)
    for i, missing in enumerate(rows):
        less = sides(folder, [*rows[:i], *rows[i + 1 :]], patient, share, key)
        if full.trained and less.trained:
            gone = {missing.mark}
            assert (full.trained - gone, full.held - gone) == (less.trained, less.held)


@settings(max_examples=40, deadline=None)
@given(rows=tables(), key=st.binary(min_size=32, max_size=32), random=st.randoms())
def test_order_decides_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: List[Row], key: bytes, random: Any
) -> None:
    folder = tmp_path_factory.mktemp("order")
    other = list(rows)
    random.shuffle(other)
    assert sides(folder, rows, "who", 0.3, key) == sides(folder, other, "who", 0.3, key)


@settings(max_examples=40, deadline=None)
@given(rows=tables(), key=st.binary(min_size=32, max_size=32))
def test_a_patient_is_on_one_side(tmp_path_factory: pytest.TempPathFactory, rows: List[Row], key: bytes) -> None:
    found = sides(tmp_path_factory.mktemp("patients"), rows, "who", 0.5, key)
    whose = {row.mark: row.who.strip() for row in rows}
    trained, held = ({whose[mark] for mark in side} for side in found)
    assert not trained & held


def test_removing_a_whole_patient_moves_nobody(tmp_path: Path) -> None:
    """Unit patient: all rows of one, wherever they stand in the file."""
    rng = np.random.default_rng(0)
    rows = [Row(i + 1, 0.0, i % 2, f"p{rng.integers(30)}") for i in range(300)]
    key = bytes(range(32))
    full = sides(tmp_path, rows, "who", 0.3, key)
    for gone in {row.who for row in rows}:
        rest = [row for row in rows if row.who != gone]
        left = {row.mark for row in rest}
        assert sides(tmp_path, rest, "who", 0.3, key) == (full.trained & left, full.held & left)
