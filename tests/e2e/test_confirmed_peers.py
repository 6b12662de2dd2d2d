"""Masked sums of real processes with identities: whose owners confirmed whom, and which certificate log they were shown."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from harness import BROKER_PATH, RECORDS, events, expected_weights, make_task, wait_for
from secure import Federation, enrolled

from orchestrator.cli.main import main
from orchestrator.gateway.authority import Authority
from orchestrator.node.gatekeeper import Gatekeeper
from orchestrator.node.identity import NodeIdentity
from orchestrator.node.peers import Peers
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Aggregation
from orchestrator.wire.task import Task

EVERYBODY = ["a", "b", "c"]

pytestmark = pytest.mark.skipif(not shutil.which("mosquitto", path=BROKER_PATH), reason="mosquitto is not installed")


def masked(rounds: int) -> Task:
    task = make_task(quorum=3, rounds=rounds, statistics=False)
    return dataclasses.replace(task, aggregation=Aggregation("masked", honest=3, bits=32, update_range=8.0))


def begun(federation: Federation, name: str) -> Path:
    """The state of a node that ran before, with rules of its owner."""
    (federation.folder / f"{name}.toml").write_text("[require]\nunits = ['none']\nstages = []\n")
    state, identity = federation.folder / f"state-{name}", NodeIdentity(federation.folder / f"id-{name}")
    store = NodeStore(state / "node.sqlite")
    Gatekeeper(state, store, None, identity).close()
    store.close()
    return state


def fingerprint(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the owner of this node reads out on the phone."""
    main(["node", "fingerprint", "--identity", str(folder / f"id-{name}"), "--json"])
    return str(json.loads(capsys.readouterr().out)["fingerprint"])


def run(federation: Federation, gateway: Any) -> List[Dict[str, Any]]:
    seen = list(events(gateway))
    assert gateway.wait(600) == 0
    return seen


def test_confirmed_nodes_add_up_and_keep_the_log_they_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Federation(tmp_path, masked(rounds=2)) as federation:
        states = {name: begun(federation, name) for name in EVERYBODY}
        for own, state in states.items():
            for name in EVERYBODY:
                if name != own:
                    key = fingerprint(tmp_path, name, capsys)
                    assert main(["node", "peers", "trust", name, key, "--state", str(state)]) == 0
                    capsys.readouterr()
        gateway = federation.gateway()
        wait_for(gateway, "open")
        for name in EVERYBODY:
            federation.node(name)
        seen = run(federation, gateway)
        weights = np.array(seen[-1]["weights"], np.float32)
        np.testing.assert_allclose(weights, expected_weights([EVERYBODY] * 2), atol=1e-4)
        logs = [NodeStore(state / "node.sqlite").peers.certificates() for state in states.values()]
        expected = [json.dumps(entry._asdict()) for entry in federation.authority.log.entries()]
        assert logs == [expected] * 3


def test_a_node_whose_owner_confirmed_nobody_sends_nothing_and_notes_who_was_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Federation(tmp_path, masked(rounds=1)) as federation:
        state = begun(federation, "a")
        gateway = federation.gateway()
        wait_for(gateway, "open")
        for name in EVERYBODY:
            federation.node(name)
        said = wait_for(gateway, "waiting")
        assert (said["node"], said["code"]) == ("a", "policy.peers")
        pending = NodeStore(state / "node.sqlite").peers.pending()
        shown = {name: fingerprint(tmp_path, name, capsys) for name in RECORDS if name != "a"}
        assert {peer.name: peer.fingerprint for peer in pending} == shown


def test_a_node_that_saw_another_log_stays_out(tmp_path: Path) -> None:
    with Federation(tmp_path, masked(rounds=1)) as federation:
        shutil.copytree(tmp_path / "identity", tmp_path / "fork")
        fork = Authority(tmp_path / "fork")
        enrolled(fork, tmp_path / "id-y", "y")
        store = NodeStore(tmp_path / "state-a" / "node.sqlite")
        Peers("a", store, NodeIdentity(tmp_path / "id-a")).see_log(fork.log.entries())
        store.close()
        enrolled(federation.authority, tmp_path / "id-z", "z")
        gateway = federation.gateway()
        wait_for(gateway, "open")
        federation.node("a")
        declined = wait_for(gateway, "declined")
        assert (declined["node"], declined["code"]) == ("a", "peers.log")
