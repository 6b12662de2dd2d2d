"""The same round in Flower's deployment engine: superlink and supernodes as real processes, a client that trains nothing.

Plain, or under SecAgg+ (every client everybody's neighbour, a majority can unmask), which Flower has for its older interface
only. Used by rounds.py and secagg.py with `--flower PYTHON`, the interpreter of an environment with flwr==1.42.0. Bytes are
counted by a relay between supernodes and superlink, so they are TCP payload as in our own figures; memory is the peak of the
sum over each process tree, since a Flower node is several processes.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import psutil

from orchestrator.gateway.broker import free_port

_SERVER = """
import json, time
import numpy as np
from flwr.serverapp import ServerApp
IMPORTS

app = ServerApp()
times = []

class Timed(FedAvg):
    def configure_STEP(self, *args, **kwargs):
        times.append([time.time(), 0.0])
        return super().configure_STEP(*args, **kwargs)

    def aggregate_STEP(self, *args, **kwargs):
        result = super().aggregate_STEP(*args, **kwargs)
        times[-1][1] = time.time()
        return result

@app.main()
def main(grid, context):
    settings = context.run_config
    nodes, rounds = settings["nodes"], settings["rounds"]
    while len(list(grid.get_node_ids())) < nodes:
        time.sleep(0.2)
    weights = np.random.default_rng(0).normal(0, 0.1, settings["params"]).astype(np.float32)
    cohort = {"fraction_STEP": 1.0, "fraction_evaluate": 0.0, "min_evaluate_NODES": 0}
    cohort.update(min_STEP_NODES=nodes, min_available_NODES=nodes)
RUN
    with open(settings["times"], "w") as file:
        json.dump(times, file)
"""


def _server(step: str, nodes: str, imports: str, run: str) -> str:
    """A server app whose rounds are timed; both of Flower's interfaces differ in names only, and in how a run is started."""
    filled = _SERVER.replace("STEP", step).replace("NODES", nodes).replace("IMPORTS", imports.strip())
    return filled.replace("RUN", run.strip("\n"))


SERVER = _server(
    "train",
    "nodes",
    """
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg
""",
    """
    Timed(**cohort).start(grid=grid, initial_arrays=ArrayRecord([weights]), num_rounds=rounds)
""",
)

SECURE_SERVER = _server(
    "fit",
    "clients",
    """
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
""",
    """
    strategy = Timed(**cohort, initial_parameters=ndarrays_to_parameters([weights]))
    secure = SecAggPlusWorkflow(num_shares=nodes, reconstruction_threshold=nodes // 2 + 1, max_weight=1.0, timeout=300)
    legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=rounds), strategy=strategy)
    DefaultWorkflow(fit_workflow=secure)(grid, legacy)
""",
)

CLIENT = """
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    random = np.random.default_rng()
    arrays = [w + random.normal(0, 1e-3, w.shape).astype(np.float32) for w in message.content["arrays"].to_numpy_ndarrays()]
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)
"""

SECURE_CLIENT = """
import numpy as np
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp

class Client(NumPyClient):
    def fit(self, parameters, config):
        random = np.random.default_rng()
        return [w + random.normal(0, 1e-3, w.shape).astype(np.float32) for w in parameters], 1, {}

app = ClientApp(client_fn=lambda context: Client().to_client(), mods=[secaggplus_mod])
"""

PROJECT = """
[project]
name = "peer"
version = "1.0.0"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "benchmark"
[tool.flwr.app.components]
serverapp = "peer.server:app"
clientapp = "peer.client:app"
[tool.flwr.app.config]
nodes = 4
params = 1000
rounds = 1
times = "times.json"
"""


class Relay(threading.Thread):
    """Passes TCP connections on to a port and counts payload bytes each way."""

    def __init__(self, target: int) -> None:
        super().__init__(daemon=True)
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.up = self.down = 0

    def run(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # the superlink has ended: its nodes may find that out
                near.close()
                continue
            threading.Thread(target=self._pump, args=(near, far, "up"), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, "down"), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        try:
            while data := source.recv(1 << 16):
                setattr(self, way, getattr(self, way) + len(data))
                sink.sendall(data)
        except OSError:
            return  # one side closed: the connection is over
        finally:
            source.close()
            sink.close()


class PeakMemory(threading.Thread):
    """Peak of the summed resident memory of process trees, MiB."""

    def __init__(self, roots: List[int]) -> None:
        super().__init__(daemon=True)
        self._roots = roots
        self.peak = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            total = 0
            for root in self._roots:
                try:
                    tree = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
                    total += sum(p.memory_info().rss for p in tree if p.is_running())
                except psutil.Error:
                    continue  # a process of the tree ended between two lines; the next sample counts it right
            self.peak = max(self.peak, total / 2**20)


def measure(python: str, nodes: int, params: int, rounds: int, secure: bool = False) -> Dict[str, Any]:
    """The figures of rounds.py for Flower; raises RuntimeError with the logs' last lines if the run did not finish."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(python).absolute().parent, Path(folder), nodes, params, rounds, secure)


def _measure(bin_dir: Path, work: Path, nodes: int, params: int, rounds: int, secure: bool) -> Dict[str, Any]:
    app, home, times = work / "app", work / "home", work / "times.json"
    (app / "peer").mkdir(parents=True)
    home.mkdir()
    (app / "pyproject.toml").write_text(PROJECT)
    (app / "peer" / "__init__.py").write_text("")
    (app / "peer" / "server.py").write_text(textwrap.dedent(SECURE_SERVER if secure else SERVER))
    (app / "peer" / "client.py").write_text(textwrap.dedent(SECURE_CLIENT if secure else CLIENT))
    ports = {name: free_port() for name in ("server_app_io", "fleet", "control")}
    control = f'address = "127.0.0.1:{ports["control"]}"\ninsecure = true\n'
    (home / "config.toml").write_text(f'[superlink]\ndefault = "bench"\n[superlink.bench]\n{control}')
    environment = dict(os.environ, FLWR_HOME=str(home), HOME=str(work), FLWR_TELEMETRY_ENABLED="0", OMP_NUM_THREADS="1")
    environment["PATH"] = f"{bin_dir}:{environment['PATH']}"
    processes: List[subprocess.Popen[bytes]] = []

    def start(name: str, *command: str) -> int:
        with (work / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=work,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        processes.append(process)
        return process.pid

    try:
        superlink = start(
            "superlink",
            *("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(ports["control"])),
            "--disable-runtime-dependency-installation",
        )
        _wait_for_port(ports["control"])
        relay = Relay(ports["control"])
        relay.start()
        supernodes = [
            start(
                f"node{i}",
                *("flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{relay.port}"),
                *("--host", "127.0.0.1", "--port", str(free_port())),
            )
            for i in range(nodes)
        ]
        time.sleep(4 + 2 * nodes)  # registered and heartbeating before the run, as in a standing federation
        memory = {"server": PeakMemory([superlink]), "nodes": PeakMemory(supernodes)}
        for sampler in memory.values():
            sampler.start()
        up, down = relay.up, relay.down
        settings = f"nodes={nodes} params={params} rounds={rounds} times='{times}'"
        subprocess.run(
            ["flwr", "run", str(app), "bench", "--run-config", settings],
            env=environment, cwd=work, check=True, capture_output=True, timeout=180,
        )  # fmt: skip
        deadline = time.monotonic() + 60 + 60 * rounds
        while not times.exists():
            if time.monotonic() > deadline or processes[0].poll() is not None:
                raise RuntimeError(_tails(work))
            time.sleep(0.3)
        time.sleep(1)
        for sampler in memory.values():
            sampler.done.set()
        seconds = [end - begin for begin, end in json.loads(times.read_text())]
        return {
            "seconds_per_round": statistics.median(seconds),
            "seconds_min_max": [min(seconds), max(seconds)],
            "bytes_up_per_node_round": (relay.up - up) / (nodes * rounds),
            "bytes_down_per_node_round": (relay.down - down) / (nodes * rounds),
            "node_mib": memory["nodes"].peak / nodes,
            "gateway_mib": memory["server"].peak,
        }
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        time.sleep(1)
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _tails(work: Path) -> str:
    return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in sorted(work.glob("*.log")))
