"""A small federation of real processes, `edgeward` commands all of them, without training to speak of."""

import contextlib
import json
import os
import queue
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from graph_samples import softmax_regression

from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.config import load_config
from orchestrator.gateway.run import open_run, run_id
from orchestrator.gateway.store import Store
from orchestrator.node.identity import install, make_node_request
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.wire.address import client_id
from orchestrator.wire.link import BrokerAddress, Link, Message
from orchestrator.wire.task import Task
from orchestrator.wire.topics import Topics

from .board import Board
from .control import Control, build
from .gates import Gate
from .processes import USER, Process, as_user, until, words_of

DEADLINE_S = 3.0
ROUNDS = 4000
PACE_S = 0.2
FEDERATION = "ward"
GRAPH = softmax_regression(1, 2)
ROWS = 200

CONFIG = """
[gateway]
federation = "{federation}"
broker = "{broker}"
port = {port}
{identity}
[task]
name = "matrix"
[task.schema]
kind = "table"
label = "y"
classes = ["no", "yes"]
label_values = {{"0" = 0, "1" = 1}}
features = [{{name = "x", minimum = 0, maximum = 1}}]
standardization = "range"
[task.model]
kind = "mlp"
hidden = []
[task.training]
rounds = {rounds}
learning_rate = 0.01
[task.privacy]
{privacy}
[task.rounds]
nodes = {nodes}
quorum = {quorum}
deadline_s = {deadline_s}
attempts = 100000
{more}
"""
PRIVATE = 'unit = "record"\nepsilon = 8.0\ndelta = 1e-4\nsampling_rate = 0.5\nclip_norm = 1.0'
ENCRYPTED = '[task.aggregation]\nmethod = "ckks"\nupdate_range = 8.0\nkey_holder = "keys"'


@dataclass(frozen=True)
class Setting:
    """Under which conditions cells are run. kind: which processes there are. user: an ordinary one. broker: the gateway's own."""

    kind: str = "nodes"  # nodes | keys | regions
    broker: str = "embedded"
    user: bool = False
    identities: bool = False

    def __str__(self) -> str:
        who = "an ordinary user" if self.user or os.geteuid() != 0 else "root"
        return f"{self.kind}, {self.broker}, {'identities' if self.identities else 'plain'}, as {who}"


class Federation:
    """From `with` to its end. Names of processes: gateway, a, b, c, dashboard, monitor; keys; north (a relay of a and b)."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.folder = Path(tempfile.mkdtemp(prefix="edgeward-faults-"))
        self.folder.chmod(0o755)
        self.processes: Dict[str, Process] = {}
        self.gates: Dict[str, Gate] = {}
        self.controls: Dict[str, Control] = {}
        self.mounts: List[Path] = []
        self.port, self.region_port, self.web_port, self.metrics_port = (free_port() for _ in range(4))
        self.board: Optional[Board] = None
        self._spy: Optional[Link] = None
        self._heard = 0

    def __enter__(self) -> "Federation":
        try:
            self._prepare()
            watching = [p for p in self.processes.values() if p.kind in ("dashboard", "monitor")]
            for process in self.processes.values():
                if process not in watching:
                    process.start()
            until(lambda: self.round() >= 2, lambda: f"the first rounds\n{self.logs()}")
            for process in watching:  # a monitor gives up where there is no broker for ten seconds
                process.start()
            for process in watching:
                until(partial(_has_output, process), self.logs)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What there is

    @property
    def out(self) -> Path:
        return self.folder / "state-gateway"

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    @property
    def gateway(self) -> Process:
        return self.processes["gateway"]

    def of_kind(self, kind: str) -> Process:
        """The process that faults of this column hit; of brokers, their gateway's."""
        if kind in ("embedded", "mosquitto"):
            return self.gateway
        return next(p for p in self.processes.values() if p.kind == kind)

    def broker_pid(self) -> int:
        """The process of the gateway's own broker."""

        def find() -> List[int]:
            sign = "embedded_broker" if self.setting.broker == "embedded" else "mosquitto.conf"
            return [pid for pid in self.gateway.left() if sign in words_of(pid)]

        return int(until(find, lambda: f"the gateway's broker\n{self.logs()}")[0])

    def results(self) -> List[Dict[str, Any]]:
        """What the gateway has stored of every round."""
        with contextlib.suppress(sqlite3.Error), reading(self.out / "gateway.sqlite") as db:
            rows = db.execute("SELECT data FROM results WHERE run = ? ORDER BY round", (self.run_id,))
            return [json.loads(row[0]) for row in rows]
        return []

    def round(self) -> int:
        """The newest round that is done."""
        with contextlib.suppress(sqlite3.Error), reading(self.out / "gateway.sqlite") as db:
            row = db.execute("SELECT MAX(round) FROM results WHERE run = ?", (self.run_id,)).fetchone()
            return int(row[0] or 0)
        return 0

    def mark(self) -> None:
        """From here on logs are read."""
        for process in self.processes.values():
            process.mark()

    def answering(self) -> List[Tuple[Process, Path, str]]:
        """(process, its gateway's store, run there) of all that answer rounds."""
        above, region = self.out / "gateway.sqlite", self.folder / "state-north" / "region.sqlite"
        return [
            (p, region if self.setting.kind == "regions" and p.name in ("a", "b") else above, self.run_id)
            for p in self.processes.values()
            if p.kind in ("node", "relay")
        ]

    def heard(self) -> int:
        """Records of boards that came to the broker."""
        if self._spy is None:
            address = BrokerAddress("127.0.0.1", self.port)
            address = self._authority_again().secure(address) if self.setting.identities else address
            self._spy = Link(address, client_id("spy"), [Topics(FEDERATION).every_board])
            self._spy.open(30.0)
        with contextlib.suppress(queue.Empty):
            while True:
                self._heard += isinstance(self._spy.events.get_nowait(), Message)
        return self._heard

    def _authority_again(self) -> Authority:
        authority = Authority(self.folder / "identity")
        authority.close()
        return authority

    def page(self, path: str, port: Optional[int] = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.web_port}{path}", timeout=20) as answer:
            return bytes(answer.read())

    def logs(self) -> str:
        """The ends of all logs, for a test that failed."""
        parts = []
        for process in self.processes.values():
            text = process.log.read_text(errors="replace")[-1500:] if process.log.exists() else ""
            parts.append(f"--- {process.name} ({process.code}):\n{text}")
        return "\n".join(parts)

    # Making it

    def _prepare(self) -> None:
        for name in ("notes", "logs", "control"):
            (self.folder / name).mkdir()
        self.notes.chmod(0o777)
        self.pace(PACE_S)
        self.shim = build(self.folder)
        self._before = as_user(self.setting.user)
        if self.setting.identities:
            self._authority = Authority.create(self.folder / "identity", FEDERATION, ["127.0.0.1"])
        {"nodes": self._nodes, "keys": self._keys, "regions": self._regions}[self.setting.kind]()
        if self.setting.identities:
            self._authority.close()
        if self.setting.user and os.geteuid() == 0:
            self._give_away()

    def _nodes(self) -> None:
        self._make_gateway(nodes=3, quorum=2, privacy=PRIVATE)
        for name in ("a", "b", "c"):
            self._make_node(name)
        self._make_dashboard()
        self._make_monitor()

    def _keys(self) -> None:
        more = ENCRYPTED
        self._make_gateway(nodes=3, quorum=3, privacy='unit = "none"', more=more)
        words = ["keyholder", "run", *self._joins("keys")]
        self._add("key holder", "keys", words)
        for name in ("a", "b", "c"):
            self._make_node(name)

    def _regions(self) -> None:
        self._make_gateway(nodes=2, quorum=2, privacy=PRIVATE)
        gate = self._gate("north", self.port)
        words = ["gateway", "relay", "--federation", FEDERATION, "--port", str(self.region_port), "--nodes", "2"]
        words += ["--quorum", "1", "--deadline", str(DEADLINE_S), "--broker", self.setting.broker, "--out", "STATE"]
        words += ["--upstream", self._url(gate)]
        if self.setting.identities:
            self._region = Authority.create(self.folder / "identity-region", FEDERATION, ["127.0.0.1"])
            words += ["--identity", str(self.folder / "identity-region")]
            words += ["--upstream-identity", str(self._enroll(self._authority, "north"))]
        else:
            words += ["--name", "north", "--upstream-federation", FEDERATION]
        self._add("relay", "north", words)
        self._make_node("c")
        for name in ("a", "b"):
            self._make_node(name, region=True)
        if self.setting.identities:
            self._region.close()

    def _make_gateway(self, nodes: int, quorum: int, privacy: str, more: str = "") -> None:
        path = self.folder / "edgeward.toml"
        identity = 'identity = "identity"' if self.setting.identities else ""
        path.write_text(
            CONFIG.format(
                federation=FEDERATION,
                broker=self.setting.broker,
                port=self.port,
                identity=identity,
                rounds=ROUNDS,
                privacy=privacy,
                nodes=nodes,
                quorum=quorum,
                deadline_s=DEADLINE_S,
                more=more,
            )
        )
        self._add("gateway", "gateway", ["gateway", "run", str(path), "--out", "STATE"])
        task = load_config(path).task
        self.run_id = run_id(task)
        store = Store(self.out / "gateway.sqlite")
        open_run(store, self.run_id, _planned(task), GRAPH, np.zeros(4, np.float32))
        store.close()

    def _make_node(self, name: str, region: bool = False) -> None:
        data = self.folder / f"{name}.csv"
        data.write_text("x,y\n" + "0.25,0\n0.75,1\n" * (ROWS // 2))
        self._add("node", name, ["node", "run", "--data", str(data), *self._joins(name, region)])

    def _joins(self, name: str, region: bool = False) -> List[str]:
        gate = self._gate(name, self.region_port if region else self.port)
        words = ["--broker", self._url(gate), "--state", "STATE"]
        if not self.setting.identities:
            return [*words, "--federation", FEDERATION, "--name", name]
        authority = self._region if region else self._authority
        return [*words, "--identity", str(self._enroll(authority, name))]

    def _make_dashboard(self) -> None:
        words = ["gateway", "dashboard", str(self.out), "--listen", str(self.web_port)]
        if not self.setting.identities:  # it has no certificate of its own, so it reads the store and hears no boards
            words += ["--broker", self._url(self._gate("dashboard", self.port)), "--federation", FEDERATION]
        self._add("dashboard", "dashboard", words, state=self.out)

    def _make_monitor(self) -> None:
        self.board = Board()
        words = ["monitor", self.board.port, "--out", "STATE/records.csv", "--rate", "0"]
        words += ["--prometheus", f":{self.metrics_port}", "--federation", FEDERATION]
        words += ["--forward", self._url(self._gate("monitor", self.port))]
        if self.setting.identities:
            words += ["--identity", str(self._enroll(self._authority, "monitor:ward"))]
        self._add("monitor", "monitor", words)
        if self.setting.user and os.geteuid() == 0:
            os.chown(self.board.port, USER, USER)

    def _add(self, kind: str, name: str, words: List[str], state: Optional[Path] = None) -> None:
        folder = state or self.folder / f"state-{name}"
        if state is None:
            folder.mkdir(mode=0o700)
            if os.geteuid() == 0:
                size = "48m" if name in ("gateway", "north") else "16m"
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "faults", folder], check=True)
                self.mounts.append(folder)
        control = self.controls[name] = Control(self.folder / "control" / name, folder)
        environment = {"EDGEWARD_FAULTS_NOTES": str(self.notes), **control.environment(self.shim)}
        words = [word.replace("STATE", str(folder)) for word in words]
        log = self.folder / "logs" / f"{name}.log"
        self.processes[name] = Process(kind, name, words, log, folder, environment, self._before)

    def _gate(self, name: str, port: int) -> Gate:
        self.gates[name] = Gate(("127.0.0.1", port))
        return self.gates[name]

    def _url(self, gate: Gate) -> str:
        return f"{'mqtts' if self.setting.identities else 'mqtt'}://127.0.0.1:{gate.port}"

    def _enroll(self, authority: Authority, name: str) -> Path:
        folder = self.folder / f"id-{name.replace(':', '-')}"
        request = make_node_request(folder, name, FEDERATION)
        install(folder, {**authority.sign(request, name), "broker": ""}, authority.ca_fingerprint)
        return folder

    def _give_away(self) -> None:
        """All that processes write belongs to the ordinary user."""
        for path in self.folder.iterdir():
            if path.name.startswith(("state-", "identity", "id-", "logs")):
                for one in [path, *path.rglob("*")]:
                    os.chown(one, USER, USER)

    def pace(self, seconds: float) -> None:
        """A node's training takes so long from now on."""
        path = self.notes / "pace.new"
        path.write_text(str(seconds))
        path.chmod(0o644)
        path.replace(self.notes / "pace")

    def close(self) -> None:
        """Ends all of it, and takes it away."""
        if self._spy is not None:
            self._spy.close()
        for process in self.processes.values():
            if process.alive:
                process.kill()
            for pid in process.left():
                with contextlib.suppress(OSError):
                    os.kill(pid, 9)
        for gate in self.gates.values():
            gate.close()
        if self.board is not None:
            self.board.close()
        for folder in self.mounts:
            subprocess.run(["umount", "--lazy", folder], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)
    try:
        yield db
    finally:
        db.close()


_PLANNING: Dict[str, Any] = {}


def _planned(task: Task) -> Task:
    """The task with its noise, as the gateway plans it before the first round; computed once for all federations."""
    task = replace(task, training=replace(task.training, parameters=4))
    key = repr(task)
    if key not in _PLANNING:
        _PLANNING[key] = plan_apart(task)[0]
    planned: Task = _PLANNING[key]
    return planned


def _has_output(process: Process) -> bool:
    return any(path.stat().st_size for path in (process.log, process.log.with_suffix(".out")))
