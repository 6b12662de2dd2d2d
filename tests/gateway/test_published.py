"""What is not shown of exact tables, against linear programs that know the margins and all that is shown."""

from typing import Any, Dict, Optional, Tuple

import numpy as np
import pytest

from orchestrator.analyses.base import Analysis, Result, State, Table
from orchestrator.analyses.registry import make
from orchestrator.gateway.published import (
    WORDS,
    hidden_in_line,
    hidden_in_table,
    merged_steps,
    published,
    words_of,
)
from orchestrator.wire.schema import Feature, Schema

SEX, WARD = Feature("sex", categories=("f", "m")), Feature("ward", categories=("a", "b", "c"))
SCHEMA = Schema("table", "", (), {}, (Feature("age", 0, 100), SEX, WARD))
LEAST = 5


def bounds(counts: np.ndarray, hidden: np.ndarray, at: Tuple[int, int]) -> Tuple[float, float]:
    """The least and the most that a hidden cell can be, of one who knows all margins and what is shown."""
    linprog = pytest.importorskip("scipy.optimize", reason="the gateway has SciPy").linprog
    places = [tuple(place) for place in np.argwhere(hidden)]
    sums, left = [], []
    for axis, size in enumerate(counts.shape):
        for line in range(size):
            sums.append([float(place[axis] == line) for place in places])
            left.append(np.where(hidden, counts, 0).take(line, axis=axis).sum())
    goal = np.array([float(place == at) for place in places])
    ends = [linprog(sign * goal, A_eq=sums, b_eq=left, bounds=(0, None)).fun * sign for sign in (1, -1)]
    return ends[0], ends[1]


def tables(count: int) -> "list[np.ndarray]":
    draw = np.random.default_rng(7)
    return [draw.poisson(draw.choice([2, 6, 20]), (draw.integers(2, 6), draw.integers(2, 6))) for _ in range(count)]


def test_a_cell_of_two_with_totals_shown_takes_others_with_it() -> None:
    counts = np.array([[2, 40], [30, 50]])
    hidden = hidden_in_table(counts, LEAST, np.zeros(2), np.zeros(2))
    assert hidden.all(), "three of four cells give the fourth away"
    wide = np.array([[2, 40, 9], [30, 50, 8], [20, 20, 20]])
    hidden = hidden_in_table(wide, LEAST, np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(hidden, [[1, 0, 1], [1, 0, 1], [0, 0, 0]])


def test_no_small_cell_follows_from_margins_and_what_is_shown() -> None:
    """Each may be the minimum, or more, as far as anybody can tell."""
    found = 0
    for counts in tables(40):
        hidden = hidden_in_table(counts, LEAST, np.zeros(len(counts)), np.zeros(counts.shape[1]))
        small = (counts > 0) & (counts < LEAST)
        assert hidden[small].all()
        assert not hidden.any() or small.any()
        if hidden.all():
            continue  # nothing of it is shown
        for i, j in np.argwhere(small):
            low, high = bounds(counts, hidden, (i, j))
            assert low < high
            assert high >= LEAST - 1e-6
            found += 1
    assert found > 20


def test_those_nobody_sees_hide_others_for_nothing() -> None:
    counts = np.array([[2, 40], [30, 50]])
    hidden = hidden_in_table(counts, LEAST, np.array([9, 9]), np.array([9, 9]))
    np.testing.assert_array_equal(hidden, [[True, False], [False, False]])


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ([10, 20, 30], [0, 0, 0]),
        ([3, 20, 10, 0], [1, 0, 1, 0]),
        ([1, 1, 1, 9, 30], [1, 1, 1, 1, 0]),
        ([3, 3, 20], [1, 1, 0]),
        ([4], [1]),
    ],
)
def test_a_small_cell_of_a_line_is_not_the_only_one(counts: Any, hidden: Any) -> None:
    np.testing.assert_array_equal(hidden_in_line(np.array(counts, float), LEAST), np.array(hidden, bool))


def statistics(levels: "list[float]", crosstab: "list[list[float]]") -> Tuple[Analysis, State]:
    """n records without missing values: levels of sex, then those of ward from the crosstab."""
    analysis = make({"kind": "statistics", "bins": 2, "crosstabs": (("sex", "ward"),)}, SCHEMA)
    counts = np.array(crosstab, float)
    n, wards = sum(levels), counts.sum(axis=0)
    total = np.concatenate([[n, 0.0, n / 4, n / 2, n / 2, 0], levels, [0], wards, [0], counts.ravel()])
    assert total.size == analysis.sums.size
    return analysis, {"total": total, "deviation": np.zeros(1)}


def named(result: Result) -> Dict[str, Table]:
    return {table.name: table for table in result.tables}


def test_tables_show_no_small_cells_and_what_is_computed_of_all_stays() -> None:
    analysis, state = statistics([60.0, 60.0], [[30, 28, 2], [20, 20, 20]])
    shown = named(published(analysis, state, "records", LEAST))
    assert shown["crosstab sex x ward"].rows[0][3] is None
    assert sum(cell is None for row in shown["crosstab sex x ward"].rows for cell in row) == 4
    assert shown["columns"] == named(analysis.result(state, "records"))["columns"]
    assert shown["levels sex"].rows == [("f", 60), ("m", 60), ("(missing)", 0)]
    whole = published(analysis, state, "records")
    assert named(whole)["crosstab sex x ward"].rows[0] == ("f", 30, 28, 2)
    assert [note for note in published(analysis, state, "records", LEAST).notes if "cells are not shown" in note]


def test_a_hidden_level_is_hidden_in_crosstabs() -> None:
    """Else the sum of its row would be it."""
    analysis, state = statistics([117.0, 3.0], [[50, 37, 30], [1, 1, 1]])
    shown = named(published(analysis, state, "records", LEAST))
    assert [row[1] for row in shown["levels sex"].rows] == [None, None, 0]
    assert all(cell is None for row in shown["crosstab sex x ward"].rows for cell in row[1:])


def test_tests_are_not_shown_of_cells_that_are_not() -> None:
    pytest.importorskip("scipy", reason="the gateway has it")
    analysis = make({"kind": "compare", "by": "sex"}, SCHEMA)
    total = np.array([60, 1, 20, 0, 30, 28, 2, 0, 60, 1, 20, 0, 20, 20, 20, 0, 0], float)
    state = {"total": total, "deviation": np.zeros(1)}
    tests = {row[0] for row in named(published(analysis, state, "records"))["tests"].rows}
    assert tests == {"age", "ward"}
    assert {row[0] for row in named(published(analysis, state, "records", LEAST))["tests"].rows} == {"age"}


def test_steps_of_few_are_counted_with_later_ones() -> None:
    schema = Schema("table", "", (), {}, (Feature("days", 0, 10), SEX, WARD))
    analysis = make({"kind": "survival", "time": "days", "event": "sex", "by": "ward", "steps": 10}, schema)
    draw = np.random.default_rng(3)
    cells = draw.poisson(1.5, (3, 10, 2)).astype(float)
    cells[2] = 0.0
    cells[2, 4] = 1, 1
    total = np.append(cells.ravel(), 3.0)
    merged = merged_steps(total, analysis.blocks(np.zeros(0)), LEAST)[:-1].reshape(3, 10, 2)
    for group in (0, 1):
        np.testing.assert_array_equal(merged[group].sum(axis=0), cells[group].sum(axis=0))
        assert np.isin(merged[group] >= LEAST, [True]).any()
        assert ((merged[group] == 0) | (merged[group] >= LEAST)).all()
        assert (merged[group].cumsum(axis=0) <= cells[group].cumsum(axis=0)).all(), "none counts before its time"
    assert np.isnan(merged[2]).all(), "a group of two is not shown"
    result = published(analysis, {"total": total, "deviation": np.zeros(1)}, "records", LEAST)
    assert named(result)["survival c"].rows[0][1] is None


def test_noise_is_shown_as_it_is() -> None:
    analysis, state = statistics([117.0, 3.0], [[50, 37, 30], [1, 1, 1]])
    noisy = {**state, "deviation": np.ones(1)}
    assert published(analysis, noisy, "records", LEAST).tables == analysis.result(noisy, "records").tables


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([{}, {"records": 7}], None),
        ([{"left_out": 2}, {"left_out": 1, "rounded": 5}, {}], [2, 3, 1, 5]),
        ([{"left_out": -3, "rounded": 1}, {"left_out": "many", "rounded": True}, {"left_out": 1e9}], None),
        ([{"left_out": 4}, {"left_out": 2**62}, {"rounded": 2**62}], None),
    ],
)
def test_what_nodes_left_out_is_said(headers: Any, words: Optional["list[float]"]) -> None:
    found = words_of(headers, 3)
    assert (found == {}) == (words is None)
    if words is not None:
        np.testing.assert_array_equal(found[WORDS], words)
        analysis, state = statistics([60.0, 60.0], [[30, 28, 2], [20, 20, 20]])
        notes = published(analysis, {**state, **found}, "records").notes
        assert any("2 nodes left out 3 columns or crosstabs" in note for note in notes)
        assert any("1 node rounded" in note for note in notes)


def test_a_kind_whose_cells_stay_says_so() -> None:
    analysis = make({"kind": "kmeans", "clusters": 2, "rounds": 2}, SCHEMA)
    _, folded = analysis.fold(analysis.begin(0), _ones(analysis))
    notes = published(analysis, folded.state, "records", LEAST).notes
    assert any("not hidden in results of this kind" in note for note in notes)


def _ones(analysis: Analysis) -> Any:
    from orchestrator.analyses.base import Total

    return Total(np.ones(analysis.sums.size))
