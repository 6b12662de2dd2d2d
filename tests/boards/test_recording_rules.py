"""What is refused without a board: records that no board sends, and recordings that no node could read."""

from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from recordings import SCHEMA, command, purpose, source

from orchestrator.boards.conversation import BoardError
from orchestrator.boards.protocol import Record
from orchestrator.boards.recording import RateError, Recording
from orchestrator.boards.recording_files import NOTE, label_of, write
from orchestrator.errors import UsageError
from orchestrator.wire.schema import Schema

# --- what a board may say ---------------------------------------------------------------------------------------------


def said(seq: int, first: int, count: int, t_us: int, channels: int = 2, kind: str = "samples") -> Record:
    values = np.full(2 * count, 0x0201, "<i2").tobytes().hex()
    fields = {"first_sample": first, "of_channels": channels, "values": values}
    return Record("0a0b0c0d", seq, None, t_us, kind, 1, fields)


def test_samples_at_another_rate_are_refused() -> None:
    recording = Recording(source(100_000, 100))
    for i in range(9):
        recording.take(said(i, 48 * i, 48, 480_000 * i + (150_000 if i % 2 else 0)))
    assert recording.measured_rate_hz == pytest.approx(100, rel=0.05)
    slow = Recording(source(100_000, 100))
    slow.take(said(0, 0, 48, 0))
    slow.take(said(1, 48, 48, 768_000))
    with pytest.raises(RateError, match=r"62\.5 Hz and not 100"):
        slow.take(said(2, 96, 48, 1_536_000))


@pytest.mark.parametrize(
    "records",
    [
        [said(0, 0, 48, 0), said(1, 24, 48, 500_000)],
        [said(0, 0, 48, 0), said(1, 0, 48, 500_000)],
        [said(0, 99_990, 48, 0)],
        [said(0, 0, 48, 0, channels=3)],
    ],
    ids=["overlap", "again", "beyond", "channels"],
)
def test_what_no_board_sends_is_refused(records: List[Record]) -> None:
    recording = Recording(source(100_000, 100))
    *good, bad = records
    for each in good:
        recording.take(each)
    with pytest.raises(BoardError):
        recording.take(bad)
    assert recording.kept == 48 * len(good)


def test_values_at_the_end_of_the_range_are_counted() -> None:
    recording = Recording(source(1000, 100))
    values = np.array([[32767, 0], [5, -32768]], "<i2").tobytes().hex()
    fields = {"first_sample": 0, "of_channels": 2, "values": values}
    recording.take(Record("0a0b0c0d", 0, None, 0, "samples", 1, fields))
    assert recording.clipped == 2


# --- what it is for ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"consent": " "}, "who agreed to what"),
        ({"consent": "a\nb"}, "a line of text"),
        ({"label": "2"}, "one of 0, 1"),
        ({"label": ""}, "one of 0, 1"),
        ({"patient": ""}, "--patient ID is needed"),
        ({"patient": "NaN"}, "--patient ID is needed"),
        ({"counts_per_unit": float("nan")}, "--counts-per-unit"),
        ({"counts_per_unit": 0.0}, "--counts-per-unit"),
        ({"schema": Schema("signal", "y", ("a", "b"), {"1": 1}, samples=9)}, "names no patient"),
        ({"schema": Schema("signal", NOTE, ("a", "b"), {"1": 1}, samples=9, patient="p")}, "name of the note"),
        ({"schema": Schema("signal", "", (), {}, samples=9, patient="p", target={"kind": "none"})}, "have none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_nobody_consented_to_or_no_node_would_read(changed: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        purpose(**changed)


def test_without_consent_nothing_is_asked_of_the_board(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--samples", "50", "--out", str(tmp_path / "a.npz"))
    assert command(str(tmp_path / "no-port"), folder, *out, consent="") == 2
    assert "--consent TEXT is needed" in capsys.readouterr().err
    assert command(str(tmp_path / "no-port"), folder, "--samples", "49", *out[2:]) == 2
    assert "less than a window" in capsys.readouterr().err


def test_a_class_is_meant_by_its_name_where_one_value_stands_for_it() -> None:
    assert label_of(SCHEMA, "early") == "1"
    assert label_of(SCHEMA, "0") == "0"
    several = Schema("signal", "y", ("a", "b"), {"0": 0, "1": 1, "2": 1}, samples=9)
    assert label_of(several, "b") == "b", "which of two values is meant, nobody knows"


def test_too_little_for_a_window_is_no_file(tmp_path: Path) -> None:
    recording = Recording(source(1000, 100))
    recording.take(said(0, 0, 48, 0))
    with pytest.raises(UsageError, match="48 samples came"):
        write(recording, purpose(), {}, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())
