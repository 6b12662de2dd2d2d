"""What a gateway reads, checks and shows of an exchange between nodes: figures they say of themselves, nothing of messages."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from orchestrator.analyses.agents import EXCHANGE, PeerAnalysis
from orchestrator.analyses.base import Result, Total
from orchestrator.analyses.registry import analysis_of, contradictions, exchange_of, spelled_out
from orchestrator.errors import UsageError
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.config import load_config
from orchestrator.gateway.exchanged import FIGURES, TRAFFIC, exchanged_of, named_in, needs_log, with_exchange
from orchestrator.gateway.mosquitto import access_list
from orchestrator.node.approval import summary_of
from orchestrator.node.policy import OPEN, Allow, Policy, Require
from orchestrator.node.roster import Roster, neighbour_lines
from orchestrator.privacy.statement_page import markdown, nothing_claimed
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

NODES = ("a", "b", "c")
SCHEMA = Schema("table", "", (), {}, (Feature("age", 0, 100), Feature("sex", categories=("f", "m"))))


def task_of(**options: Any) -> Task:
    declared = {"kind": "svm", "outcome": "sex", "nodes": NODES, "graph": "line", **options}
    task = Task("t", SCHEMA, {}, privacy=Privacy("none"), rounds=Rounds(3, 3), analysis=declared)
    analysis = analysis_of(task)
    return spelled_out(replace(task, training=Training(rounds=3, parameters=analysis.sums.size)))


def svm() -> PeerAnalysis:
    found = analysis_of(task_of())
    assert isinstance(found, PeerAnalysis)
    return found


def said(missed: int = 0, **neighbours: Any) -> Dict[str, Any]:
    return {EXCHANGE: {"iterations": 9, "missed": missed, "apart_millionths": 1500, "neighbours": neighbours}}


def shown(headers: Dict[str, Any]) -> Result:
    analysis = svm()
    state = exchanged_of(analysis.exchange.graph, headers)
    return with_exchange(analysis, Result([]), state[FIGURES], state[TRAFFIC])


def test_who_sent_whom_how_much_and_how_far_each_came() -> None:
    headers = {
        "a": said(b=[9, 900, 8, 0]),
        "b": said(4, a=[9, 900, 9, 1], c=[9, 900, 9, 0]),
        "c": said(b=[5, 500, 9, 0]),
    }
    nodes, messages = shown(headers).tables
    assert nodes.rows == [("a", 1, 9, 0, 0.0015), ("b", 2, 9, 4, 0.0015), ("c", 1, 9, 0, 0.0015)]
    assert ("a", "b", 9, 900, 9, 1) in messages.rows
    assert ("b", "a", 9, 900, 8, 0) in messages.rows
    assert len(messages.rows) == 4, "an edge both ways"
    notes = " ".join(shown(headers).notes)
    assert "b (4)" in notes
    assert "b refused 1 message in the name of a" in notes


LIES: Dict[str, Any] = {
    "nothing": {},
    "text": {EXCHANGE: "no"},
    "numbers that are none": {EXCHANGE: {"iterations": "9", "missed": True, "apart_millionths": -1, "neighbours": 3}},
    "of a stranger": said(z=[1, 1, 1, 1], c=[1, 1, 1, 1]),
    "too large": said(b=[10**30, 1, 1, 1]),
    "short": said(b=[1]),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_node_says_that_makes_no_sense_is_not_shown(lie: str) -> None:
    result = shown({"a": LIES[lie], "stranger": said()})
    rows = {row[:2]: row[2:] for row in result.tables[1].rows}
    assert rows["a", "b"] == (None, None, None, None)
    assert [row[0] for row in result.tables[0].rows] == list(NODES)


def test_an_answer_that_no_agent_comes_to_is_refused() -> None:
    analysis = svm()
    answer = np.zeros(analysis.sums.size)
    answer[0] = 1.0
    assert analysis.wrong_answer(answer) == ""
    for place, value in ((0, 2.0), (0, 0.0), (1, 1.5), (1, -40.0)):
        wrong = answer.copy()
        wrong[place] = value
        assert analysis.wrong_answer(wrong)


def test_a_result_without_answers_of_all_nodes_says_so() -> None:
    analysis = svm()
    asked, first = analysis.fold(
        analysis.begin(0), Total(np.append([30.0, 20.0, 0.0], np.zeros(analysis.sums.size - 3)))
    )
    answers = np.zeros(analysis.sums.size)
    answers[:3] = 2.0, 0.02, 0.04
    asked, second = analysis.fold(asked, Total(answers))
    measured = np.zeros(analysis.sums.size)
    measured[:5] = 20.0, 15.0, 0.0, 50.0, 0.1
    _, third = analysis.fold(asked, Total(measured))
    assert third.done
    result = analysis.result({**first.state, **second.state, **third.state}, "records")
    assert any("2 of 3 nodes answered" in note for note in result.notes)
    weights = {row[0]: row[1] for row in result.tables[0].rows}
    assert weights == {"(intercept)": pytest.approx(1.0), "age": pytest.approx(2.0)}


def test_a_task_names_its_nodes_and_no_others_are_asked() -> None:
    task = task_of()
    assert named_in(task) == NODES
    assert needs_log(task)
    ckks = replace(task, aggregation=Aggregation("ckks", key_holder="holder"))
    assert named_in(ckks) == (*NODES, "holder")
    plain = replace(
        task, analysis={"kind": "pca"}, schema=Schema("table", "", (), {}, (Feature("x", 0, 1), Feature("y", 0, 1)))
    )
    assert named_in(plain) == ()
    assert not needs_log(plain)
    assert exchange_of(plain) is None


def test_noise_and_another_number_of_nodes_are_refused_with_the_reason() -> None:
    task = task_of()
    few = list(contradictions(analysis_of(task), task.training, task.privacy, Rounds(2, 2)))
    assert few == ["rounds.nodes: 2, and the analysis is of the 3 nodes that it names: say 3"]
    noisy = Privacy(noise_multiplier=1.0, sampling_rate=1.0, clip_norm=0.0)
    (why,) = contradictions(analysis_of(task), task.training, noisy, task.rounds)
    assert "noise on what nodes send each other is not supported" in why


def test_an_owner_reads_who_sends_whom_how_much_before_it_is_approved() -> None:
    lines = summary_of(task_of())
    text = "\n".join(lines)
    assert "messages go between 'a' and 'b', 'b' and 'c'" in text
    assert "to each neighbour in the graph 1000 messages with its weights" in text
    assert "without noise" in text
    assert "seen by: each message the neighbour it is sealed for" in text
    known = neighbour_lines(("b", "c"), Roster({"b": "ab" * 32}))
    assert "    b  abab abab" in known[1]
    assert "    c  not confirmed: this node waits" in known[2]


def test_no_policy_lets_messages_pass_by_itself() -> None:
    require = Require(units=("none",), stages=())
    refused = Policy(require=require).objection(task_of(), "")
    assert refused is not None
    assert refused.code == "policy.messages"
    assert Policy(require=require, allow=Allow(peer_messages=1000)).objection(task_of(), "") is None
    assert Policy(require=require, allow=Allow(peer_messages=999)).objection(task_of(), "") is not None
    assert OPEN.objection(task_of(), "") is None, "without a policy everything passes, as all else does"
    with pytest.raises(ValueError, match="peer_messages"):
        Allow(peer_messages=-1)


def test_the_statement_says_what_neighbours_learned() -> None:
    claim = nothing_claimed(task_of())
    assert "each neighbour of a node in the task's graph learned up to 1000 times its weights" in claim["claim"]
    assert claim["claim"] in markdown(claim)
    assert claim["epsilon"] is None


def test_nodes_write_to_each_other_only_in_their_own_name(tmp_path: Path) -> None:
    Authority.create(tmp_path / "identity", "icu", ["127.0.0.1"])
    lines = access_list(Authority(tmp_path / "identity")).split("\n")
    assert "pattern write edgeward/1/icu/peer/%u/+" in lines
    assert "pattern read edgeward/1/icu/peer/+/%u" in lines


TOML = """
[gateway]
federation = "f"
[task]
name = "t"
[task.rounds]
nodes = 3
quorum = 3
[task.privacy]
unit = "none"
[task.schema]
kind = "table"
features = [{ name = "age", minimum = 0, maximum = 100 }, { name = "sex", categories = ["f", "m"] }]
[task.analysis]
kind = "svm"
outcome = "sex"
nodes = ["a", "b", "c"]
"""


def config_of(folder: Path, edges: str, more: str = 'graph = "edges"\nedges_file = "graph.txt"\n') -> Task:
    (folder / "graph.txt").write_text(edges)
    (folder / "edgeward.toml").write_text(TOML + more)
    return load_config(folder / "edgeward.toml").task


def test_edges_are_read_from_a_file_into_the_task(tmp_path: Path) -> None:
    task = config_of(tmp_path, "\ufeff# who knows whom\na b\n\n  b   c # both\n")
    exchange = exchange_of(task)
    assert exchange is not None
    assert exchange.graph.edges == {("a", "b"), ("b", "c")}
    assert "edges_file" not in task.analysis


MISTAKES = {
    "graph.txt:2: 3 words": ("a b\na b c\n", 'graph = "edges"\nedges_file = "graph.txt"\n'),
    "no edge in it": ("# nothing\n", 'graph = "edges"\nedges_file = "graph.txt"\n'),
    "nowhere.txt: No such file": ("", 'graph = "edges"\nedges_file = "nowhere.txt"\n'),
    "with a file it is 'edges'": ("a b\nb c\n", 'graph = "ring"\nedges_file = "graph.txt"\n'),
    "it is one or the other": ("a b\nb c\n", 'graph = "edges"\nedges = [["a", "b"]]\nedges_file = "graph.txt"\n'),
    "'z' is not among the nodes": ("a b\nb z\n", 'graph = "edges"\nedges_file = "graph.txt"\n'),
    "not every node can be reached": ("a b\n", 'graph = "edges"\nedges_file = "graph.txt"\n'),
    "expected the name of a file": ("", 'graph = "edges"\nedges_file = 3\n'),
    "patience_s: 0": ("", "patience_s = 0\n"),
    "strength: nan": ("", "strength = nan\n"),
}


@pytest.mark.parametrize("reason", MISTAKES)
def test_mistakes_are_named_with_file_and_line(tmp_path: Path, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        config_of(tmp_path, *MISTAKES[reason])
