"""What the attacks share: one broker, the graphs (made once, by TensorFlow in processes of their own), nodes to attack."""

import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, Iterator, Optional

import pytest
from inside import BATCH, CLASSES, INPUTS, LINEAR
from malicious import Attack, MaliciousGateway, NodeProcess, Victim
from once import filled_once

pytest.importorskip("amqtt", reason="amqtt comes with the gateway, not on a node")
pytest.importorskip("dp_accounting", reason="dp-accounting is not installed here")

from orchestrator.gateway.broker import OwnBroker


@pytest.fixture(scope="session")
def attacked_broker() -> Iterator[OwnBroker]:
    """One for all: every attack has a federation of its own on it."""
    with OwnBroker("mosquitto" if shutil.which("mosquitto", path="/usr/bin:/usr/sbin") else "embedded") as running:
        yield running


@pytest.fixture(scope="module")
def victim(
    attacked_broker: OwnBroker, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Victim]:
    """Starts a node with a table and a policy and puts a malicious gateway before it; both end with the module.

    A node says hello before its attack begins, so what is measured later is not its start.
    """
    with ExitStack() as running:
        count = 0

        def start(table: str, policy: Optional[str] = None, name: str = "icu-1") -> Attack:
            nonlocal count
            count += 1
            federation = f"{request.module.__name__.replace('_', '-')}-{count}"
            folder = tmp_path_factory.mktemp(federation)
            gateway = running.enter_context(MaliciousGateway(attacked_broker.address, federation))
            node = NodeProcess(attacked_broker.address, federation, name, folder, table, policy)
            running.callback(node.stop)
            node.start()
            attack = Attack(gateway, node)
            attack.wait()
            return attack

        yield start


@pytest.fixture(scope="session")
def linear_graph(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The training graph of a linear model, as an honest gateway's worker makes it."""
    from model_export.client import run_worker

    def prepare(folder: Path) -> None:
        shape = {"input_shape": [INPUTS], "classes": CLASSES, "batch_size": BATCH, "seed": 0}
        run_worker("prepare", {"model": LINEAR, **shape}, folder)

    folder = filled_once(tmp_path_factory, "linear", prepare)
    return (folder / "training.tflite").read_bytes()


@pytest.fixture(scope="session")
def evil_graphs(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    """Name -> graph, see evil_graphs.py."""
    script = Path(__file__).with_name("evil_graphs.py")

    def export(folder: Path) -> None:
        made = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr[-2000:]

    folder = filled_once(tmp_path_factory, "evil-graphs", export)
    return {path.stem: path.read_bytes() for path in folder.glob("*.tflite")}
