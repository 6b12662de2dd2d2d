"""`edgeward demo` as a user runs it: real data, real processes, a virtual board; the report is a contract."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from model_export.bundle import verify_bundle

EDGEWARD = [sys.executable, "-m", "orchestrator.cli.main"]

KEYS: Dict[str, Any] = {
    "": {
        "task",
        "nodes",
        "rounds",
        "seconds",
        "privacy",
        "metrics",
        "per_round",
        "wire",
        "memory_mib",
        "board",
        "bundle",
    },
    "privacy": {"unit", "epsilon", "delta", "accountant", "noise_multiplier", "clip_norm"},
    "metrics": {"float", "int8", "tflm", "board"},
    "wire": {"bytes_up_per_node_round", "bytes_down_per_node_round", "float32_bytes"},
    "memory_mib": {"gateway", "broker", "nodes"},
    "board": {"rows", "mismatches_vs_tflm", "arena_bytes", "records", "latency_us", "simulated"},
}


def demo(out: Path, *arguments: str) -> Dict[str, Any]:
    command = [*EDGEWARD, "demo", "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr + done.stdout
    report: Dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def check(report: Dict[str, Any], out: Path, rounds: int) -> None:
    for part, keys in KEYS.items():
        assert keys <= set(report[part] if part else report), part
    assert report["rounds"] == rounds
    assert [r["round"] for r in report["per_round"]] == list(range(1, rounds + 1))
    for entry in report["per_round"]:
        assert {"round", "seconds", "loss", "accuracy", "updates", "bytes_up", "bytes_down"} <= set(entry)
        assert entry["updates"] == report["nodes"]
    assert report["board"]["mismatches_vs_tflm"] == 0
    assert report["board"]["rows"] > 100
    assert report["board"]["records"]["lost"] == report["board"]["records"]["corrupt"] == 0
    assert report["board"]["records"]["received"] >= report["board"]["rows"]
    assert report["metrics"]["board"]["accuracy"] == report["metrics"]["tflm"]["accuracy"]
    assert set(report["board"]["latency_us"]) == {"p50", "p99"}
    assert len(report["memory_mib"]["nodes"]) == report["nodes"]
    assert 0 < max(report["memory_mib"]["nodes"]) < 90
    assert not any(node["tensorflow"] for node in report["node_processes"].values())
    assert report["wire"]["bytes_up_per_node_round"] > 0
    manifest = verify_bundle(Path(report["bundle"]))
    assert manifest["privacy"]["epsilon"] == report["privacy"]["epsilon"]
    assert (out / "rounds.png").read_bytes()[:4] == b"\x89PNG"


def test_the_default_task(tmp_path: Path) -> None:
    report = demo(tmp_path / "out", "--rounds", "8", "--seed", "3")
    check(report, tmp_path / "out", 8)
    assert 7 < report["privacy"]["epsilon"] <= 8
    assert report["metrics"]["float"]["auc"] > 0.9
    records = [
        n for n in json.loads((tmp_path / "out" / "result.json").read_text())["privacy"]["records_per_node"].values()
    ]
    assert len(set(records)) > 1, "the split is uneven"


def test_heart_disease_has_one_node_a_hospital(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("heart-disease")
    report = demo(
        tmp_path / "out", "--task", "heart-disease", "--data", str(folder), "--rounds", "30", "--epsilon", "8"
    )
    check(report, tmp_path / "out", 30)
    assert report["privacy"]["epsilon"] <= 8
    per_node = report["metrics"]["board"]["per_node"]
    assert set(per_node) == {"cleveland", "hungarian", "switzerland", "va"}
    assert report["metrics"]["board"]["auc"] > 0.84
    assert sum(per_node.values()) / 4 > 0.74


def test_signals_on_three_nodes_over_mosquitto(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("mitbih-beats")
    arguments = ["--task", "ecg-beats", "--data", str(folder), "--nodes", "3", "--rounds", "2", "--broker", "mosquitto"]
    report = demo(tmp_path / "out", *arguments)
    check(report, tmp_path / "out", 2)
    assert report["nodes"] == 3


def test_without_privacy_the_report_says_so(tmp_path: Path) -> None:
    report = demo(tmp_path / "out", "--task", "digits", "--rounds", "3", "--epsilon", "inf", "--nodes", "2")
    check(report, tmp_path / "out", 3)
    assert report["privacy"]["unit"] == "none"
    assert report["privacy"]["epsilon"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--task", "heart-disease"], 2, "needs --data DIR"),
        (["--task", "heart-disease", "--data", "/nonexistent"], 2, "no such folder"),
        (["--task", "heart-disease", "--data", ".", "--nodes", "5"], 2, "one node for each of its four hospitals"),
        (["--task", "ecg-beats", "--data", "."], 2, "beats.npz: no such file"),
        (["--nodes", "0"], 2, "--nodes: 0: expected a whole number from 1 to 100000"),
        (["--epsilon", "-1"], 2, "a positive number"),
        (["--nodes", "500"], 2, "too few for 500 nodes"),
        (["--task", "mnist"], 2, "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: List[str], code: int, reason: str) -> None:
    command = [*EDGEWARD, "demo", "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = subprocess.run([*EDGEWARD, "demo", "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "has other things in it" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_ragged_hospital_file_is_named_with_its_line(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    for path in shared_data("heart-disease").glob("*.data"):
        (tmp_path / path.name).write_text(path.read_text())
    damaged = tmp_path / "processed.va.data"
    lines = damaged.read_text().splitlines()
    lines[16] = lines[16].rsplit(",", 1)[0]
    damaged.write_text("\n".join(lines))
    command = [*EDGEWARD, "demo", "--task", "heart-disease", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "processed.va.data:17: 13 values, expected 14" in done.stderr
