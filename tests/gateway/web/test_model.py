"""What the page is told, without a server: who waits for an owner, what is planned, and runs that cannot be read."""

import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from chromium import Browser, find_chromium
from copies import copy_runs
from dashboards import RUN, dashboard, make_store
from stage import gateway_at_work

from orchestrator.errors import EdgewardError
from orchestrator.gateway.store import Store
from orchestrator.gateway.web import epsilon
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.storeview import StoreView
from orchestrator.rounds.events import Joined
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import Message
from orchestrator.wire.protection import Privacy


def said(listener: Listener, node: str, **header: Any) -> None:
    listener.take(Message(f"edgeward/1/test/node/{node}/presence", encode_body(header)), 1.0)


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[None]:
    with gateway_at_work(tmp_path):
        yield


def test_a_node_that_waits_for_its_owner_is_in_the_table(tmp_path: Path, at_work: None) -> None:
    make_store(tmp_path, at=time.time())
    listener = Listener(None, "test")
    model = DashboardModel(tmp_path, "test", listener)

    def rows() -> Any:
        return {row["node"]: (row["state"], row["reason"]) for row in model.sections()["nodes"]}

    said(listener, "d", kind="waiting", run=RUN, code="policy.approval", digest="aa" * 32)
    said(listener, "e", kind="waiting", run="another", code="policy.approval", digest="aa" * 32)
    said(
        listener, "a", kind="waiting", run=RUN, code="policy.approval", digest="aa" * 32
    )  # the journal has it in the round
    assert rows()["d"] == ("waits for its owner", "its owner has to approve the task")
    assert "e" not in rows()
    assert rows()["a"][0] == "arrived"
    for beside in ("health", "refused"):  # which come now and then, and change nothing
        said(listener, "d", kind=beside, code="internal")
        assert rows()["d"][0] == "waits for its owner"
    elsewhere = {"kind": "ready", "run": "another", "records": 3}
    said(listener, "f", **elsewhere, runs=[{"kind": "waiting", "run": RUN, "code": "policy.approval"}])
    assert rows()["f"] == ("waits for its owner", "its owner has to approve the task")
    said(listener, "d", kind="gone")
    assert "d" not in rows()
    said(listener, "d", kind="waiting", run=RUN, code="policy.peers", digest="aa" * 32)
    said(listener, "d", kind="ready", run=RUN, records=3)
    assert "d" not in rows()
    model.close()


def test_until_epsilon_is_computed_what_was_planned_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, privacy=Privacy(epsilon=3.0, delta=1e-4, noise_multiplier=1.5))
    done = threading.Event()
    monkeypatch.setattr(epsilon, "curve_apart", lambda *_: done.wait(600) and {"points": [(0, 0.5)], "statement": {}})
    model = DashboardModel(tmp_path, "test", Listener(None, "test"))
    found = model.sections()["privacy"]
    assert (found["state"], found["planned"], found["delta"]) == ("computing", 3.0, 1e-4)
    done.set()
    model.close()


def copy_run(out: Path, **changed: str) -> None:
    with sqlite3.connect(out / "gateway.sqlite") as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(runs)")]
        given = {name: f"'{value}'" for name, value in changed.items()}
        values = ", ".join({**given, "digest": "NULL"}.get(name, name) for name in columns)
        database.execute(f"INSERT INTO runs ({', '.join(columns)}) SELECT {values} FROM runs WHERE id = '{RUN}'")
    database.close()


def test_a_run_that_cannot_be_read_is_named_and_hides_no_other(tmp_path: Path) -> None:
    make_store(tmp_path)
    copy_run(tmp_path, id="old", task='{"of": "1970"}')
    model = DashboardModel(tmp_path, "test", Listener(None, "test"))
    page = model.sections()
    assert page["run"]["run"] == RUN
    assert [(run["run"], run["phase"]) for run in page["runs"]] == [(RUN, "collecting"), ("old", "unreadable")]
    assert "run old cannot be read by this version" in page["runs"][1]["reason"]
    with pytest.raises(EdgewardError, match="run old cannot be read"):
        model.view("old")
    model.close()


def test_runs_are_read_once_a_look_and_only_after_something_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path)
    copy_runs(tmp_path, *(f"heart-{number:08d}" for number in range(1, 20)), rounds=True)
    model = DashboardModel(tmp_path, "test", Listener(None, "test"))
    asked: Counter[str] = Counter()
    for name in ("runs", "each_result", "journal_after"):
        monkeypatch.setattr(StoreView, name, counted(asked, name, getattr(StoreView, name)))
    assert len(model.sections()["runs"]) == 20
    assert asked["runs"] <= 3
    assert asked["each_result"] == asked["journal_after"] == 20
    asked.clear()
    model.sections()
    assert not asked["each_result"]
    assert not asked["journal_after"]
    store = Store(tmp_path / "gateway.sqlite")
    store.append(RUN, Joined(time.time(), "late", 10))
    store.close()
    assert "late" in [row["node"] for row in model.sections()["nodes"]]
    assert asked.pop("journal_after") == 20
    model.close()


def counted(asked: "Counter[str]", name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
    def answer(*given: Any) -> Any:
        asked[name] += 1
        return ask(*given)

    return answer


def test_a_run_is_opened_by_its_name(tmp_path: Path) -> None:
    find_chromium()
    make_store(tmp_path)
    copy_run(tmp_path, id="another-0123abcd")
    copy_run(tmp_path, id="old", task='{"of": "1970"}')
    with dashboard(tmp_path) as (client, _), Browser() as browser:
        browser.open(f"http://127.0.0.1:{client.port}/#runs")
        browser.wait("document.querySelectorAll('#runs tbody a').length === 2")
        assert "run old cannot be read by this version" in browser.text()
        browser.evaluate(
            "[...document.querySelectorAll('#runs tbody a')].find((a) => a.innerText.startsWith('another')).click()"
        )
        browser.wait("document.querySelector('#overview .heading')?.innerText.includes('run another-0123abcd')")
        browser.wait("document.querySelector('#phase').innerText === 'Interrupted'")
        browser.evaluate(f"location.hash = 'run/{RUN}'")
        browser.wait("document.querySelector('#round')?.innerText === 'Round 2 of 3'")
        assert "unknown, last event" in " ".join(browser.text().split()), "nobody knows how many nodes are there"
        assert browser.errors == []
        browser.evaluate("location.hash = 'run/..%2Fnothing'")
        browser.wait("document.querySelector('#overview').innerText.includes('the store has no run')")


def test_a_clock_that_is_set_back_hides_no_run(tmp_path: Path) -> None:
    """As of a machine whose clock is put right by the network after its gateway began."""
    make_store(tmp_path, at=time.time())
    model = DashboardModel(tmp_path, "test", Listener(None, "test"))
    with gateway_at_work(tmp_path):
        assert model.sections()["run"]["run"] == RUN
        make_store(tmp_path, at=time.time() - 3600, run="heart-4567cdef")
        found = model.sections()
        assert (found["run"]["run"], found["gateway"]["state"]) == ("heart-4567cdef", "working")
        assert found["live"]["state"] == "collecting"
    assert model.sections()["live"]["state"] == "interrupted"
    with gateway_at_work(tmp_path):  # another one, that has not come to the run yet
        assert model.sections()["live"]["state"] == "starting"
    model.close()
