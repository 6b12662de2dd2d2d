"""Preflight: each finding has its cause and its fix, and the exit code says whether the model can run."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from flash_files import esp_image

import model_export.preflight as checks
from model_export.chips import CHIPS, HEAP_OF, MEASURED, ChipMemory
from model_export.errors import ExportError
from model_export.preflight import Board, Preflight, firmware_operators, preflight
from model_export.sources import resolver_method
from model_export.tflite_names import OPERATOR_NAMES
from orchestrator.boards.partitions import SLOTS, build_table
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli.main import main

SLOT_BYTES = SLOTS["a"].size
ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "firmware/engine/tflm/engine_tflm.cpp"


@pytest.fixture(scope="session")
def kws(shared_data: Callable[[str], Path]) -> bytes:
    return (shared_data("mlperf-tiny") / "kws_int8.tflite").read_bytes()


@pytest.fixture(scope="session")
def bundle(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preflight") / "bundle"
    model = shared_data("mlperf-tiny") / "kws_int8.tflite"
    done = cli("export", str(model), "--out", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def cli(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "orchestrator.cli.main", "model", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=850)


def finding(report: Preflight, check: str) -> checks.Finding:
    return next(f for f in report.findings if f.check == check)


def test_it_knows_what_the_firmware_registers() -> None:
    registered = set(re.findall(r"add\(resolver->(Add\w+)\(\)\);", ENGINE.read_text()))
    assert {resolver_method(op) for op in firmware_operators()} == registered
    assert set(OPERATOR_NAMES) >= firmware_operators()


def test_every_chip_has_an_environment() -> None:
    found = re.findall(r"^board = (\S+)$", (ROOT / "platformio.ini").read_text(), re.MULTILINE)
    of_boards = [max((c for c in CHIPS if board.replace("-", "").startswith(c)), key=len) for board in found]
    assert sorted(of_boards) == sorted(CHIPS)


def test_a_good_model(kws: bytes) -> None:
    report = preflight(kws, "esp32c3", SLOT_BYTES)
    assert report.ok
    assert [f.check for f in report.findings if f.level != "ok"] == ["signature"]
    assert report.prediction is not None
    assert report.prediction.total_bytes == 22_780


def test_what_a_build_keeps_of_the_heap_is_taken_off(
    kws: bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for parts, there in (((), 114_656), (("mic",), 73_696), (("network",), 8_160), (("network", "mic", "mic"), 0)):
        found = finding(preflight(kws, "esp32c3", SLOT_BYTES, parts=parts), "arena")
        assert f"about {there:,} for it on esp32c3" in found.message
        assert (found.level == "ok") == (there > 27_000)
        assert all(f"a build with {part} keeps" in found.message for part in parts)
    (tmp_path / "kws.tflite").write_bytes(kws)
    assert main(["model", "preflight", str(tmp_path / "kws.tflite"), "--chip", "esp32c3", "--with", "mic"]) == 0
    assert "about 73,696" in capsys.readouterr().out
    assert main(["model", "preflight", str(tmp_path / "kws.tflite"), "--port", "/dev/absent", "--with", "mic"]) == 2
    assert "says itself how much memory it has" in capsys.readouterr().err


def test_the_firmware_keeps_so_much() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "firmware" / "hal" / "esp32").rglob("*.cpp"))
    found = re.findall(r"^const size_t k(\w+)HeapBytes = ([1-9]\d*) \* 1024;$", sources, re.MULTILINE)
    assert {name.lower(): 1024 * int(kilobytes) for name, kilobytes in found} == HEAP_OF


def test_an_operator_the_firmware_lacks(kws: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    without = firmware_operators() - {"SOFTMAX"}
    monkeypatch.setattr(checks, "firmware_operators", lambda: without)
    report = preflight(kws, "esp32", SLOT_BYTES)
    assert not report.ok
    assert "no SOFTMAX" in finding(report, "operators").message
    assert "engine_tflm.cpp" in finding(report, "operators").fix
    assert "batch_size=1" in checks.operator_fix("SHAPE", ["PACK", "SHAPE", "STRIDED_SLICE"])
    assert "batch_size=1" in checks.operator_fix("STRIDED_SLICE", ["PACK", "SHAPE", "STRIDED_SLICE"])
    assert "replace the layer" in checks.operator_fix("STRIDED_SLICE", ["CONV_2D", "STRIDED_SLICE"])


@pytest.mark.parametrize(
    ("arena", "basis", "level", "words"),
    [
        (9_000, MEASURED, "error", "and engine/direct needs 10,560"),
        (9_000, "an estimate", "warning", "has about 9,000"),
        (20_000, MEASURED, "warning", "has about 20,000 for it on esp32 (measured"),
        (28_000, MEASURED, "warning", "less than an eighth of it is to spare"),
        (100_000, MEASURED, "ok", "the header asks for 27,312"),
    ],
)
def test_memory(kws: bytes, monkeypatch: pytest.MonkeyPatch, arena: int, basis: str, level: str, words: str) -> None:
    monkeypatch.setitem(CHIPS, "esp32", CHIPS["esp32"]._replace(memory=ChipMemory(300_000, arena, basis)))
    report = preflight(kws, "esp32", SLOT_BYTES)
    found = finding(report, "arena")
    assert (found.level, report.ok) == (level, level != "error")
    assert words in found.message
    assert ("engine/direct: 10,560 bytes" in found.fix) == (arena == 20_000)


def test_more_than_the_chip_has(kws: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHIPS, "esp32", CHIPS["esp32"]._replace(memory=ChipMemory(10_000, 10_000, "an estimate")))
    assert finding(preflight(kws, "esp32", SLOT_BYTES), "arena").level == "error"


def test_an_esp32c3_has_what_its_image_had() -> None:
    """Two regions of memory, of which the arena is one block: far less than the chip's 400 KB."""
    assert CHIPS["esp32c3"].memory == (400 * 1024, 118_752 - 4_096, MEASURED)


@pytest.mark.parametrize(
    ("board", "level", "words"),
    [
        (Board("tflm", 20_000), "error", "the header asks for 27,312"),
        (Board("tflm", 30_000), "ok", "this board's firmware has 30,000"),
        (Board("direct", 10_559), "error", "engine/direct needs 10,560 bytes; this board's firmware has 10,559"),
        (Board("direct", 10_560), "ok", "engine/direct needs 10,560 bytes"),
    ],
)
def test_what_a_board_says_of_itself_decides(kws: bytes, board: Board, level: str, words: str) -> None:
    report = preflight(kws, "esp32c3", SLOT_BYTES, board=board)
    assert finding(report, "arena").level == level
    assert words in finding(report, "arena").message


def test_a_board_at_a_port_is_asked(bundle: Path) -> None:
    with VirtualBoard(arena_bytes=9_000) as board:
        done = cli("preflight", str(bundle), "--port", board.port)
    assert done.returncode == 1, done.stdout
    assert "engine/direct needs 10,560 bytes; this board's firmware has 9,000" in done.stdout


def test_too_little_flash(kws: bytes) -> None:
    report = preflight(kws, "esp32", 50_000)
    assert not report.ok
    assert "a model slot 50,000" in finding(report, "flash").message


@pytest.mark.slow
def test_damaged_files(kws: bytes, bundle: Path) -> None:
    report = preflight(b"junk", "esp32", SLOT_BYTES)
    assert not report.ok
    assert finding(report, "file").fix
    damaged = bytearray((bundle / "model.bin").read_bytes())
    damaged[5000] ^= 1
    with pytest.raises(ExportError, match="SHA-256"):
        preflight(bytes(damaged), "esp32", SLOT_BYTES)
    assert preflight((bundle / "model.bin").read_bytes(), "esp32", SLOT_BYTES).ok


def test_dense_layers_with_one_scale(shared_data: Callable[[str], Path]) -> None:
    ad = (shared_data("mlperf-tiny") / "ad_int8.tflite").read_bytes()
    report = preflight(ad, "esp32", SLOT_BYTES)
    assert report.ok
    assert "engine/direct" in finding(report, "rounding").fix


def test_command_line(bundle: Path, tmp_path: Path) -> None:
    done = cli("preflight", str(bundle), "--chip", "esp32c3", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["arena_32bit"]["confirmed"]
    assert {f["check"] for f in report["findings"]} >= {"operators", "arena", "flash", "signature", "partition"}
    junk = tmp_path / "junk.tflite"
    junk.write_bytes(b"junk")
    done = cli("preflight", str(junk), "--chip", "esp32")
    assert done.returncode == 1
    assert "fix:" in done.stdout
    assert "cannot run" in done.stdout
    assert cli("preflight", str(bundle), "--chip", "esp8266").returncode == 2


def test_firmware_for_another_chip(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bootloader.bin").write_bytes(esp_image("esp32", 4_000))
    (tmp_path / "firmware.bin").write_bytes(esp_image("esp32", 40_000))
    (tmp_path / "partitions.bin").write_bytes(build_table())
    assert cli("preflight", str(bundle), "--chip", "esp32", "--firmware", str(tmp_path)).returncode == 0
    done = cli("preflight", str(bundle), "--chip", "esp32s3", "--firmware", str(tmp_path))
    assert done.returncode == 1
    assert "built for esp32" in done.stdout
