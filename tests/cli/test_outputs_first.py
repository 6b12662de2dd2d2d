"""Where results cannot be written is said before the work: nothing is computed, issued or asked of a board for nothing."""

import os
from pathlib import Path
from typing import List

import numpy as np
import pytest

from orchestrator.cli.arguments import check_output
from orchestrator.cli.main import main
from orchestrator.errors import UsageError
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


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "link to a link"])
def test_what_standard_output_leads_to_is_not_replaced(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It leads to a file here. What is renamed to /dev/stdout would stand where that link is, for all programs."""
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("/dev/stdout")
    Path("link to a link").symlink_to("link")
    assert Path(place).is_file()
    with pytest.raises(UsageError, match=f"--out {place}: .*device"):  # not by a command, which would do it
        check_output(Path(place), "--out")


def test_a_folder_that_may_not_be_written_holds_no_new_file_under_an_old_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file that may be written: what replaces it is made beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o").touch()
    monkeypatch.setattr("os.access", lambda path, _: Path(path).name == "o")  # root may write all
    assert main(["model", "run", "none.tflite", "--engine", "tflm", "--inputs", "none.npy", "--outputs", "o"]) == 2
    assert "--outputs o: may not be written, or its folder may not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["predict", "none", "--data", "@", "--out", "@"], "the data file"),
        (["predict", "none", "--data", "d", "--key", "@", "--out", "@"], "--key"),
        (["model", "run", "@", "--engine", "tflm", "--inputs", "none.npy", "--outputs", "@"], "the model"),
        (["model", "run", "m", "--engine", "tflm", "--inputs", "@", "--outputs", "@"], "--inputs"),
        (["board", "infer", "/dev/no-such-port", "--inputs", "@", "--outputs", "@"], "--inputs"),
        (["score", "encrypt", "--record", "@", "--manifest", "m", "--key", "k", "--output", "@"], "--record"),
        (["score", "encrypt", "--record", "r", "--manifest", "@", "--key", "k", "--output", "@"], "--manifest"),
        (["score", "encrypt", "--record", "r", "--manifest", "m", "--key", ".", "--output", "@"], "secret.key"),
        (["score", "run", "--request", "@", "--public", "p", "--bundle", "b", "--output", "@"], "--request"),
        (["score", "run", "--request", "r", "--public", "@", "--bundle", "b", "--output", "@"], "--public"),
        (["score", "run", "--request", "r", "--public", "p", "--weights", "@", "--output", "@"], "--weights"),
        (["anonymize", "@", "rules", "--out", "new", "--report", "@"], "the data file"),
        (["anonymize", "d", "@", "--out", "new", "--report", "@"], "RULES"),
        (["init", "@", "--label", "y", "--force", "--yes", "--out", "@"], "the table"),
        (["anonymize", "d", "rules", "--out", "new", "--cuts", "@", "--report", "@"], "--cuts"),
    ],
)
@pytest.mark.parametrize("way", ["name", "link", "second name"])
def test_no_file_that_is_read_is_replaced(
    words: List[str],
    what: str,
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, name = Path("secret.key"), "secret.key" if way == "name" else "other"
    mine.write_text("of somebody")
    if way == "link":
        Path(name).symlink_to(mine)
    elif way == "second name":
        os.link(mine, name)
    out = len(words) - 1
    assert (
        main([(name if place == out else str(mine)) if word == "@" else word for place, word in enumerate(words)]) == 2
    )
    assert f"{words[-2]} {name}: is {what} itself; name another file" in capsys.readouterr().err
    assert mine.read_text() == "of somebody"


@pytest.mark.parametrize(
    ("words", "option", "what"),
    [
        (["link", "ask", "d", "--columns", "a", "--study", "s", "--out", "x", "--key", "./x"], "--key ", "--out"),
        (["anonymize", "d", "rules", "--out", "x", "--report", "./x"], "--report ", "--out"),
        (["anonymize", "d", "rules", "--out", "o", "--report", "x.png", "--plot", "./x.png"], "--plot ", "--report"),
    ],
)
def test_two_files_have_two_names(
    words: List[str],
    option: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"edgeward: {option}x"), option
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
        (np.full((30, 4), np.nan, np.float32), "x.npy: representative data holds NaN or infinity, first in row 0"),
        (np.zeros((0, 4), np.float32), "x.npy: representative data has shape (0, 4)"),
        (np.array([["1e300"], ["1e40"]], float), "x.npy: representative data holds 1e+300, first in row 0; float32"),
        (np.array(["a", "b"]), "x.npy: representative data holds <U1"),
    ):
        np.save("x.npy", rows)
        assert main(export) == 2
        assert reason in capsys.readouterr().err
    np.save("x.npy", np.zeros((30, 4), np.float32))
    assert main([*export, "--name", "x" * 33]) == 2
    assert "needs 1 to 32 bytes" in capsys.readouterr().err


def test_rows_of_another_shape_than_a_keras_model_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"class_name": "InputLayer", "config": {"batch_shape": [None, None, 3]}}
    model = {"class_name": "Sequential", "config": {"layers": [entry, {"class_name": "Dense", "config": {}}]}}
    started = []
    monkeypatch.setattr("model_export.keras_file.check_keras_file", lambda path: model)
    monkeypatch.setattr("model_export.client.run_worker", lambda *_: started.append(1))
    monkeypatch.setattr("model_export.bundle.verify_bundle", lambda *_, **__: {})
    monkeypatch.setattr("orchestrator.cli.manifest_text.manifest_text", lambda *_: "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.keras").touch()
    export = ["model", "export", "m.keras", "--out", "b", "--representative", "x.npy"]
    for rows in (np.zeros((30, 4)), np.zeros((30, 3)), np.zeros((30, 2, 4)), np.zeros(3), np.array(1.0)):
        np.save("x.npy", rows)
        assert main(export) == 2
        said = capsys.readouterr().err
        assert f"x.npy: representative data has shape {rows.shape}; accepted is (rows, any, 3)" in said
    assert not started
    np.save("x.npy", np.zeros((30, 7, 3)))
    assert main(export) == 0
    assert started


@pytest.mark.filterwarnings("error")
def test_rows_that_no_board_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before a board is looked for."""
    monkeypatch.chdir(tmp_path)
    for rows, reason in (
        (
            np.full((2, 4), 1e300),
            "the rows hold 1e+300, first in row 0; float32, in which models compute, ends at 3.40282e+38",
        ),
        (np.full((2, 4), np.nan, np.float32), "the rows hold NaN or infinity, first in row 0"),
        (np.zeros((2, 4), np.int32), "the rows are int32; accepted are int8, or floats"),
        (np.zeros(4), "the rows have shape (4,); accepted is (rows, ...)"),
        (np.zeros((0, 4)), "the rows have shape (0, 4); accepted is (rows, ...), with one row or more"),
    ):
        np.save("x.npy", rows)
        assert main(["board", "infer", "no-port", "--inputs", "x.npy"]) == 2
        assert f"x.npy: {reason}" in capsys.readouterr().err


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
