"""A node whose training graph's process ended is out of the run: no round waits for it until its deadline again and again."""

from typing import Any, Dict, List, Tuple

import pytest

from orchestrator.errors import GraphError, WireError
from orchestrator.node.agent import NodeAgent
from orchestrator.node.open_runs import AtWork, OpenRuns
from orchestrator.node.tasks import Tasks


class Said:
    """In the place of presence."""

    def __init__(self) -> None:
        self.words: List[Dict[str, Any]] = []

    def say(self, **word: Any) -> None:
        self.words.append(word)


def agent_at(error: Exception) -> Tuple[Any, Said, List[str]]:
    """An agent with a round of run "r" to answer, which fails so."""
    agent: Any = NodeAgent.__new__(NodeAgent)
    said, refused = Said(), []

    def fails(*_: Any) -> None:
        raise error

    agent.runs = OpenRuns()
    agent.runs._all["r"] = agent.runs.at = AtWork()
    agent.runs.at.round = ({"run": "r", "round": 3}, {})
    agent._tasks = Tasks("a", agent.runs, None, None, None, said)  # type: ignore[arg-type]
    agent._answer_round = fails
    agent._refuse = lambda what, error: refused.append(f"{what}: {error}")
    return agent, said, refused


def test_a_graph_that_failed_declines_the_run(caplog: pytest.LogCaptureFixture) -> None:
    agent, said, refused = agent_at(GraphError("the process of the training graph ended before it answered"))
    agent._answer_newest_round()
    assert refused == ["a round: the process of the training graph ended before it answered"]
    assert said.words == [{"kind": "declined", "run": "r", "code": "graph"}]
    assert agent.runs.find("r") is None
    assert any("declined run r: the process of the training graph ended" in line for line in caplog.messages)


def test_another_failure_is_of_this_round_alone() -> None:
    agent, said, refused = agent_at(WireError("round 3 came without weights"))
    agent._answer_newest_round()
    assert len(refused) == 1
    assert said.words == []
    assert "r" in agent.runs._all
