"""A node whose training graph's process ended is out of the run: no round waits for it until its deadline again and again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_samples import softmax_regression
from test_open_runs import TASK, Still, Trained

from orchestrator.errors import EdgewardError, GraphError, WireError


def node_in_run(folder: Path, error: EdgewardError) -> Trained:
    """A node in run "r" whose trainer fails so."""

    class Failing(Still):
        def train(self, weights: np.ndarray, round_number: int, correction: Any = None) -> np.ndarray:
            raise error

    node = Trained(folder, trainer=Failing)
    assert node.asked(TASK, "r", graph=softmax_regression(1, 2))["kind"] == "ready"
    return node


def test_a_graph_that_failed_declines_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = node_in_run(tmp_path, GraphError("the process of the training graph ended before it answered"))
    assert node.round("r", 3) == ["refused", "declined"]
    refused, declined = node.said()[-2:]
    assert refused == {"kind": "refused", "node": "n", "code": "graph"}
    assert (declined["run"], declined["code"]) == ("r", "graph")
    assert node.agent.runs.find("r") is None
    assert "refused a round: the process of the training graph ended before it answered" in caplog.messages
    assert any("declined run r: the process of the training graph ended" in line for line in caplog.messages)


def test_another_failure_is_of_this_round_alone(tmp_path: Path) -> None:
    node = node_in_run(tmp_path, WireError("round 3 came without weights"))
    assert node.round("r", 3) == ["refused"]
    assert node.agent.runs.find("r") is not None
