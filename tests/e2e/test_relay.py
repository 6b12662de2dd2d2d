"""Two regions under one centre: their nodes train as if they were in one federation, whatever is killed."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
from agent_at_post import AtPost, Below
from harness import HERE, RECORDS, Harness, events, expected_weights, finish, make_task, wait_for

from orchestrator.gateway.broker import free_port
from orchestrator.gateway.course import MOST_RECORDS
from orchestrator.gateway.relay import Region, Relay, objection_to_relaying
from orchestrator.wire.body import encode_body
from orchestrator.wire.frames import encode_frame, split
from orchestrator.wire.link import Link
from orchestrator.wire.post import Post
from orchestrator.wire.task import Evaluation, Rounds, Selection, Task, task_to_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import transfer_id

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]


class Regions:
    """north: nodes a and b. south: node c. Each region has a broker and a gateway of its own."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.ports = {"north": free_port(), "south": free_port()}

    def relay(self, name: str, nodes: int, *options: str) -> "subprocess.Popen[str]":
        command = [*MAIN, "gateway", "relay", "--upstream", str(self.harness.broker.address), "--name", name]
        command += ["--upstream-federation", "test", "--federation", "test", "--port", str(self.ports[name])]
        command += ["--nodes", str(nodes), "--out", str(self.harness.folder / name), "--once", "--json", *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.harness.processes.append(process)
        return process

    def leaf(self, region: str, name: str, delay_s: float = 0.0) -> "subprocess.Popen[bytes]":
        data = self.harness.folder / f"{name}.csv"
        data.write_text("x,y\n" + "0.5,1\n" * RECORDS[name])
        broker = f"mqtt://127.0.0.1:{self.ports[region]}"
        arguments = [broker, name, str(data), str(self.harness.folder / name), str(delay_s)]
        environment = {**os.environ, "FIXED_NODE_CONNECT_S": "60"}
        process = subprocess.Popen([sys.executable, str(HERE / "fixed_node.py"), *arguments], env=environment)
        self.harness.processes.append(process)
        return process


@contextmanager
def regions(tmp_path: Path, **rule: Any) -> Iterator[Regions]:
    with Harness(tmp_path, make_task(nodes=2, quorum=2, **rule)) as harness:
        yield Regions(harness)


def test_two_regions_give_the_weights_of_one_flat_federation(tmp_path: Path) -> None:
    with regions(tmp_path, rounds=3) as made:
        gateway = made.harness.gateway()
        made.relay("north", 2)
        made.relay("south", 1)
        for region, name in (("north", "a"), ("north", "b"), ("south", "c")):
            made.leaf(region, name)
        result = finish(gateway)
        assert [r["nodes"] for r in result["rounds"]] == [["north", "south"]] * 3
        flat = expected_weights([["a", "b", "c"]] * 3)
        np.testing.assert_allclose(np.array(result["weights"], np.float32), flat, rtol=1e-5, atol=1e-6)


def test_a_region_killed_in_a_round_continues_it(tmp_path: Path) -> None:
    with regions(tmp_path, rounds=3) as made:
        gateway = made.harness.gateway()
        north = made.relay("north", 2)
        made.relay("south", 1)
        for region, name, delay in (("north", "a", 0.3), ("north", "b", 1.0), ("south", "c", 0.0)):
            made.leaf(region, name, delay)
        wait_for(north, "update", node="a", round=2)  # b is still at it
        north.send_signal(signal.SIGKILL)
        north.wait()
        made.relay("north", 2)
        result = finish(gateway)
        assert [r["nodes"] for r in result["rounds"]] == [["north", "south"]] * 3
        flat = expected_weights([["a", "b", "c"]] * 3)
        np.testing.assert_allclose(np.array(result["weights"], np.float32), flat, rtol=1e-5, atol=1e-6)


def test_a_region_that_loses_a_node_counts_with_the_records_it_has(tmp_path: Path) -> None:
    with regions(tmp_path, rounds=3, statistics=False) as made:
        gateway = made.harness.gateway()
        north = made.relay("north", 2, "--quorum", "1", "--deadline", "5")
        made.relay("south", 1)
        made.leaf("north", "a", 0.2)
        made.leaf("south", "c")
        victim = made.leaf("north", "b", 30)
        wait_for(north, "round", round=1)
        victim.kill()
        result = finish(gateway)
        cohorts: List[List[str]] = [e["nodes"] for e in events(north) if e["event"] == "aggregated"]
        flat = expected_weights([[*nodes, "c"] for nodes in cohorts])
        assert cohorts == [["a"]] * 3
        np.testing.assert_allclose(np.array(result["weights"], np.float32), flat, rtol=1e-5, atol=1e-6)


def test_nonsense_from_above_is_refused_and_the_round_at_hand_goes_on(tmp_path: Path) -> None:
    """At a broker without identities anybody can send it."""
    with regions(tmp_path, rounds=1, statistics=False, deadline_s=15.0) as made:
        gateway = made.harness.gateway()
        north = made.relay("north", 1)
        made.relay("south", 1)
        made.leaf("north", "a", 4.0)
        made.leaf("south", "c")
        wait_for(north, "round", round=1)
        somebody = Link(made.harness.broker.address, "somebody", [])
        somebody.open(60)
        body = encode_body({"kind": "nonsense", "run": "run"})
        for chunk in split(transfer_id(body), body):
            somebody.publish(Topics("test").down("north"), encode_frame(chunk))
        somebody.flush(100)
        told = list(events(gateway))
        somebody.close()
        assert told[-1]["event"] == "weights"
        assert [e["round"] for e in told if e["event"] == "round"] == [1], "nobody had to be asked again"


def test_what_one_node_claims_does_not_put_its_region_out(tmp_path: Path) -> None:
    """A gateway takes no more than MOST_RECORDS of a node, and a region is a node to it."""
    region, below = Region("test", Rounds(2, 2, provided=True)), Below({"a": MOST_RECORDS, "b": 30})
    relay = AtPost(Relay(Post(), "test", "north", tmp_path, region, lower=below))
    relay.hear({"kind": "task", "run": "run", "task": task_to_dict(make_task())}, {"graph": np.zeros(1, np.uint8)})
    said = relay.presence()
    assert (said["kind"], said["run"], said["records"]) == ("ready", "run", MOST_RECORDS)
    relay.agent.close()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"strategy": "median"}, "needs single nodes' updates"),
        ({"strategy": "scaffold"}, "needs single nodes' updates"),
        ({"codec": "top10"}, "carries over"),
        ({"evaluation": Evaluation(share=0.2)}, "federated evaluation"),
        ({"selection": Selection(sampling_rate=0.5)}, "Poisson sample of relays"),
        ({}, ""),
    ],
)
def test_what_cannot_go_through_a_relay_is_declined_with_the_reason(changed: Dict[str, Any], reason: str) -> None:
    task: Task = make_task()
    if "strategy" in changed:
        task = replace(task, training=replace(task.training, strategy=changed.pop("strategy")))
    found = objection_to_relaying(replace(task, **changed))
    assert (reason in found) if reason else found == ""
