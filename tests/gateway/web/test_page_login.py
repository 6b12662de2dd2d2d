"""The login leads where its reader wanted to go; views have titles; the keyboard and those who listen follow a change."""

import json
import time
from pathlib import Path
from typing import Iterator, Tuple

import pytest
from chromium import Browser
from dashboards import PASSWORD, RUN, Client, dashboard, make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.store import Store
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.words import describe_task
from orchestrator.rounds.events import Arrived, Declined
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

READY = (
    "location.pathname === '/login' && document.readyState === 'complete' && document.activeElement?.id === 'password'"
)
"""The login page, and its script."""


@pytest.fixture
def locked(chromium: Browser, tmp_path: Path) -> Iterator[Tuple[Client, Browser]]:
    make_store(tmp_path)
    Login(tmp_path).set_password(PASSWORD)
    chromium.size(1280, 900)
    chromium.ask("Network.clearBrowserCookies")
    with dashboard(tmp_path) as (client, _):
        yield client, chromium
        chromium.evaluate("localStorage.clear()")


def test_the_way_and_the_theme_are_kept(locked: Tuple[Client, Browser]) -> None:
    client, page = locked
    page.open(f"http://127.0.0.1:{client.port}/#run/{RUN}")
    page.wait(READY)
    page.evaluate("localStorage.setItem('edgeward-theme', 'dark'); location.reload()")
    page.wait(f"{READY} && document.documentElement.dataset.theme === 'dark'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 21, 25)"
    page.type("a wrong guess")
    page.press_enter()
    page.wait("document.querySelector('#problem').innerText === 'wrong password'")
    assert page.evaluate("document.activeElement.id") == "password"
    assert page.evaluate("document.querySelector('#problem').getAttribute('role')") == "alert"
    page.evaluate("document.querySelector('#password').value = ''")
    page.type(PASSWORD)
    page.press_enter()
    page.wait(f"location.pathname === '/' && location.hash === '#run/{RUN}' && document.querySelector('#round')")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    # Logged out, and in again: the way is kept then too.
    page.evaluate("location.hash = 'log'")
    page.wait("!document.querySelector('#log').hidden")
    page.evaluate("document.querySelector('#logout').click()")
    page.wait(f"{READY} && location.hash === '#log'")
    # A session that ends elsewhere leads there as well.
    page.type(PASSWORD)
    page.press_enter()
    page.wait("location.pathname === '/' && !document.querySelector('#log').hidden")


def log_in(page: Browser) -> None:
    page.wait(READY)
    page.type(PASSWORD)
    page.press_enter()


def test_who_logs_out_in_one_tab_leaves_nothing_unsaved_in_another(locked: Tuple[Client, Browser]) -> None:
    client, page = locked
    here = f"http://127.0.0.1:{client.port}/#runs?choose={RUN}"
    note = "[...document.querySelectorAll('#comparison .link')].find((button) => button.innerText.includes('note'))"
    page.open(here)
    log_in(page)
    page.wait(note)
    page.evaluate(f"{note}.click()")
    page.wait("document.activeElement.id === 'note-text'")
    page.type("half a sentence")
    # A login that ends by itself loses no word.
    page.ask("Network.clearBrowserCookies")
    page.evaluate("document.querySelector('dialog [type=submit]').click()")
    log_in(page)
    page.wait(f"{note}.innerText === 'unsaved note'")
    with page.second_tab():
        page.open(here)
        page.wait(note)
        page.evaluate("document.querySelector('#logout').click()")
        page.wait("location.pathname === '/login'")
    log_in(page)
    page.wait(note)
    assert page.evaluate(f"{note}.innerText") == "add a note"


def test_pages_of_their_own_are_led_back_to(locked: Tuple[Client, Browser]) -> None:
    client, page = locked
    here = f"http://127.0.0.1:{client.port}"
    for path, found in ((f"/node/{RUN}/a", "#node-rounds"), (f"/statement/{RUN}", "#statement .identity")):
        page.open(here + path)
        log_in(page)
        page.wait(f"location.pathname === '{path}' && document.querySelector('{found}')")
        # The session ends while the page is open: it asks again, and its reader comes back after the login.
        page.evaluate(
            "fetch('/api/logout', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'})"
            ".then(() => true)"
        )
        if path.startswith("/statement"):
            page.open("about:blank")
            page.open(here + path)
        log_in(page)
        page.wait(f"location.pathname === '{path}' && document.querySelector('{found}')")
        page.ask("Network.clearBrowserCookies")
    # What is behind the # may come from another site's link: the login leads nowhere else.
    for foreign in ("//evil.example/", "/node/..//evil.example/", "https://evil.example/"):
        page.open("about:blank")
        page.open(f"{here}/login#{foreign}")
        log_in(page)
        page.wait("location.pathname !== '/login'")
        assert page.evaluate("location.origin") == here
        page.ask("Network.clearBrowserCookies")


def test_titles_and_focus_of_views(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, at=time.time())
        with stage.showing(tmp_path):
            page = stage.browser
            page.wait("document.title === 'round 2/3 · Edgeward'")
            for view, name in (("runs", "Runs"), ("log", "Log")):
                page.evaluate(f"document.querySelector('[data-view={view}]').click()")
                page.wait(f"document.title === '{name} · round 2/3 · Edgeward'")
                assert page.evaluate("[document.activeElement.tagName, document.activeElement.innerText]") == [
                    "H1",
                    name,
                ]
            page.evaluate(f"location.hash = 'run/{RUN}'")
            page.wait(f"document.title === 'run {RUN} · round 2/3 · Edgeward'")
            page.wait("document.activeElement.tagName === 'H1'")


def test_failures_are_announced(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, at=time.time())
        store = Store(tmp_path / "gateway.sqlite")
        with stage.showing(tmp_path) as scene:
            page = stage.browser
            page.wait("document.querySelector('#news').innerText === 'A round is under way.'")
            live = "[...document.querySelectorAll('#news, #alarm')].map((n) => n.getAttribute('aria-live'))"
            assert page.evaluate(live) == ["polite", "assertive"]
            store.append(RUN, Declined(time.time(), "b", "its budget is spent"))
            page.wait("document.querySelector('#alarm').innerText.includes('cannot succeed')")
            store.append(RUN, Arrived(time.time(), "b", 2, "d", 1.0))
            scene.hear({"event": "ended", "how": "failed", "reason": "no space left on the disk"})
            page.wait("document.querySelector('#alarm').innerText === 'The gateway failed: no space left on the disk'")
        store.close()


def test_one_is_not_called_by_the_plural(stage: Stage, tmp_path: Path) -> None:
    schema = Schema("table", "sick", ("no", "yes"), {"0": 0, "1": 1}, (Feature("age", 0, 110),))
    rules = Rounds(nodes=1, quorum=1, deadline_s=60.0, attempts=1)
    task = Task(
        "heart", schema, {"kind": "mlp", "hidden": [4]}, Training(rounds=1, local_steps=1), Privacy("none"), rules
    )
    words = json.dumps(describe_task(task))
    for one in ("1 column:", "1 gradient step ", "1 node;", "1 update ", "at most once"):
        assert one in words
    with gateway_at_work(tmp_path):
        make_store(tmp_path, at=time.time())
        with stage.showing(tmp_path) as scene:
            page = stage.browser
            scene.board_says("ttyusb0", "metrics", inferences=1)
            page.wait("document.querySelector('#boards .facts')")
            text = page.text()
            assert "1 update here" in text
            assert "1 board reporting" in text
            page.evaluate("location.hash = 'runs'")
            page.wait("document.querySelector('#runs .heading').innerText.includes('1 run;')")
            for shown in (text, page.text()):
                wrong = page.evaluate(
                    f"{json.dumps(shown)}.match(/(^|\\s)1 (nodes|updates|rounds|records|runs|boards|columns|days|steps)\\b/)"
                )
                assert wrong is None, wrong


@pytest.mark.parametrize(("host", "name", "warned"), [("127.0.0.1", "127.0.0.1", False), ("0.0.0.0", "0.0.0.0", True)])
def test_a_login_that_is_not_encrypted_says_so(
    chromium: Browser, tmp_path: Path, host: str, name: str, warned: bool
) -> None:
    """Loopback needs no certificate; what goes over a network without one is read there."""
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path, host) as (client, _):
        chromium.open(f"http://{name}:{client.port}/login")
        chromium.wait(READY)
        assert chromium.evaluate("document.querySelector('#plain').hidden") is not warned
