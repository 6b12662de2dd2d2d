"""A federation with an identity for tests: real mosquitto with TLS and rights, gateway and nodes as real processes.

As a program it is one of them:  python secure.py gateway DIR PORT   |   python secure.py node DIR NAME PORT DELAY_S
"""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from fixed_node import Fixed
from harness import RECORDS, SIZE

from orchestrator.gateway.audit import AUDIT_FILE
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import OwnBroker, free_port
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.node.agent import NodeAgent
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.wire.link import BrokerAddress, Link
from orchestrator.wire.task import Task, task_to_dict

FEDERATION = "test"


def enrolled(authority: Authority, folder: Path, name: str) -> NodeIdentity:
    request = make_node_request(folder, name, authority.federation)
    return install(folder, {**authority.sign(request, name), "broker": ""}, authority.ca_fingerprint)


class Federation:
    """Everything below `folder`. `gateway` starts the process that also runs the broker."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.folder = folder
        self.port = free_port()
        self.authority = Authority.create(folder / "identity", FEDERATION, [])
        for name in RECORDS:
            enrolled(self.authority, folder / f"id-{name}", name)
            (folder / f"{name}.csv").write_text("x,y\n" + "0.5,1\n" * RECORDS[name])
        store = Store(folder / "gateway.sqlite")
        store.create_run("run", task_to_dict(task), b"graph", np.zeros(SIZE, np.float32))
        self.serial = store.serial("run")
        store.close()
        self.processes: List[subprocess.Popen[str]] = []

    def __enter__(self) -> "Federation":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def gateway(self) -> "subprocess.Popen[str]":
        return self._start("gateway", subprocess.PIPE)

    def node(self, name: str, delay_s: float = 0.0, identity: str = "") -> "subprocess.Popen[str]":
        return self._start("node", None, identity or f"id-{name}", name, delay_s)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def address(self, identity: NodeIdentity) -> BrokerAddress:
        return identity.secure(BrokerAddress("127.0.0.1", self.port))

    def as_gateway(self, *topics: str) -> Link:
        """A connection with the gateway's own certificate: what someone who took the broker over could do."""
        link = Link(self.authority.secure(BrokerAddress("127.0.0.1", self.port)), "taken-over", topics)
        link.open(60)
        return link

    def _start(self, role: str, stdout: Any, *more: object) -> "subprocess.Popen[str]":
        command = [sys.executable, __file__, role, str(self.folder), str(self.port), *map(str, more)]
        with (self.folder / f"{more[1] if more else role}.log").open("a") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log, text=True)
        self.processes.append(process)
        return process


def show(event: Dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def run_gateway(folder: Path, port: int) -> None:
    authority = Authority(folder / "identity")
    store = Store(folder / "gateway.sqlite")
    progress = store.audit(folder / AUDIT_FILE).progress(show)
    with OwnBroker("mosquitto", port=port, authority=authority) as broker:
        gateway = Gateway(store, "run", FEDERATION, broker.address, broker, progress=progress, authority=authority)
        result = gateway.run(60)
    print(json.dumps({"event": "weights", "weights": result.weights.tolist(), "rounds": result.rounds}), flush=True)


def run_node(folder: Path, port: int, identity_folder: str, name: str, delay_s: float) -> None:
    Fixed.delay_s = delay_s
    identity = NodeIdentity(folder / identity_folder)
    address = identity.secure(BrokerAddress("127.0.0.1", port))
    data, state, policy = folder / f"{name}.csv", folder / f"state-{name}", folder / f"{name}.toml"
    rules = policy if policy.exists() else None
    NodeAgent(address, FEDERATION, name, data, state, Fixed, once=True, identity=identity, policy=rules).run(60)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    role, folder, port, *rest = sys.argv[1:]
    if role == "gateway":
        run_gateway(Path(folder), int(port))
    else:
        run_node(Path(folder), int(port), rest[0], rest[1], float(rest[2]))
