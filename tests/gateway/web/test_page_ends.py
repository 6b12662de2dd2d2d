"""How a run ended is shown to those who look afterwards: the dashboard outlives its gateway, and says what became of it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Tuple

import pytest
from chromium import Browser
from dashboards import NOWHERE, RUN, Client, make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.broker import free_port
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.child import DashboardProcess, listen
from orchestrator.gateway.web.runview import RunView
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.gateway.web.standing import Standing
from orchestrator.gateway.web.staying import PROGRAM, ask_to_leave
from orchestrator.gateway.web.storeview import StoreView
from orchestrator.rounds.events import Aggregated, Arrived, Compacted
from orchestrator.rounds.state import FAILED

GATEWAY = """
import sys, time; from pathlib import Path
from orchestrator.gateway.running import Held; from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.settings import WebSettings; from orchestrator.wire.link import BrokerAddress
out, port, stay_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
settings = WebSettings("127.0.0.1", port, stay_s=stay_s)
with Held(out), DashboardProcess(out, settings, "test", BrokerAddress("127.0.0.1", 1)) as dashboard:
    print(dashboard.pid, flush=True)
    word = sys.stdin.readline().strip()
    if word == "fail":
        raise ValueError("the model could not be quantized")
    if word == "stop":
        raise KeyboardInterrupt
"""


@contextmanager
def gateway(out: Path, port: int, stay_s: float = 600.0) -> Iterator[Tuple["subprocess.Popen[str]", int]]:
    """A process that holds the folder and has a dashboard, and the dashboard's id; neither outlives the test."""
    command = [sys.executable, "-c", GATEWAY, str(out), str(port), str(stay_s)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    pid = 0
    try:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        Client(port).wait()
        yield process, pid
    finally:
        process.kill()
        if pid and is_there(pid):  # it may hold the pipes
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def is_there(pid: int) -> bool:
    try:
        return PROGRAM.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 120
    while is_there(pid):
        assert time.monotonic() < deadline, "the dashboard did not end"
        time.sleep(0.05)


def finish(out: Path) -> None:
    store = Store(out / "gateway.sqlite")
    store.append(RUN, Arrived(time.time(), "b", 2, "d", 80.0))
    store.append(RUN, Aggregated(time.time(), 2, True))
    store.put_report(RUN, time.time(), {"digest": "00112233aabbccdd", "bundle": "b", "metrics": None})
    store.close()


def test_the_result_is_the_last_thing_a_page_shows_also_after_a_reload(chromium: Browser, tmp_path: Path) -> None:
    port = free_port()
    with gateway(tmp_path, port) as (process, pid):
        make_store(tmp_path, at=time.time())
        chromium.open(f"http://127.0.0.1:{port}/")
        chromium.wait("document.querySelector('#round')?.innerText === 'Round 2 of 3'")
        finish(tmp_path)
        told = process.communicate("finished\n", timeout=120)  # its pipes are closed: nobody waits for the dashboard
        assert (process.returncode, told[1]) == (0, "")
        for _ in range(2):
            chromium.wait(
                "document.querySelector('#round')?.innerText.includes('model 00112233aabbccdd is in the bundle')"
            )
            chromium.wait("document.querySelector('#link').innerText.startsWith('gateway finished at')")
            assert chromium.evaluate("document.title") == "finished · Edgeward"
            chromium.ask("Page.reload")
        assert is_there(pid)


@pytest.mark.parametrize(
    ("word", "pill", "note"),
    [
        ("fail", "gateway failed at", "The gateway failed at"),
        ("kill", "no gateway running", "No gateway works on this run"),
    ],
)
def test_a_gateway_that_failed_or_was_killed(
    chromium: Browser, tmp_path: Path, word: str, pill: str, note: str
) -> None:
    port = free_port()
    with gateway(tmp_path, port) as (process, _):
        make_store(tmp_path, at=time.time())
        chromium.open(f"http://127.0.0.1:{port}/")
        chromium.wait("document.querySelector('#phase')?.innerText === 'Collecting updates'")
        if word == "kill":
            process.kill()
        process.communicate(None if word == "kill" else f"{word}\n", timeout=120)
        chromium.wait("document.querySelector('#phase')?.innerText === 'Interrupted'")
        chromium.wait(f"document.querySelector('#link').innerText.startsWith('{pill}')")
        text = chromium.evaluate("document.querySelector('#standing').innerText")
        assert text.startswith(note)
        assert word == "kill" or "the model could not be quantized" in text
        assert chromium.evaluate("document.title") == "interrupted in round 2/3 · Edgeward"
        assert chromium.evaluate("document.querySelector('[data-deadline]')") is None
        assert set(chromium.evaluate("[...document.querySelectorAll('#nodes .pill')].map((p) => p.innerText)")) == {
            "unknown",
            "declined",
        }


def test_a_run_that_failed_for_good_says_that_it_cannot_go_on(stage: Stage, tmp_path: Path) -> None:
    """What tests/rounds/test_nothing_moved.py and test_secure.py bring a coordinator to, as a journal keeps it."""
    make_store(tmp_path)
    view = RunView(StoreView(tmp_path / "gateway.sqlite"), RUN)
    view.advance()
    state = {**view.coordinator.snapshot(), "phase": FAILED, "final": True, "reason": "no update counted in any round"}
    store = Store(tmp_path / "gateway.sqlite")
    store.append(RUN, Compacted(2000.0, state, view.nodes.as_dict()))
    store.close()
    with stage.showing(tmp_path):
        page = stage.browser
        page.wait("document.querySelector('#phase')?.innerText === 'Failed'")
        assert page.evaluate("document.querySelector('#round').innerText") == "no update counted in any round"
        said = page.evaluate("document.querySelector('#next').innerText")
        assert said.startswith("Next: this run cannot go on.")
        assert "the same command" not in said


@pytest.mark.parametrize("before", [False, True], ids=["no run", "a run before"])
def test_a_gateway_that_failed_before_its_run_began_says_why(stage: Stage, tmp_path: Path, before: bool) -> None:
    """Planning, or the export of the training graph: there is no run of its own that could say so."""
    if before:
        make_store(tmp_path)
        finish(tmp_path)
    with stage.showing(tmp_path) as scene:
        page = stage.browser
        scene.hear({"event": "ended", "how": "failed", "reason": "no noise keeps epsilon 0.01"})
        page.wait("document.querySelector('#standing')?.innerText.startsWith('The gateway failed at')")
        assert "no noise keeps epsilon 0.01" in page.evaluate("document.querySelector('#standing').innerText")
        page.wait("document.title === 'gateway failed · Edgeward'")
        assert "Start a gateway" not in page.text()


def test_it_ends_after_its_time_with_a_stopped_gateway_and_for_the_next(tmp_path: Path) -> None:
    for stay_s, word in ((0.3, "finished"), (600.0, "stop"), (0.0, "finished")):
        with gateway(tmp_path, free_port(), stay_s) as (process, pid):
            process.communicate(f"{word}\n", timeout=120)
            wait_until_gone(pid)
    port = free_port()
    with gateway(tmp_path, port) as (process, pid):
        process.communicate("finished\n", timeout=120)
        assert is_there(pid)
        with gateway(tmp_path, port) as (another, _):
            wait_until_gone(pid)
            # One whose gateway is there makes no way.
            with pytest.raises(Exception, match="another program listens there"):
                listen(WebSettings("127.0.0.1", port))
            assert another.poll() is None


def test_one_that_has_not_noticed_that_its_gateway_is_gone_makes_way_too(tmp_path: Path) -> None:
    """A busy machine gives it no turn before the next gateway is there."""
    port = free_port()
    with gateway(tmp_path, port) as (process, pid):
        assert not ask_to_leave(port), "its gateway is there"
        assert process.stdin is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            process.stdin.write("finished\n")
            process.stdin.flush()
            process.wait(120)
            assert ask_to_leave(port)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until_gone(pid)


def test_a_dashboard_that_stayed_can_be_told_to_go(tmp_path: Path) -> None:
    with DashboardProcess(tmp_path, WebSettings("127.0.0.1", 0, stay_s=600.0), "test", NOWHERE) as process:
        Client(int(process.url.rstrip("/").rpartition(":")[2])).wait()
    assert process.stayed
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    wait_until_gone(process.pid)


def test_a_folder_without_a_gateway_shows_no_live_state(stage: Stage, tmp_path: Path) -> None:
    """As `edgeward gateway dashboard OUT` shows a store whose gateway was killed long ago."""
    make_store(tmp_path)
    with stage.showing(tmp_path):
        page = stage.browser
        page.wait("document.querySelector('#phase')?.innerText === 'Interrupted'")
        assert page.evaluate("document.title") == "interrupted in round 2/3 · Edgeward"
        assert page.evaluate("document.querySelectorAll('#now .chip').length") == 0
        page.evaluate("location.hash = 'runs'")
        page.wait("document.querySelector('#runs .pill')?.innerText === 'interrupted'")
        assert page.evaluate("document.title") == "Runs · interrupted in round 2/3 · Edgeward"
        text = stage.client.ask("/metrics")[2]
    assert 'edgeward_run_phase{run="heart-0123abcd",phase="interrupted"} 1' in text
    assert 'phase="collecting"} 0' in text
    assert "edgeward_nodes_online" not in text, "nobody knows how many are there"


def test_a_gateway_that_begins_again_is_not_yet_in_the_round(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    with gateway_at_work(tmp_path), stage.showing(tmp_path):
        page = stage.browser
        page.wait("document.querySelector('#phase')?.innerText === 'Starting again'")
        store = Store(tmp_path / "gateway.sqlite")
        store.append(RUN, Arrived(time.time(), "nobody", 1, "d", 1.0))
        store.close()
        page.wait("document.querySelector('#phase')?.innerText === 'Collecting updates'")


def test_a_gateway_of_later_is_not_taken_for_the_one_that_ended(tmp_path: Path) -> None:
    standing = Standing(tmp_path)
    standing.hear({"event": "ended", "how": "finished"})
    standing.gone()
    assert standing.look(1.0, True)["state"] == "finished"
    with gateway_at_work(tmp_path):
        assert standing.look(1.0, True)["state"] == "preparing"
        assert standing.look(time.time() + 60, False)["state"] == "working"
    assert standing.look(1.0, True)["state"] == "finished"
