"""Where a recording goes: names that a description may have, sizes that a file can hold, and a disk that is full."""

import errno
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest

from orchestrator.boards import recording_files
from orchestrator.boards.protocol import Record
from orchestrator.boards.recording import Recording, Source
from orchestrator.boards.recording_files import MOST_WAV_BYTES, Purpose, check_wav, note_of, write
from orchestrator.cli.main import main
from orchestrator.data.dataset import load_dataset
from orchestrator.errors import UsageError
from orchestrator.wire.schema import Schema

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Schema("signal", "y", ("N", "V"), {"N": 0, "V": 1}, samples=8, channels=2, unit_scale=1.0)
PURPOSE = Purpose(SCHEMA, "V", "", "agreed in writing", 1.0)


def recording() -> Recording:
    whole = Recording(Source("file", 1000, 2, 16))
    values = np.arange(32, dtype="<i2").tobytes().hex()
    whole.take(Record("0a0b0c0d", 0, None, 0, "samples", 1, {"first_sample": 0, "of_channels": 2, "values": values}))
    return whole


@pytest.mark.parametrize("name", ["my walk.wav", ".walk.wav", "g\u00e4nge.wav", "walk#1.wav", "walk'.wav"])
def test_a_name_that_no_description_may_have_is_refused_before_anything_is_recorded(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    of = ["--schema", str(ROOT / "examples/signal/edgeward.toml"), "--source", "file", "--rate", "1000"]
    of += ["--label", "early", "--samples", "64", "--patient", "p7", "--consent", "agreed"]
    assert main(["board", "record", str(tmp_path / "no-port"), *of, "--out", str(tmp_path / name)]) == 2
    assert "--out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="a node reads no other"):
        check_wav(tmp_path / name, Source("file", 1000, 2, 16))


@pytest.mark.parametrize("name", ["walk.wav", "Walk-1_b.c.wav", "-walk.wav"])
def test_a_name_that_is_let_pass_is_one_a_node_reads(tmp_path: Path, name: str) -> None:
    check_wav(tmp_path / name, recording().source)
    written = write(recording(), PURPOSE, {}, tmp_path / name)
    assert load_dataset(written.files[0], SCHEMA).records == 2


def test_more_than_a_wav_file_holds_is_not_begun(tmp_path: Path) -> None:
    most = MOST_WAV_BYTES // 64
    check_wav(tmp_path / "a.wav", Source("file", 10_000, 32, most))
    with pytest.raises(UsageError, match="record less at once"):
        check_wav(tmp_path / "a.wav", Source("file", 10_000, 32, most + 1))


@pytest.mark.parametrize("ending", [".npz", ".wav"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_name_is_free_again_where_nothing_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, error: BaseException
) -> None:
    def full(*_: Any) -> Tuple[()]:
        raise error

    monkeypatch.setattr(recording_files, "replace_file", full)
    with pytest.raises(type(error)):
        write(recording(), PURPOSE, {}, tmp_path / f"a{ending}")
    assert not list(tmp_path.iterdir())


def test_a_note_says_of_its_own_segment_however_many_there_are(tmp_path: Path) -> None:
    sizes = []
    for count in (2, 60):
        torn = Recording(Source("file", 1000, 2, 600))
        for i in range(count):
            fields = {"first_sample": 9 * i, "of_channels": 2, "values": "0000" * 16}
            torn.take(Record("0a0b0c0d", i, None, 9000 * i, "samples", 1, fields))
        out = tmp_path / f"{count}.wav"
        _, *files = write(torn, PURPOSE, note_of(torn, PURPOSE, {}, "2026-03-01"), out).files
        assert len(files) == count
        assert b'"segments": [[9, 8]]' in files[1].read_bytes()
        sizes.append(files[-1].stat().st_size)
    assert sizes[1] < sizes[0] + 30
