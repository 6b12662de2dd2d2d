"""Every value carries its age: what has not been heard of for 15 seconds is said to be unknown, and never a live state."""

import os
import signal
import time
from pathlib import Path

import pytest
from chromium import Browser
from dashboards import dashboard, make_store
from stage import Scene, Stage, gateway_at_work

from orchestrator.gateway.store import Store

NO_NEWS = "/^no news since \\d\\d:\\d\\d$/.test(document.querySelector('#link').innerText)"


def says_nothing_live(page: Browser) -> None:
    page.wait(NO_NEWS)
    page.wait("document.querySelector('#phase').innerText === 'Unknown'")
    assert str(page.evaluate("document.title")).startswith("no news since ")
    assert page.evaluate("document.querySelector('[data-deadline]')") is None
    assert page.evaluate("document.querySelectorAll('.chip.awaited').length") == 0
    pills = page.evaluate("[...document.querySelectorAll('#nodes .pill')].map((p) => p.innerText)")
    assert sorted(pills) == ["declined", "unknown", "unknown"]
    assert "No news since" in page.evaluate("document.querySelector('#standing').innerText")
    assert "There is no news" in page.evaluate("document.querySelector('#alarm').innerText"), (
        "those who listen are told too"
    )


def wait_until_noticed(scene: Scene) -> None:
    """Until the dashboard hears no more of the gateway."""
    before = None
    while scene.heard_at != before:
        before = scene.heard_at
        time.sleep(1.2)


@pytest.mark.parametrize("frozen", ["gateway", "store"])
def test_what_is_frozen_is_not_live(stage: Stage, tmp_path: Path, frozen: str) -> None:
    with gateway_at_work(tmp_path) as process:
        make_store(tmp_path, at=time.time())
        with stage.showing(tmp_path) as scene:
            page = stage.browser
            page.wait("document.querySelector('#phase')?.innerText === 'Collecting updates'")
            if frozen == "gateway":
                process.send_signal(signal.SIGSTOP)
                wait_until_noticed(scene)
            else:
                scene.goes_on.clear()
            page.wait("document.querySelector('#link').innerText === 'gateway running'")
            scene.skipped += 16.0  # the server's clock
            says_nothing_live(page)
            process.send_signal(signal.SIGCONT)
            scene.goes_on.set()
            page.wait("document.querySelector('#phase').innerText === 'Collecting updates'")
            assert page.evaluate("document.querySelector('#alarm').innerText") == ""


def test_a_frozen_dashboard_is_not_live(chromium: Browser, stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path), dashboard(tmp_path) as (client, process):
        make_store(tmp_path, at=time.time())
        chromium.open(f"http://127.0.0.1:{client.port}/")
        chromium.wait("document.querySelector('#phase')?.innerText === 'Collecting updates'")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        stage.skip(16.0)
        says_nothing_live(chromium)
        os.kill(process.pid, signal.SIGCONT)


def test_values_say_of_when_they_are(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, rounds=9, begun=5, at=time.time() - 600)
        os.utime(tmp_path / "gateway.lock", (time.time() - 700,) * 2)
        with stage.showing(tmp_path) as scene:
            page = stage.browser
            page.wait("document.querySelector('#phase')?.innerText === 'Collecting updates'")
            scene.board_says("ttyusb0", "metrics", at=time.time() - 300, inferences=1)
            page.wait("document.querySelector('#boards .facts')")
            notes = page.evaluate(
                "[...document.querySelectorAll('.figures > div')].map((d) => d.innerText.replace(/\\s+/g, ' '))"
            )
            assert "last one 10 min ago" in notes[0]
            assert "round 4" in notes[1]
            assert "round 4, 10 min ago" in notes[4]
            assert "1 silent" in notes[5]
            assert "last event 10 min ago" in page.text()
            stage.skip(7200.0)  # ages go on by themselves
            page.wait("document.querySelector('.heading').innerText.includes('last event 2 h ago')")


def test_nodes_of_a_relay_are_known_while_it_waits_for_the_gateway_above(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, begun=-1, at=time.time(), relay=True)
        with stage.showing(tmp_path):
            page = stage.browser
            page.wait("document.querySelector('#phase')?.innerText === 'Waiting for the gateway above'")
            figures = page.evaluate("document.querySelector('.figures').innerText.replace(/\\s+/g, ' ')")
            assert "Nodes 2 / 2 wanted" in figures


def test_the_clock_of_the_browser_does_not_matter(stage: Stage, tmp_path: Path) -> None:
    """A phone an hour ahead shows ages and times left by the gateway's clock."""
    page = stage.browser
    source = "Date.now = ((now) => () => now() + 3600000)(Date.now)"
    script = page.ask("Page.addScriptToEvaluateOnNewDocument", source=source)["identifier"]
    try:
        with gateway_at_work(tmp_path):
            make_store(tmp_path, at=time.time())
            with stage.showing(tmp_path):
                page.wait("/^\\d+(\\.\\d)? s left$/.test(document.querySelector('.left')?.innerText)")
                assert "h ago" not in page.text()
                assert page.evaluate("document.querySelector('#link').innerText") == "gateway running"
    finally:
        page.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_what_is_dated_ahead_is_not_of_now(stage: Stage, tmp_path: Path) -> None:
    """The gateway's clock was ahead, and was set right."""
    for number, ahead in enumerate((0.0, 30.0, 7200.0, 1e300)):
        out = tmp_path / str(number)
        out.mkdir()
        make_store(out, begun=-1, at=time.time() + ahead)
        with stage.showing(out):
            stage.browser.wait("document.querySelector('#now')")
            age = stage.browser.evaluate("document.querySelector('.heading time').innerText")
            assert age == {7200.0: "dated 2 h ahead", 1e300: "dated far ahead"}.get(ahead, "now")


def test_a_time_beyond_all_calendars_is_none(stage: Stage, tmp_path: Path) -> None:
    with stage.showing(tmp_path):
        written = stage.browser.evaluate(
            "import('/static/moment.js').then(({ moment }) => [null, 1e300, 'inf', 0].map(moment))"
        )
    assert written[:3] == ["–", "–", "∞"]
    assert written[3].startswith("1 January 1970 at ")


def test_figures_that_are_no_numbers_are_called_so_in_every_unit(stage: Stage, tmp_path: Path) -> None:
    units = "[count, bytes, mib, seconds, micros, number, epsilon]"
    with stage.showing(tmp_path):
        written = stage.browser.evaluate(
            "import('/static/dom.js').then(({ count, bytes, mib, seconds, micros, number, epsilon }) =>"
            f" ['inf', '-inf', 'nan', null].map((value) => {units}.map((as) => as(value))))"
        )
        plain = stage.browser.evaluate(
            "import('/static/dom.js').then((dom) => ['bytes', 'mib', 'seconds', 'micros'].map((as) => dom[as](1500)))"
        )
    assert written == [[sign] * 7 for sign in ("∞", "−∞", "NaN", "–")]
    assert plain == ["1.50 kB", "1500 MiB", "25 min", "1.50 ms"]


def test_a_run_in_which_nothing_has_happened_says_so(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path, begun=-1)
    store = Store(tmp_path / "gateway.sqlite")
    with store.transaction():
        store.database.execute("DELETE FROM events")
    store.close()
    with stage.showing(tmp_path):
        stage.browser.wait("document.querySelector('#standing')?.innerText.includes('nothing has happened in it yet')")
        assert (
            stage.browser.evaluate("document.querySelector('[data-key=\"figure Nodes\"] .note').innerText") == "unknown"
        )
