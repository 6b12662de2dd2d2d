"""A board that hears keeps up with the sound of its own source, also at the highest rate."""

import dataclasses
import time
from pathlib import Path

import pytest
from board_sample import Sample
from sounds import sounds
from test_measures import with_profile

from model_export.audio.hearing import read_hearing
from model_export.input_profile import make_profile
from orchestrator.boards.client import BoardClient
from orchestrator.boards.virtual import VirtualBoard

pytestmark = pytest.mark.slow

RATE_HZ = 48_000
STEP, WINDOW, STEPS = 960, 960, 49


def test_sound_of_48_khz_is_heard_in_time(sample: Sample, tmp_path: Path) -> None:
    recording = tmp_path / "sound.i16"
    sound = sounds(4.0, seed=4)["noise"]
    recording.write_bytes(sound.astype("<i2").tobytes() * (4 * RATE_HZ // len(sound)))
    declared = {"sample_rate_hz": RATE_HZ, "window_ms": 20, "step_ms": 20, "channels": 10, "unit": 0.2}
    profile = dataclasses.replace(make_profile((1, 490), (), None), hearing=read_hearing(declared))
    windows = (4 * RATE_HZ - WINDOW) // STEP + 1 - (STEPS - 1)
    with VirtualBoard(with_profile(sample.model_bin, profile), samples=recording) as board, BoardClient(
        board.port
    ) as client:
        started = time.monotonic()
        client.stream(hop=1, source="file", rate_hz=RATE_HZ)
        while client.metrics()["inferences"] < windows - 1 and time.monotonic() < started + 60:
            time.sleep(0.2)
        took = time.monotonic() - started
    assert 3.8 < took < 9, "with a pause after every 64 samples it would be 12 s"
