"""Rounds under CKKS over a real broker: nodes, gateway and key holder killed, and what a key holder refuses."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, Sequence

import numpy as np
import pytest
from harness import Harness, events, expected_weights, finish, make_task

from orchestrator.wire.protection import Aggregation
from orchestrator.wire.refusals import text_of
from orchestrator.wire.task import Task

pytest.importorskip("tenseal")
NODES = ("a", "b", "c")


def encrypted_task(nodes: int = 3, statistics: bool = False, **rule: Any) -> Task:
    task = make_task(2, statistics, nodes=nodes, quorum=3, **rule)
    # The fixed updates are normal: none of 50 is beyond 8.
    aggregation = Aggregation("ckks", update_range=8.0, key_holder="keys")
    return dataclasses.replace(task, aggregation=aggregation)


def check(weights: Dict[str, Any], cohorts: Sequence[Sequence[str]]) -> None:
    np.testing.assert_allclose(weights["weights"], expected_weights(cohorts), atol=1e-6)
    assert [sorted(r["nodes"]) for r in weights["rounds"]] == [sorted(c) for c in cohorts]


def test_nodes_that_die_before_and_after_their_ciphertext_are_out_of_the_sum_and_in_it(tmp_path: Path) -> None:
    with Harness(tmp_path, encrypted_task(5, statistics=True)) as harness:
        gateway = harness.gateway()
        harness.key_holder("keys")
        for name in NODES:
            harness.node(name)
        harness.dropping_node("d", 1, "encrypted", "before")
        harness.dropping_node("e", 1, "encrypted", "after")
        check(finish(gateway), [(*NODES, "e"), NODES])


def test_a_key_holder_that_dies_costs_an_attempt_before_the_sum_and_nothing_after_it(tmp_path: Path) -> None:
    with Harness(tmp_path, encrypted_task()) as harness:
        gateway = harness.gateway()
        dying = harness.key_holder("keys", 1, "decrypt", "before")
        for name in NODES:
            harness.node(name)
        assert dying.wait() == -9
        dying = harness.key_holder("keys", 2, "decrypt", "after")  # without the keys of round 1
        assert dying.wait() == -9
        harness.key_holder("keys")  # with the sum of round 2
        told = list(events(gateway))
    check(told[-1], [NODES, NODES])
    asked = [(e["round"], e["attempt"]) for e in told if e["event"] == "step" and e["step"] == "context"]
    assert asked == [(1, 1), (1, 2), (2, 1)]
    assert "the keys of this attempt are gone" in harness.log("keys")
    assert [(e["code"], e["reason"]) for e in told if e["event"] == "abstained"] == [("sum", text_of("sum"))]


def test_a_gateway_killed_amid_every_step_goes_on_where_it_was(tmp_path: Path) -> None:
    with Harness(tmp_path, encrypted_task()) as harness:
        deaths = ((1, "after"), (2, "after"), (2, "before"))  # keys; two of three ciphertexts; the sum, not yet stored
        first = harness.gateway("Arrived", *deaths[0])
        harness.key_holder("keys")
        for name in NODES:
            harness.node(name)
        assert first.wait() == -9
        for death in deaths[1:]:
            assert harness.gateway("Arrived", *death).wait() == -9
        told = list(events(harness.gateway()))
    check(told[-1], [NODES, NODES])
    assert not [e for e in told if e["event"] in ("abstained", "unopened")]
    assert {(e["attempt"], e["step"]) for e in told if e["event"] == "step" and e["round"] == 1} == {(1, "decrypt")}
