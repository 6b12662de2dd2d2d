"""Evaluation on the nodes' own held-out records: what the gateway reports is what those records say, and it can act on it."""

import json
import subprocess
from pathlib import Path
from typing import List, Tuple

import numpy as np
from test_gateway_cli import CONFIG, federation  # noqa: F401 - a fixture

from orchestrator.data.dataset import hold_out, load_dataset
from orchestrator.gateway.config import load_config
from orchestrator.gateway.counts import of_sums
from orchestrator.gateway.scores import figures
from orchestrator.gateway.store import Store
from orchestrator.node.evaluation import evaluate
from orchestrator.node.runtime import TrainingGraph
from orchestrator.node.store import NodeStore
from orchestrator.privacy.standardization import standardize
from orchestrator.wire.task import task_from_dict


def test_held_out_records_decide_when_to_stop_and_which_round_was_best(
    federation: Tuple[Path, List[str]],  # noqa: F811
) -> None:
    folder, command = federation
    text = (folder / "edgeward.toml").read_text()
    text = text.replace('[evaluation]\nheld-out = "n0.csv"\n', "").replace("delta = 1e-3", 'unit = "none"')
    text = text.replace(
        "rounds = 4", 'rounds = 40\nlearning_rate = 2.0\nbest = true\npatience = 2\nmetric = "accuracy"'
    )
    (folder / "edgeward.toml").write_text(text + "[task.evaluation]\nshare = 0.3\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    rounds = events[-1]["per_round"]
    assert any(e["event"] == "stopped_early" for e in events)
    assert 3 <= len(rounds) < 40
    accuracies = [r["federated"]["accuracy"] for r in rounds]
    best = int(np.argmax(accuracies))
    # A round's figures come with the answers to the next, so two rounds without a better one are known a round later; that
    # round's own figures come from the last evaluation, and it may yet be the best.
    assert int(np.argmax(accuracies[:-1])) == len(rounds) - 4

    task = load_config(folder / "edgeward.toml").task
    store = Store(folder / "out" / "gateway.sqlite")
    run = events[-1]["run"]
    stored = store.find_run(run)
    weights, mean, std = (store.vector(run, name) for name in ("best", "mean", "std"))
    assert stored is not None
    assert weights is not None
    assert mean is not None
    assert std is not None
    graph = TrainingGraph(stored[1])
    task = task_from_dict(stored[0])
    pooled = np.zeros(2 * 2 * task.evaluation.bins + 1)
    for i in range(2):
        data = load_dataset(folder / f"n{i}.csv", task.schema)
        trained, held = hold_out(data, 0.3, NodeStore(folder / f"state{i}" / "node.sqlite").secret("hold-out"))
        assert trained.records == events[-1]["privacy"].get("records_per_node", {}).get(f"n{i}", trained.records)
        assert 20 < held.records < 70
        assert trained.records + held.records == data.records
        pooled += evaluate(task, graph, type(held)(standardize(held.x, mean, std), held.y), weights)
    expected = figures(of_sums(pooled, 2, task.evaluation.bins))
    found = rounds[best]["federated"]
    assert found["confusion"] == expected["confusion"]
    assert found["auc"] == expected["auc"]
    assert set(found["per_node"]) == {"n0", "n1"}
    np.testing.assert_allclose(
        np.sum([found["per_node"][n]["confusion"] for n in ("n0", "n1")], axis=0), found["confusion"]
    )


def test_with_privacy_the_sums_are_noised_and_charged(federation: Tuple[Path, List[str]]) -> None:  # noqa: F811
    folder, command = federation
    text = (folder / "edgeward.toml").read_text()
    (folder / "edgeward.toml").write_text(text + "[task.evaluation]\nshare = 0.3\nevery = 2\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert [("federated" in r) for r in report["per_round"]] == [False, True, False, True]
    found = report["per_round"][-1]["federated"]
    assert found["accuracy"] is None, "67 records under so much noise say nothing"
    assert {"accuracy", "loss", "auc", "confusion"} <= set(found["too_noisy"])
    low, high = found["intervals"]["records"]
    assert 0 <= low < high, "exact counts left the nodes"
    assert "released 2 times with noise multiplier" in report["privacy"]["evaluation"]
    assert report["privacy"]["epsilon"] <= 8
    # Each step's private count of clipped gradients, of some fifty sampled ones: its noise is known, and larger.
    rounds = [r["clipped"] for r in report["per_round"]]
    assert all(one["units"] > 0 and one["deviation"] > 5 for one in rounds)
    assert len({one["sum"] for one in rounds}) == 4
    assert "clip norm 1.2" in report["privacy"]["clipped"], "it follows the two inputs"


def test_a_record_stays_on_its_side_whatever_is_added(tmp_path: Path) -> None:
    (tmp_path / "edgeward.toml").write_text(CONFIG.format(port=1))
    schema = load_config(tmp_path / "edgeward.toml").task.schema
    rng = np.random.default_rng(3)
    lines = [f"{a:.4f},{b:.4f},{int(a > b)}" for a, b in rng.uniform(-1, 1, (400, 2))]
    sides = []
    for count in (200, 400):
        (tmp_path / "data.csv").write_text("a,b,y\n" + "\n".join(lines[:count]) + "\n")
        _, held = hold_out(load_dataset(tmp_path / "data.csv", schema), 0.25, b"key")
        assert abs(held.records / count - 0.25) < 0.12
        sides.append({x.tobytes() for x in held.x})
    assert sides[0] <= sides[1]
    (tmp_path / "data.csv").write_text("a,b,y\n" + "\n".join(lines) + "\n")
    _, other = hold_out(load_dataset(tmp_path / "data.csv", schema), 0.25, b"another node's key")
    assert {x.tobytes() for x in other.x} != sides[1]
