"""A journal that was compacted says what it said before: to a gateway that begins again, to history and to the dashboard."""

import sqlite3
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from orchestrator.gateway import course as course_module
from orchestrator.gateway.course import Course
from orchestrator.gateway.history import History
from orchestrator.gateway.scrub import scrub
from orchestrator.gateway.scrub_text import REMOVED
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.runview import RunView
from orchestrator.gateway.web.storeview import StoreView
from orchestrator.rounds.events import Action, Aggregate, Aggregated, Arrived, Declined, Joined, Left, Started
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", 0, 1),), standardization="range")
TASK = Task("t", SCHEMA, {}, Training(rounds=400), Privacy(unit="none"), Rounds(2, 2))
QUOTED = "'Anna Smith' in line 3"
"""What a node of an earlier version said."""


def serve(store: Store, rounds: range, **nodes: int) -> Course:
    """A course that went through `rounds`, as a gateway goes: it compacts between events."""

    def act(actions: List[Action]) -> None:
        for action in actions:
            if isinstance(action, Aggregate):
                figures = {"round": action.round, "nodes": list(action.nodes), "updates": len(action.nodes)}
                costs = {"seconds": 0.5, "bytes_up": 100, "bytes_down": 200, "loss": 1 / action.round}
                clock[0] = float(action.round)
                event = Aggregated(clock[0], action.round)
                with store.transaction():
                    store.put_result(run, action.round, {**figures, **costs})
                    store.append(run, event)
                course.follow(event)

    run, clock = "run", [0.1]
    course = Course(store, run, TASK, lambda event: None, act)
    course.replay()
    course.now = lambda: clock[0]  # type: ignore[method-assign]
    course.happen(Started(0.1))
    for name, records in nodes.items():
        course.happen(Joined(0.2, name, records))
    for number in rounds:
        for name in course.coordinator.cohort:
            course.happen(Arrived(number - 0.5, name, number, "d", 3.0))
        course.compact()
    return course


def shown(out: Path) -> Dict[str, Any]:
    """All that readers say of the run."""
    with History(out) as history:
        summary, nodes, rounds = history.run("run"), history.nodes("run"), history.rounds("run")
    view = RunView(StoreView(out / "gateway.sqlite"), "run")
    view.advance()
    rows = (
        {**view.live(), "began_at": round(view.began_at)},
        view.node_rows({}),
        view.round_rows(),
        view.totals(),
        view.summary(),
        view.records(),
    )
    return {"summary": summary, "nodes": nodes, "rounds": rounds, "page": rows}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run("run", task_to_dict(TASK), b"graph", np.zeros(2, np.float32))
    store.close()
    return tmp_path


def test_readers_see_no_difference(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(out / "gateway.sqlite")
    course = serve(store, range(1, 40), a=3, b=4, c=5)
    for event in (Left(39.1, "c"), Declined(39.2, "d", QUOTED, "data")):
        course.happen(event)
    whole, follower = shown(out), RunView(StoreView(out / "gateway.sqlite"), "run")
    monkeypatch.setattr(course_module, "MOST_EVENTS", 50)
    course.compact()
    assert len(store.journal("run")) == 1
    assert shown(out) == whole
    follower.advance()
    assert follower.node_rows({}) == whole["page"][1], "a page that was behind when it happened"
    assert store.joined("run") == {"a", "b", "c"}
    again = Course(store, "run", TASK, lambda event: None, lambda actions: None)
    assert again.replay()
    assert again.coordinator == course.coordinator
    assert again.records == {"a": 3, "b": 4, "c": 5}


def test_a_long_run_has_a_short_journal(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course_module, "MOST_EVENTS", 60)
    store = Store(out / "gateway.sqlite")
    serve(store, range(1, 200), a=3, b=4)
    serve(store, range(200, 400))  # begun again in the middle
    assert len(store.journal("run")) <= 60 + 4
    phases = sqlite3.connect(out / "gateway.sqlite").execute("SELECT COUNT(*) FROM phases").fetchone()[0]
    assert phases <= 2 * 60
    rounds = History(out).rounds("run")
    assert [r.ended for r in rounds] == [float(number) for number in range(1, 400)]
    assert None not in [r.started for r in rounds]
    page = shown(out)["page"]
    assert len(page[2]) <= 108
    assert (page[3]["rounds"], page[3]["bytes_up"]) == (399, 39_900)


def test_words_of_nodes_leave_a_compacted_journal_too(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course_module, "MOST_EVENTS", 3)
    store = Store(out / "gateway.sqlite")
    course = serve(store, range(1, 2), a=3, b=4)
    course.happen(Declined(2.0, "d", QUOTED, "data"))
    course.happen(Declined(2.0, "e", QUOTED))
    for _ in range(3):
        course.happen(Left(3.0, "a"))
    course.compact()
    assert len(store.journal("run")) == 1
    store.close()
    assert scrub(out).journal == 1
    assert QUOTED.encode() not in (out / "gateway.sqlite").read_bytes()
    with History(out) as history:
        reasons = {node.name: node.reason for node in history.nodes("run")}
    assert reasons["e"] == REMOVED
    assert QUOTED not in reasons["d"]
