"""A gateway that was killed leaves no broker that lets anybody in, and the next one is not kept out by it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stored_runs import make_task

from orchestrator.gateway import leftover
from orchestrator.gateway.broker import NOTE, OwnBroker, _accepts, free_port
from orchestrator.gateway.federation import Orchestrator
from orchestrator.gateway.settings import Config, GatewaySettings

GATEWAY = """
import sys, time
from pathlib import Path
from orchestrator.gateway import broker
from orchestrator.gateway.broker import OwnBroker
if sys.argv[4] == "outlives":
    broker.ends_with = lambda parent: lambda: None
OwnBroker(sys.argv[1], port=int(sys.argv[2]), state=Path(sys.argv[3])).start()
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["embedded", "mosquitto"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "mosquitto" and not shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("mosquitto is not installed")
    return str(request.param)


def killed_gateway(kind: str, port: int, state: Path, how: str) -> None:
    command = [sys.executable, "-c", GATEWAY, kind, str(port), str(state), how]
    gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert gateway.stdout is not None
    assert gateway.stdout.readline() == "up\n"
    gateway.kill()
    gateway.wait()


def test_the_broker_of_a_killed_gateway_ends_with_it(tmp_path: Path, kind: str) -> None:
    """As root, too: mosquitto changes root to another user, which clears the signal a child asked for."""
    port = free_port()
    killed_gateway(kind, port, tmp_path, "")
    deadline = time.monotonic() + 600
    while _accepts("127.0.0.1", port):
        assert time.monotonic() < deadline, "it goes on, and lets everybody in"
        time.sleep(0.05)


def test_a_broker_that_outlived_its_gateway_is_ended_by_the_next(tmp_path: Path, kind: str) -> None:
    port = free_port()
    killed_gateway(kind, port, tmp_path, "outlives")
    left = json.loads((tmp_path / NOTE).read_text())["pid"]
    assert leftover.process_of(left)
    with OwnBroker(kind, port=port, state=tmp_path) as broker:
        assert broker.pid != left
        assert not leftover.process_of(left)
    assert not (tmp_path / NOTE).exists()


WORKER = """
import sys
from pathlib import Path
from model_export import client
from orchestrator.gateway import bundling
client.sys = type("sys", (), {"executable": sys.argv[1]})
bundling.export("prepare", {}, Path(sys.argv[2]), lambda event: print(event["message"], flush=True))
"""


def test_so_does_an_export_that_is_under_way(tmp_path: Path) -> None:
    """It would write into the same folder as the one the next gateway starts."""
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\necho "model_export: $$" >&2\nexec sleep 600\n')
    slow.chmod(0o755)
    gateway = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(slow), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert gateway.stdout is not None
    worker = int(gateway.stdout.readline())
    assert leftover.process_of(worker)
    gateway.kill()
    gateway.wait()
    deadline = time.monotonic() + 600
    while leftover.process_of(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_another_process_under_the_same_number_is_left_alone(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        leftover.note(tmp_path / NOTE, bystander.pid)
        known = json.loads((tmp_path / NOTE).read_text())
        (tmp_path / NOTE).write_text(json.dumps({**known, "process": known["process"] + "0"}))
        assert leftover.end(tmp_path / NOTE) is None
        (tmp_path / NOTE).write_text('{"pid": ')
        assert leftover.end(tmp_path / NOTE) is None
        assert bystander.poll() is None
        leftover.note(tmp_path / NOTE, bystander.pid)
        assert leftover.end(tmp_path / NOTE) == bystander.pid
        assert bystander.wait() == -signal.SIGTERM
    finally:
        bystander.kill()


def test_the_broker_is_open_before_the_model_is_prepared(tmp_path: Path, kind: str) -> None:
    """TensorFlow may take half a minute, in which nodes come."""
    port = free_port()
    config = Config(make_task(), GatewaySettings(broker=kind, port=port))
    with Orchestrator(config, tmp_path, tmp_path / "out", lambda event: None, 1.0):
        assert _accepts("127.0.0.1", port)
    assert not _accepts("127.0.0.1", port)


def test_a_broker_starts_whatever_the_umask(kind: str) -> None:
    """A gateway started by root runs mosquitto as another user, who has to read the configuration."""
    before = os.umask(0o077)
    try:
        with OwnBroker(kind) as broker:
            assert broker.pid
    finally:
        os.umask(before)
