"""The owner's rules over several answers: what tells few people apart by being subtracted is refused."""

from pathlib import Path
from typing import Any, Dict, Set

import numpy as np
from guarded import AGE, COST, SEX, STATISTICS, Node, data_of, even, tables, task_of
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.analyses.base import as_pairs, from_pairs
from orchestrator.analyses.registry import analysis_of
from orchestrator.data.dataset import Dataset
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.between import fewest_between
from orchestrator.node.seen import Seen


def test_all_rows_and_then_all_but_one(tmp_path: Path) -> None:
    """Scenario: a mean over all rows, then over all but one, which has no age. The second is refused by name."""
    node, task = Node(tmp_path, minimum_difference=5), task_of({"kind": "pca"})
    all_rows = even()
    node.passed(task, all_rows)
    node.passed(task, all_rows), "again is no other answer"
    for lost in (1, 4):
        fewer = data_of([0] * 60, [0] * 60, age=[np.nan] * lost + [*np.linspace(20, 80, 60 - lost)])
        assert "minimum_difference" in node.refusal(task, fewer)
    node.passed(task, data_of([0] * 60, [0] * 60, age=[np.nan] * 5 + [*np.linspace(20, 80, 55)]))


def test_rows_that_are_new_count_and_patients_are_what_is_counted(tmp_path: Path) -> None:
    node, task = Node(tmp_path, minimum_difference=3), task_of({"kind": "pca"})
    rows = data_of([0] * 80, [0] * 80, patients=[*range(60), *[60] * 10, *[61] * 5, *[62] * 5])
    node.passed(task, rows.take(np.arange(60))._replace(places=np.arange(2, 62)))
    ten_of_one = rows.take(np.arange(70))._replace(places=np.arange(2, 72))
    assert "1 patient between" in node.refusal(task, ten_of_one)
    node.passed(task, rows)


def test_weights_of_zero_leave_records_out(tmp_path: Path) -> None:
    node, data = Node(tmp_path, minimum_difference=5), data_of([0] * 40, [0] * 40, cost=[0.0] * 2 + [100.0] * 38)
    node.passed(task_of({"kind": "regression", "outcome": "age", "inputs": ["sex"]}), data)
    weighted = {"kind": "regression", "outcome": "age", "inputs": ["sex"], "weights": "cost"}
    assert "disclosure.difference" in node.refusal(task_of(weighted), data)


def test_bins_a_little_further_on_tell_few_apart(tmp_path: Path) -> None:
    """No cell of 2 bins is small, nor of 3; between their edges at 50 and 67 are 2 people."""
    node, ages = Node(tmp_path, minimum_cell=5), [10.0] * 10 + [40.0] * 10 + [60.0] * 2 + [90.0] * 20
    data = data_of([0] * 42, [0] * 42, age=ages, cost=[500.0] * 42)
    node.passed(task_of({"kind": "statistics", "bins": 2}), data)
    assert "disclosure.difference" in node.refusal(task_of({"kind": "statistics", "bins": 3}), data)
    quantiles = {"kind": "quantiles", "columns": ["age"], "bins": 3, "step": [50.0]}  # to 25, 75, and beyond
    node.passed(task_of({"kind": "statistics", "bins": 1}), data)
    assert "disclosure.difference" in node.refusal(task_of(quantiles), data)
    Node(tmp_path / "other-4").passed(task_of(quantiles), data)


def test_cells_that_are_one_patient_larger_tell_that_one_apart(tmp_path: Path) -> None:
    """10 rows of a patient more are 1."""
    node = Node(tmp_path, minimum_cell=5)
    wards = [0] * 20 + [1] * 30
    data = data_of([0] * 50, wards, [50.0] * 50, [500.0] * 50, patients=[*range(40), *[40] * 10])
    node.passed(task_of({"kind": "statistics"}), data.take(np.arange(40))._replace(places=np.arange(2, 42)))
    assert "1 patient between cells" in node.refusal(task_of({"kind": "statistics"}), data)


def test_points_that_walk_to_the_largest_value_stop(tmp_path: Path) -> None:
    """A gateway asks for the counts up to ever higher points: where few are beyond one, or between two, the answer is none."""
    task = task_of({"kind": "quantiles", "columns": ["age"], "quantiles": [0.5], "bins": 3, "step": [1.0]})
    analysis, data = analysis_of(task), data_of([0] * 42, [0] * 42, age=[*np.linspace(20, 60, 40), 97.0, 98.0])

    def up_to(point: float) -> np.ndarray:
        values = from_pairs(analysis.begin(0))
        values[0], values[-1] = analysis.rounds - 1, point
        return as_pairs(values)

    node = Node(tmp_path, minimum_cell=5)
    node.passed(task, data, up_to(40.0))
    for point in (70.0, 97.0, 41.0):
        assert "disclosure" in node.refusal(task, data, up_to(point)), point
    node.passed(task, data, up_to(30.0))


FIFTY = data_of([i % 2 for i in range(50)], [0] * 50, age=np.arange(25.0, 75.0))


def test_trees_of_a_forest_that_split_next_to_each_other_tell_few_apart(tmp_path: Path) -> None:
    """A seed is drawn until two thresholds have one or two people between them: subtracted, the leaves show their classes."""
    features, data = (AGE, SEX), FIFTY._replace(x=FIFTY.x[:, [0, 2, 3]])
    apart: Dict[Any, Any] = {}
    between = 0.0
    for seed in range(200):
        declared = {"kind": "forest", "outcome": "sex", "trees": 2, "depth": 1, "held_out": 0.0, "seed": seed}
        counts = tables(task_of(declared, features), data)[:-2].reshape(2, 4)
        if counts.min() >= 5:
            between = np.abs(counts[0] - counts[1]).max()
            apart.setdefault("few" if 0 < between < 5 else "none or many", task_of(declared, features))
    node = Node(tmp_path, minimum_cell=5)
    node.passed(apart["none or many"], data)
    assert "disclosure.difference" in Node(tmp_path / "other-5", minimum_cell=5).refusal(apart["few"], data)
    Node(tmp_path / "other-6", minimum_patients=5).passed(apart["few"], data)


def test_nodes_above_the_leaves_are_compared_as_well(tmp_path: Path) -> None:
    """Two trees with other second splits, so that no leaf of one is nearly a leaf of the other."""
    features, data = (AGE, COST, SEX), FIFTY._replace(x=FIFTY.x[:, [0, 1, 2, 3]])
    data.x[:, 1] = [i * 37 % 50 * 20 for i in range(50)]
    declared = {"kind": "forest", "outcome": "sex", "trees": 2, "depth": 2, "held_out": 0.0}
    task = task_of(declared, features)
    analysis: Any = analysis_of(task)
    found = Seen(analysis, analysis.blocks(analysis.question(analysis.begin(0))), analysis.begin(0), data)
    of_roots = [cells.of_line[2:] for at, (_, cells) in enumerate(found.divisions()) if at % 2]
    assert len(of_roots) == 2
    for tree, cells in enumerate(of_roots):
        column, cut = analysis.trees.column[tree, 0], analysis.trees.threshold[tree, 0]
        assert column < 2
        low, high = (AGE, COST)[column].range
        right = data.x[:, column] > low + (high - low) * (cut + 1) / 2
        np.testing.assert_array_equal(cells, 2 * right + (data.x[:, 3] > 0.5))


def test_more_trees_than_can_be_compared_are_refused(tmp_path: Path) -> None:
    declared = {"kind": "forest", "outcome": "sex", "trees": 65, "depth": 1, "held_out": 0.0}
    assert "65 divisions" in Node(tmp_path, minimum_cell=1).refusal(task_of(declared), even())


def test_a_cluster_that_loses_one_record_tells_its_numbers(tmp_path: Path) -> None:
    """Centres that move by a little, as a gateway likes: the difference of the sums of a cluster is one person's age."""
    task, data = task_of({"kind": "kmeans", "clusters": 2, "rounds": 3}, [AGE]), FIFTY._replace(x=FIFTY.x[:, :1])
    node = Node(tmp_path, minimum_cell=5)
    first, nearer, further = (as_pairs(np.array([-0.2, 0.2]) + by) for by in (0.0, 0.03, 0.2))
    node.passed(task, data, first)
    assert "disclosure.difference" in node.refusal(task, data, nearer)
    node.passed(task, data, first)
    node.passed(task, data, further)


def test_trees_that_a_gateway_grows_one_bin_further_tell_few_apart(tmp_path: Path) -> None:
    """20 people in each bin of age and of cost, 2 in both: the difference of two rounds, each of which has ten in every cell."""
    many = np.arange(200)
    whole = data_of(many % 2, many * 0, age=many // 20 * 10.0 + 5, cost=many // 2 % 10 * 100.0 + 50)
    features, data = (AGE, COST, SEX), whole._replace(x=whole.x[:, :4])
    declared = {"kind": "boosted", "outcome": "sex", "inputs": ["age", "cost"], "trees": 1, "depth": 2, "bins": 10}
    task = task_of({**declared, "held_out": 0.0}, features)
    analysis: Any = analysis_of(task)

    def split_at(cell: int) -> np.ndarray:
        model = analysis.model_of(analysis.begin(0))
        model.codes[0, 0] = 1 + 2 * (11 + cell)  # after ten bins of age, and a cell for those without one
        return np.asarray(analysis.announce(model._replace(phase=1, level=1)))

    def counts(asked: np.ndarray) -> np.ndarray:
        summed = total(unit_vectors(analysis, asked, data, "record"), analysis.sums.size)
        return summed[: 2 * 22 * 3].reshape(2, 22, 3)[:, :, 2]

    node, first, second = Node(tmp_path, minimum_cell=4), split_at(4), split_at(5)
    np.testing.assert_array_equal(np.abs(counts(first) - counts(second))[0, :10], 2.0)
    node.passed(task, data, first)
    assert "disclosure.difference" in node.refusal(task, data, second)


@given(st.integers(0, 2**31), st.booleans(), st.booleans())
@examples(60)
def test_sets_that_differ_in_few_people_are_found(seed: int, ordered: bool, of_patients: bool) -> None:
    """As when every pair of sets is compared person by person."""
    draw, n, least = np.random.default_rng(seed), 40, 4
    one, other = draw.integers(-1, 6, n), draw.integers(-1, 4, n + 3)
    if draw.random() < 0.5:  # nearly the same
        other = np.append(np.where(draw.random(n) < 0.1, one + 1, one), [-1, -1, -1])
    whose = draw.integers(0, 12, n) if of_patients else np.arange(n)
    data = Dataset(np.zeros((n, 7)), np.zeros(n, np.int32), whose, places=np.arange(n))
    analysis = analysis_of(task_of(STATISTICS))
    seen = Seen(analysis, analysis.blocks(np.zeros(0)), analysis.begin(0), data)
    people = [int(whose[line]) if line < n else -1 - line for line in range(n + 3)]

    def members(cells: np.ndarray, cell: int) -> Set[int]:
        return {line for line, at in enumerate(cells) if (0 <= at <= cell if ordered else at == cell)}

    between = [
        len({people[line] for line in members(one, i) ^ members(other, j)})
        for i in sorted(set(one) - {-1})
        for j in sorted(set(other) - {-1})
    ]
    found = fewest_between(seen, one.astype(np.int32), other.astype(np.int32), ordered, least)
    assert (found > 0) == any(0 < few < least for few in between)
    assert found == 0 or found in between


def test_questions_about_the_same_patients_are_counted_by_task(tmp_path: Path) -> None:
    node = Node(tmp_path, questions=2)
    for bins in (2, 3, 3):
        node.passed(task_of({"kind": "statistics", "bins": bins}), even())
    assert "disclosure.questions" in node.refusal(task_of({"kind": "statistics", "bins": 4}), even())
    others = even()._replace(places=np.arange(1000, 1060))
    node.passed(task_of({"kind": "statistics", "bins": 4}), others)
