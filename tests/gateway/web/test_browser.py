"""The dashboard in a real browser, of a real federation: broker, gateways, nodes, a virtual board."""

import os
from pathlib import Path
from typing import List

import pytest
from chromium import Browser, find_chromium
from federation import NODES, ROUNDS, RealFederation

from orchestrator.gateway.web.password import Login

PASSWORD = "correct horse battery"
NO_SIDEWAYS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.mark.timeout(1800)
def test_a_federation_is_watched_from_its_first_node_to_its_model(tmp_path: Path) -> None:
    find_chromium()
    with RealFederation(tmp_path) as federation, Browser() as browser:
        browser.size(1280, 900)
        watch_a_first_run(federation, browser)
        log_in(federation, browser)
        look_at_an_open_round(federation, browser)
        look_by_phone(browser)
        compare_runs(browser)
        lose_the_dashboard(federation, browser)
        assert complaints(browser) == []


def complaints(browser: Browser) -> List[str]:
    """What the console said, but for the wrong password and the times without a server, which this test brings about."""
    expected = ("net::ERR_", "status of 401")
    return [error for error in browser.errors if not any(part in error for part in expected)]


def watch_a_first_run(federation: RealFederation, browser: Browser) -> None:
    """From an empty folder: the page is opened once, and follows by itself."""
    federation.start_gateway("fedadam", "int4", 4.0)
    browser.open(federation.url)
    browser.wait("document.body.innerText.includes('No run yet') || document.body.innerText.includes('run sepsis')")
    assert "No boards yet" in browser.text()
    browser.evaluate(
        "window.seen = []; new MutationObserver(() => { const at = document.querySelector('#round')?.innerText;"
        "if (at && at !== seen[seen.length - 1]) seen.push(at); })"
        ".observe(document.body, {subtree: true, childList: true, characterData: true}); true"
    )
    federation.wait_for("open")
    browser.wait("document.querySelector('#round')?.innerText === 'Before the first round'")
    assert "Start one beside its data" in browser.text()
    for name in NODES:
        federation.start_node(name)
    federation.wait_for_round(6)
    federation.freeze("neuro")  # so that there is time to look at one round
    browser.wait("/Round \\d+ of/.test(document.querySelector('#round').innerText)")
    federation.thaw("neuro")
    browser.wait("document.querySelector('#phase').innerText === 'Finished'")
    seen = browser.evaluate("seen")
    assert len(set(seen)) > 2, f"the page did not follow the rounds: {seen}"
    federation.wait_for("result")
    assert federation.gateway is not None
    assert federation.gateway.wait(120) == 0
    # The last that is shown is the result, also for those who come now.
    for _ in range(2):
        browser.wait("document.querySelector('#link').innerText.startsWith('gateway finished at')")
        browser.wait(
            "/^Finished: model [0-9a-f]{16} is in the bundle/.test(document.querySelector('#round').innerText)"
        )
        browser.ask("Page.reload")


def log_in(federation: RealFederation, browser: Browser) -> None:
    """The second run: with a password. It waits for its nodes while we knock."""
    Login(federation.out).set_password(PASSWORD)
    federation.start_gateway("fedavg", "int8", 8.0)
    browser.open(federation.url)
    browser.wait(
        "location.pathname === '/login' && document.readyState === 'complete'"
        " && document.activeElement?.id === 'password'"
    )
    assert browser.evaluate(NO_SIDEWAYS)
    browser.type("a wrong guess")
    browser.press_enter()
    browser.wait("document.querySelector('#problem').innerText === 'wrong password'")
    browser.evaluate("document.querySelector('#password').value = ''; document.querySelector('#password').focus()")
    browser.type(PASSWORD)
    browser.press_enter()
    browser.wait("location.pathname === '/' && document.querySelector('#link')?.innerText.startsWith('gateway ')")
    assert browser.evaluate("document.cookie") == "", "no script may read the session"


def look_at_an_open_round(federation: RealFederation, browser: Browser) -> None:
    federation.start_node("emergency")
    federation.wait_for_round(ROUNDS // 2)
    federation.freeze("neuro")  # the quorum is all four: the round stays open, also when the broker gives neuro up
    federation.play_board()
    browser.wait("/neuro\\s+(awaited|away)/.test(document.querySelector('.chips').innerText)")
    browser.wait("document.querySelectorAll('.chip.arrived').length === 3")
    browser.wait("document.querySelector('#privacy .line.dashed')")
    browser.wait("document.querySelector('#nodes')?.innerText.includes('its data do not fit the task')")
    browser.wait("document.querySelectorAll('#boards .chart').length === 2")
    text = browser.text()
    for wanted in (
        "sepsis",
        "Epsilon spent",
        "budget 8",
        "per record, delta 0.001",
        "Round",
        f"of {ROUNDS}",
        "s left",
        "4 needed",
        "declined",
        "simulated",
        "drift (PSI)",
        "by the federation's mean and deviation",
        "AUC",
    ):
        assert wanted in text, wanted
    browser.evaluate("document.querySelector('#privacy summary').click()")
    browser.wait("document.body.innerText.includes('the choice of hyperparameters')")
    browser.evaluate("document.querySelector('#privacy summary').click()")
    browser.evaluate("document.querySelector('.chart svg[role]').focus()")
    browser.ask("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37)
    browser.wait("document.querySelector('.readout').innerText.startsWith('round')")
    browser.evaluate("document.activeElement.blur()")


def look_by_phone(browser: Browser) -> None:
    browser.size(390, 844, 2.0, mobile=True)
    browser.wait("innerWidth === 390")
    for view in ("runs", "log", "overview"):
        browser.evaluate(f"location.hash = '{view}'")
        browser.wait(f"!document.querySelector('#{view}').hidden && document.querySelector('#{view} h1')")
        assert browser.evaluate(NO_SIDEWAYS), f"{view} scrolls sideways on a phone"
    browser.size(1280, 900)


def compare_runs(browser: Browser) -> None:
    browser.evaluate("location.hash = 'runs'")
    browser.wait("document.querySelectorAll('#runs tbody input:checked').length === 2")
    browser.wait("document.querySelectorAll('#runs .chart').length === 4")
    assert (
        browser.evaluate("document.querySelector('#runs .chart').querySelectorAll('svg[role] path.line').length") == 2
    )
    browser.evaluate("document.querySelector('#runs tbody input:checked').click()")
    browser.wait("document.querySelector('#runs .chart').querySelectorAll('svg[role] path.line').length === 1")
    browser.evaluate("location.hash = 'log'")
    browser.wait("document.querySelector('#log').innerText.includes('emergency declined')")
    browser.wait("document.querySelector('#log .entry')")  # the gateway writes one
    browser.evaluate("location.hash = 'overview'")


def lose_the_dashboard(federation: RealFederation, browser: Browser) -> None:
    """Killed in the middle of a round: the rounds go on to the end, and the page finds its way back."""
    before = browser.evaluate("document.querySelector('#round').innerText")
    assert federation.gateway is not None
    children = Path(f"/proc/{federation.gateway.pid}/task/{federation.gateway.pid}/children")
    pids = [int(pid) for pid in children.read_text().split()]
    (dashboard,) = [pid for pid in pids if b"gateway.web.server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(dashboard, 9)
    browser.wait("document.querySelector('#link').innerText === 'dashboard not reachable'")
    federation.thaw("neuro")
    result = federation.wait_for("result")
    assert [r["round"] for r in result["per_round"]] == list(range(1, ROUNDS + 1))
    assert before.startswith("Round")
    assert result["privacy"]["epsilon"] <= 8
