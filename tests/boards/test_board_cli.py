"""`edgeward board`: each verb against a virtual board, as a user types it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np
import pytest
from board_sample import Sample

from model_export.model_bin import KnownAnswers, pack_model_bin, parse_model_bin
from orchestrator.boards.client import BoardClient
from orchestrator.boards.virtual import VirtualBoard

COMMAND = [sys.executable, "-m", "orchestrator.cli.main"]


@pytest.fixture(scope="module")
def model_file(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("board-cli") / "model.bin"
    path.write_bytes(sample.model_bin)
    return path


@pytest.fixture(scope="module")
def port(sample: Sample) -> Iterator[str]:
    with VirtualBoard(sample.model_bin) as board:
        yield board.port


def repack(model_bin: bytes, name: str, answers: "KnownAnswers | None") -> bytes:
    packed = parse_model_bin(model_bin)
    return pack_model_bin(
        name=name,
        tflite=packed.tflite,
        plan=packed.plan,
        arena_tflm_bytes=packed.arena_tflm_bytes,
        arena_direct_bytes=packed.arena_direct_bytes,
        known_answers=answers,
    )


def edgeward(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=600)


def board(*words: str, code: int = 0) -> Dict[str, Any]:
    done = edgeward("board", *words, "--json")
    assert done.returncode == code, done.stderr
    report: Dict[str, Any] = json.loads(done.stdout)
    return report


def test_list() -> None:
    done = edgeward("board", "list", "--json")
    assert done.returncode == 0
    assert isinstance(json.loads(done.stdout), list)


def test_info(port: str, sample: Sample) -> None:
    info = board("info", port)
    assert info["port"] == port
    assert (info["chip"], info["simulated"], info["state"], info["name"]) == ("host", True, "ready", "kws01")
    text = edgeward("board", "info", port).stdout
    assert "simulated host" in text
    assert parse_model_bin(sample.model_bin).digest in text


def test_infer(port: str, sample: Sample, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", sample.rows[:5])
    report = board("infer", port, "--inputs", str(tmp_path / "x.npy"), "--outputs", str(tmp_path / "y.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), sample.outputs[:5])
    assert report["outputs"] == sample.outputs[:5].tolist()
    scale = 1 / 256
    np.testing.assert_allclose(report["values"], (sample.outputs[:5] + 128.0) * scale)
    with BoardClient(port) as client:
        info = client.info()
    floats = (sample.rows[:5].astype(np.float32) - info["input_zero_point"]) * np.float32(info["input_scale"])
    np.save(tmp_path / "f.npy", floats)
    assert board("infer", port, "--inputs", str(tmp_path / "f.npy"))["outputs"] == report["outputs"]
    np.save(tmp_path / "short.npy", sample.rows[:5, :7])
    done = edgeward("board", "infer", port, "--inputs", str(tmp_path / "short.npy"))
    assert done.returncode == 2
    assert "490" in done.stderr
    floats[3, 7] = np.nan
    np.save(tmp_path / "nan.npy", floats)
    done = edgeward("board", "infer", port, "--inputs", str(tmp_path / "nan.npy"))
    assert done.returncode == 2
    assert "NaN or infinity, first in row 3" in done.stderr


def test_bench_says_that_it_is_simulated(port: str) -> None:
    report = board("bench", port, "--rows", "30")
    assert report["simulated"]
    assert report["rows"] == 30
    assert 0 < report["latency_us"]["p50"] <= report["latency_us"]["p99"]
    assert report["records"]["lost"] == report["records"]["corrupt"] == 0
    assert [op["name"] for op in report["ops"]].count("depthwise") == 4
    assert "not of a board" in edgeward("board", "bench", port, "--rows", "5").stdout


def test_selftest_and_verify(port: str, sample: Sample, model_file: Path, tmp_path: Path) -> None:
    result = board("selftest", port)
    assert (result["ok"], result["rows"], result["mismatches"]) == (True, 3, 0)
    assert board("verify", port, str(model_file))["ok"]
    other = tmp_path / "other.bin"
    other.write_bytes(repack(sample.model_bin, "kws02", KnownAnswers(sample.rows[:2], sample.outputs[:2])))
    report = board("verify", port, str(other), code=1)
    assert report["board_digest"] != report["bundle_digest"] == parse_model_bin(other.read_bytes()).digest


def test_an_untested_model_is_not_called_good(sample: Sample) -> None:
    with VirtualBoard(repack(sample.model_bin, "bare", None)) as bare:
        done = edgeward("board", "selftest", bare.port)
        assert done.returncode == 1
        assert "no_known_answers" in done.stderr


def test_update_and_rollback(sample: Sample, model_file: Path, tmp_path: Path) -> None:
    with VirtualBoard(sample.model_bin) as running:
        first = board("info", running.port)["model"]
        new = tmp_path / "new.bin"
        new.write_bytes(repack(sample.model_bin, "kws02", KnownAnswers(sample.rows[5:7], sample.outputs[5:7])))
        info = board("update", running.port, str(new))
        assert (info["model"], info["name"]) == (parse_model_bin(new.read_bytes()).digest, "kws02")
        assert board("verify", running.port, str(new))["ok"]
        assert board("rollback", running.port)["model"] == first
        wrong = tmp_path / "wrong.bin"
        wrong.write_bytes(repack(sample.model_bin, "kws03", KnownAnswers(sample.rows[:2], sample.outputs[:2] ^ 1)))
        done = edgeward("board", "update", running.port, str(wrong))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert board("info", running.port)["model"] == first


def test_a_board_without_a_model(tmp_path: Path) -> None:
    with VirtualBoard() as empty:
        assert board("info", empty.port)["state"] == "empty_slot"
        done = edgeward("board", "bench", empty.port)
        assert done.returncode == 1
        assert "empty_slot" in done.stderr


def test_simulate(model_file: Path, tmp_path: Path) -> None:
    command = [
        *COMMAND,
        "board",
        "simulate",
        "--model",
        str(model_file),
        "--flash",
        str(tmp_path / "flash.bin"),
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["simulated"]
        assert board("info", said["port"])["name"] == "kws01"
        assert board("reboot", said["port"])["name"] == "kws01"
    finally:
        process.send_signal(
            signal.SIGTERM
        )  # a shell's background jobs ignore SIGINT, and what they start inherits that
        assert process.wait(600) == 0
    assert (tmp_path / "flash.bin").stat().st_size == 4 * 1024 * 1024


def test_errors_name_the_way_out(tmp_path: Path) -> None:
    done = edgeward("board", "info", "/dev/ttyNOPE")
    assert done.returncode == 2
    assert "/dev/ttyNOPE" in done.stderr
    done = edgeward("board", "verify", "/dev/ttyNOPE", str(tmp_path / "no.bin"))
    assert done.returncode == 2
    assert "no.bin" in done.stderr
    (tmp_path / "junk.bin").write_bytes(b"junk")
    assert "name a bundle's folder" in edgeward("board", "update", "/dev/ttyNOPE", str(tmp_path / "junk.bin")).stderr
    assert edgeward("board", "bench", "/dev/ttyNOPE", "--rows", "0").returncode == 2
    assert edgeward("board").returncode == 2


@pytest.mark.parametrize("verb", ["flash", "monitor"])
def test_the_long_forms_are_the_short_ones(verb: str) -> None:
    long, short = edgeward("board", verb, "--help").stdout, edgeward(verb, "--help").stdout
    assert long.replace(f"edgeward board {verb}", f"edgeward {verb}").split() == short.split()
