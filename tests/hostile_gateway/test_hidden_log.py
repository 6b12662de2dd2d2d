"""Attack: the gateway, which is the authority, certifies puppets and shows nobody its log of certificates, so that nothing shows
what it did. Promise: a node with an identity is in no secure sum of a task that comes without that log."""

import json
import shutil
from contextlib import ExitStack
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import pytest
from inside import INPUTS, csv_of, make_task
from malicious import Attack, MaliciousGateway, NodeProcess

from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import OwnBroker, free_port
from orchestrator.node.identity import install, make_node_request
from orchestrator.node.store import NodeStore
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.transparency import write_log

pytestmark = pytest.mark.skipif(
    not shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/sbin"), reason="mosquitto is not installed"
)
NOISE: Dict[str, Any] = {name: 4.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}


def task(method: str = "masked") -> Task:
    noise = "node" if method == "plain" else "distributed"
    privacy = Privacy(unit="record", epsilon=50.0, delta=1e-4, noise=noise, **NOISE)
    return make_task(privacy=privacy, aggregation=Aggregation(method), rounds=Rounds(3, 3))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("identity") / "gateway", "icu", ["127.0.0.1"])


@pytest.fixture(scope="module")
def node(authority: Authority, tmp_path_factory: pytest.TempPathFactory, linear_graph: bytes) -> Iterator[Attack]:
    """Enrolled, and without a policy: its owner confirmed nobody, so the log is all that can show a puppet."""
    folder = tmp_path_factory.mktemp("icu-1")
    request = make_node_request(folder / "id", "icu-1", authority.federation)
    install(folder / "id", {**authority.sign(request, "icu-1"), "broker": ""}, authority.ca_fingerprint)
    rows = [(*(0.01 * ((i * k) % 40) for k in (1, 3, 7)), i % 2, f"p{i}") for i in range(40)]
    table = csv_of([*(f"x{i}" for i in range(INPUTS)), "y", "who"], rows)
    port = free_port()
    with ExitStack() as running:
        broker = running.enter_context(OwnBroker("mosquitto", port=port, authority=authority))
        gateway = running.enter_context(MaliciousGateway(broker.address, "icu", authority.sealer()))
        gateway.graph = linear_graph
        address, options = BrokerAddress("127.0.0.1", port, tls=True), ["--identity", str(folder / "id")]
        victim = NodeProcess(address, "icu", "icu-1", folder, table, options=options)
        running.callback(victim.stop)
        victim.start()
        attack = Attack(gateway, victim)
        attack.wait()
        yield attack


def offered(node: Attack, run: str, task: Task, log: Optional[Any]) -> Dict[str, Any]:
    node.gateway.next_run()
    before = len(node.gateway.presences)
    header = {"kind": "task", "run": run, "task": task_to_dict(task), **({} if log is None else {"certificates": log})}
    node.gateway.send("icu-1", header, {"graph": np.frombuffer(node.gateway.graph, np.uint8)})
    return node.gateway.until(
        lambda: next((p for p in node.gateway.presences[before:] if p.get("run") == run), None), "an answer", "icu-1"
    )


@pytest.mark.parametrize("log", [None, []], ids=["no word of it", "an empty one"])
def test_a_secure_task_without_the_log_is_declined_before_anything_is_said(
    node: Attack, log: Optional[List[Any]]
) -> None:
    answer = offered(node, "hidden" if log is None else "empty", task(), log)
    assert (answer["kind"], answer["code"]) == ("declined", "peers.log")


def test_with_the_log_the_node_takes_part_and_keeps_it(node: Attack, authority: Authority) -> None:
    log = write_log(authority.log.entries())
    assert offered(node, "shown", task(), log)["kind"] == "ready"
    store = NodeStore(node.node.state / "node.sqlite")
    assert [json.loads(entry) for entry in store.peers.certificates()] == log
    store.close()


def test_who_is_in_no_sum_needs_no_log(node: Attack) -> None:
    assert offered(node, "plain", task("plain"), None)["kind"] == "ready"
