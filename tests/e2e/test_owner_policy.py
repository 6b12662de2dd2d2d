"""A node owns its budget: it declines by its owner's rules, waits for a person, and its ledger is missed when it is lost.

Real broker, real processes. Nodes are `edgeward node run`.
"""

import json
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
from harness import Harness, events, expected_weights, make_task, wait_for

from orchestrator.wire.protection import Privacy
from orchestrator.wire.refusals import text_of

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]


def edgeward(*words: object) -> Any:
    done = subprocess.run([*MAIN, *map(str, words), "--json"], capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def ended(processes: List["subprocess.Popen[str]"], limit_s: float = 150.0) -> Iterator[None]:
    """Kills the processes at the end, and when they take too long, so that reading from them ends."""

    def end() -> None:
        for process in processes:
            process.kill()

    watchdog = threading.Timer(limit_s, end)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
        end()
        for process in processes:
            process.wait()


def node(folder: Path, broker: str, federation: str, name: str, *more: object) -> "subprocess.Popen[str]":
    command = ["node", "run", "--broker", broker, "--federation", federation, "--name", name, "--state", folder / name]
    command += ["--data", folder / f"{name}.csv", "--connect-timeout", 200, *more]
    return subprocess.Popen([*MAIN, *map(str, command)], stderr=subprocess.PIPE, text=True)


def test_a_strict_node_declines_and_the_others_go_on(tmp_path: Path) -> None:
    privacy = Privacy(noise_multiplier=1.0, sampling_rate=1.0, delta=1e-3)
    task = replace(make_task(rounds=3, statistics=False, quorum=3), privacy=privacy)
    (tmp_path / "d.csv").write_text("x,y\n" + "0.5,1\n" * 10)
    (tmp_path / "policy.toml").write_text("[budget]\nepsilon_task = 1\ndelta = 1e-3\n")
    with Harness(tmp_path, task) as harness:
        gateway, broker = harness.gateway(), str(harness.broker.address)
        strict = node(tmp_path, broker, "test", "d", "--policy", tmp_path / "policy.toml")
        with ended([gateway, strict]):
            declined = wait_for(gateway, "declined")
            assert (declined["node"], declined["code"]) == ("d", "policy.budget")
            assert declined["reason"] == text_of("policy.budget"), "of what it spent and of its limit nothing travels"
            others = [harness.node(name) for name in "abc"]
            told = list(events(gateway))
            # A mean weighs by what the nodes stated: noised counts.
            stated = {e["node"]: e["records"] for e in told if e["event"] == "joined"}
            np.testing.assert_array_equal(told[-1]["weights"], expected_weights(["abc"] * 3, stated))
            assert [process.wait(600) for process in others] == [0, 0, 0]
        assert strict.stderr is not None
        assert "at most 1 is allowed for one task" in strict.stderr.read(), "its owner's log says why"
    shown = {n["name"]: n for n in edgeward("runs", "show", "run", "--out", tmp_path)["nodes"]}
    assert [shown["d"][key] for key in ("state", "code", "reason")] == [
        "declined",
        declined["code"],
        declined["reason"],
    ]
    assert {name: (n["code"], len(n["rounds"])) for name, n in shown.items() if name != "d"} == dict.fromkeys(
        "abc", ("", 3)
    )
    ledger = edgeward("node", "ledger", "--state", tmp_path / "a", "--delta", "1e-3")
    releases = [(r["kind"], r["count"], r["used"]) for r in ledger["runs"][0]["releases"]]
    assert releases == [("training", 3, 3), ("count", 1, 1)]
    assert 1 < ledger["spent"]["record"] < 10


def test_a_node_waits_for_its_owner_and_goes_on_by_itself(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[require]\nunits = ['none']\nstages = []\n[approval]\nrequired = true\n")
    with Harness(tmp_path, make_task()) as harness:
        for name in "ab":
            (tmp_path / f"{name}.csv").write_text("x,y\n" + "0.5,1\n" * 10)
        gateway, broker = harness.gateway(), str(harness.broker.address)
        processes = [gateway]
        processes += [node(tmp_path, broker, "test", name, "--policy", tmp_path / "policy.toml") for name in "ab"]
        with ended(processes):
            waiting = [wait_for(gateway, "waiting") for _ in "ab"]
            assert {w["node"] for w in waiting} == {"a", "b"}
            assert {w["code"] for w in waiting} == {"policy.approval"}
            digest = waiting[0]["digest"]
            (request,) = edgeward("node", "approvals", "--state", tmp_path / "a")
            assert (request["digest"], request["decision"]) == (digest, None)
            edgeward("node", "deny", digest[:12], "--state", tmp_path / "b")
            declined = wait_for(gateway, "declined", node="b")
            assert declined["code"] == "policy.approval-denied"
            edgeward("node", "approve", digest[:12], "--state", tmp_path / "a")
            assert wait_for(gateway, "joined")["node"] == "a"
            # A word once given is not asked for again.
            processes[1].kill()
            wait_for(gateway, "left", node="a")
            processes.append(node(tmp_path, broker, "test", "a", "--policy", tmp_path / "policy.toml"))
            assert wait_for(gateway, "joined")["node"] == "a"


def test_a_lost_ledger_is_missed_by_the_node_and_by_the_gateway(tmp_path: Path) -> None:
    with Harness(tmp_path, make_task()) as harness:
        (tmp_path / "a.csv").write_text("x,y\n" + "0.5,1\n" * 10)
        gateway, broker = harness.gateway(), str(harness.broker.address)
        processes = [gateway, node(tmp_path, broker, "test", "a")]
        with ended(processes):
            assert wait_for(gateway, "joined")["node"] == "a"
            processes[1].kill()
            wait_for(gateway, "left", node="a")
            for path in (tmp_path / "a").glob("ledger.sqlite*"):
                path.unlink()
            refused = node(tmp_path, broker, "test", "a")
            processes.append(refused)
            _, said = refused.communicate(timeout=600)
            assert refused.returncode == 1
            assert "the ledger is gone, node.sqlite beside it remembers it" in said
            assert "Traceback" not in said
            shutil.rmtree(tmp_path / "a")
            processes.append(node(tmp_path, broker, "test", "a"))
            declined = wait_for(gateway, "declined")
            assert (declined["node"], declined["code"]) == ("a", "ledger.rollback")
            assert "its ledger lost 1 of 2 entries" in declined["reason"]
            processes.append(harness.node("b"))
            wait_for(gateway, "joined", node="b")  # so what was told before is in the journal
            shown = {n["name"]: n for n in edgeward("runs", "show", "run", "--out", tmp_path)["nodes"]}
            assert (shown["a"]["state"], shown["a"]["code"]) == ("declined", "ledger.rollback")
