"""A terminal that closes ends a program in order, as SIGTERM does; nohup keeps it."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List

import pytest

from orchestrator.cli.stopping import stop_on_sigterm

ROOT = Path(__file__).resolve().parents[2]
WAITS = """
import sys, time
from orchestrator.cli.stopping import Stopped, stop_on_sigterm
try:
    with stop_on_sigterm():
        print("ready", flush=True)
        while True:
            time.sleep(0.1)  # one long call could begin just after the signal came, and would not be interrupted
except Stopped:
    print("in order")
"""


HEARS = ["env", "--default-signal=HUP"]
"""Before a command that hears of a closed terminal also where these tests do not, as under nohup."""


def test_it_is_asked_to_stop() -> None:
    with subprocess.Popen(
        [*HEARS, sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.read() == "in order\n"
    assert process.returncode == 0


def test_a_signal_that_another_thread_gets_ends_a_call_that_waits() -> None:
    """As one that comes just before the call: Python's handler would run when the call ends, after ten minutes."""
    lets = "signal.pthread_kill(threading.get_ident(), signal.SIGTERM)"
    program = WAITS.replace("import sys, time", "import signal, sys, threading, time").replace(
        'print("ready", flush=True)', f"threading.Timer(1, lambda: {lets}).start(); time.sleep(600)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert (done.returncode, done.stdout) == (0, "in order\n"), done.stderr


def test_who_ignores_it_goes_on() -> None:
    command = ["env", "--ignore-signal=HUP", sys.executable, "-c", WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
        assert process.stdout.read() == "in order\n"


def test_a_node_that_waits_for_its_broker_ends_with_its_terminal(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,y\n1,0\n")
    words: List[str] = ["--data", "x.csv", "--broker", "mqtt://127.0.0.1:1", "--federation", "f", "--name", "a"]
    command = [*HEARS, sys.executable, "-m", "orchestrator.cli.main", "node", "run", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=_environment()) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting for it" in line:
                process.send_signal(signal.SIGHUP)
                break
        process.stderr.read()
    assert process.returncode == 0


def _environment() -> Dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_another_thread_cannot_hear_it_and_leaves_nothing_open() -> None:
    def enter() -> None:
        with stop_on_sigterm():
            pytest.fail("no signal would have come here")

    before = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            assert isinstance(pool.submit(enter).exception(), RuntimeError)
    assert (sorted(os.listdir("/proc/self/fd")), threading.active_count()) == before
