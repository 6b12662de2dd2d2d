"""Who lacks a column is in the levels of another one, and in no cell of a crosstab of both: the difference tells that level."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from guarded import AGE, COST, SEX, WARD, Node, data_of, tables, task_of

from orchestrator.data.dataset import Dataset

CROSSTAB: Dict[str, Any] = {"kind": "statistics", "bins": 2, "crosstabs": [["sex", "ward"]]}
COLUMNS = (AGE, COST, SEX, WARD)
PLACES = 6  # of the crosstab, the last of its vector


def lacking(sex: int, age: int = 0) -> Dataset:
    """96 people, 16 of each sex in each ward, and of the first ward more: some without sex, some without age."""
    sexes, wards = [i % 2 for i in range(96)], [i // 2 % 3 for i in range(96)]
    ages = [*np.linspace(30, 70, 96 + sex), *[np.nan] * age]
    return data_of([*sexes, *[-1] * sex, *[0] * age], [*wards, *[0] * (sex + age)], ages)


def test_a_crosstab_beside_levels_is_refused_where_few_lack_its_other_column(tmp_path: Path) -> None:
    """The levels of ward have one more in the first one: the ward of whom everybody knows to have no sex."""
    node = Node(tmp_path, minimum_cell=5)
    assert "crosstab of sex and ward: 1 patient between it and cells of ward" in node.refusal(
        task_of(CROSSTAB), lacking(1)
    )
    node.passed(task_of(CROSSTAB), lacking(0))


@pytest.mark.parametrize(("few", "stays"), [(0, True), (1, False), (4, False), (5, True)])
def test_a_crosstab_is_left_out_where_few_lack_its_other_column(tmp_path: Path, few: int, stays: bool) -> None:
    task, data = task_of(CROSSTAB), lacking(few)
    node = Node(tmp_path, minimum_cell=5, small_cells="leave-out")
    found, whole = node.answer(task, data), tables(task, data)
    assert node.passed(task, data).said == ({} if stays else {"left_out": 1})
    np.testing.assert_array_equal(found[:-PLACES], whole[:-PLACES])
    np.testing.assert_array_equal(found[-PLACES:], whole[-PLACES:] if stays else np.zeros(PLACES))


def test_a_crosstab_after_levels_is_refused_as_beside_them(tmp_path: Path) -> None:
    """Two tasks: the schema of the first has ward alone, that of the second has no levels to compare with."""
    node = Node(tmp_path, minimum_cell=5)
    node.passed(task_of({"kind": "statistics", "bins": 2}, (AGE, COST, WARD)), without_sex(lacking(1)))
    by_sex = {"kind": "compare", "by": "sex"}
    assert "disclosure.difference" in node.refusal(task_of(by_sex, COLUMNS), lacking(1))
    other = Node(tmp_path / "other", minimum_cell=5)
    other.passed(task_of({"kind": "statistics", "bins": 2}, (AGE, COST, WARD)), without_sex(lacking(5)))
    other.passed(task_of(by_sex, COLUMNS), lacking(5))


def without_sex(data: Dataset) -> Dataset:
    return data._replace(x=np.ascontiguousarray(data.x[:, [0, 1, 4, 5, 6]]))


@pytest.mark.parametrize(
    "declared",
    [
        {"kind": "compare", "by": "ward"},
        {"kind": "quantiles", "columns": ["age"], "by": "ward", "bins": 3, "step": [50.0], "quantiles": [0.5]},
    ],
)
def test_few_of_a_group_who_lack_a_number_are_a_small_cell(tmp_path: Path, declared: Dict[str, Any]) -> None:
    """How many of each group lack it is in the answer: of whom everybody knows to lack it, it is the ward."""
    assert "missing age by ward" in Node(tmp_path, minimum_cell=5).refusal(task_of(declared), lacking(0, age=1))
    for many in (0, 5):
        Node(tmp_path / str(many), minimum_cell=5).passed(task_of(declared), lacking(0, age=many))


def test_a_column_few_of_a_group_lack_is_left_out_of_a_comparison(tmp_path: Path) -> None:
    task = task_of({"kind": "compare", "by": "ward"})
    found = Node(tmp_path, minimum_cell=5, small_cells="leave-out").answer(task, lacking(0, age=1))
    blind = lacking(0, age=1)
    blind.x[:, 0] = np.nan
    np.testing.assert_array_equal(found, tables(task, blind))
