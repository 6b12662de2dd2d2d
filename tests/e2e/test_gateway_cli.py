"""`edgeward gateway run` as a service would have it: killed at any moment, started again with the same command."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest

from model_export.bundle import verify_bundle
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.history import History
from orchestrator.gateway.registry import models

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
CONFIG = """
[gateway]
port = {port}
[evaluation]
held-out = "n0.csv"
[task]
name = "survivor"
[task.schema]
kind = "table"
label = "y"
classes = ["no", "yes"]
label_values = {{"0" = 0, "1" = 1}}
features = [{{name = "a", minimum = -4, maximum = 4}}, {{name = "b", minimum = -4, maximum = 4}}]
[task.model]
kind = "mlp"
hidden = [4]
[task.training]
rounds = 4
[task.privacy]
delta = 1e-3
[task.rounds]
nodes = 2
quorum = 2
"""


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Tuple[Path, List[str]]]:
    """Two nodes that keep running; yields the folder and the gateway's command."""
    rng = np.random.default_rng(0)
    port = free_port()
    (tmp_path / "edgeward.toml").write_text(CONFIG.format(port=port))
    nodes = []
    for i in range(2):
        x = rng.normal(0, 1, (150, 2)).clip(-4, 4)
        (tmp_path / f"n{i}.csv").write_text(
            "a,b,y\n" + "\n".join(f"{a:.4f},{b:.4f},{int(a + b > 0)}" for a, b in x) + "\n"
        )
        command = [*MAIN, "node", "run", "--broker", f"mqtt://127.0.0.1:{port}", "--name", f"n{i}"]
        command += [
            "--data",
            str(tmp_path / f"n{i}.csv"),
            "--state",
            str(tmp_path / f"state{i}"),
            "--connect-timeout",
            "200",
        ]
        nodes.append(subprocess.Popen(command))
    yield tmp_path, [*MAIN, "gateway", "run", str(tmp_path / "edgeward.toml"), "--out", str(tmp_path / "out"), "--json"]
    for node in nodes:
        node.kill()
        node.wait()


def run_until(command: List[str], stop_at: Tuple[str, int]) -> None:
    """Starts the gateway and kills it when it reports the n-th event of a kind."""
    kind, count = stop_at
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(600, process.kill)
    watchdog.start()
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == kind:
            count -= 1
            if count == 0:
                process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    watchdog.cancel()
    assert count <= 0, f"it never came to {stop_at}"


def test_a_gateway_killed_again_and_again_ends_with_the_same_rounds_and_a_bundle(
    federation: Tuple[Path, List[str]],
) -> None:
    folder, command = federation
    for stop_at in (("export", 2), ("open", 1), ("update", 3), ("aggregated", 2), ("finished", 1), ("export", 2)):
        run_until(command, stop_at)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    result: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert [r["round"] for r in result["per_round"]] == [1, 2, 3, 4]
    assert all(r["updates"] == 2 for r in result["per_round"])
    assert result["privacy"]["epsilon"] <= 8
    assert Path(result["bundle"], "model.bin").is_file()
    assert json.loads((folder / "out" / "result.json").read_text())["digest"] == result["digest"]


def test_a_gateway_asked_to_stop_ends_in_order_and_continues(federation: Tuple[Path, List[str]]) -> None:
    folder, command = federation
    command = [*command, "--log-file", str(folder / "gateway.log")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(600, process.kill)
    watchdog.start()
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(json.loads(line)["event"])
        if seen[-1] == "aggregated" and seen.count("aggregated") == 2:
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    watchdog.cancel()
    assert seen[-1] == "stopped"
    assert "finished" not in seen
    assert "failed" not in seen
    with History(folder / "out") as history:
        (stopped,) = history.runs()
        assert stopped.state == "open"
        assert 1 <= stopped.rounds_done < 4
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [r["round"] for r in result["per_round"]] == [1, 2, 3, 4]
    (resumed,) = [event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "resumed"]
    assert (resumed["here"], resumed["declined"]) == (["n0", "n1"], {})
    assert resumed["waits_for"].startswith("answers of round ") or resumed["waits_for"] == "nothing"
    log = (folder / "gateway.log").read_text()
    assert "here when it was cut off: n0, n1\n" in log
    assert "stopped as asked" in log
    assert "all rounds done" in log
    with History(folder / "out") as history:
        (run,) = history.runs()
        assert (run.state, run.digest, run.epsilon) == ("finished", result["digest"], result["privacy"]["epsilon"])
        assert len([r for r in history.rounds(run.id) if r.started is not None and r.ended is not None]) == 5
    (kept,) = models(folder / "out")
    assert kept.digest == result["digest"]
    assert verify_bundle(kept.folder / "bundle", run=False)["model_digest"] == kept.digest
    assert [r["round"] for r in kept.made_by[0]["rounds"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (("rounds = 4", "rounds = -4"), 2, "task.training.rounds: -4"),
        (("[task.model]", "[task.modle]"), 2, "did you mean 'model'?"),
        (('kind = "mlp"', 'kind = "transformer"'), 2, "transformer"),
        (("port = ", "broker = 'mqtt://127.0.0.1:1'\nport = "), 1, "no MQTT broker at mqtt://127.0.0.1:1"),
        (("rounds = 4", 'rounds = 4\nstrategy = "fedmagic"'), 2, "this version has fedadagrad"),
        (("rounds = 4", 'rounds = 4\nstrategy = "krum"'), 2, "needs 5 updates a round, the quorum is 2"),
        (("rounds = 4", 'rounds = 4\npersonal = "head"'), 2, "the gateway cannot evaluate on its own rows"),
        (("n0.csv", "n7.csv"), 2, "n7.csv: no such file"),
        (("delta = 1e-3", "delta = 1e-3\nepsilon = 1e-9"), 1, "cannot be met"),
    ],
)
def test_what_cannot_work_is_said_before_any_round(
    tmp_path: Path, change: Tuple[str, str], code: int, reason: str
) -> None:
    (tmp_path / "n0.csv").write_text("a,b,y\n1,1,1\n0,0,0\n")
    (tmp_path / "edgeward.toml").write_text(CONFIG.format(port=free_port()).replace(*change))
    command = [*MAIN, "gateway", "run", str(tmp_path / "edgeward.toml"), "--out", str(tmp_path / "out")]
    command += ["--connect-timeout", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert done.returncode == code, done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changed", "code", "reason"),
    [
        ({"--data": "nowhere.csv"}, 2, "nowhere.csv: no such file"),
        ({"--name": "Not A Name"}, 2, "use 1 to 64 of a-z"),
        ({"--broker": "ftp://x"}, 2, "expected mqtt://HOST"),
        ({"--broker": "mqtt://127.0.0.1:1"}, 1, "no MQTT broker at mqtt://127.0.0.1:1"),
    ],
)
def test_a_node_that_cannot_start_says_why(tmp_path: Path, changed: Dict[str, str], code: int, reason: str) -> None:
    (tmp_path / "data.csv").write_text("a,y\n1,0\n")
    options = {"--broker": "mqtt://127.0.0.1:1", "--name": "n", "--data": str(tmp_path / "data.csv"), **changed}
    words = [word for pair in options.items() for word in pair]
    command = [*MAIN, "node", "run", *words, "--state", str(tmp_path / "state"), "--connect-timeout", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
