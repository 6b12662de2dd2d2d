"""One round with very many nodes: real MQTT connections to one gateway and one mosquitto.

python benchmarks/connections.py --connections 1000 --params 10000 --rounds 2 [--json]

The nodes are simulated: each has its own MQTT connection (paho), presence, transfers and acknowledgements, driven by one
thread of one process for all of them; nobody trains, and the update is random. Gateway, broker and wire are real.
"""

import argparse
import json
import os
import platform
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from rounds import make_task

from orchestrator.errors import UsageError
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.codec import encode_update
from orchestrator.wire.frames import Ack, Chunk, Want, decode_frame, encode_frame
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.process import peak_memory_mib
from orchestrator.wire.task import task_to_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Inbox, Outbox

FEDERATION = "benchmark"
LIMIT = 512 << 20


class Client:
    """One simulated node on its own connection."""

    def __init__(self, address: BrokerAddress, name: str, selector: selectors.BaseSelector, codec: str) -> None:
        self.name, self.codec = name, codec
        self.topics = Topics(FEDERATION)
        self.inbox, self.outbox = Inbox(LIMIT), Outbox()
        self.answered, self.over, self.finished = 0, False, ""
        self.sent = self.received = 0
        self._selector = selector
        client = self.mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"edgeward-{name}")
        client.will_set(self.topics.presence(name), encode_body({"kind": "gone", "node": name}), 1, True)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_socket_open = self._opened
        client.on_socket_close = self._closed
        client.on_socket_register_write = lambda c, u, sock: self._watch(sock, write=True)
        client.on_socket_unregister_write = lambda c, u, sock: self._watch(sock, write=False)
        client.connect(address.host, address.port, keepalive=300)

    def _opened(self, client: Any, userdata: Any, sock: Any) -> None:
        self._selector.register(sock, selectors.EVENT_READ, self)

    def _closed(self, client: Any, userdata: Any, sock: Any) -> None:
        self._selector.unregister(sock)

    def _watch(self, sock: Any, write: bool) -> None:
        self._selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0), self)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        client.subscribe([(self.topics.all_nodes, 1), (self.topics.down(self.name), 1)])
        self.present(kind="hello")

    def present(self, **fields: Any) -> None:
        process = {"memory_mib": 0.0, "sent_bytes": self.sent, "received_bytes": self.received, "tensorflow": False}
        body = encode_body({"node": self.name, "process": process, **fields})
        self.mqtt.publish(self.topics.presence(self.name), body, 1, True)

    def _send(self, payload: bytes) -> None:
        self.sent += len(payload)
        self.mqtt.publish(self.topics.up(self.name), payload, 1)

    def pump(self, now: float) -> None:
        self.outbox.due(now)
        for _, payload in iter(lambda: self.outbox.next(now), None):
            self._send(payload)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self.received += len(message.payload)
        frame, now = decode_frame(message.payload), time.monotonic()
        if isinstance(frame, Ack):
            self.outbox.acknowledged("gateway", frame)
        elif isinstance(frame, Want):
            self.outbox.wanted("gateway", frame, now)
        elif isinstance(frame, Chunk):
            body, answer = self.inbox.feed("gateway", frame)
            if body is not None:
                answer = self.inbox.finish("gateway", frame.id)
                self._take(*decode_body(body, LIMIT))
            if answer is not None:
                self._send(encode_frame(answer))
        self.pump(now)

    def _take(self, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> None:
        if header["kind"] == "task":
            self.present(kind="ready", run=header["run"], records=1)
        elif header["kind"] == "round":
            update = np.random.default_rng().normal(0, 1e-3, tensors["weights"].size).astype(np.float32)
            fields = {"kind": "update", "run": header["run"], "round": header["round"], "records": 1}
            fields.update(codec=self.codec, codec_error=0.0, memory_mib=0.0)
            body = encode_body(fields, encode_update(update, self.codec, np.random.default_rng()))
            up = self.topics.up(self.name)
            self.outbox.send(body, up, {"gateway": up}, time.monotonic())
            self.answered += 1
        elif header["kind"] == "finished":
            self.present(kind="hello", finished=header["run"])
            self.over = True


def drive(address: BrokerAddress, connections: int, codec: str) -> None:
    """All clients, until the last one heard that the run is over."""
    selector = selectors.DefaultSelector()
    clients = [Client(address, f"node-{i:05}", selector, codec) for i in range(connections)]
    swept = time.monotonic()
    while not all(client.over and not client.mqtt.want_write() for client in clients):
        for key, mask in selector.select(timeout=0.2):
            client = key.data
            if mask & selectors.EVENT_READ:
                client.mqtt.loop_read()
            if mask & selectors.EVENT_WRITE and client.mqtt.socket() is not None:
                client.mqtt.loop_write()
        if time.monotonic() - swept > 1:
            swept = time.monotonic()
            for client in clients:
                client.mqtt.loop_misc()
                client.pump(swept)
    connected = sum(client.mqtt.socket() is not None for client in clients)
    print(json.dumps({"connected_at_the_end": connected, "answers": sum(c.answered for c in clients)}), flush=True)


def raise_file_limit(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UsageError(f"{needed} open files are needed, this account may have {hard}: raise it with ulimit -Hn")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def measure(connections: int, params: int, rounds: int, codec: str = "int8") -> Dict[str, Any]:
    raise_file_limit(2 * connections + 200)
    weights = np.random.default_rng(0).normal(0, 0.1, params).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, OwnBroker("mosquitto") as broker:
        store = Store(Path(folder, "gateway.sqlite"))
        store.create_run("benchmark", task_to_dict(make_task(connections, rounds, codec)), b"", weights)
        joined = 0
        first = last = 0.0

        def watch(event: Dict[str, Any]) -> None:
            nonlocal joined, first, last
            if event["event"] == "joined":
                joined, last = joined + 1, time.monotonic()
                first = first or last

        gateway = Gateway(store, "benchmark", FEDERATION, broker.address, progress=watch)
        command = [sys.executable, __file__, "--drive", str(broker.address), "--connections", str(connections)]
        process = subprocess.Popen([*command, "--codec", codec], stdout=subprocess.PIPE, text=True)
        try:
            cpu = time.process_time()
            result = gateway.run()
            cpu = time.process_time() - cpu
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        broker_mib = peak_memory_mib(str(broker.pid))
    figures = result.rounds
    return {
        "connections": connections,
        "params": params,
        "rounds": rounds,
        "updates": [r["updates"] for r in figures],
        "join_seconds": last - first,
        "seconds_per_round": [r["seconds"] for r in figures],
        "bytes_up_per_round": figures[-1]["bytes_up"],
        "bytes_down_per_round": figures[-1]["bytes_down"],
        "gateway_cpu_s": cpu,
        "gateway_mib": peak_memory_mib(),
        "broker_mib": broker_mib,
        **json.loads(said),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--params", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--codec", default="int8")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--drive", metavar="BROKER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        raise_file_limit(arguments.connections + 100)
        drive(BrokerAddress.parse(arguments.drive), arguments.connections, arguments.codec)
        return
    figures = measure(arguments.connections, arguments.params, arguments.rounds, arguments.codec)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")


if __name__ == "__main__":
    main()
