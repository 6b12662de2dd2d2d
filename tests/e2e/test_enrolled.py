"""The README's way to many machines, command by command: init, invite, enroll, run; the bundle is signed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import numpy as np
import pytest
from harness import BROKER_PATH
from test_gateway_cli import CONFIG

from model_export.signing import read_public_key, verify_model_bin
from orchestrator.gateway.broker import free_port

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]


def edgeward(*words: object) -> str:
    done = subprocess.run([*MAIN, *map(str, words)], capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr
    return done.stdout


def secure_config(folder: Path, port: int) -> Path:
    path = folder / "edgeward.toml"
    settings = '[gateway]\nfederation = "icu"\nbroker = "mosquitto"\nidentity = "identity"\n'
    path.write_text(CONFIG.format(port=port).replace("[gateway]\n", settings).replace("rounds = 4", "rounds = 2"))
    return path


@pytest.mark.skipif(not shutil.which("mosquitto", path=BROKER_PATH), reason="mosquitto is not installed")
def test_init_invite_enroll_run(tmp_path: Path) -> None:
    port, enrol_port = free_port(), free_port()
    identity = tmp_path / "identity"
    edgeward("gateway", "init", identity, "--federation", "icu", "--host", "127.0.0.1")
    server = ["gateway", "enroll-server", "--identity", identity, "--listen", f"127.0.0.1:{enrol_port}"]
    server += ["--broker", f"mqtts://127.0.0.1:{port}"]
    processes: List[subprocess.Popen[str]] = []
    try:
        processes.append(subprocess.Popen([*MAIN, *map(str, server)], stdout=subprocess.PIPE, text=True))
        assert processes[0].stdout is not None
        assert "enrolment at" in processes[0].stdout.readline()
        rng = np.random.default_rng(0)
        for name in ("n0", "n1"):
            x = rng.normal(0, 1, (150, 2)).clip(-4, 4)
            rows = "\n".join(f"{a:.4f},{b:.4f},{int(a + b > 0)}" for a, b in x)
            (tmp_path / f"{name}.csv").write_text(f"a,b,y\n{rows}\n")
            where = f"https://127.0.0.1:{enrol_port}"
            token = edgeward("gateway", "invite", name, "--identity", identity, "--gateway", where).strip()
            edgeward("node", "enroll", "--token", token, "--identity", tmp_path / f"id-{name}")
            run = ["node", "run", "--identity", tmp_path / f"id-{name}", "--data", tmp_path / f"{name}.csv", "--once"]
            run += ["--state", tmp_path / f"state-{name}", "--connect-timeout", "200"]
            processes.append(subprocess.Popen([*MAIN, *map(str, run)], text=True))
        out = edgeward("gateway", "run", secure_config(tmp_path, port), "--out", tmp_path / "out", "--json")
        assert [p.wait(600) for p in processes[1:]] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    result = json.loads(out.splitlines()[-1])
    verify_model_bin(Path(result["bundle"], "model.bin").read_bytes(), read_public_key(identity / "signing.pub"))
    entries = [json.loads(line) for line in edgeward("gateway", "audit", tmp_path / "out", "--json").splitlines()]
    assert {e["digest"] for e in entries if e["event"] == "bundle"} == {result["digest"]}
    assert "whole" in edgeward("gateway", "audit", tmp_path / "out", "--verify")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('broker = "mosquitto"', 'broker = "embedded"'), "cannot check certificates"),
        (('federation = "icu"', 'federation = "other"'), "is of 'icu'"),
        (('identity = "identity"', 'identity = "nowhere"'), "nowhere: no such folder"),
    ],
)
def test_what_does_not_fit_an_identity_is_refused(tmp_path: Path, change: "tuple[str, str]", reason: str) -> None:
    edgeward("gateway", "init", tmp_path / "identity", "--federation", "icu")
    (tmp_path / "n0.csv").write_text("a,b,y\n1,1,1\n0,0,0\n")
    config = secure_config(tmp_path, free_port())
    config.write_text(config.read_text().replace(*change))
    command = [*MAIN, "gateway", "run", str(config), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert done.returncode != 0
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
