"""A gateway is stopped, and started again, from its page by those who logged in, after a question; and by nobody else."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator

from chromium import Browser
from dashboards import PASSWORD, RUN, Client, dashboard, make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.broker import free_port
from orchestrator.gateway.running import holder
from orchestrator.gateway.web.child import STOP, asked
from orchestrator.gateway.web.control import AGAIN_LOG
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.staying import ask_to_leave

GATEWAY = """
import os, sys, time; from pathlib import Path
from orchestrator.cli.stopping import Stopped, stop_on_sigterm
from orchestrator.gateway.running import Held; from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.settings import WebSettings; from orchestrator.wire.link import BrokerAddress
sys.path.insert(0, sys.argv[3])
from chromium import Browser
from dashboards import make_store
out, port = Path(sys.argv[1]), int(sys.argv[2])
again = (sys.executable, *sys.orig_argv[1:])
with (out / "begun").open("a") as file:
    file.write("once " + os.environ.get("OPENBLAS_NUM_THREADS", "-") + os.environ.get("MALLOC_ARENA_MAX", "-") + " ")
with Held(out), stop_on_sigterm():
    if not (out / "gateway.sqlite").exists():
        make_store(out, rounds=5, at=time.time())
    try:
        with DashboardProcess(out, WebSettings("127.0.0.1", port), "test", BrokerAddress("127.0.0.1", 1), again):
            while True:
                time.sleep(0.1)
    except Stopped:
        print("stopped in order", flush=True)
"""


@contextmanager
def gateway(out: Path) -> Iterator["tuple[subprocess.Popen[str], Client]"]:
    port = free_port()
    command = [sys.executable, "-c", GATEWAY, str(out), str(port), str(Path(__file__).parent)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "7"}
    environment.pop("MALLOC_ARENA_MAX", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        client = Client(port)
        client.wait()
        yield process, client
    finally:
        process.terminate()  # in order, or the dashboard would stay to say how it ended
        try:
            process.communicate(timeout=600)
        finally:
            process.kill()
            for started in {holder(out)} - {None, process.pid}:
                os.kill(int(started or 0), signal.SIGKILL)
            ask_to_leave(port)


def log_in(page: Browser, port: int) -> None:
    page.open(f"http://127.0.0.1:{port}/login")
    page.wait("document.querySelector('input[type=password]')")
    page.evaluate(f"document.querySelector('input[type=password]').value = {json.dumps(PASSWORD)}")
    page.evaluate("document.querySelector('form').requestSubmit()")


def stop(client: Client, run: str = RUN, kind: str = "application/json", **headers: str) -> int:
    return client.ask(f"/api/stop/{run}", "POST", "{}", Content_Type=kind, **headers)[0]


def test_the_button_asks_and_the_gateway_ends_in_order(tmp_path: Path, stage: Stage) -> None:
    Login(tmp_path).set_password(PASSWORD)
    with gateway(tmp_path) as (process, client):
        page = stage.browser
        log_in(page, client.port)
        page.wait("document.querySelector('#stop')")
        page.evaluate("document.querySelector('#stop').click()")
        page.wait("document.querySelector('dialog[open] #stop-head')")
        assert f"Stop {RUN}?" in page.text()
        assert process.poll() is None, "it was only asked"
        page.evaluate(
            "[...document.querySelectorAll('dialog button')].find((b) => b.innerText === 'Let it run').click()"
        )
        page.wait("!document.querySelector('dialog')")
        assert process.poll() is None
        page.evaluate("document.querySelector('#stop').click()")
        page.evaluate("document.querySelector('#stop-yes').click()")
        assert process.wait(300) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "stopped in order\n"


def test_only_who_logged_in_stops_it_and_only_the_run_that_is_shown(tmp_path: Path) -> None:
    Login(tmp_path).set_password(PASSWORD)
    with gateway(tmp_path) as (process, client):
        assert stop(client) == 401
        assert stop(client, Cookie="edgeward=guess") == 401
        assert client.log_in(PASSWORD)[0] == 200
        assert client.ask(f"/api/stop/{RUN}")[0] == 405
        assert stop(client, kind="text/plain") == 403
        assert stop(client, Origin="http://other.example") == 403
        assert stop(client, "another-run") == 409
        assert process.poll() is None
        assert stop(client) == 202
        assert process.wait(300) == 0


def test_without_a_password_nobody_stops_it(tmp_path: Path) -> None:
    with gateway(tmp_path) as (process, client):
        assert client.json("/api/overview")["gateway"]["stoppable"] is False
        assert stop(client) == 403
        time.sleep(0.5)
        assert process.poll() is None


def test_a_dashboard_without_its_gateway_has_nothing_to_stop(tmp_path: Path) -> None:
    Login(tmp_path).set_password(PASSWORD)
    with gateway_at_work(tmp_path):
        make_store(tmp_path, at=time.time())
        with dashboard(tmp_path) as (client, process):
            client.log_in(PASSWORD)
            assert client.json("/api/overview")["gateway"]["stoppable"] is True  # it is this process's child
            process.tell({"event": "ended", "how": "failed", "reason": "x"})
            while client.json("/api/overview")["gateway"]["stoppable"]:
                time.sleep(0.1)
            assert stop(client) == 409


def begun(out: Path) -> int:
    """How often a gateway was started for the folder."""
    return (out / "begun").read_text().count("once")


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.1)


def is_at_work(client: Client) -> bool:
    """Whether a dashboard answers, and its gateway is there."""
    try:
        client.log_in(PASSWORD)
        status, _, text = client.ask("/api/overview")
    except OSError:  # the one before has made way, and the next is not there yet
        return False
    shown = json.loads(text)["gateway"] if status == 200 else {"running": False}
    return bool(shown["running"] and not shown["restartable"])


def start(client: Client, run: str = RUN, kind: str = "application/json", **headers: str) -> int:
    return client.ask(f"/api/start/{run}", "POST", "{}", Content_Type=kind, **headers)[0]


def test_a_gateway_that_was_stopped_from_its_page_is_started_from_it_again(tmp_path: Path, stage: Stage) -> None:
    Login(tmp_path).set_password(PASSWORD)
    with gateway(tmp_path) as (process, client):
        page = stage.browser
        log_in(page, client.port)
        page.wait("document.querySelector('#stop')")
        assert page.evaluate("!document.querySelector('#start')"), "it is at work"
        page.evaluate("document.querySelector('#stop').click()")
        page.evaluate("document.querySelector('#stop-yes').click()")
        assert process.wait(300) == 0
        page.wait("document.querySelector('#start')")
        assert "The gateway was stopped at" in page.text()
        page.evaluate("document.querySelector('#start').click()")
        page.wait("document.querySelector('dialog[open] #start-head')")
        assert f"Go on with {RUN}?" in page.text()
        assert begun(tmp_path) == 1, "it was only asked"
        page.evaluate("document.querySelector('#start-yes').click()")
        until(lambda: begun(tmp_path) == 2)
        until(lambda: is_at_work(Client(client.port)))
        pid = holder(tmp_path)
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        until(lambda: holder(tmp_path) is None)
    assert (tmp_path / "restarted.log").read_text() == "stopped in order\n"
    assert (tmp_path / "restarted.log").stat().st_mode & 0o777 == 0o600


def test_only_who_logged_in_starts_it_and_only_what_is_gone_and_not_done(tmp_path: Path) -> None:
    Login(tmp_path).set_password(PASSWORD)
    with gateway(tmp_path) as (process, client):
        client.log_in(PASSWORD)
        assert start(client) == 409, "it is at work"
        assert stop(client) == 202
        assert process.wait(300) == 0
        until(lambda: client.json("/api/overview")["gateway"]["restartable"])
        stranger = Client(client.port)
        assert start(stranger) == 401
        assert start(stranger, Cookie="edgeward=guess") == 401
        assert start(client, kind="text/plain") == 403
        assert start(client, Origin="http://other.example") == 403
        assert start(client, "another-run") == 409
        assert client.ask(f"/api/start/{RUN}")[0] == 405
        assert begun(tmp_path) == 1
        log, elsewhere = tmp_path / AGAIN_LOG, tmp_path / "elsewhere"
        log.symlink_to(elsewhere)
        assert start(client) == 503, "what a gateway prints goes to no other file"
        assert not elsewhere.exists()
        log.unlink()
        os.mkfifo(log)
        assert start(client) == 503, "nobody reads it"
        reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
        assert start(client) == 503, "who reads a pipe is not the log"
        os.close(reader)
        assert begun(tmp_path) == 1
        log.unlink()
        assert start(client) == 202
        until(lambda: begun(tmp_path) == 2)
        assert (tmp_path / "begun").read_text() == "once 7- once 7- ", "with the environment it had"
        until(lambda: holder(tmp_path) is not None)


def test_a_gateway_without_a_password_is_started_by_nobody_and_one_that_finished_by_nobody_either(
    tmp_path: Path,
) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, at=time.time())
        with dashboard(tmp_path) as (client, process):
            process.tell({"event": "ended", "how": "failed", "reason": "x"})
            until(lambda: client.json("/api/overview")["gateway"]["state"] == "failed")
            assert client.json("/api/overview")["gateway"]["restartable"] is False
            assert start(client) == 403
            Login(tmp_path).set_password(PASSWORD)
            client.log_in(PASSWORD)
            assert start(client) == 409, "its dashboard was given no command"


def test_nothing_else_is_heeded() -> None:
    chance = random.Random(4)
    assert asked(json.dumps({"ask": STOP}).encode()) == STOP
    for message in (
        b"",
        b"stop",
        b"{}",
        b"[]",
        b'{"ask": "start"}',
        b'{"ask": ["stop"]}',
        b'{"ask": "stop", "x": 1}',
        b"[" * 9000,
    ):
        assert asked(message) == ""
    for _ in range(2000):
        assert asked(chance.randbytes(chance.randrange(40))) == ""
