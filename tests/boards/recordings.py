"""What tests of recordings share: what is played, for which task, with whose consent, and where every sample has to be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.boards.recording import Recording, Source
from orchestrator.boards.recording_files import Purpose
from orchestrator.cli.main import main
from orchestrator.data.dataset import Dataset
from orchestrator.wire.schema import Schema

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Schema(
    *("signal", "y", ("normal", "early"), {"0": 0, "1": 1}), samples=50, channels=2, unit_scale=200.0, patient="patient"
)
PLAYED = np.random.default_rng(7).integers(-3000, 3000, (60_000, 2)).astype(np.int16)
AGREED = "p7 agreed in writing"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With played.i16, and the edgeward.toml of SCHEMA."""
    folder = tmp_path_factory.mktemp("recording")
    (folder / "played.i16").write_bytes(PLAYED.astype("<i2").tobytes())
    text = (ROOT / "examples/signal/edgeward.toml").read_text()
    (folder / "edgeward.toml").write_text(text.replace("samples = 64", "samples = 50\nchannels = 2"))
    return folder


def source(samples: int, rate_hz: int = 1000) -> Source:
    return Source("file", rate_hz, 2, samples)


def command(port: str, folder: Path, *more: str, consent: str = AGREED) -> int:
    of = ["--schema", str(folder / "edgeward.toml"), "--source", "file", "--rate", "1000", "--label", "early"]
    return main(["board", "record", port, *of, "--patient", "p7", "--consent", consent, *more])


def purpose(**changed: Any) -> Purpose:
    said = {"label": "1", "patient": "p7", "consent": AGREED, "counts_per_unit": SCHEMA.unit_scale, **changed}
    return Purpose(said.pop("schema", SCHEMA), **said)


def check_segments(recording: Recording) -> None:
    """Every sample that came is the one that was played at its place."""
    assert recording.segments
    for segment in recording.segments:
        assert np.array_equal(segment.values(), PLAYED[segment.first : segment.first + segment.length])
    assert recording.kept + recording.lost_on_the_line + recording.missed_by_the_board == recording.next


def check_windows(data: Dataset, recording: Recording) -> None:
    """The windows are those of each segment by itself, in units."""
    expected = [
        PLAYED[start : start + SCHEMA.samples]
        for segment in recording.segments
        for start in range(segment.first, segment.first + segment.length - SCHEMA.samples + 1, SCHEMA.samples)
    ]
    assert np.array_equal(data.x, (np.array(expected, np.float32) / np.float32(SCHEMA.unit_scale)))
