"""Nodes as hospitals have them: Python 3.8 with tflite-runtime beside a current one, in one federation."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from orchestrator.gateway.broker import free_port

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
[gateway]
federation = "mixed"
port = {port}
[task]
name = "mixed"
[task.schema]
kind = "table"
label = "y"
classes = ["no", "yes"]
label_values = {{"0" = 0, "1" = 1}}
features = [{{name = "a", minimum = -4, maximum = 4}}, {{name = "b", minimum = -4, maximum = 4}}]
[task.model]
kind = "mlp"
hidden = [8]
[task.training]
rounds = 3
local_steps = 3
[task.privacy]
delta = 1e-3
[task.rounds]
nodes = 2
quorum = 2
"""


@pytest.mark.timeout(7200)
def test_the_node_suite_passes_on_python_3_8(python38: List[str]) -> None:
    """Wire, rounds, node and privacy, under the Python and numpy of JetPack 4.6 and 5; of long series of cases a tenth."""
    suite = ["tests/wire", "tests/rounds", "tests/analyses", "tests/data", "tests/node", "tests/privacy"]
    command = [*python38, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suite]
    environment = {**os.environ, "EDGEWARD_CASES_SHARE": "0.1"}
    environment.pop("EDGEWARD_REQUIRE_ALL", None)  # dp-accounting and TenSEAL have no wheel for that Python
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7000, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    print(done.stdout.strip().splitlines()[-1])


def test_an_old_and_a_new_node_train_together(tmp_path: Path, python38: List[str]) -> None:
    rng = np.random.default_rng(0)
    for name in ("old", "new"):
        x = rng.normal(0, 1, (120, 2)).clip(-4, 4)
        rows = [f"{a:.4f},{b:.4f},{int(a + b > 0)}" for a, b in x]
        (tmp_path / f"{name}.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")
    port = free_port()
    (tmp_path / "edgeward.toml").write_text(CONFIG.format(port=port))
    main = ["-m", "orchestrator.cli.main"]
    gateway_command = [sys.executable, *main, "gateway", "run", str(tmp_path / "edgeward.toml"), "--json"]
    gateway = subprocess.Popen([*gateway_command, "--out", str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    nodes = []
    try:
        for name, python in (("old", python38), ("new", [sys.executable])):
            command = [*python, *main, "node", "run", "--broker", f"mqtt://127.0.0.1:{port}", "--federation", "mixed"]
            command += [
                "--name",
                name,
                "--data",
                str(tmp_path / f"{name}.csv"),
                "--state",
                str(tmp_path / name),
                "--once",
            ]
            nodes.append(subprocess.Popen([*command, "--connect-timeout", "120"], cwd=ROOT))
        assert gateway.stdout is not None
        lines: List[Dict[str, Any]] = [json.loads(line) for line in gateway.stdout]
        assert gateway.wait(600) == 0
        assert [node.wait(300) for node in nodes] == [0, 0]
    finally:
        processes: List[subprocess.Popen[Any]] = [gateway, *nodes]
        for process in processes:
            process.kill()
            process.wait()
    result = lines[-1]
    assert [r["nodes"] for r in result["per_round"]] == [["new", "old"]] * 3
    for name in ("old", "new"):
        figures = result["node_processes"][name]
        assert 0 < figures["memory_mib"] < 90
        assert figures["tensorflow"] is False
