"""Files of signed programs: what is refused, by which name, before a board is asked."""

import json
import os
import struct
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.boards.firmware_file import HEADER_BYTES, FirmwareError, read_firmware, read_image, sign_firmware
from orchestrator.boards.partitions import PROGRAM_CAPACITY
from orchestrator.cli.main import main

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def test_a_file_comes_back_as_it_was_signed(tmp_path: Path) -> None:
    made = sign_firmware(b"abcde", "esp32c3", "1.2.3", KEY, 60)
    (tmp_path / "p").write_bytes(made.content)
    assert read_firmware(tmp_path / "p") == made
    assert made.image == b"abcde\xff\xff\xff"
    assert len(made.content) == HEADER_BYTES + 8


@pytest.mark.parametrize("cut", [4, 5, 100, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 4])
def test_a_file_that_was_cut_is_named(tmp_path: Path, cut: int) -> None:
    (tmp_path / "p").write_bytes(sign_firmware(b"abcdefgh", "host", "1", KEY).content[:cut])
    with pytest.raises(FirmwareError, match="p: .*truncated"):
        read_firmware(tmp_path / "p")


@pytest.mark.parametrize(
    ("at", "bytes_", "reason"),
    [
        (12, struct.pack("<I", 5), "a trial of 5 s"),
        (64, b"\x1b[2J", "version"),
        (48, b"\xff", "chip"),
        (4, b"\x02", "version 2"),
    ],
)
def test_what_no_board_takes_is_refused_here(tmp_path: Path, at: int, bytes_: bytes, reason: str) -> None:
    content = sign_firmware(b"abcd", "host", "1", KEY).content
    (tmp_path / "p").write_bytes(content[:at] + bytes_ + content[at + len(bytes_) :])
    with pytest.raises(FirmwareError, match=reason) as found:
        read_firmware(tmp_path / "p")
    assert str(found.value).isprintable()


def test_anything_else_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"EWMB" + bytes(300))
    (tmp_path / "short").write_bytes(b"EW")
    for name in ("", "model.bin", "short", "absent"):
        assert read_firmware(tmp_path / name) is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"image": b""}, "a program of 1 to"),
        ({"image": bytes(PROGRAM_CAPACITY + 1)}, "fits its place"),
        ({"version": ""}, "version"),
        ({"version": "x" * 32}, "version"),
        ({"version": 'a"b'}, "version"),
        ({"chip": "a chip"}, "chip"),
        ({"trial_s": 9}, "trial"),
        ({"trial_s": 3601}, "trial"),
    ],
)
def test_what_cannot_be_signed(wrong: "dict[str, object]", reason: str) -> None:
    right = {"image": b"abcd", "chip": "host", "version": "1", "key": KEY, "trial_s": 60}
    with pytest.raises(FirmwareError, match=reason):
        sign_firmware(**{**right, **wrong})  # type: ignore[arg-type]


def test_only_executables_of_this_machine_are_a_virtual_boards(tmp_path: Path) -> None:
    own = Path(sys.executable).read_bytes()[:64]
    (tmp_path / "own").write_bytes(own)
    assert read_image(tmp_path / "own").chip == "host"
    for at, value in ((4, own[4] ^ 3), (18, own[18] ^ 1)):
        (tmp_path / "firmware.elf").write_bytes(own[:at] + bytes([value]) + own[at + 1 :])
        with pytest.raises(FirmwareError, match="another processor.*firmware.bin"):
            read_image(tmp_path / "firmware.elf")


def test_the_command_says_which_version_is_missing_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "keygen", str(tmp_path / "key")]) == 0
    (tmp_path / "own").write_bytes(Path(sys.executable).read_bytes()[:64])
    command = [
        "board",
        "firmware",
        str(tmp_path / "own"),
        "--key",
        str(tmp_path / "key"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 2
    assert "--version" in capsys.readouterr().err
    assert main([*command, "--version", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image_bytes"] == 64
    before = (tmp_path / "out").read_bytes()
    assert main([*command, "--version", "8"]) == 2
    assert (tmp_path / "out").read_bytes() == before
    assert os.listdir(tmp_path).count("out") == 1
