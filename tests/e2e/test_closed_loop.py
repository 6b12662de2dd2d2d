"""The closed loop: a board's inputs drift, it says so, the federation trains again, the board takes the new model."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import pytest
import tomli_w

from model_export.bundle import verify_bundle
from orchestrator.boards.client import BoardClient
from orchestrator.boards.forward import MqttForward
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.demo.tasks import Request, ecg_beats
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.registry import models
from orchestrator.wire.task import task_to_dict

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts `edgeward ...`; everything started ends with the test."""
    processes: List[subprocess.Popen[str]] = []

    def run(*words: str) -> "subprocess.Popen[str]":
        processes.append(subprocess.Popen([*MAIN, *words], stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


def until(process: "subprocess.Popen[str]", kind: str) -> Dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        event: Dict[str, Any] = json.loads(line)
        if event["event"] == kind:
            return event
    raise AssertionError(f"the gateway ended with {process.wait()} before {kind}")


def test_shifted_ecg_leads_to_a_new_model_on_the_board(
    tmp_path: Path, shared_data: Callable[[str], Path], start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    prepared = ecg_beats(Request(2, 1, 8.0, 0, shared_data("mitbih-beats"), tmp_path))
    assert prepared.calibration is not None
    port = free_port()
    task = {k: v for k, v in task_to_dict(prepared.task).items() if k != "format"}
    task["privacy"]["runs"] = 2
    task["training"]["local_steps"] = 2
    config: Dict[str, Any] = {"gateway": {"port": port}, "calibration": prepared.calibration.name, "task": task}
    config["calibration_public"] = True  # patient 106 of a published data set
    (tmp_path / "edgeward.toml").write_text(tomli_w.dumps(config))
    command = ["gateway", "run", str(tmp_path / "edgeward.toml"), "--out", str(tmp_path / "out"), "--json"]
    gateway = start(*command, "--retrain-on-drift", "1.0")
    broker = f"mqtt://127.0.0.1:{port}"
    for name, data in prepared.node_files.items():
        where = ["--data", str(data), "--state", str(tmp_path / "state" / name), "--connect-timeout", "100"]
        start("node", "run", "--broker", broker, "--name", name, *where)
    first = until(gateway, "watching")
    bundle = Path(first["bundle"])
    assert first["epsilon"] < 8, "the first training must leave budget for the second"

    with np.load(prepared.calibration) as beats:
        usual = np.ascontiguousarray(beats["x"][:128]).reshape(-1)
    shifted = np.clip(usual.astype(np.int32) * 4 + 600, -32768, 32767).astype(np.int16)
    with VirtualBoard(bundle / "model.bin") as board:
        forward = MqttForward(broker, "default", [board.port])
        with BoardClient(board.port, on_record=lambda record: forward.write(board.port, time.time(), record)) as client:
            assert client.info()["model"] == first["digest"]
            client.ask("drift rows 128", "ok")
            client.stream()
            (calm,) = [r for r in client.feed(usual) if r.kind == "drift"]
            assert calm.fields["psi"] < 0.25
            (loud,) = [r for r in client.feed(shifted) if r.kind == "drift"]
            assert loud.fields["psi"] > 1.0
            reported = until(gateway, "drift")
            while reported["psi"] <= 1.0:
                reported = until(gateway, "drift")
            assert reported["psi"] == pytest.approx(loud.fields["psi"])

            result = until(gateway, "result")
            assert gateway.wait(600) == 0
            assert result["digest"] != first["digest"]
            newest, earlier = models(tmp_path / "out")
            assert (newest.digest, earlier.digest) == (result["digest"], first["digest"])
            assert newest.made_by[0]["parent_model"] == earlier.digest
            assert verify_bundle(earlier.folder / "bundle", run=False)["model_digest"] == earlier.digest
            assert result["privacy"]["run"] == 2
            assert first["epsilon"] < result["privacy"]["epsilon"] <= 8
            client.stream_off()
            client.update((bundle / "model.bin").read_bytes())
            assert client.selftest()["mismatches"] == 0
            client.metrics()
            assert client.info()["model"] == result["digest"]
        forward.close()


def test_watching_without_a_budget_for_it_is_refused(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "edgeward.toml").read_text()
    (tmp_path / "edgeward.toml").write_text(text.replace('held-out = "held-out.csv"', ""))
    command = [*MAIN, "gateway", "run", str(tmp_path / "edgeward.toml"), "--retrain-on-drift", "0.25"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "set runs = 2 or more" in done.stderr
