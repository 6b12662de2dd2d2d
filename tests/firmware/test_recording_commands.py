"""The command `record` under AddressSanitizer and UBSan: every argument, with and without permission, also beside a stream."""

import os
import subprocess
from pathlib import Path
from typing import List, Set

import numpy as np
import pytest

from orchestrator.boards.host_engine import SANITIZE, build
from orchestrator.boards.keys import key_sector
from orchestrator.boards.partitions import FLASH_BYTES, KEYS, SLOTS
from orchestrator.boards.protocol import Record, RecordParser

MODEL = Path(__file__).resolve().parents[2] / "firmware" / "test" / "corpus" / "model.bin"
PLAYED = np.arange(-2000, 2000, dtype=np.int16)


def talk(folder: Path, commands: List[str], allowed: bool = True, values: np.ndarray = PLAYED) -> List[Record]:
    image = bytearray(b"\xff" * FLASH_BYTES)
    model = MODEL.read_bytes()
    image[SLOTS["a"].offset : SLOTS["a"].offset + len(model)] = model
    if allowed:
        image[KEYS.offset : KEYS.offset + KEYS.size] = key_sector([], recording=True)
    (folder / "flash").write_bytes(image)
    (folder / "played").write_bytes(values.astype("<i2").tobytes())
    environment = {**os.environ, "EDGEWARD_BOARD_SAMPLES": str(folder / "played")}
    text = "".join(f"{line}\n" for line in commands).encode()
    done = subprocess.run(
        [str(build("board-stdio", SANITIZE)), str(folder / "flash")],
        input=text, env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
    parser = RecordParser()
    records = parser.feed(done.stdout)
    assert (parser.stats.corrupt, parser.stats.lost) == (0, 0)
    return records


def kinds(records: List[Record]) -> Set[str]:
    return {record.kind for record in records}


BAD = (
    *(
        "record ",
        "record on",
        "record off off",
        "record forbid 1",
        "record file",
        "record file 1 1",
        "record file 0 1 1",
    ),
    *(
        "record file 10001 1 1",
        "record file 1 0 1",
        "record file 1 33 1",
        "record file 1 1 0",
        "record file 1 1 2147483648",
    ),
    *(
        "record file 1 1 1 1",
        "record file -1 1 1",
        "record file 1 1 1x",
        f"record {'x' * 140}",
        "record file 1  4294967297 1",
    ),
)


def test_arguments_that_mean_nothing(tmp_path: Path) -> None:
    records = talk(tmp_path, list(BAD))
    codes = [record.fields["code"] for record in records if record.kind == "error"]
    assert codes == ["bad_argument"] * len(BAD)
    assert "samples" not in kinds(records)


def test_without_the_permission_nothing_leaves_it(tmp_path: Path) -> None:
    good = [
        "record file 1000 1 100",
        "record off",
        "record forbid",
        "record file 1000 2 50",
        "reload",
        "record imu 1 3 9",
    ]
    records = talk(tmp_path, good, allowed=False)
    assert "samples" not in kinds(records)
    refused = [record for record in records if record.fields.get("code") == "recording_not_allowed"]
    assert len(refused) == 3


@pytest.mark.parametrize("channels", [1, 3, 7, 32])
def test_every_value_once_and_in_order(tmp_path: Path, channels: int) -> None:
    wanted = 4000 // channels
    records = talk(tmp_path, [f"record file 10000 {channels} {wanted}"])
    found = [record.fields for record in records if record.kind == "samples"]
    assert [each["first_sample"] for each in found] == np.cumsum(
        [0, *(len(each["values"]) // 4 // channels for each in found)]
    ).tolist()[:-1]
    values = np.frombuffer(bytes.fromhex("".join(each["values"] for each in found)), "<i2")
    assert np.array_equal(values, PLAYED[: wanted * channels])
    (ended,) = [record.fields for record in records if record.kind == "recorded"]
    assert ended == {"samples": wanted, "why": "whole"}


@pytest.mark.parametrize(
    "other", ["stream 1 0 1 0 file 100", "record file 100 1 9", "reload", "rollback", "record off", "record forbid"]
)
def test_whatever_needs_the_source_or_the_model_ends_it(tmp_path: Path, other: str) -> None:
    records = talk(tmp_path, ["record file 100 2 1000", other, "info"])
    ended = [record.fields for record in records if record.kind == "recorded"]
    (info,) = [record.fields for record in records if record.kind == "info"]
    again = other.startswith("record file")
    if other == "rollback":  # there is nothing to go back to, so nothing ends
        assert (ended, info["recording"]) == ([], True)
        return
    assert ended[0]["why"] == "stopped"
    assert info["recording"] == again
    assert info["recording_allowed"] == (other != "record forbid")
