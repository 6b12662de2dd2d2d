"""A file of records that log rotation moves, or somebody removes, while a monitor writes to it."""

import csv
import json
from pathlib import Path
from typing import List

import pytest

from orchestrator.boards.exporters import Steady, open_file
from orchestrator.boards.protocol import Record


def record(number: int) -> Record:
    return Record("0000abcd", number, None, 10 * number, "metrics", 1, {"inferences": number})


def numbers(path: Path) -> List[int]:
    text = path.read_text()
    if path.suffix == ".csv":
        return [int(row["seq"]) for row in csv.DictReader(text.splitlines())]
    return [json.loads(line)["seq"] for line in text.splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_records_follow_the_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"records{suffix}"
    exporter = Steady(open_file(path), path)
    exporter.write("p", 1.0, record(0))
    exporter.flush()
    path.rename(tmp_path / f"old{suffix}")
    exporter.write("p", 1.1, record(1))
    exporter.flush()  # it was on its way to the old one
    exporter.write("p", 1.2, record(2))
    exporter.flush()
    path.unlink()
    exporter.flush()
    exporter.write("p", 1.3, record(3))
    exporter.close()
    assert numbers(tmp_path / f"old{suffix}") == [0, 1]
    assert numbers(path) == [3]
    assert exporter.summary() == ""


def test_what_cannot_be_opened_again_is_said_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "records.jsonl"
    exporter = Steady(open_file(path), path)
    exporter.write("p", 1.0, record(0))
    exporter.flush()
    folder.rename(tmp_path / "elsewhere")
    for number in range(3):
        exporter.write("p", 2.0 + number, record(number + 1))
        exporter.flush()
    assert len([line for line in caplog.messages if "cannot write" in line]) >= 1
    folder.mkdir()
    exporter.flush()
    exporter.write("p", 9.0, record(7))
    exporter.close()
    assert numbers(path) == [7]
