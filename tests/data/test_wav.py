"""WAV files as signals: their numbers divided as declared; what is not as declared is named."""

import json
import os
import random
import struct
import tracemalloc
import wave
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.data.described import is_live, versions_of
from orchestrator.errors import DataError
from orchestrator.wire.schema import Schema

SCHEMA = Schema("signal", "y", ("N", "V"), {"N": 0, "V": 1}, samples=10, channels=2, unit_scale=2.0, patient="p")
VALUES = np.random.default_rng(3).integers(-(2**15), 2**15, (35, 2)).astype("<i2")


def sound(path: Path, values: np.ndarray = VALUES, rate: int = 100, width: int = 2) -> Path:
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    return path


def described(path: Path, **changed: Any) -> Path:
    said = {"folder": "f", "rate": 100, "labels": {"a.wav": "N", "b.wav": "V"}, **changed}

    def toml(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(each)}" for key, each in value.items()) + " }"
        return json.dumps(value)

    lines = [
        "[source]",
        'kind = "wav"',
        *(f"{key} = {toml(value)}" for key, value in said.items() if value is not None),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    sound(tmp_path / "f" / "a.wav")
    sound(tmp_path / "f" / "b.wav", VALUES[:12])

    def load(**changed: Any) -> Dataset:
        return load_dataset(described(tmp_path / "d.toml", **changed), SCHEMA)

    return load


def test_windows_of_each_file_by_itself(load: Callable[..., Dataset]) -> None:
    data = load(divide_by=4)
    expected = np.concatenate([VALUES[:30], VALUES[:10]]).reshape(4, 10, 2)
    assert np.array_equal(data.x, expected.astype(np.float32) / 8)
    assert data.y.tolist() == [0, 0, 0, 1]
    assert sorted(len(unit) for unit in data.units("patient")) == [1, 3]
    assert len(load(patients={"a.wav": "p1", "b.wav": "p1"}).units("patient")) == 1


def test_a_step_is_from_one_window_to_the_next(load: Callable[..., Dataset]) -> None:
    data = load(step=5)
    assert data.records == 6 + 1
    assert np.array_equal(data.x[1], VALUES[5:15].astype(np.float32) / 2)


def test_a_file_of_samples_is_a_version_of_the_data(load: Callable[..., Dataset], tmp_path: Path) -> None:
    load()
    assert {path.name for path in versions_of(tmp_path / "d.toml")} == {"d.toml", "a.wav", "b.wav"}
    assert not is_live(tmp_path / "d.toml")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"rate": 125}, r"a\.wav: 100 Hz, expected 125"),
        ({"rate": 0}, "rate: 0"),
        ({"labels": {"a.wav": "X"}}, "'X'"),
        ({"labels": None}, "files: none"),
        ({"labels": None, "files": ["a.wav"]}, "labels: missing"),
        ({"files": ["a.wav", "b.wav", "a.wav"]}, "occurs twice"),
        ({"labels": {"a.wav": "N"}, "files": ["a.wav", "b.wav"]}, "'b.wav' has none"),
        ({"patients": {"c.wav": "p"}}, r"patients: no file 'c\.wav'"),
        ({"labels": {"../a.wav": "N"}}, "no name of a file"),
        ({"labels": {"c.wav": "N"}}, r"No such file"),
        ({"divide_by": 0}, "divide_by"),
        ({"folder": ""}, "folder: empty"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_is_not_as_declared_is_named(load: Callable[..., Dataset], changed: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        load(**changed)


def test_files_that_are_not_such_files(load: Callable[..., Dataset], tmp_path: Path) -> None:
    path = tmp_path / "f" / "a.wav"
    whole = path.read_bytes()
    sound(path, VALUES[:, :1])
    with pytest.raises(DataError, match="1 channels, and the task's signals have 2"):
        load()
    sound(path, VALUES[:, :1].astype("<i4"), width=4).read_bytes()
    with pytest.raises(DataError, match="channels"):
        load()
    sound(path, VALUES.astype("<i4"), width=4)
    with pytest.raises(DataError, match="32 bits a value, expected 16"):
        load()
    path.write_bytes(whole[:-7])
    with pytest.raises(DataError, match="is it cut off"):
        load()
    for length in range(0, 44):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            load()
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVEfmt ")
    with pytest.raises(DataError, match="not read as a WAV file"):
        load()
    for place in range(44):
        for byte in (0, 1, 127, 255):
            path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            try:
                load()
            except DataError:
                continue


def test_a_file_that_is_not_read_is_named(load: Callable[..., Dataset], tmp_path: Path) -> None:
    path = tmp_path / "f" / "a.wav"
    whole = path.read_bytes()
    lying = whole[:36] + b"LIST" + struct.pack("<I", 2**31) + whole[36:]
    path.write_bytes(lying)
    with pytest.raises(DataError, match=r"a\.wav: not read as a WAV file"):
        load()
    path.unlink()
    others: Tuple[Callable[[], None], ...] = (path.mkdir, lambda: os.mkfifo(str(path)), lambda: None)
    for make in others:
        make()
        with pytest.raises(DataError, match=r"a\.wav: "):
            load()
        if path.is_dir():
            path.rmdir()
        elif path.exists():
            path.unlink()


def test_chunks_of_any_order_and_length_are_read_or_refused_by_name(
    load: Callable[..., Dataset], tmp_path: Path
) -> None:
    random_ = random.Random(5)
    load()
    path = tmp_path / "f" / "a.wav"
    form = struct.pack("<HHIIHH", 1, 2, 100, 400, 4, 16)
    refused: List[str] = []
    for _ in range(300):
        chunks = random_.choices(((b"fmt ", form), (b"data", bytes(range(200))), (b"LIST", b"INFO")), k=3)
        sizes = [random_.choice((len(held), len(held), 0, 3, 2**31, 2**32 - 1)) for _, held in chunks]
        body = b"WAVE" + b"".join(name + struct.pack("<I", size) + held for (name, held), size in zip(chunks, sizes))
        path.write_bytes(b"RIFF" + struct.pack("<I", random_.choice((len(body), 50, 2**32 - 1))) + body)
        try:
            load()
        except DataError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 300
    assert not [said for said in refused if "a.wav: " not in said]


@pytest.mark.parametrize(("samples", "step"), [(1, 0), (4, 1)])
def test_short_windows_take_no_memory_of_their_own(tmp_path: Path, samples: int, step: int) -> None:
    sound(tmp_path / "f" / "a.wav", np.zeros((50_000, 1), "<i2"))
    path = described(tmp_path / "d.toml", labels={"a.wav": "N"}, step=step)
    schema = Schema("signal", "y", ("N", "V"), {"N": 0, "V": 1}, samples=samples, channels=1)
    tracemalloc.start()
    try:
        data = load_dataset(path, schema)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 35 * data.records + 8 * data.x.nbytes


def test_what_lies_between_windows_is_not_held(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(20)]
    for name in names:
        sound(tmp_path / "f" / name, np.zeros((50_000, 1), "<i2"))
    path = described(tmp_path / "d.toml", labels=dict.fromkeys(names, "N"), step=1 << 30)
    schema = Schema("signal", "y", ("N", "V"), {"N": 0, "V": 1}, samples=10, channels=1)
    tracemalloc.start()
    try:
        assert load_dataset(path, schema).records == 20
        assert tracemalloc.get_traced_memory()[1] < 10 * 100_000
    finally:
        tracemalloc.stop()
