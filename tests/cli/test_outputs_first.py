"""Where results cannot be written is said before the work: nothing is computed, issued or asked of a board for nothing."""

from pathlib import Path
from typing import List

import numpy as np
import pytest

from orchestrator.cli.main import main
from orchestrator.gateway.authority import Authority

COMMANDS = [
    ["board", "infer", "/dev/no-such-port", "--inputs", "none.npy", "--outputs", "@"],
    ["score", "encrypt", "--record", "none.json", "--manifest", "none", "--key", "none", "--output", "@"],
    ["score", "run", "--request", "none", "--public", "none", "--bundle", "none", "--output", "@"],
    ["runs", "export", "r", "--output", "@", "--out", "none"],
    ["runs", "plot", "r", "--output", "@", "--out", "none"],
    ["predict", "none", "--data", "none", "--out", "@"],
    ["model", "run", "none.tflite", "--engine", "tflm", "--inputs", "none.npy", "--outputs", "@"],
    ["node", "request", "--name", "n", "--federation", "f", "--identity", "id", "--out", "@"],
    ["gateway", "init", "id", "--federation", "f", "--host", "127.0.0.1", "--request", "@"],
    ["authority", "sign", "none", "--name", "n", "--authority", "none", "--out", "@"],
]


KEEP = [
    ["data", "mock", "e.toml", "--out", "@.csv"],
    ["data", "describe", "none.csv", "--out", "@.csv"],
    ["data", "map", "none.csv", "e.toml", "--out", "@.toml"],
    ["init", "none.csv", "--label", "y", "--out", "@.toml"],
    ["anonymize", "none.csv", "none.toml", "--out", "@.csv"],
    ["gateway", "init", "id", "--federation", "f", "--host", "127.0.0.1", "--request", "@"],
    ["authority", "sign", "none", "--name", "n", "--authority", "none", "--out", "@"],
]
"""What they write is not what the same command would write again, or may be all there is of it."""
SCHEMA = """[task]
name = "t"
[task.schema]
kind = "table"
label = "y"
classes = ["0", "1"]
label_values = { "0" = 0, "1" = 1 }
features = [{ name = "a", minimum = 0, maximum = 3 }]
[task.model]
kind = "mlp"
"""


@pytest.mark.parametrize("words", KEEP, ids=lambda words: " ".join(words[:2]))
def test_a_file_that_is_there_stays(
    words: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.toml").write_text(SCHEMA)
    words = [word.replace("@", "mine") for word in words]
    (mine,) = (word for word in words if word.startswith("mine"))
    Path(mine).write_text("of somebody")
    assert main(words) == 2
    option = words[words.index(mine) - 1]
    assert capsys.readouterr().err.startswith(
        f"edgeward: {option} {mine}: it exists, and is not overwritten; name another"
    )
    assert Path(mine).read_text() == "of somebody"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["e.toml", mine])


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("place", ["no/such/folder.csv", ".", "x" * 250 + ".csv", "x" * 5000])
def test_a_file_that_cannot_be_made(
    words: List[str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([word.replace("@", place) for word in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"edgeward: {words[words.index('@') - 1]} {place[:40]}")
    assert not list(tmp_path.iterdir())


def test_no_certificate_is_issued_that_cannot_be_brought_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Authority.create(tmp_path / "g", "icu", ["127.0.0.1"])
    request = ["node", "request", "--name", "a", "--federation", "icu", "--identity", "a", "--out", "a.csr"]
    assert main(request) == 0
    sign = ["gateway", "sign", "a.csr", "--name", "a", "--identity", "g", "--out"]
    for place in ("a.csr", "no/a.json", "g"):
        assert main([*sign, place]) == 2
    assert "a.csr: it exists" in capsys.readouterr().err
    assert main([*sign, "a.json"]) == 0


def test_a_bundle_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    for words in (["export", "m.tflite"], ["personalize", "m.npz"]):
        assert main(["model", *words, "--out", "file/bundle"]) == 2
        assert "--out file/bundle: file is a file; name a folder" in capsys.readouterr().err


def test_what_is_wrong_with_a_keras_models_rows_is_said_before_tensorflow_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model_export.keras_file.check_keras_file", lambda path: {})
    monkeypatch.setattr("model_export.client.run_worker", lambda *_: pytest.fail("the worker started"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.keras").touch()
    export = ["model", "export", "m.keras", "--out", "b", "--representative", "x.npy"]
    for rows, reason in (
        (np.full((30, 4), np.nan, np.float32), "x.npy: representative data holds NaN or infinity in row 0"),
        (np.zeros((0, 4), np.float32), "x.npy: representative data has shape (0, 4)"),
        (np.array(["a", "b"]), "x.npy: representative data is <U1"),
    ):
        np.save("x.npy", rows)
        assert main(export) == 2
        assert reason in capsys.readouterr().err
    np.save("x.npy", np.zeros((30, 4), np.float32))
    assert main([*export, "--name", "x" * 33]) == 2
    assert "needs 1 to 32 bytes" in capsys.readouterr().err


def test_data_that_a_node_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").write_text("x,y\n1,0\n")
    node = ["node", "run", "--broker", "mqtt://127.0.0.1:1", "--name", "n", "--connect-timeout", "1", "--data"]
    assert main([*node, "."]) == 2
    assert "--data .: a folder; name the file in it" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read all
    assert main([*node, "d.csv"]) == 2
    assert "--data d.csv: this user may not read it" in capsys.readouterr().err
