"""A real federation in real processes, for the tests that look at it: broker, gateways with a dashboard, nodes, a board."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from orchestrator.boards.client import BoardClient
from orchestrator.boards.forward import MqttForward
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.web.staying import PROGRAM

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
ROUNDS = 12
CONFIG = """
calibration = "held-out.csv"
calibration_public = true
[gateway]
federation = "icu"
broker = "{broker}"
dashboard = "127.0.0.1:0"
dashboard_minutes = 5
[evaluation]
held-out = "held-out.csv"
[task]
name = "sepsis"
codec = "{codec}"
[task.schema]
kind = "table"
label = "sepsis"
classes = ["no", "yes"]
label_values = {{"0" = 0, "1" = 1}}
features = [
    {{name = "age", minimum = 0, maximum = 110}},
    {{name = "lactate", minimum = 0, maximum = 30}},
    {{name = "map", minimum = 20, maximum = 180}},
]
[task.model]
kind = "mlp"
hidden = [64, 32]
[task.training]
strategy = "{strategy}"
rounds = {rounds}
local_steps = 4
learning_rate = 0.5
[task.privacy]
epsilon = {epsilon}
delta = 1e-3
[task.rounds]
nodes = 4
quorum = 4
deadline_s = 300
"""
NODES = ("cardiac", "medical", "neuro", "surgical")


def write_records(path: Path, records: int, seed: int) -> None:
    """Invented patients: lactate and low pressure make sepsis likelier."""
    rng = np.random.default_rng(seed)
    age = rng.normal(65, 14, records).clip(18, 100)
    lactate = rng.gamma(2.0, 1.4, records).clip(0.3, 25)
    pressure = rng.normal(82, 16, records).clip(30, 160)
    risk = 0.03 * (age - 65) + 0.9 * (lactate - 2.8) - 0.09 * (pressure - 82)
    sepsis = rng.random(records) < 1 / (1 + np.exp(-1.3 * risk))
    lines = [f"{a:.0f},{b:.1f},{p:.0f},{int(s)}" for a, b, p, s in zip(age, lactate, pressure, sepsis)]
    path.write_text("age,lactate,map,sepsis\n" + "\n".join(lines) + "\n")


class RealFederation:
    """Everything ends with the `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.broker = OwnBroker("embedded")
        self.nodes: Dict[str, subprocess.Popen[bytes]] = {}
        self.gateway: Optional[subprocess.Popen[str]] = None
        self.events: List[Dict[str, Any]] = []
        self.stayed: List[Dict[str, Any]] = []
        self.url = ""

    def __enter__(self) -> "RealFederation":
        self.broker.start()
        for seed, name in enumerate((*NODES, "held-out")):
            write_records(self.folder / f"{name}.csv", 150 + 40 * seed, seed)
        write_records(self.folder / "emergency.csv", 1200, 9)  # more than delta allows: this node declines
        return self

    def __exit__(self, *_: object) -> None:
        self._end_dashboards()
        processes: List[subprocess.Popen[Any]] = [*self.nodes.values(), *([self.gateway] if self.gateway else [])]
        for process in processes:
            process.kill()
            process.wait()
        self.broker.close()

    def _end_dashboards(self) -> None:
        """Those that outlive their gateways."""
        found = {event["pid"] for event in self.stayed}
        if self.gateway is not None and self.gateway.poll() is None:
            children = Path(f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/children").read_text().split()
            found |= {int(pid) for pid in children}
        self.stayed.clear()
        for pid in found:
            with contextlib.suppress(OSError):
                if PROGRAM.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def start_node(self, name: str, *more: str) -> None:
        command = [*MAIN, "node", "run", "--broker", str(self.broker.address), "--federation", "icu", "--name", name]
        command += ["--data", str(self.folder / f"{name}.csv"), "--state", str(self.folder / "state" / name), *more]
        self.nodes[name] = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def start_gateway(self, strategy: str, codec: str, epsilon: float, *options: str) -> None:
        """Runs `edgeward gateway run`; returns when its dashboard is there."""
        config = self.folder / f"{strategy}.toml"
        address = str(self.broker.address)
        config.write_text(CONFIG.format(broker=address, strategy=strategy, codec=codec, epsilon=epsilon, rounds=ROUNDS))
        command = [*MAIN, "gateway", "run", str(config), "--out", str(self.out), "--json", *options]
        self.gateway = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.events = []
        threading.Thread(target=self._gather, args=(self.gateway, self.events), daemon=True).start()
        self.url = self.wait_for("dashboard")["url"]

    def _gather(self, gateway: "subprocess.Popen[str]", events: List[Dict[str, Any]]) -> None:
        assert gateway.stdout is not None
        for line in gateway.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "dashboard_stays":
                self.stayed.append(events[-1])

    def wait_for(self, kind: str, timeout_s: float = 600.0) -> Dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = [event for event in list(self.events) if event["event"] == kind]
            if found:
                return found[0]
            assert self.gateway is not None
            assert self.gateway.poll() is None or kind == "result", f"the gateway ended before {kind}"
            time.sleep(0.02)
        raise AssertionError(f"no {kind} within {timeout_s:g} s")

    def wait_for_round(self, number: int) -> None:
        deadline = time.monotonic() + 600
        while not any(e["event"] == "aggregated" and e["round"] >= number for e in list(self.events)):
            assert time.monotonic() < deadline, f"round {number} was not aggregated"
            time.sleep(0.005)

    def freeze(self, node: str) -> None:
        self.nodes[node].send_signal(signal.SIGSTOP)

    def thaw(self, node: str) -> None:
        self.nodes[node].send_signal(signal.SIGCONT)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=600) as answer:
            return json.load(answer)

    def play_board(self, times: int = 24) -> None:
        """A virtual board with the last bundle infers its test rows, towards the end shifted ones; its records go over MQTT as
        `edgeward monitor --forward` sends them."""
        bundle = self.out / "bundle"
        rows = np.load(self.out / "evaluation" / "eval_int8_inputs.npy")
        rng = np.random.default_rng(4)
        with VirtualBoard(bundle / "model.bin") as board:
            forward = MqttForward(str(self.broker.address), "icu", ["/dev/ttyUSB0"])
            send = lambda record: forward.write("/dev/ttyUSB0", time.time(), record)  # noqa: E731
            with BoardClient(board.port, on_record=send) as client:
                client.info()
                client.ask("drift rows 128", "ok")
                for turn in range(times):
                    shift = 10 * max(0, turn - times // 2)
                    chosen = rows[rng.choice(len(rows), 128, replace=False)].astype(np.int16)
                    client.infer((chosen + shift).clip(-128, 127).astype(np.int8))
                    client.metrics()
                    time.sleep(0.1)
            forward.close()
