"""A page of one node's rounds: how long it took, what it sent, how good the model was on its rows."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

from chromium import Browser
from dashboards import RUN, dashboard, make_store
from stage import Stage

from orchestrator.gateway.figures import ANSWERS, Figures
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.node_rounds import why_none
from orchestrator.privacy.participation import public_round
from orchestrator.rounds.events import Aggregate
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.refusals import text_of
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

ASK = "document.dispatchEvent(new Event('visibilitychange'))"
"""The page asks again, as when somebody comes back to it."""


def add_figures(out: Path, loss: float = 0.2) -> None:
    """As a gateway with federated evaluation leaves them."""
    store = Store(out / "gateway.sqlite")
    a, b = {"accuracy": 0.71, "auc": 0.8, "loss": 0.4}, {"accuracy": 0.91, "auc": None, "loss": loss}
    answers = {"a": [0.25, 500], "b": [4.0, 12_345]}
    store.add_to_result(RUN, 1, {"federated": {"accuracy": 0.8, "per_node": {"a": a, "b": b}}, "answers": answers})
    store.close()


def test_rounds_of_a_node_are_read_from_results(tmp_path: Path) -> None:
    make_store(tmp_path)
    add_figures(tmp_path)
    with dashboard(tmp_path) as (client, _):
        found = client.json(f"/api/nodes/{RUN}/b")
        statistics, first = found["rounds"]
        assert (found["node"], found["records"], found["held_back"]) == ("b", 80, "")
        assert (statistics["round"], statistics["accuracy"], statistics["bytes"]) == (0, None, None), "as before 0.2"
        assert (first["round"], first["counted"], first["accuracy"], first["loss"]) == (1, True, 0.91, 0.2)
        assert (first["seconds"], first["bytes"]) == (4.0, 12_345)
        assert client.json(f"/api/nodes/{RUN}/c")["rounds"] == []
        assert client.ask(f"/api/nodes/{RUN}/nobody")[0] == 404
        assert client.ask("/api/nodes/nothing/a")[0] == 404


def test_a_gateway_notes_when_each_node_answered_and_how_much_it_sent() -> None:
    figures = Figures(
        Task("t", Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),)), {"kind": "mlp"})
    )
    figures.round_began(1)
    for node, size in (("a", 100), ("b", 300), ("a", 50)):
        figures.received(node, size, {})
    answers = figures.of_round(Aggregate(1, ("a", "b")))[ANSWERS]
    assert {node: size for node, (_, size) in answers.items()} == {"a": 150, "b": 300}
    assert all(0 <= seconds < 60 for seconds, _ in answers.values())
    figures.round_began(2)
    assert figures.of_round(Aggregate(2, ()))[ANSWERS] == {}
    assert ANSWERS not in public_round({"round": 1, ANSWERS: answers}), (
        "where who answered is secret it does not go out"
    )


def test_the_page_of_a_node_is_reached_from_the_list_and_draws_its_rounds(chromium: Browser, tmp_path: Path) -> None:
    make_store(tmp_path)
    add_figures(tmp_path)
    with dashboard(tmp_path) as (client, _):
        chromium.open("about:blank")
        chromium.errors.clear()
        chromium.size(1280, 900)
        chromium.open(f"http://127.0.0.1:{client.port}/")
        chromium.wait("document.querySelector('#nodes tbody a')", 60)
        chromium.evaluate("[...document.querySelectorAll('#nodes tbody a')].find((a) => a.innerText === 'b').click()")
        chromium.wait(f"location.pathname === '/node/{RUN}/b' && document.querySelector('#node-rounds')", 60)
        cells = chromium.evaluate(
            "[...document.querySelector('#node-rounds tbody tr').cells].map((cell) => cell.innerText)"
        )
        assert cells[:4] == ["1", "4.0 s", "12.3 kB", "yes"]
        for chart in ("node-seconds", "node-bytes", "node-accuracy", "node-loss"):
            chromium.wait(f"document.querySelector('#{chart} svg[role=img]')", 60)
        with sqlite3.connect(tmp_path / "gateway.sqlite") as database:  # a task whose nodes hold no rows out
            database.execute("DELETE FROM results WHERE round = 1")
        database.close()
        chromium.evaluate(ASK)
        chromium.wait("document.querySelector('#held-back')?.innerText.includes('hold no rows out')", 60)
        chromium.open(f"http://127.0.0.1:{client.port}/node/{RUN}/nobody")
        chromium.wait(
            "document.querySelector('[role=alert]:not([hidden])')?.innerText.includes(\"has no node 'nobody'\")", 60
        )
        assert [e for e in chromium.errors if "404" not in e] == []


def test_a_search_among_rounds_keeps_the_keyboard(chromium: Browser, tmp_path: Path) -> None:
    make_store(tmp_path, rounds=30, begun=20)
    with dashboard(tmp_path) as (client, _):
        chromium.open("about:blank")
        chromium.size(1280, 900)
        chromium.open(f"http://127.0.0.1:{client.port}/node/{RUN}/b")
        chromium.wait("document.querySelector('#rounds-search')", 60)
        chromium.evaluate("document.querySelector('#rounds-search').focus()")
        for letter in "12":
            chromium.type(letter)
        chromium.wait("document.querySelector('#node-rounds tbody').rows.length === 1", 60)
        assert chromium.evaluate("[document.activeElement.id, document.activeElement.value]") == ["rounds-search", "12"]


def test_an_opened_list_of_many_rounds_has_pages(chromium: Browser, tmp_path: Path) -> None:
    """Two thousand rows at once are a task of a sixth of a second."""
    make_store(tmp_path, rounds=300, begun=250)
    rows = "[...document.querySelectorAll('#node-rounds tbody tr')].map((row) => Number(row.cells[0].innerText))"
    with dashboard(tmp_path) as (client, _):
        chromium.open("about:blank")
        chromium.errors.clear()
        chromium.size(1280, 900)
        chromium.open(f"http://127.0.0.1:{client.port}/node/{RUN}/b")
        chromium.wait("document.querySelectorAll('#node-rounds tbody tr').length === 12", 60)
        chromium.evaluate("document.querySelector('#rounds-all').click()")
        for page, first, last in ((1, 249, 150), (2, 149, 50), (3, 49, 0)):
            assert chromium.evaluate(f"[{rows}.at(0), {rows}.at(-1)]") == [first, last]
            shown = f"rounds {100 * page - 99} to {100 * page - 99 + first - last} of 250"
            assert chromium.evaluate("document.querySelector('#rounds-shown').innerText") == shown
            ends = "['previous', 'next'].map((way) => document.querySelector(`#rounds-${way}`).ariaDisabled)"
            assert chromium.evaluate(ends) == ["true" if page == end else None for end in (1, 3)]
            if page == 2:
                chromium.reload()
                chromium.wait(f"{rows}.at(0) === {first}", 60)
            chromium.evaluate("document.querySelector('#rounds-next').click()")
        chromium.evaluate("document.querySelector('#rounds-all').click()")
        assert chromium.evaluate(f"{rows}.length") == 12
        assert chromium.errors == []


def test_of_masked_sums_it_says_why_there_are_no_figures() -> None:
    schema = Schema("table", "sick", ("no", "yes"), {"0": 0, "1": 1}, (Feature("age", 0, 110),))
    task = Task("heart", schema, {"kind": "mlp"}, Training(rounds=3), Privacy("none"), Rounds(nodes=4, quorum=4))
    assert "hold no rows out" in why_none(task)
    task = replace(task, evaluation=Evaluation(0.2))
    assert why_none(task) == "No figures of single nodes yet."
    assert "sums over nodes only" in why_none(replace(task, aggregation=Aggregation("masked", honest=3)))


def test_a_node_is_in_the_state_that_the_list_says(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path, at=time.time())
    page, state = stage.browser, "document.querySelector('#node-state')?.innerText"
    with stage.showing(tmp_path) as scene:
        page.open(f"{stage.url}node/{RUN}/b")
        page.wait(f"{state}.includes(`run {RUN}, unknown at `)")  # no gateway works on the run
        scene.node_says("d", kind="waiting", run=RUN, code="policy.approval")
        page.open(f"{stage.url}node/{RUN}/d")
        page.wait(f"{state}.includes('waits for its owner')")
        assert text_of("policy.approval") in page.text()


def test_what_a_node_did_stays_when_the_dashboard_is_gone(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    add_figures(tmp_path, loss=float("nan"))
    page = stage.browser
    with stage.showing(tmp_path):
        page.open(f"{stage.url}node/{RUN}/b")
        page.wait("document.querySelector('#node-loss svg .odd')")  # a loss that is no number is not "not measured"
        with stage.offline():
            page.evaluate(ASK)
            page.wait("document.querySelector('#problem')?.innerText.startsWith('There is no news since')")
            assert page.evaluate("document.querySelectorAll('#node-rounds tbody tr').length") == 2
            assert "no news since" in page.evaluate("document.title")
        page.evaluate(ASK)
        page.wait("!document.querySelector('#problem')")
