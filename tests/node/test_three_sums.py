"""Answers that are each far from the others, and give one patient's numbers together: A + B - C."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from guarded import AGE, COST, Node, data_of, task_of
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.data.dataset import Dataset
from orchestrator.node.between import left_over
from orchestrator.wire.schema import Feature

HERE, THERE = Feature("here", 0, 1), Feature("there", 0, 1)
TITLE, SEX = Feature("title", categories=("a", "b")), Feature("sex", categories=("f", "m"))
PCA: Dict[str, Any] = {"kind": "pca"}
Part = Tuple[Dict[str, Any], Tuple[Feature, ...]]
ALL: Part = (PCA, (AGE, COST))
IN_ONE: Part = (PCA, (AGE, HERE))
IN_OTHER: Part = (PCA, (AGE, THERE))


def rows(neither: int) -> Dict[str, np.ndarray]:
    """30 people have a value of one form, 30 of another, and some of neither."""
    n = 60 + neither
    place = np.arange(n)
    known = {"age": np.linspace(20, 80, n), "cost": np.linspace(100, 200, n)}
    known["here"] = np.where(place < 30, place % 2, np.nan)
    known["there"] = np.where((place >= 30) & (place < 60), place % 2, np.nan)
    return known


def of(part: Part, known: Dict[str, np.ndarray]) -> Dataset:
    x = np.stack([known[feature.name] for feature in part[1]], axis=1)
    n = len(x)
    return Dataset(x, np.full(n, -1, np.int32), None, places=np.arange(2, n + 2))


@pytest.mark.parametrize("order", [(IN_ONE, IN_OTHER, ALL), (ALL, IN_ONE, IN_OTHER), (IN_OTHER, ALL, IN_ONE)])
@pytest.mark.parametrize(("neither", "told"), [(1, True), (4, True), (5, False), (0, False)])
def test_two_parts_and_nearly_their_whole_are_not_all_answered(
    tmp_path: Path, order: List[Part], neither: int, told: bool
) -> None:
    node, known = Node(tmp_path, minimum_difference=5), rows(neither)
    first, second, third = order
    for part in (first, second):
        node.passed(task_of(*part), of(part, known))
    if told:
        assert "between this answer and two before it, at least 5" in node.refusal(task_of(*third), of(third, known))
    else:
        node.passed(task_of(*third), of(third, known))


def test_people_are_counted_and_not_their_records(tmp_path: Path) -> None:
    node, known = Node(tmp_path, minimum_difference=5), rows(10)
    whose = np.array([*range(60), *[60] * 6, *[61] * 4])
    for part in (IN_ONE, IN_OTHER):
        node.passed(task_of(*part), of(part, known)._replace(patients=whose))
    assert "2 patients between" in node.refusal(task_of(*ALL), of(ALL, known)._replace(patients=whose))


def test_groups_by_two_columns_that_are_nearly_the_same_are_not_both_answered(tmp_path: Path) -> None:
    """Sums of cost by sex, then by title: one of a sex has the other title. The difference of two groups is that one's cost."""
    columns = (AGE, COST, SEX, TITLE)
    sexes = [i % 2 for i in range(60)]
    for others, told in ((1, True), (6, False)):
        titles = [1 - sex if i < 2 * others and sex else sex for i, sex in enumerate(sexes)]
        data = data_of(sexes, titles)
        data = data._replace(x=np.ascontiguousarray(data.x[:, :6]))
        (tmp_path / str(others)).mkdir()
        node = Node(tmp_path / str(others), minimum_difference=5)
        node.passed(task_of({"kind": "compare", "by": "sex"}, columns), data)
        by_title = task_of({"kind": "compare", "by": "title"}, columns)
        if told:
            assert "1 patient between this answer" in node.refusal(by_title, data)
        else:
            node.passed(by_title, data)


@given(st.integers(0, 2**31))
@examples(60)
def test_what_is_left_over_is_as_when_all_pairs_are_subtracted(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n, most = 24, 4
    sets = [draw.random(n + int(draw.integers(0, 9))) < draw.choice([0.2, 0.5]) for _ in range(4)]
    if draw.random() < 0.7:  # nearly a sum
        sets[0] = np.zeros(40, bool)
        for each in sets[1:3]:
            sets[0][: len(each)] |= each
        sets[0][: int(draw.integers(0, 6))] ^= True
    counts = np.zeros((4, 40), np.int64)
    for row, each in zip(counts, sets):
        row[: len(each)] = each
    one, *before = counts
    supports = [
        int(((one - a - b) != 0).sum()) for i, a in enumerate(before) for j, b in enumerate(before) if i < j
    ] + [int(((a - one - b) != 0).sum()) for i, a in enumerate(before) for j, b in enumerate(before) if i != j]
    expected = sorted(each for each in supports if 0 < each < most)
    assert sorted(int(each.sum()) for each in left_over(sets[0], sets[1:], most)) == expected
