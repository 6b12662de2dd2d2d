"""Where a node's state is when nobody says: two nodes beside each other never share it."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.state import only_state, state_of
from orchestrator.errors import UsageError
from orchestrator.node.agent import NodeAgent
from orchestrator.wire.link import BrokerAddress


def test_the_name_is_part_of_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_of(None, "icu") != state_of(None, "er")
    assert state_of(tmp_path, "icu") == tmp_path
    with pytest.raises(UsageError, match="use 1 to 64 of a-z"):
        state_of(None, "../icu")
    NodeAgent(BrokerAddress("127.0.0.1", 1), "f", "icu", tmp_path / "d.csv", state_of(None, "icu"))
    assert only_state(None) == state_of(None, "icu")
    NodeAgent(BrokerAddress("127.0.0.1", 1), "f", "er", tmp_path / "d.csv", state_of(None, "er"))
    with pytest.raises(UsageError, match="several nodes .* one with --state edgeward-node-er or edgeward-node-icu"):
        only_state(None)


def test_a_ledger_of_an_earlier_version_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    NodeAgent(BrokerAddress("127.0.0.1", 1), "f", "icu", tmp_path / "d.csv", Path("edgeward-node"))
    with pytest.raises(UsageError, match="If it is icu's: mv edgeward-node edgeward-node-icu"):
        state_of(None, "icu")
    Path("edgeward-node").rename("edgeward-node-icu")
    assert state_of(None, "icu") == Path("edgeward-node-icu")


def test_one_process_works_on_a_state_folder(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("x,y\n1,1\n")
    here = NodeAgent(BrokerAddress("127.0.0.1", 1), "f", "icu", tmp_path / "d.csv", tmp_path / "state")
    command = [
        sys.executable,
        "-m",
        "orchestrator.cli.main",
        "node",
        "run",
        "--broker",
        "mqtt://127.0.0.1:1",
        "--name",
        "er",
    ]
    command += ["--data", str(tmp_path / "d.csv"), "--state", str(tmp_path / "state"), "--connect-timeout", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert here._instance
    assert "is a node with this folder; stop it, or give this one another --state" in done.stderr
