"""A file or folder that is no bundle, given to every command that takes one: it says so, and names the bundle that was meant."""

from pathlib import Path
from typing import List

import pytest

from orchestrator.cli.main import main

PORT = "/dev/no-such-port"
COMMANDS = [
    ["flash", "--port", PORT, "--model", "@"],
    ["board", "update", PORT, "@"],
    ["board", "verify", PORT, "@"],
    ["board", "simulate", "--model", "@"],
    ["model", "verify", "@"],
    ["model", "preflight", "@", "--chip", "esp32"],
    ["predict", "@", "--data", "rows.csv"],
    ["model", "export", "@", "--as", "cmake", "--out", "no/folder"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_a_folder_with_a_bundle_in_it(words: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.bin").touch()
    assert main([word.replace("@", str(tmp_path)) for word in words]) in (1, 2)
    assert f"so it is no bundle; {tmp_path}/bundle is one" in capsys.readouterr().err


@pytest.mark.parametrize("words", COMMANDS[:5], ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("content", [b"", b"age,hr\n60,70\n" * 30, b"\x1c\0\0\0TFL3" + bytes(300)])
def test_a_file_that_is_no_model(
    words: List[str], content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    assert main([word.replace("@", str(tmp_path / "rows.csv")) for word in words]) in (1, 2)
    said = capsys.readouterr().err
    assert "rows.csv: is no model.bin" in said
    assert "name a bundle's folder" in said


@pytest.mark.parametrize("port", ["socket://", "socket://host", "rfc2217://host"])
def test_a_port_over_the_network_without_a_number(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.boards.flash import port_error

    assert "socket://HOST:PORT" in str(port_error(port, TypeError("'<=' not supported")))


def test_a_label_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.csv").write_text("x,y\n1,0\n")
    words = [
        "--broker",
        "mqtt://127.0.0.1:1",
        "--name",
        "n",
        "--data",
        str(tmp_path / "d.csv"),
        "--connect-timeout",
        "1",
    ]
    assert main(["node", "run", *words, "--state", str(tmp_path / "s"), "--label", "a=b", "--label", "a=c"]) == 2
    assert "--label a=c: a is given twice" in capsys.readouterr().err


def test_a_folder_without_an_identity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.csv").write_text("x,y\n1,0\n")
    assert main(["node", "run", "--identity", str(tmp_path), "--data", str(tmp_path / "d.csv")]) == 2
    assert "no identity is there: name the folder" in capsys.readouterr().err
