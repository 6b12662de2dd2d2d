"""Pins of a sensor that only some builds have (SystemInfo::sensor_pins): no rule gets them."""

import subprocess
from pathlib import Path
from typing import List

import pytest
from test_rule_commands import talk

from orchestrator.boards.host_engine import SANITIZE, build
from orchestrator.boards.protocol import RecordParser


@pytest.mark.parametrize(
    ("pin", "codes"), [("40", []), ("7", ["pin_refused"]), ("5", ["pin_refused"] * 2), ("3", ["pin_refused"])]
)
def test_a_sensor_keeps_its_pin(tmp_path: Path, pin: str, codes: List[str]) -> None:
    talk(tmp_path, ["rule set 3 0 0 1 250 level 3 high 5"])  # on a build without the sensor
    text = "".join(f"rule set {number} 0 0 1 250 level {number} high 5\n" for number in (1, 5, 7, 5))
    command = [str(build("board-stdio", SANITIZE)), str(tmp_path / "flash"), "262144", pin]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    errors = [record.fields for record in RecordParser().feed(done.stdout) if record.kind == "error"]
    assert [fields["code"] for fields in errors] == codes
    assert all("microphone" in fields["reason"] for fields in errors)
    if pin == "3":
        assert errors[0]["rule"] == 3, "the rule in flash is left out when the model comes into use"


@pytest.mark.parametrize(
    ("pin", "said"), [("40", [b"m-[Pins are set]"]), ("2", [b"e-[Pins refused: the microphone is at this pin]"])]
)
def test_nor_does_a_runner(tmp_path: Path, pin: str, said: List[bytes]) -> None:
    talk(tmp_path, ["info"])
    command = [str(build("board-stdio", SANITIZE)), str(tmp_path / "flash"), "262144", pin]
    done = subprocess.run(command, input=b"pins 4 2%", capture_output=True, timeout=300, check=True)
    assert [line for line in done.stdout.split(b"\r\n") if b"Pins" in line] == said
