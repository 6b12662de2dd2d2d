"""Strategy fuala among processes: gateway and node killed in the middle of a round, and each still scores each other once."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import List

import numpy as np
import pytest
from harness import RECORDS, Harness, finish, make_task, wait_for

from orchestrator.gateway.store import Store
from orchestrator.node.ledger import LEDGER_FILE, Ledger
from orchestrator.privacy.accounting import plan_noise
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Evaluation, Task

pytest.importorskip("dp_accounting")

NODES, ROUNDS = "abcd", 4


class Varied(Harness):
    """Whose nodes have records that differ, so that some can be held out."""

    def node_arguments(self, name: str) -> List[str]:
        arguments = super().node_arguments(name)
        rows = np.random.default_rng(ord(name)).uniform(0, 1, RECORDS[name])
        Path(arguments[2]).write_text("x,y\n" + "".join(f"{x:.5f},{int(x > 0.5)}\n" for x in rows))
        return arguments


def task_of() -> Task:
    task = make_task(rounds=ROUNDS, statistics=False, nodes=4, quorum=4)
    training = replace(task.training, strategy="fuala", parameters=4)
    privacy = Privacy("record", 8.0, 1e-3, 1.0, 1.0)
    return plan_noise(replace(task, training=training, privacy=privacy, evaluation=Evaluation(0.4, ROUNDS)))


def test_each_scores_each_other_once_whoever_dies(tmp_path: Path) -> None:
    with Varied(tmp_path, task_of(), size=4) as harness:
        nodes = {name: harness.node(name) for name in NODES}
        # In round 2, with two of its answers here; and in round 3 right before its end.
        assert harness.gateway("Arrived", 6, "after").wait(600) == -signal.SIGKILL
        nodes["c"].kill()
        nodes["c"].wait()
        harness.node("c")
        assert harness.gateway("Aggregated", 2, "before").wait(600) == -signal.SIGKILL
        result = finish(harness.gateway())
    assert [r["round"] for r in result["rounds"]] == [1, 2, 3, 4]
    assert not any("misscored" in r for r in result["rounds"])
    assert sorted(result["rounds"][-1]["generalisation"]) == list(NODES)
    store = Store(harness.store_path)
    scores = {name: v for name, v in store.vectors("run", "strategy.scores/").items()}
    store.close()
    pairs = {f"strategy.scores/{owner}/{scorer}" for owner in NODES for scorer in NODES if owner != scorer}
    assert {name: len(v) for name, v in scores.items()} == dict.fromkeys(pairs, 1)  # 3 rounds, 4 nodes, 12 pairs
    for name in NODES:
        ledger = Ledger(tmp_path / name / LEDGER_FILE, [])
        known = ledger.reservation("run")
        ledger.close()
        assert known is not None
        assert known.used["score"] == ROUNDS - 1, name


def test_a_node_without_a_policy_declines_models_without_noise(tmp_path: Path) -> None:
    task = replace(task_of(), privacy=Privacy("none"))
    with Varied(tmp_path, task, size=4) as harness:
        harness.node("a")
        said = wait_for(harness.gateway(), "declined", node="a")
    assert said["code"] == "policy.models"
