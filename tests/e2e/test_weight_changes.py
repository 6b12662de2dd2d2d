"""Rounds whose weights travel as changes, with nodes and gateways that die: both sides keep the same bits."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import List, Sequence

import numpy as np
import pytest
from fixed_node import fixed_update
from harness import RECORDS, SIZE, Harness, events, expected_weights, finish, make_task, wait_for
from test_relay import regions

from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Task

EVERYONE = ["a", "b", "c"]


def weights_after(cohorts: Sequence[Sequence[str]]) -> np.ndarray:
    """FedAvg from zero, each change rounded to 8 bits of its largest value and the rest owed to the next."""
    weights = owed = np.zeros(SIZE, np.float32)
    for number, nodes in enumerate(cohorts, 1):
        total = sum(RECORDS[n] * fixed_update(n, number, SIZE).astype(np.float64) for n in sorted(nodes))
        wanted = (weights + total / sum(RECORDS[n] for n in nodes)).astype(np.float32)
        change = (wanted - weights + owed).astype(np.float32)
        scale = np.float32(np.abs(change).max() / 127)
        after = weights + np.rint(change / scale).astype(np.float32) * scale
        weights, owed = after, change - (after - weights)
    return weights


def test_nodes_and_gateway_keep_the_same_weights_whoever_dies(tmp_path: Path) -> None:
    with Harness(tmp_path, make_task(rounds=6, statistics=False, weights="int8", deadline_s=600.0)) as harness:
        for name in ("a", "b"):
            harness.node(name)
        victim = harness.node("c")
        gateway = harness.gateway("Aggregated", 4, "after")
        wait_for(gateway, "aggregated", round=2)
        victim.kill()
        victim.wait()
        harness.node("c")
        assert gateway.wait(120) == -signal.SIGKILL
        result = finish(harness.gateway())
        cohorts: List[List[str]] = [r["nodes"] for r in result["rounds"]]
        assert [r["round"] for r in result["rounds"]] == [1, 2, 3, 4, 5, 6]
        np.testing.assert_array_equal(np.array(result["weights"], np.float32), weights_after(cohorts))
        assert "other weights than it names" not in "".join(harness.log(name) for name in EVERYONE)


def test_a_node_that_lost_its_weights_asks_for_them(tmp_path: Path) -> None:
    """Whatever the gateway believes it has."""
    with Harness(tmp_path, make_task(rounds=4, statistics=False, weights="int8", deadline_s=600.0)) as harness:
        harness.node("a")
        harness.node("b")
        harness.forgetful_node("c")
        result = finish(harness.gateway())
        assert [r["nodes"] for r in result["rounds"]] == [EVERYONE] * 4
        np.testing.assert_array_equal(np.array(result["weights"], np.float32), weights_after([EVERYONE] * 4))
        assert harness.log("c").count("asks for the weights") == 3, "in every round but the first"


def test_what_goes_down_is_a_quarter(tmp_path: Path) -> None:
    down = {}
    for weights in ("float32", "int8"):
        folder = tmp_path / weights
        folder.mkdir()
        with Harness(folder, make_task(rounds=3, statistics=False, weights=weights), size=20_000) as harness:
            for name in EVERYONE:
                harness.node(name)
            rounds = [e for e in events(harness.gateway()) if e["event"] == "aggregated"]
            down[weights] = [e["bytes_down"] for e in rounds]
    assert down["int8"][0] > 0.9 * down["float32"][0]
    for number in (1, 2):
        assert down["int8"][number] < 0.3 * 3 * 4 * 20_000


LEVEL = 4 / 127
"""A change of one of the fixed updates' means is below 4; weights are never further than a level from exact ones."""


def under(method: str, rounds: int) -> Task:
    task = make_task(rounds, False, nodes=3, quorum=3, weights="int8", deadline_s=600.0)
    holder = "keys" if method == "ckks" else ""
    return replace(task, aggregation=Aggregation(method, update_range=8.0, key_holder=holder))


@pytest.mark.parametrize("method", ["masked", "ckks"])
def test_sums_nobody_can_take_apart_have_the_same_weights(tmp_path: Path, method: str) -> None:
    """All nodes of a sum sign which weights they began from: one that holds others would stop it."""
    if method == "ckks":
        pytest.importorskip("tenseal")
    with Harness(tmp_path, under(method, 4)) as harness:
        first = harness.gateway("Aggregated", 2, "after")
        if method == "ckks":
            harness.key_holder("keys")
        harness.node("a")
        harness.node("b")
        harness.forgetful_node("c")
        assert first.wait(120) == -signal.SIGKILL
        result = finish(harness.gateway())
        assert [r["nodes"] for r in result["rounds"]] == [EVERYONE] * 4
        np.testing.assert_allclose(result["weights"], expected_weights([EVERYONE] * 4), atol=LEVEL)


def test_through_a_relay_the_weights_are_those_of_one_federation(tmp_path: Path) -> None:
    with regions(tmp_path, rounds=3, statistics=False, weights="int8") as made:
        gateway = made.harness.gateway()
        made.relay("north", 2)
        made.relay("south", 1)
        for region, name in (("north", "a"), ("north", "b"), ("south", "c")):
            made.leaf(region, name)
        result = finish(gateway)
        assert [r["nodes"] for r in result["rounds"]] == [["north", "south"]] * 3
        np.testing.assert_allclose(result["weights"], expected_weights([EVERYONE] * 3), atol=LEVEL)
