"""Where a node's state is when nobody says: two nodes beside each other never share it."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.private import private_state
from orchestrator.cli.state import only_state, state_of
from orchestrator.doctor.files import check_private
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2, done.stderr
    assert here.instance
    assert "is a node with this folder; stop it, or give this one another --state" in done.stderr


def test_a_state_folder_and_what_is_in_it_is_its_owners_alone(tmp_path: Path) -> None:
    state, log = tmp_path / "state", tmp_path / "node.log"
    state.mkdir(mode=0o755)
    log.touch(0o644)
    (tmp_path / "d.csv").write_text("x,y\n1,1\n")
    assert check_private(state).level == "problem"
    command = ["node", "run", "--broker", "mqtt://127.0.0.1:1", "--name", "icu", "--connect-timeout", "0.1"]
    command += ["--data", str(tmp_path / "d.csv"), "--state", str(state), "--log-file", str(log)]
    done = subprocess.run([sys.executable, "-m", "orchestrator.cli.main", *command], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    modes = {path.name: path.stat().st_mode & 0o777 for path in (state, log, *state.iterdir())}
    assert not any(mode & 0o077 for mode in modes.values()), modes
    assert check_private(state).level == "ok"
    state.chmod(0o1777)
    with pytest.raises(UsageError, match="a folder for everybody's files"):
        private_state(state)
