"""Secure rounds over a real broker: nodes and gateway killed at every step, and the sum is that of the survivors."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import pytest
from harness import RECORDS, Harness, expected_weights, finish, make_task, wait_for

from orchestrator.rounds.steps import MASKED_STEPS, REVEAL
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Task

NODES = ("a", "b", "c", "d", "e")


def secure_task(nodes: int, quorum: int = 3, statistics: bool = False, **rule: Any) -> Task:
    task = make_task(2, statistics, nodes=nodes, quorum=quorum, **rule)
    # The fixed updates are normal: none of 50 is beyond 8.
    return dataclasses.replace(task, aggregation=Aggregation("masked", honest=3, bits=32, update_range=8.0))


def check(weights: Dict[str, Any], cohorts: Sequence[Sequence[str]]) -> None:
    np.testing.assert_allclose(weights["weights"], expected_weights(cohorts), atol=1e-6)
    assert [sorted(r["nodes"]) for r in weights["rounds"]] == [sorted(c) for c in cohorts]
    assert all(r["values_cut"] == 0 for r in weights["rounds"])


def test_a_secure_round_gives_the_weighted_mean_and_the_statistics(tmp_path: Path) -> None:
    with Harness(tmp_path, secure_task(3, statistics=True)) as harness:
        gateway = harness.gateway()
        for name in NODES[:3]:
            harness.node(name)
        check(finish(gateway), [NODES[:3], NODES[:3]])


@pytest.mark.parametrize("step", MASKED_STEPS)
def test_two_of_five_nodes_die_at_a_step_and_the_sum_is_the_survivors(tmp_path: Path, step: str) -> None:
    with Harness(tmp_path, secure_task(5)) as harness:
        gateway = harness.gateway()
        for name in NODES[:3]:
            harness.node(name)
        harness.dropping_node("d", 1, step, "before")
        # Nobody is asked to confirm the survivors unless a vector is missing.
        harness.dropping_node("e", 1, *(("masked", "before") if step == "confirm" else (step, "after")))
        result = finish(gateway)
    first: List[str] = list(NODES[:3])
    if step == "confirm":
        first += ["d"]
    elif step == "unmask":
        first += ["d", "e"]  # their vectors were there
    elif step == "masked":
        first += ["e"]
    check(result, [first, NODES[:3]])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("arrival", [2, 8, 11])
def test_a_gateway_killed_amid_the_steps_goes_on_where_it_was(tmp_path: Path, arrival: int, when: str) -> None:
    """Three nodes: the arrivals are the second of the keys, of the vectors, and of the openings."""
    with Harness(tmp_path, secure_task(3)) as harness:
        first = harness.gateway("Arrived", arrival, when)
        for name in NODES[:3]:
            harness.node(name)
        assert first.wait() == -9
        check(finish(harness.gateway()), [NODES[:3], NODES[:3]])


def test_more_nodes_than_neighbours_with_one_and_the_gateway_killed_as_they_reveal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """14 nodes, 12 neighbours each: after the one that died 13 are left, who are all neighbours."""
    many = [f"n{i:02}" for i in range(14)]
    for i, name in enumerate(many):
        monkeypatch.setitem(RECORDS, name, 5 + i)
    aggregation = Aggregation("masked", honest=3, colluding=1, neighbours=12, bits=32, update_range=8.0)
    task = dataclasses.replace(secure_task(14, quorum=4), aggregation=aggregation)
    with Harness(tmp_path, task) as harness:
        first = harness.gateway("Arrived", 16, "after")  # two nonces are there
        harness.many_nodes(many[:13])
        harness.dropping_node(many[13], 1, REVEAL, "before")
        assert first.wait() == -9
        check(finish(harness.gateway()), [many[:13], many[:13]])


def test_too_few_for_a_sum_is_a_clear_failure_and_nothing_is_opened(tmp_path: Path) -> None:
    with Harness(tmp_path, secure_task(3, attempts=1, deadline_s=5.0)) as harness:
        gateway = harness.gateway()
        harness.node("a")
        harness.node("b")
        harness.dropping_node("c", 1, "masked")
        failed = wait_for(gateway, "failed")
    assert "2 of 3 answers needed to step 'masked'; no answer from c" in failed["reason"]


def test_a_restarted_node_is_out_of_the_attempt_it_had_keys_in_and_in_the_next(tmp_path: Path) -> None:
    with Harness(tmp_path, secure_task(3, deadline_s=20.0)) as harness:
        gateway = harness.gateway()
        harness.node("a")
        harness.node("b")
        harness.dropping_node("c", 1, "masked").wait()
        harness.node("c")  # the same node, with the same store and without the keys
        check(finish(gateway), [NODES[:3], NODES[:3]])
