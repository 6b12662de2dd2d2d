"""Secrets come from files only their owner can read, or from standard input; stores are their owner's alone."""

import io
import os
from pathlib import Path

import pytest

from orchestrator.cli.service import unit
from orchestrator.database import open_database
from orchestrator.errors import UsageError
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.secrets_file import read_secret


def secret(folder: Path, text: str = "p@ss/word\n", mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_one_line_of_a_file_or_of_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_secret(str(secret(tmp_path)), "token") == "p@ss/word"
    monkeypatch.setattr("sys.stdin", io.StringIO("of stdin\nmore\n"))
    assert read_secret("-", "token") == "of stdin"


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [("x", 0o644, "chmod 600"), ("x", 0o640, "chmod 600"), ("", 0o600, "one line"), ("a\nb\n", 0o600, "one line")],
)
def test_a_file_that_will_not_do_is_refused_without_quoting_it(
    tmp_path: Path, text: str, mode: int, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        read_secret(str(secret(tmp_path, text, mode)), "token")
    with pytest.raises(UsageError, match="No such file"):
        read_secret(str(tmp_path / "none"), "token")


def test_a_broker_s_password_comes_from_a_file(tmp_path: Path) -> None:
    address = BrokerAddress.parse(f"mqtts://ann@host:99?password_file={secret(tmp_path)}")
    assert (address.username, address.password, address.port) == ("ann", "p@ss/word", 99)
    assert "p@ss" not in str(address)
    for wrong in (
        "mqtt://host?password_file=/x",
        "mqtt://a:b@host?password_file=/x",
        "mqtt://a@host?password_file=x",
        "mqtt://a@h?x=1",
    ):
        with pytest.raises(UsageError, match="password_file"):
            BrokerAddress.parse(wrong)


def test_a_unit_that_everybody_reads_holds_no_password(tmp_path: Path) -> None:
    options = ["--name", "a", "--data", str(tmp_path / "x.csv"), "--broker"]
    for word in ([*options, "mqtt://ann:pass@host"], [*options[:-1], "--broker=mqtt://ann:pass@host"]):
        with pytest.raises(UsageError, match="password_file"):
            unit("node", word, "edgeward")
    named = f"mqtt://ann@host?password_file={secret(tmp_path)}"
    assert named in unit("node", [*options, named], "edgeward")


@pytest.mark.parametrize("before", [None, 0o644])
def test_a_store_is_its_owner_s_alone(tmp_path: Path, before: "int | None") -> None:
    path = tmp_path / "store.sqlite"
    if before is not None:
        path.touch()
        path.chmod(before)
    umask = os.umask(0)
    try:
        database = open_database(path, "CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (1)", "node")
        files = sorted(tmp_path.iterdir())
        assert len(files) == 3  # with its log
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        database.close()
    finally:
        os.umask(umask)


def test_a_pipe_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(UsageError, match="a pipe, a socket or a device"):
            read_secret(name, "token")
