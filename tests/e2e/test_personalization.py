"""Personal parts: what stays on a node, that it helps, and the way of a private model to a bundle."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Dict, List, Optional

import numpy as np
import pytest
from harness import SIZE, Harness, make_task

from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError, UsageError, WireError
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.checks import mistakes
from orchestrator.gateway.config_parts import parts_of
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.personalization import plan_personal, read_personal
from orchestrator.gateway.retraining import run_and_watch
from orchestrator.gateway.settings import Config
from orchestrator.gateway.store import Store
from orchestrator.node.agent import NodeAgent
from orchestrator.node.personal import with_personal
from orchestrator.node.store import NodeStore
from orchestrator.wire.body import decode_body
from orchestrator.wire.claims import objection_to
from orchestrator.wire.frames import Chunk, decode_frame
from orchestrator.wire.link import Link, Message
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Task
from orchestrator.wire.topics import Topics
from orchestrator.wire.training import Training

POSITIVES = {"a": 0.15, "b": 0.85}
RECORDS = 200


def probabilities(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Softmax regression of one input: the first two weights are the kernel, the last two the intercept."""
    logits = x @ w[:2].reshape(1, 2) + w[-2:]
    p = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def loss(w: np.ndarray, data: Dataset) -> float:
    return float(-np.log(probabilities(w, data.x)[np.arange(data.records), data.y]).mean())


class Softmax:
    seen: ClassVar[Dict[str, Dataset]] = {}

    def __init__(self, task: Task, graph: bytes, dataset: Dataset, node: str) -> None:
        self._data, self._training = dataset, task.training
        Softmax.seen[node] = dataset

    def train(self, weights: np.ndarray, number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        w = weights.astype(np.float64)
        for _ in range(self._training.local_steps):
            p = probabilities(w, self._data.x)
            p[np.arange(len(p)), self._data.y] -= 1
            gradient = np.zeros(w.size)
            gradient[:2], gradient[-2:] = (self._data.x * p).mean(axis=0), p.mean(axis=0)
            w -= self._training.learning_rate * (gradient + (0 if correction is None else correction))
        return (w - weights).astype(np.float32)

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        raise NotImplementedError("its tasks have no distributed noise")


def write_data(folder: Path, name: str) -> None:
    rng = np.random.default_rng(ord(name))
    x = rng.random(RECORDS)
    odds = np.log(POSITIVES[name] / (1 - POSITIVES[name])) + 4 * (x - 0.5)
    y = rng.random(RECORDS) < 1 / (1 + np.exp(-odds))
    (folder / f"{name}.csv").write_text("x,y\n" + "".join(f"{a:.6f},{int(b)}\n" for a, b in zip(x, y)))


def train(folder: Path, strategy: str, personal: str) -> np.ndarray:
    """Runs a federation of two; returns the gateway's weights. Every update that passed the broker has been looked at."""
    folder.mkdir()
    task = make_task(rounds=12, statistics=False, nodes=2, quorum=2)
    size = 2 if personal == "intercept" else 0
    training = replace(
        task.training, strategy=strategy, local_steps=5, learning_rate=1.0, personal=personal, personal_parameters=size
    )
    task = replace(task, training=training, privacy=Privacy(unit="none"))
    sent: List[np.ndarray] = []
    with Harness(folder, task) as harness:
        spy = Link(harness.broker.address, "spy", [Topics("test").every_up])
        spy.open(20)

        def serve(name: str) -> None:
            state = folder / name
            NodeAgent(harness.broker.address, "test", name, folder / f"{name}.csv", state, Softmax, once=True).run()

        threads = [threading.Thread(target=serve, args=(name,), daemon=True) for name in POSITIVES]
        for name in POSITIVES:
            write_data(folder, name)
        for thread in threads:
            thread.start()
        result = Gateway(Store(harness.store_path), "run", "test", harness.broker.address).run()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        while not spy.events.empty():
            event = spy.events.get()
            frame = decode_frame(event.payload) if isinstance(event, Message) else None
            if isinstance(frame, Chunk):
                sent.append(decode_body(bytes(frame.data), 1 << 20)[1]["update"])
        spy.close()
    assert len(sent) >= 24
    assert {update.shape for update in sent} == {(SIZE - size,)}
    if size:
        own = [NodeStore(folder / n / "node.sqlite").kept("run", "personal") for n in POSITIVES]
        for kept in own:
            assert kept is not None
            assert np.abs(kept.vector).min() > 0
            for value in kept.vector:
                assert not any(np.float32(value).tobytes() in update.tobytes() for update in sent)
    return result.weights


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
def test_a_personal_intercept_beats_the_shared_model_where_base_rates_differ(tmp_path: Path, strategy: str) -> None:
    shared = train(tmp_path / "shared", strategy, "none")
    assert not list((tmp_path / "shared").glob("*/personal-*"))
    common = train(tmp_path / "personal", strategy, "intercept")
    np.testing.assert_array_equal(common[-2:], 0)  # the gateway's own output layer was never trained
    gain = []
    for name in POSITIVES:
        parts = read_personal(tmp_path / "personal" / name / "personal-run.npz")
        assert (parts["node"], parts["records"], parts["run"]) == (name, RECORDS, "run")
        np.testing.assert_array_equal(parts["weights"][:-2], common[:-2])
        gain.append(loss(shared, Softmax.seen[name]) - loss(parts["weights"], Softmax.seen[name]))
    assert np.mean(gain) > 0.1
    assert min(gain) > 0


def test_what_cannot_work_with_personal_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="best and tail_average do not go with them"):
        Training(personal="head", tail_average=True)
    with pytest.raises(ValueError, match="expected one of none, intercept, head"):
        Training(personal="trunk")
    task = replace(make_task(), model={"kind": "mlp"}, training=Training(personal="head"))
    assert mistakes(parts_of(Config(task))) == []
    assert "cannot evaluate on its own rows" in str(mistakes(parts_of(Config(task, evaluation={"held-out": "x.csv"}))))
    assert "model personalize --calibration" in str(mistakes(parts_of(Config(task, calibration="x.npz"))))
    with pytest.raises(UsageError, match="with training.personal it makes none"):
        run_and_watch(Config(task), tmp_path, tmp_path, lambda event: None, 1.0, 0.25)
    assert "does not say which of the weights" in (objection_to(task) or "")
    with pytest.raises(UsageError, match="last layer is Dense with a bias"):
        plan_personal(task, {"intercept": 0, "head": 0})
    planned = plan_personal(task, {"intercept": 2, "head": 10})
    assert planned.training.personal_parameters == 10
    with pytest.raises(WireError, match="nothing would be shared"):
        with_personal(NodeStore(tmp_path / "n.sqlite"), "run", planned, np.zeros(10, np.float32))
    (tmp_path / "x.npz").write_bytes(b"not a file of numpy's")
    with pytest.raises(EdgewardError, match=r"x\.npz: is no"):
        read_personal(tmp_path / "x.npz")


MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
CONFIG = """
[gateway]
port = {port}
[task]
name = "own"
[task.schema]
kind = "table"
label = "y"
classes = ["no", "yes"]
label_values = {{"0" = 0, "1" = 1}}
features = [{{name = "x", minimum = 0, maximum = 1}}]
[task.model]
kind = "mlp"
hidden = [4]
[task.training]
rounds = 3
learning_rate = 1.0
personal = "head"
[task.privacy]
delta = 1e-3
[task.rounds]
nodes = 2
quorum = 2
"""


def test_a_private_head_reaches_a_bundle(tmp_path: Path) -> None:
    """The real commands: gateway and nodes with TensorFlow Lite and noise, then the bundle of one node's own model."""
    port = free_port()
    (tmp_path / "edgeward.toml").write_text(CONFIG.format(port=port))
    nodes = []
    for name in POSITIVES:
        write_data(tmp_path, name)
        words = ["--broker", f"mqtt://127.0.0.1:{port}", "--name", name, "--data", str(tmp_path / f"{name}.csv")]
        words += ["--state", str(tmp_path / name), "--once", "--connect-timeout", "250"]
        nodes.append(subprocess.Popen([*MAIN, "node", "run", *words]))
    try:
        command = [*MAIN, "gateway", "run", str(tmp_path / "edgeward.toml"), "--out", str(tmp_path / "out"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=850)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert (result["bundle"], result["digest"]) == (None, "")
        assert "edgeward model personalize" in result["no_bundle"]
        assert not (tmp_path / "out" / "bundle").exists()
        for node in nodes:
            assert node.wait(600) == 0
    finally:
        for node in nodes:
            node.kill()
            node.wait()
    (own,) = (tmp_path / "a").glob("personal-*.npz")
    made = subprocess.run(
        [*MAIN, "model", "personalize", str(own), "--out", str(tmp_path / "mine"), "--json"],
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert made.returncode == 0, made.stderr
    manifest = json.loads((tmp_path / "mine" / "bundle" / "manifest.json").read_text())
    assert json.loads(made.stdout)["digest"] == manifest["model_digest"]
    assert "output layer of node a: never sent" in manifest["privacy"]["personal"]
    assert manifest["privacy"]["epsilon"] <= 8
