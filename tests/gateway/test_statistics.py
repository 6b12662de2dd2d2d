"""The statistics round at the gateway: exact sums have no floor, and columns that noise hides are named to the author."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset
from orchestrator.errors import WireError
from orchestrator.gateway.aggregation import Aggregation
from orchestrator.gateway.store import Store
from orchestrator.node.contribution import Contributor
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.privacy.standardization import constant_warning, moments
from orchestrator.rounds.events import Aggregate
from orchestrator.wire.body import encode_body
from orchestrator.wire.codec import encode_update
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict

SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("crp", 0, 1e6), Feature("age", 0, 120)))
TASK = Task("t", SCHEMA, {"kind": "mlp", "hidden": []}, privacy=Privacy(unit="none"), rounds=Rounds(2, 2))
RNG = np.random.default_rng(1)
ROWS = [np.column_stack([RNG.lognormal(1, 1, n), RNG.normal(60, 12, n)]).astype(np.float32) for n in (3000, 2000)]


def no_trainer(*_: Any) -> Any:
    raise AssertionError("statistics need no training")


def answered(folder: Path, task: Task, answers: List[Any]) -> Any:
    store = Store(folder / "gateway.sqlite")
    store.create_run("run", task_to_dict(task), b"graph", np.zeros(6, np.float32))
    for name, (fields, tensors) in zip("ab", answers):
        header = {"kind": "update", "run": "run", "round": 0, **fields}
        Aggregation(store, "run", task, None).check_update(0, header, tensors)
        store.put_update("run", 0, name, encode_body(header, tensors))
    return Aggregation(store, "run", task, None).outcome(Aggregate(0, ("a", "b")), 500.0)


def of_nodes(folder: Path, task: Task, of: List[np.ndarray] = ROWS) -> List[Any]:
    answers = []
    for name, rows in zip("ab", of):
        data = Dataset(rows, np.zeros(len(rows), np.int32))
        run = Run("run", "d", task, b"graph", data, data.take(np.arange(0)))
        contributor = Contributor(run, NodeStore(folder / f"{name}.sqlite"), name, no_trainer)
        answers.append(contributor.open_answer(0, {}, {})[:2])
    return answers


def test_a_wide_range_costs_nothing_without_privacy(tmp_path: Path) -> None:
    outcome = answered(tmp_path, TASK, of_nodes(tmp_path, TASK))
    together = np.concatenate(ROWS).astype(np.float64)
    np.testing.assert_allclose(outcome.vectors["mean"], together.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(outcome.vectors["std"], together.std(axis=0), rtol=1e-5)
    assert (outcome.figures["on_floor"], outcome.figures["constant"]) == ([], [])


def test_a_column_all_of_whose_values_are_beyond_its_range_is_named_to_the_author(tmp_path: Path) -> None:
    """Its owner hears of every column; the author, who cannot see the data, trained on a constant without a word."""
    narrow = replace(SCHEMA, features=(Feature("crp", 0, 1e6), Feature("age", 0, 1)))
    task = replace(TASK, schema=narrow)
    rows = [
        np.column_stack([each[:, 0], np.ones(len(each))]).astype(np.float32) for each in ROWS
    ]  # as a node clamps it
    outcome = answered(tmp_path, task, of_nodes(tmp_path, task, rows))
    assert (outcome.figures["on_floor"], outcome.figures["constant"]) == ([], ["age"])
    assert "all values of age are the same on all nodes" in constant_warning(["age"])


def test_moments_of_older_nodes_still_count(tmp_path: Path) -> None:
    sums = [moments(rows, SCHEMA, [np.array([i]) for i in range(len(rows))]).sum(axis=0) for rows in ROWS]
    sent = [encode_update(each.astype(np.float32), "float32", RNG) for each in sums]
    answers = [({"records": len(r), "codec": "float32"}, t) for r, t in zip(ROWS, sent)]
    std = answered(tmp_path, TASK, answers).vectors["std"]
    assert std[1] == pytest.approx(np.concatenate(ROWS)[:, 1].std(), rel=1e-3)


def test_a_range_so_wide_that_records_are_clipped_is_named_all_the_same(tmp_path: Path) -> None:
    """Values at an end of every range: each record is clipped, which alone would look like a spread of half the range."""
    wide = replace(SCHEMA, features=tuple(Feature(name, 0, 1e6) for name in ("crp", "age", "bmi", "pulse")))
    rng = np.random.default_rng(2)
    private = Privacy(
        statistics_clip_norm=1, statistics_noise_multiplier=2, noise_multiplier=1, count_noise_multiplier=2
    )
    task = replace(TASK, schema=wide, privacy=private)
    rows = [np.abs(rng.normal(60, 12, (200, 4))).astype(np.float32) for _ in "ab"]
    named = 0
    for draw in map(str, range(10)):  # noise hides 2 columns of 100, by how the bound is made
        (tmp_path / draw).mkdir()
        outcome = answered(tmp_path / draw, task, of_nodes(tmp_path / draw, task, rows))
        named += len(outcome.figures["on_floor"])
        assert outcome.vectors["std"].min() > 0.3 * 5e5, "a spread that is not there"
    assert named >= 30


def test_with_privacy_the_columns_are_named_and_exact_sums_are_refused(tmp_path: Path) -> None:
    private = Privacy(
        unit="record",
        sampling_rate=0.1,
        statistics_clip_norm=2,
        statistics_noise_multiplier=0.3,
        noise_multiplier=1,
        count_noise_multiplier=0.2,
    )
    task = replace(TASK, privacy=private)
    fields: Dict[str, Any] = {"records": 3000, "units": 3000, "codec": "float64"}
    with pytest.raises(WireError, match="codec 'float64'"):
        answered(tmp_path, task, [(fields, {"update": np.zeros(4)})])
    (tmp_path / "again").mkdir()
    # The noise, that of the counts included, is far below what would lift "crp" over the floor, or hide "age".
    outcome = answered(tmp_path / "again", task, of_nodes(tmp_path, task))
    assert outcome.figures["on_floor"] == ["crp"]


@pytest.mark.parametrize(
    "lie",
    [
        [1e9, 0.0, 1.0, 1.0],
        [-11.0, 0.0, 1.0, 1.0],
        [1.0, 0.0, 11.0, 1.0],
        [1.0, 0.0, 1.0, -1.0],
        [1.0, np.nan, 1.0, 1.0],
    ],
)
def test_exact_sums_that_no_records_of_the_node_add_up_to_are_refused(tmp_path: Path, lie: List[float]) -> None:
    """One of them moved the mean of all nodes to an end of its range, whatever the others had."""
    with pytest.raises(WireError):
        answered(tmp_path, TASK, [({"records": 10, "codec": "float64"}, {"update": np.array(lie)})])
