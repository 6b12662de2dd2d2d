"""A malicious gateway: says to real node processes what it likes, and keeps every byte they answer.

It speaks the project's wire format and nothing else of the project's gateway: no checks, no order of things, no promises.
"""

import os
import queue
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, TypeVar

import numpy as np

from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.envelope import Sealer
from orchestrator.wire.frames import Ack, Want, decode_frame, encode_frame
from orchestrator.wire.link import BrokerAddress, Link, Message
from orchestrator.wire.task import Task, task_to_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Inbox, Outbox

GIVE_UP_S = 150.0
"""How long a condition may take on the slowest machine; nothing is asserted about how long it did take."""

VERDICTS = ("ready", "declined", "waiting")
MAX_BYTES = 64 << 20

Tensors = Dict[str, np.ndarray]
Found = TypeVar("Found")


class Transfer(NamedTuple):
    """What a node sent on its own topic: an update, a step of a secure round, or that it abstains."""

    node: str
    header: Dict[str, Any]
    tensors: Tensors


class MaliciousGateway:
    """Poses as the gateway of one federation. `sealer`: signs what it says, for nodes with an identity."""

    def __init__(self, address: BrokerAddress, federation: str, sealer: Optional[Sealer] = None) -> None:
        self.address, self.federation = address, federation
        self.presences: List[Dict[str, Any]] = []
        self.transfers: List[Transfer] = []
        self.payloads: List[bytes] = []
        """Every MQTT payload a node published, as it came."""
        self.graph = b"no graph"
        """Sent with tasks that come with no other."""
        self._sealer, self._serial = sealer, int(time.time())
        self._topics = Topics(federation)
        self._inbox, self._outbox = Inbox(MAX_BYTES), Outbox()
        everything = [self._topics.every_up, self._topics.every_presence]
        self._link = Link(address, f"edgeward-{federation}-gateway", everything)
        self._link.send_from(self._outbox.next)
        self._link.open(GIVE_UP_S)

    def __enter__(self) -> "MaliciousGateway":
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def send(self, node: str, header: Dict[str, Any], tensors: Optional[Tensors] = None) -> None:
        """One message to one node, whatever it says."""
        body, down = encode_body(header, tensors or {}), self._topics.down(node)
        if self._sealer is not None:
            body = self._sealer.seal(body, node, self._serial)
        self._outbox.send(body, down, {node: down}, time.monotonic())

    def next_run(self) -> None:
        """Signs from now on as of a later run."""
        self._serial += 1

    def until(self, find: Callable[[], Optional[Found]], what: str, node: str = "") -> Found:
        """Listens until `find` gives something. AssertionError naming `what` when it never does, or when `node` died."""
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            found = find()
            if found is not None:
                return found
            assert self._last_word(node) != "gone", f"{node} died; never saw {what}"
            assert time.monotonic() < deadline, f"never saw {what}; heard {self.presences[-3:]}"
            self._listen()

    def seen(self, node: str) -> Optional[bool]:
        """True once `node` is here, None while it is not."""
        return True if self._last_word(node) not in ("", "gone") else None

    def offer(
        self, node: str, run: str, task: "Task | Dict[str, Any]", graph: Optional[bytes] = None
    ) -> Dict[str, Any]:
        """Offers a task, as it is or as a plain map; returns the presence that answers it. An analysis comes without a graph."""
        declared, graph = task_to_dict(task) if isinstance(task, Task) else task, self.graph if graph is None else graph
        before = len(self.presences)
        header = {
            "kind": "task",
            "run": run,
            "task": declared,
            "offer": before,
        }  # the same bytes again are only acknowledged
        self.send(node, header, {} if declared.get("analysis") else {"graph": np.frombuffer(graph, np.uint8)})
        return self.until(
            lambda: next((p for p in self._since(before, node) if p.get("run") == run and p["kind"] in VERDICTS), None),
            f"{node} answers task {run}",
            node,
        )

    def refusal(self, node: str, header: Dict[str, Any], tensors: Optional[Tensors] = None) -> Dict[str, Any]:
        """Sends something that must be refused; returns the presence that says so."""
        before = len(self.presences)
        self.send(node, header, tensors)
        return self.until(lambda: self._presence(before, node, kind="refused"), f"{node} refuses {header}", node)

    def provoke(self, node: str, header: Dict[str, Any], tensors: Optional[Tensors] = None) -> Dict[str, Any]:
        """Sends something; returns the first word that follows, an answer's header or a presence."""
        transfers, presences = len(self.transfers), len(self.presences)
        self.send(node, header, tensors)

        def word() -> Optional[Dict[str, Any]]:
            said = [t.header for t in self.transfers[transfers:] if t.node == node]
            said += [p for p in self._since(presences, node) if p["kind"] != "health"]
            return said[0] if said else None

        return self.until(word, f"{node} says something to {header}", node)

    def round(self, node: str, run: str, number: int, tensors: Tensors, **fields: Any) -> Transfer:
        """Announces a round; returns the transfer that answers it."""
        header = {"kind": "round", "run": run, "round": number, **fields}
        return self.ask(node, header, tensors)

    def ask(self, node: str, header: Dict[str, Any], tensors: Optional[Tensors] = None) -> Transfer:
        """Sends a round or a step; returns the next transfer about that round of that run."""
        before = len(self.transfers)
        self.send(node, header, tensors)
        wanted = (header["run"], header["round"])
        return self.until(
            lambda: next(
                (
                    t
                    for t in self.transfers[before:]
                    if t.node == node and (t.header.get("run"), t.header.get("round")) == wanted
                ),
                None,
            ),
            f"{node} answers round {wanted[1]} of {wanted[0]}",
            node,
        )

    def words(self) -> str:
        """All that nodes said in headers, as text to search, and what in their payloads was not compressed."""
        said = [repr(header) for header in (*self.presences, *(t.header for t in self.transfers))]
        return "\n".join([*said, *(payload.decode("latin-1") for payload in self.payloads)])

    def _since(self, before: int, node: str) -> List[Dict[str, Any]]:
        return [p for p in self.presences[before:] if p.get("node") == node]

    def _presence(self, before: int, node: str, **fields: Any) -> Optional[Dict[str, Any]]:
        return next((p for p in self._since(before, node) if fields.items() <= p.items()), None)

    def _last_word(self, node: str) -> str:
        said = [p["kind"] for p in self._since(0, node) if p["kind"] != "health"]
        return str(said[-1]) if said else ""

    def _listen(self) -> None:
        self._link.pump()
        try:
            event = self._link.events.get(timeout=0.05)
        except queue.Empty:
            self._outbox.due(time.monotonic())
            return
        sender = self._topics.sender(event.topic) if isinstance(event, Message) else None
        if sender is None:
            return
        node, kind = sender
        self.payloads.append(event.payload)
        if kind == "presence":
            self.presences.append(decode_body(event.payload, MAX_BYTES)[0])
        else:
            self._receive(node, event.payload)

    def _receive(self, node: str, payload: bytes) -> None:
        frame, down = decode_frame(payload), self._topics.down(node)
        if isinstance(frame, Ack):
            self._outbox.acknowledged(node, frame)
        elif isinstance(frame, Want):
            self._outbox.wanted(node, frame, time.monotonic())
        else:
            body, answer = self._inbox.feed(node, frame)
            if answer is not None:
                self._link.publish(down, encode_frame(answer))
            if body is not None:
                self._link.publish(down, encode_frame(self._inbox.finish(node, frame.id)))
                self.transfers.append(Transfer(node, *decode_body(body, MAX_BYTES)))


@dataclass
class NodeProcess:
    """`edgeward node run` of an owner, whose data file and policy a test may change while it runs."""

    address: BrokerAddress
    federation: str
    name: str
    folder: Path
    table: str
    policy: Optional[str] = None
    options: List[str] = field(default_factory=list)
    process: "Optional[subprocess.Popen[bytes]]" = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write(self.table)
        self.rule(self.policy)

    @property
    def data(self) -> Path:
        return self.folder / "records.csv"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def write(self, table: str) -> None:
        """Puts another data file in place."""
        new = self.folder / "records.new"
        new.write_text(table)
        os.replace(new, self.data)

    def rule(self, policy: Optional[str]) -> None:
        """Puts another policy in place: nodes read it again for every task."""
        self.policy = policy
        if policy is not None:
            (self.folder / "policy.toml").write_text(policy)

    def start(self) -> None:
        where = ["--broker", str(self.address), "--federation", self.federation, "--name", self.name]
        files = ["--data", str(self.data), "--state", str(self.state)]
        if self.policy is not None:
            files += ["--policy", str(self.folder / "policy.toml")]
        command = [sys.executable, "-m", "orchestrator.cli.main", "node", "run", *where, *files, *self.options]
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def still_here(self) -> None:
        """AssertionError with the end of its log where the process has ended."""
        assert self.alive, self.log[-2000:]

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        """What the node wrote for its owner."""
        return (self.folder / "node.log").read_text(errors="replace")

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`edgeward node WORDS` of the owner, on this node's state."""
        line = [sys.executable, "-m", "orchestrator.cli.main", "node", *words, "--state", str(self.state)]
        return subprocess.run(line, capture_output=True, text=True)


class Attack(NamedTuple):
    """A malicious gateway and the node it is after, alone in a federation."""

    gateway: MaliciousGateway
    node: NodeProcess

    def restart(self) -> None:
        """Ends the node, if nothing else has, and starts it again on what it keeps."""
        self.node.stop()
        self.gateway.until(lambda: None if self.gateway.seen(self.node.name) else True, "the node's last will")
        self.node.start()
        self.wait()

    def wait(self) -> None:
        """Until the node is there. AssertionError with its log where it ended instead."""

        def here() -> Optional[bool]:
            seen = self.gateway.seen(self.node.name)
            if not seen:
                self.node.still_here()
            return seen

        self.gateway.until(here, "the node says hello")


Victim = Callable[..., Attack]
