"""Real processes: a run that stopped for want of nodes or answers is continued by the same command."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness import GRAPH, SIZE, Harness, events, expected_weights, finish, make_task

from orchestrator.gateway.store import Store
from orchestrator.wire.task import task_to_dict


def test_nodes_that_come_too_late_are_in_the_same_run_when_its_gateway_starts_again(tmp_path: Path) -> None:
    with Harness(tmp_path, make_task(rounds=1, statistics=False, nodes=2, gather_s=1.0)) as harness:
        late = harness.gateway()
        assert list(events(late))[-1]["reason"] == "0 of 2 nodes came within 1 s"
        assert late.wait() == 1
        assert "The same command goes on from there" in harness.log("gateway")
        for name in ("a", "b"):
            harness.node(name)
        again = harness.gateway()
        while again.poll() is None and "aggregated" not in (seen := [e["event"] for e in events(again)]):
            again = harness.gateway()  # a slow machine's nodes may miss this second again
        assert seen[0] == "trying_again"
        assert again.wait() == 0


def test_a_run_that_was_cut_off_goes_on_after_another_with_the_same_node_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIXED_NODE_ONCE", "no")
    task = make_task(rounds=2, statistics=False)
    with Harness(tmp_path, task) as harness:
        store = Store(harness.store_path)
        store.create_run("other", task_to_dict(replace(task, name="other")), GRAPH, np.zeros(SIZE, np.float32))
        store.close()
        for name in ("a", "b", "c"):
            harness.node(name)
        assert harness.gateway("Arrived", 2, "after").wait(120) == -signal.SIGKILL
        other = finish(harness.gateway(run="other"))
        result = finish(harness.gateway())
        for weights in (other["weights"], result["weights"]):
            np.testing.assert_array_equal(np.array(weights, np.float32), expected_weights([["a", "b", "c"]] * 2))
