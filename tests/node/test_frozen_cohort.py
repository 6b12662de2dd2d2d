"""A run keeps the data it was accepted with: changed ones are declined by a code, until their owner says that they are meant."""

import time
from pathlib import Path
from typing import List, Union

import numpy as np
import pytest
from test_policy import make_task

from orchestrator.cli.main import main
from orchestrator.data.dataset import Dataset
from orchestrator.node.anchor import StoreAnchor
from orchestrator.node.figures import MemoryFigures
from orchestrator.node.gatekeeper import Gatekeeper, Verdict
from orchestrator.node.opening import Opening, Question
from orchestrator.node.policy import Refusal
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import digest_of, task_to_dict

TASK = make_task(privacy=Privacy(noise_multiplier=2.0))
FEATURES = [feature.name for feature in TASK.schema.features]
LABELS = list(TASK.schema.label_values)


def write(path: Path, seed: int, rows: int = 40) -> None:
    draw = np.random.default_rng(seed)
    lines = [",".join([*FEATURES, TASK.schema.label, TASK.schema.patient])]
    for row in range(rows):
        values = [str(round(float(draw.uniform(*feature.range)), 3)) for feature in TASK.schema.features]
        lines.append(",".join([*values, LABELS[row % len(LABELS)], f"p{row}"]))
    path.write_text("\n".join(lines) + "\n")


def opened(folder: Path, data: Path, run: str = "one") -> Union[Run, Verdict]:
    """What a node that was just started says."""
    store = NodeStore(folder / "node.sqlite")
    keeper = Gatekeeper(folder, store, None)
    store.before_release = keeper.charge
    declared = task_to_dict(TASK)
    try:
        question = Question(run, TASK, declared, b"graph", 0, time.monotonic(), digest_of(declared, b"graph"))
        assert keeper.consider(run, TASK, declared, b"graph") is None
        return Opening(data, store, keeper, MemoryFigures(lambda: []), False).open(question)
    finally:
        keeper.close()
        store.close()


@pytest.fixture
def node(tmp_path: Path) -> Path:
    write(tmp_path / "data.csv", 1)
    assert isinstance(opened(tmp_path, tmp_path / "data.csv"), Run)
    return tmp_path


def test_the_same_rows_in_another_order_or_file_are_the_same_data(node: Path) -> None:
    lines = (node / "data.csv").read_text().splitlines()
    (node / "again.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    found = opened(node, node / "again.csv")
    assert isinstance(found, Run)


@pytest.mark.parametrize("change", ["other", "one cell", "one row less", "one row twice"])
def test_changed_data_are_declined_for_the_run_and_accepted_for_another(node: Path, change: str) -> None:
    path = node / "data.csv"
    lines = path.read_text().splitlines()
    first = lines[1].split(",")
    changed = {
        "one cell": [lines[0], ",".join([repr(float(first[0]) + 0.25), *first[1:]]), *lines[2:]],
        "one row less": lines[:-1],
        "one row twice": [*lines, lines[-1]],
    }
    if change == "other":
        write(path, 2)
    else:
        path.write_text("\n".join(changed[change]) + "\n")
    found = opened(node, path)
    assert isinstance(found, Refusal)
    assert found.code == "data.changed"
    assert "edgeward node accept-data one" in found.reason
    assert isinstance(opened(node, path, "two"), Run)
    path.write_text("\n".join(lines) + "\n")
    assert isinstance(opened(node, path), Run), "put back"


def test_a_changed_table_that_is_joined_is_changed_data(tmp_path: Path) -> None:
    """One feature is the last value of each patient in another table."""
    write(tmp_path / "all.csv", 1)
    rows = [line.split(",") for line in (tmp_path / "all.csv").read_text().splitlines()]
    (tmp_path / "patients.csv").write_text("".join(",".join(row[1:]) + "\n" for row in rows))
    visits = [f"{row[-1]},2026-0{month},{row[0]}" for row in rows[1:] for month in ("1-31", "2-01")]
    (tmp_path / "visits.csv").write_text("\n".join(["who,seen,value", *visits]) + "\n")
    path = tmp_path / "ward.toml"
    path.write_text(
        f'source = {{ file = "patients.csv" }}\nrows = {{ patient = "{TASK.schema.patient}" }}\n'
        '[tables.visits]\nfile = "visits.csv"\nkey = "who"\nwhen = "seen"\n'
        f'[columns.{FEATURES[0]}]\ntable = "visits"\ncolumn = "value"\ntake = "last"\n'
    )
    assert isinstance(opened(tmp_path, path), Run)
    assert isinstance(opened(tmp_path, tmp_path / "all.csv"), Run), "the same records in one table"
    (tmp_path / "visits.csv").write_text("\n".join(["who,seen,value", *reversed(visits)]) + "\n")
    assert isinstance(opened(tmp_path, path), Run), "in another order"
    lowest = TASK.schema.features[0].range[0]
    (tmp_path / "visits.csv").write_text("\n".join(["who,seen,value", *visits, f"p3,2026-02-02,{lowest}"]) + "\n")
    found = opened(tmp_path, path)
    assert isinstance(found, Refusal)
    assert found.code == "data.changed"


def test_the_owner_says_that_the_change_is_meant(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(node / "data.csv", 2)
    store = NodeStore(node / "node.sqlite")
    assert StoreAnchor(store).read() is not None
    store.close()
    assert main(["node", "accept-data", "other", "--state", str(node)]) == 2
    assert "accepted no such run" in capsys.readouterr().err
    assert main(["node", "accept-data", "one", "--state", str(node)]) == 0
    assert isinstance(opened(node, node / "data.csv"), Run)
    write(node / "data.csv", 3)
    assert not isinstance(opened(node, node / "data.csv"), Run), "once, not for ever"


def test_a_digest_is_of_the_records_alone() -> None:
    def data(x: List[List[float]], y: List[int], patients: "List[int] | None" = None) -> Dataset:
        whose = None if patients is None else np.array(patients)
        return Dataset(np.array(x, np.float32), np.array(y, np.int32), whose)

    one = data([[0, 1], [2, 3]], [0, 1])
    assert one.digest() == data([[2, 3], [0, 1]], [1, 0]).digest()
    different = [
        data([[0, 1], [2, 3]], [1, 0]),
        data([[0, 1], [2, 3]], [0, 1], [0, 1]),
        data([[0, 1], [2, 3]], [0, 1], [0, 2]),
        data([[0, 1], [2, 3], [2, 3]], [0, 1, 1]),
        data([[0, 1], [0, 1], [2, 3]], [0, 0, 1]),
        data([[0, 1, 0], [2, 3, 0]], [0, 1]),
    ]
    assert len({each.digest() for each in [one, *different]}) == 7
    gaps = Dataset(np.array([[np.nan, 1.0]]), np.zeros(1, np.int32))
    assert gaps.digest() == Dataset(np.array([[np.nan, 1.0]]), np.zeros(1, np.int32)).digest()
