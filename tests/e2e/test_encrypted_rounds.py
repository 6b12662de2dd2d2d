"""Rounds under CKKS over a real broker: nodes, gateway and key holder killed, and what a key holder refuses."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, Sequence

import numpy as np
import pytest
from harness import Harness, expected_weights, finish, make_task, wait_for

from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Task

pytest.importorskip("tenseal")
NODES = ("a", "b", "c")


def encrypted_task(nodes: int = 3, statistics: bool = False, checked: bool = True, **rule: Any) -> Task:
    task = make_task(2, statistics, nodes=nodes, quorum=3, **rule)
    # The fixed updates are normal: none of 50 is beyond 8.
    aggregation = Aggregation("ckks", update_range=8.0, key_holder="keys", checked=checked)
    return dataclasses.replace(task, aggregation=aggregation)


def check(weights: Dict[str, Any], cohorts: Sequence[Sequence[str]]) -> None:
    np.testing.assert_allclose(weights["weights"], expected_weights(cohorts), atol=1e-6)
    assert [sorted(r["nodes"]) for r in weights["rounds"]] == [sorted(c) for c in cohorts]


@pytest.mark.parametrize("checked", [True, False])
def test_an_encrypted_round_gives_the_weighted_mean_and_the_statistics(tmp_path: Path, checked: bool) -> None:
    with Harness(tmp_path, encrypted_task(statistics=True, checked=checked)) as harness:
        gateway = harness.gateway()
        harness.key_holder("keys")
        for name in NODES:
            harness.node(name)
        check(finish(gateway), [NODES, NODES])
