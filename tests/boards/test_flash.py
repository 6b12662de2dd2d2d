"""Flashing against a simulated ROM bootloader (esp32-mock-bootloader) over a socket: what is written, what is refused."""

import argparse
import errno
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

pytest.importorskip("esptool")
pytest.importorskip("esp32_mock_bootloader")

import serial
from esp32_mock_bootloader import MockHandle, mock_bootloader
from esptool.cmds import attach_flash, detect_chip, write_flash
from esptool.loader import ESPLoader
from flash_files import esp_image, model_bin
from serial.urlhandler.protocol_socket import Serial as SocketPort

from model_export.model_bin import pack_model_bin
from model_export.plan import compile_plan
from orchestrator.boards import flash as flashing
from orchestrator.boards.flash import flash
from orchestrator.boards.flash_images import ImageError, Region, firmware_regions, model_region
from orchestrator.boards.partitions import LAYOUT, SLOTS, TABLE_OFFSET, build_table
from orchestrator.cli import flash as command
from orchestrator.errors import UsageError

CHIP = "esp32c3"


@pytest.fixture(name="mock", scope="module")
def _mock() -> Iterator[MockHandle]:
    with mock_bootloader(chip=CHIP, timeout=300) as mock:
        yield mock


@pytest.fixture(name="model")
def _model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(model_bin())
    return path


@pytest.fixture(name="build")
def _build(tmp_path: Path) -> Path:
    folder = tmp_path / "build"
    folder.mkdir()
    (folder / "firmware.bin").write_bytes(esp_image(CHIP, 40_000))
    (folder / "bootloader.bin").write_bytes(esp_image(CHIP, 16_000))
    (folder / "partitions.bin").write_bytes(build_table())
    return folder


@contextmanager
def rom_of(mock: MockHandle) -> Iterator[Any]:
    """The simulated chip's ROM loader, spoken to without the code under test."""
    esp = detect_chip(mock.url(), connect_mode="no-reset")
    attach_flash(esp)
    try:
        yield esp
    finally:
        esp._port.close()


def read_back(mock: MockHandle, address: int, count: int) -> bytes:
    with rom_of(mock) as esp:
        return bytes(esp.read_flash_slow(address, count, None))


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["flash", *arguments])
    return int(args.run(args))


def test_everything_reads_back_byte_for_byte(mock: MockHandle, model: Path, build: Path) -> None:
    mock.erase_flash()
    regions = [*firmware_regions(build), model_region(model)]
    result = flash(mock.url(), regions)
    assert result.chip == CHIP
    assert result.verified
    assert [w.region.name for w in result.written] == [
        *("app", "partition table", "choice of program", "bootloader", "model slot a")
    ]
    for region in regions:
        assert read_back(mock, region.address, len(region.data)) == region.data, region.name


def test_model_alone_touches_nothing_else(mock: MockHandle, model: Path, build: Path, tmp_path: Path) -> None:
    mock.erase_flash()
    flash(mock.url(), [*firmware_regions(build), model_region(model, "b")])
    other = tmp_path / "other.bin"
    other.write_bytes(model_bin(30_001, seed=7))
    region = model_region(other)
    progress: List[float] = []
    result = flash(mock.url(), [region], progress=lambda _, part: progress.append(part))
    assert result.warnings == ()
    assert read_back(mock, region.address, len(region.data)) == region.data
    assert read_back(mock, region.end, 64) == b"\xff" * 64
    for kept in [*firmware_regions(build), model_region(model, "b")]:
        with rom_of(mock) as esp:
            assert esp.flash_md5sum(kept.address, len(kept.data)) == flashing.md5_of(kept.data), kept.name
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


def test_what_is_there_is_not_written_again(mock: MockHandle, model: Path) -> None:
    mock.erase_flash()
    region = model_region(model)
    assert [w.skipped for w in flash(mock.url(), [region]).written] == [False]
    assert [w.skipped for w in flash(mock.url(), [region]).written] == [True]


def test_rom_loader_alone_suffices(mock: MockHandle, model: Path) -> None:
    mock.erase_flash()
    region = model_region(model)
    flash(mock.url(), [region], stub=False)
    assert read_back(mock, region.address, len(region.data)) == region.data


def test_board_without_firmware_gets_a_warning(mock: MockHandle, model: Path) -> None:
    mock.erase_flash()
    assert "no firmware yet" in flash(mock.url(), [model_region(model)]).warnings[0]


def test_board_with_another_layout_is_left_alone(mock: MockHandle, model: Path) -> None:
    mock.erase_flash()
    with rom_of(mock) as esp:
        write_flash(esp, [(TABLE_OFFSET, build_table(LAYOUT[:3]))])
    with pytest.raises(flashing.WrongLayoutError, match="nothing was written"):
        flash(mock.url(), [model_region(model)])
    assert read_back(mock, SLOTS["a"].offset, 256) == b"\xff" * 256


def test_board_with_too_little_flash_is_left_alone(
    mock: MockHandle, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock.erase_flash()
    monkeypatch.setattr("esptool.cmds.detect_flash_size", lambda esp: "2MB")
    with pytest.raises(flashing.WrongLayoutError, match="has 2 MB of flash, 4 MB are needed"):
        flash(mock.url(), [model_region(model)])
    assert read_back(mock, SLOTS["a"].offset, 64) == b"\xff" * 64


def test_loader_knows_the_size_of_flash_before_it_is_read(
    mock: MockHandle, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A real ROM loader answers 0x0109 to an MD5 beyond 2 MB otherwise; the mock would not mind.
    mock.erase_flash()
    asked: List[str] = []
    for name in ("flash_set_parameters", "flash_md5sum"):
        real = getattr(ESPLoader, name)

        def spy(self: Any, *args: Any, name: str = name, real: Any = real) -> Any:
            asked.append(name)
            return real(self, *args)

        monkeypatch.setattr(ESPLoader, name, spy)
    flash(mock.url(), [model_region(model)], stub=False)
    assert asked.index("flash_set_parameters") < asked.index("flash_md5sum")


def test_wrong_chip_is_refused_before_anything_is_written(mock: MockHandle, model: Path, build: Path) -> None:
    mock.erase_flash()
    with pytest.raises(flashing.WrongChipError, match="the board is esp32c3, not esp32"):
        flash(mock.url(), [model_region(model)], chip="esp32")
    for part in ("firmware.bin", "bootloader.bin"):
        (build / part).write_bytes(esp_image("esp32s3", 16_000))
    with pytest.raises(flashing.WrongChipError, match="built for esp32s3, the board is esp32c3"):
        flash(mock.url(), [*firmware_regions(build), model_region(model)])
    for address in (0, TABLE_OFFSET, 0x10000, SLOTS["a"].offset):
        assert read_back(mock, address, 64) == b"\xff" * 64


def test_chip_the_files_are_not_for_is_refused_without_a_port(build: Path) -> None:
    with pytest.raises(flashing.WrongChipError, match="not for esp32"):
        flash("/dev/no-such-port", firmware_regions(build), chip="esp32")
    with pytest.raises(flashing.WrongChipError, match="unknown chip"):
        flash("/dev/no-such-port", [], chip="esp9000")


def test_chip_edgeward_does_not_run_on_is_refused(model: Path) -> None:
    with mock_bootloader(chip="esp32s2", timeout=300) as other, pytest.raises(
        flashing.WrongChipError, match="ESP32-S2"
    ):
        flash(other.url(), [model_region(model)])


def test_first_esp32_is_recognized(model: Path) -> None:
    with mock_bootloader(chip="esp32", timeout=300) as other:
        assert flash(other.url(), [model_region(model)]).chip == "esp32"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model slot a", "does not load it. Firmware and the other slot are as they were"),
        ("app", "does not start until it has been flashed whole"),
    ],
)
def test_port_that_vanishes_while_writing(model: Path, build: Path, name: str, says: str) -> None:
    regions = [*firmware_regions(build), model_region(model)]
    with mock_bootloader(chip=CHIP, timeout=300) as other:
        url = other.url()

        def pull_the_plug(region: Region, part: float) -> None:
            if region.name == name and part < 1.0:
                other.stop()

        (build / "firmware.bin").write_bytes(esp_image(CHIP, 200_000))
        model.write_bytes(model_bin(200_000))
        regions = [*firmware_regions(build), model_region(model)]
        with pytest.raises(flashing.PortLostError, match=f"while writing the {name}") as caught:
            flash(url, regions, progress=pull_the_plug)
    assert says in str(caught.value)
    assert "repeat the command" in str(caught.value)


def test_port_that_goes_before_writing_left_the_board_alone(
    mock: MockHandle, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock.erase_flash()

    def gone(*_: object) -> None:
        raise serial.SerialException(errno.EIO, "device disconnected")

    monkeypatch.setattr("esptool.cmds.attach_flash", gone)
    with pytest.raises(flashing.PortLostError, match="Nothing was written"):
        flash(mock.url(), [model_region(model)])


def test_flash_that_changed_after_writing_is_noticed(
    mock: MockHandle, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock.erase_flash()
    write = flashing.write_region

    def write_and_damage(esp: Any, region: Region, *rest: Any) -> Any:
        written = write(esp, region, *rest)
        write_flash(esp, [(region.address + 0x1000, bytes(4096))])
        return written

    monkeypatch.setattr(flashing, "write_region", write_and_damage)
    with pytest.raises(flashing.VerifyError, match="model slot a at 0x310000 reads back different"):
        flash(mock.url(), [model_region(model)])
    assert not flash(mock.url(), [model_region(model)], verify=False).verified


def test_missing_port_lists_those_there_are(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flashing, "list_ports", lambda: ["/dev/ttyUSB7 (CP2102N)"])
    with pytest.raises(flashing.PortNotFoundError, match=r"no such port; these are there:\n  /dev/ttyUSB7"):
        flash("/dev/no-such-port", [model_region(model)])
    monkeypatch.setattr(flashing, "list_ports", list)
    with pytest.raises(flashing.PortNotFoundError, match="no serial port at all"):
        flash("/dev/no-such-port", [model_region(model)])
    with pytest.raises(flashing.PortNotFoundError, match="socket://"):
        flash("socket://127.0.0.1:1", [model_region(model)])


def test_port_without_permission_names_the_group() -> None:
    denied = flashing.port_error("/dev/ttyUSB0", serial.SerialException(errno.EACCES, "Permission denied"))
    assert isinstance(denied, flashing.PortDeniedError)
    assert "dialout" in str(denied)
    busy = flashing.port_error("/dev/ttyUSB0", serial.SerialException(errno.EBUSY, "busy"))
    assert "another program" in str(busy)


def test_command_reports_as_json(mock: MockHandle, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mock.erase_flash()
    assert run("--port", mock.url(), "--model", str(model), "--slot", "b", "--json") == 0
    report: Dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (report["chip"], report["verified"]) == (CHIP, True)
    assert report["model"]["slot"] == "b"
    assert report["model"]["digest"] == model_bin()[48:56].hex()
    log = SLOTS["b"].offset + SLOTS["b"].size - 4096
    assert report["regions"] == [
        {"name": "log of slot b", "address": log, "bytes": 4096, "skipped": True},
        {"name": "model slot b", "address": SLOTS["b"].offset, "bytes": len(model_bin()), "skipped": False},
    ]


def test_a_flashed_model_is_a_new_one_to_the_board(mock: MockHandle, model: Path) -> None:
    """What the firmware noted about the slot goes, so that the board tries what was flashed before anything else."""
    mock.erase_flash()
    log = SLOTS["a"].offset + SLOTS["a"].size - 4096
    with rom_of(mock) as esp:
        write_flash(esp, [(TABLE_OFFSET, build_table()), (log, b"EWSL" * 8)])
    assert run("--port", mock.url(), "--model", str(model), "--json") == 0
    assert read_back(mock, log, 64) == b"\xff" * 64
    assert read_back(mock, SLOTS["a"].offset, len(model_bin())) == model_bin()


@pytest.mark.slow
def test_a_model_moves_no_more_than_its_bytes(
    mock: MockHandle, build: Path, tmp_path: Path, shared_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest model of MLPerf Tiny (333 KB), all bytes that leave this machine counted, esptool's stub included."""
    tflite = (shared_data("mlperf-tiny") / "vww_int8.tflite").read_bytes()
    plan = compile_plan(tflite)
    blob = pack_model_bin(
        name="vww01",
        tflite=tflite,
        plan=plan.blob,
        arena_tflm_bytes=120_000,
        arena_direct_bytes=plan.arena_bytes,
    )
    path = tmp_path / "model.bin"
    path.write_bytes(blob)
    mock.erase_flash()
    flash(mock.url(), firmware_regions(build))
    moved = 0
    socket_write = SocketPort.write

    def counted(self: Any, data: Any) -> Any:
        nonlocal moved
        moved += len(data)
        return socket_write(self, data)

    monkeypatch.setattr(SocketPort, "write", counted)
    assert run("--port", mock.url(), "--model", str(path), "--json") == 0
    assert 100_000 < moved <= len(blob) + 4096
    monkeypatch.undo()
    assert read_back(mock, SLOTS["a"].offset, len(blob)) == blob


def test_command_reports_as_text(mock: MockHandle, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mock.erase_flash()
    assert run("--port", mock.url(), "--model", str(model)) == 0
    text = capsys.readouterr().out
    assert "model slot a (sample, digest" in text
    assert "verified" in text


def test_command_refuses_what_makes_no_sense(model: Path) -> None:
    for arguments in (
        [],
        ["--everything"],
        ["--model", str(model), "--firmware", "build"],
        ["--model", str(model), "--baud", "0"],
    ):
        with pytest.raises(UsageError):
            run("--port", "/dev/no-such-port", *arguments)


def test_damaged_model_never_opens_the_port(model: Path) -> None:
    damaged = bytearray(model.read_bytes())
    damaged[-1] ^= 1
    model.write_bytes(damaged)
    with pytest.raises(ImageError, match="SHA-256"):
        run("--port", "/dev/no-such-port", "--model", str(model))
