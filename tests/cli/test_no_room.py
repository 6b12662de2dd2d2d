"""A full disk: the message names the file, nothing half-written is left, and the same command is given again."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Iterator, List

import numpy as np
import pytest
from test_outputs_first import SCHEMA

from orchestrator.cli.main import main
from orchestrator.files import new_file, whole_folder

resource = pytest.importorskip("resource")

TABLE = "a,y\n" + "".join(f"{number % 4},{number % 2}\n" for number in range(40))
COMMANDS = [
    ["data", "mock", "e.toml", "--out", "new.csv"],
    ["data", "describe", "t.csv", "--out", "new.csv"],
    ["data", "describe", "t.csv", "--out", "new.json"],
    ["data", "map", "t.csv", "e.toml", "--out", "new.toml"],
    ["model", "keygen", "new.key"],
    ["gateway", "init", "new", "--federation", "f", "--host", "127.0.0.1"],
    ["authority", "init", "new", "--federation", "f"],
    ["node", "request", "--name", "n", "--federation", "f", "--identity", "id", "--out", "new.csr"],
    ["gateway", "init", "id", "--federation", "f", "--host", "127.0.0.1", "--request", "new.json"],
]


@contextmanager
def no_room() -> Iterator[None]:
    """No file grows, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> List[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("e.toml").write_text(SCHEMA)
    Path("t.csv").write_text(TABLE)
    return tmp_path


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join([*words[:2], words[-1]]))
def test_the_file_is_named_and_the_second_try_works(
    words: List[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(here)
    with no_room():
        assert main(words) == 1
    said = capsys.readouterr().err
    assert "new" in said or "id/" in said, said
    assert "File too large" in said
    assert "Traceback" not in said
    assert [name for name in names(here) if name != "id"] == before
    assert main(words) == 0


def failing_at(count: int, real: Callable[..., Any]) -> Callable[..., Any]:
    left = [count]

    def call(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    return call


@pytest.mark.parametrize("at", range(3))
def test_of_the_three_files_of_init_none_is_left(
    at: int, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, words = names(here), ["init", "t.csv", "--label", "y", "--yes", "--out", "new.toml"]
    real, wrote = Path.write_text, {"left": at}

    def write(path: Path, *arguments: Any, **options: Any) -> int:
        if path.parent == Path(".") and path.name.startswith("."):
            wrote["left"] -= 1
            if wrote["left"] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write)
        assert main(words) == 1
    assert f"{['new.toml', 'policy.toml', 'ward.toml'][at]}: No space left on device" in capsys.readouterr().err
    assert names(here) == before
    assert main(words) == 0


@pytest.mark.parametrize("at", range(8))
def test_of_an_identity_that_was_half_made_nothing_is_left(
    at: int, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, words = names(here), ["gateway", "init", "new", "--federation", "f", "--host", "127.0.0.1"]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", failing_at(at, os.fsync))
        assert main(words) == 1
    assert "edgeward: new/" in capsys.readouterr().err
    assert names(here) == before
    assert main(words) == 0


def test_predictions_and_outputs_are_there_whole_or_not_at_all(here: Path) -> None:
    from orchestrator.cli.board import _save
    from orchestrator.errors import EdgewardError

    with no_room(), pytest.raises(EdgewardError, match=r"cannot write y\.npy: File too large"):
        _save(Path("y.npy"), np.zeros((2, 2), np.int8))
    assert "y.npy" not in names(here)
    assert not [name for name in names(here) if name.startswith(".")]


def test_where_a_file_is_replaced_the_earlier_one_stays_until_the_new_one_is_whole(here: Path) -> None:
    Path("y.npy").write_bytes(b"of yesterday")
    with no_room(), pytest.raises(OSError, match="File too large"), new_file(Path("y.npy"), replaces=True) as fresh:
        fresh.write_bytes(b"of today")
    assert Path("y.npy").read_bytes() == b"of yesterday"
    with new_file(Path("y.npy"), replaces=True) as fresh:
        fresh.write_bytes(b"of today")
    assert Path("y.npy").read_bytes() == b"of today"
    assert names(here) == ["e.toml", "t.csv", "y.npy"]


def rights(path: str) -> int:
    return Path(path).stat().st_mode & 0o777


def test_what_replaces_a_file_has_its_rights(here: Path) -> None:
    """Predictions and reports that only their owner may read stay so, also while they are written."""
    Path("y.npy").touch(0o600)
    with new_file(Path("y.npy"), replaces=True) as fresh:
        assert rights(str(fresh)) == 0o600
    assert rights("y.npy") == 0o600
    Path("y.npy").chmod(0o640)
    with new_file(Path("y.npy"), replaces=True) as fresh:
        assert rights(str(fresh)) == 0o600
    assert rights("y.npy") == 0o640
    with new_file(Path("y.npy"), 0o600, replaces=True) as fresh:
        pass
    assert rights("y.npy") == 0o600


def test_what_a_link_leads_to_is_replaced_and_not_the_link(here: Path) -> None:
    Path("far").mkdir()
    Path("far/y.npy").write_bytes(b"of yesterday")
    Path("y.npy").symlink_to("far/y.npy")
    with no_room(), pytest.raises(OSError, match="File too large: 'y.npy'"), new_file(
        Path("y.npy"), replaces=True
    ) as fresh:
        fresh.write_bytes(b"of today")
    with new_file(Path("y.npy"), replaces=True) as fresh:
        fresh.write_bytes(b"of today")
    assert Path("y.npy").is_symlink()
    assert Path("far/y.npy").read_bytes() == b"of today"
    assert names(here) == ["e.toml", "far", "far/y.npy", "t.csv", "y.npy"]


def test_of_two_commands_that_make_one_file_the_second_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the other one makes it at the last moment."""
    for name in ("os.link", "os.replace"):
        real = getattr(os, name.split(".")[1])

        def late(*paths: str, real: Callable[..., None] = real) -> None:
            Path("y.npy").write_bytes(b"of the first")
            real(*paths)

        monkeypatch.setattr(name, late)
    with pytest.raises(FileExistsError, match=r"not overwritten: 'y\.npy'"), new_file(Path("y.npy")) as fresh:
        fresh.write_bytes(b"of the second")
    assert Path("y.npy").read_bytes() == b"of the first"
    assert names(here) == ["e.toml", "t.csv", "y.npy"]


def test_where_files_have_no_second_names_nothing_is_overwritten_either(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.link", no_links)
    with new_file(Path("y.npy")) as fresh:
        fresh.write_bytes(b"of the first")
    with pytest.raises(FileExistsError, match="not overwritten"), new_file(Path("y.npy")):
        pass
    assert Path("y.npy").read_bytes() == b"of the first"
    assert names(here) == ["e.toml", "t.csv", "y.npy"]


def test_who_fails_beside_another_removes_nothing_of_what_that_one_made(here: Path) -> None:
    """Two that make an identity in one folder: the second begins while the first has made nothing yet."""
    made, go_on = threading.Event(), threading.Event()
    ended: List[str] = []

    def first() -> None:
        with whole_folder(here / "id"):
            (here / "id").mkdir()
            made.set()
            go_on.wait(10)
            (here / "id/ca.key").write_text("of the first")
        ended.append("first")

    def second() -> None:
        with suppress(FileExistsError), whole_folder(here / "id"):
            go_on.set()
            if ended == []:  # it did not wait
                time.sleep(0.5)
            os.close(os.open(str(here / "id/ca.key"), os.O_CREAT | os.O_EXCL))
        ended.append("second")

    threads = [threading.Thread(target=each) for each in (first, second)]
    threads[0].start()
    assert made.wait(10)
    threads[1].start()
    time.sleep(0.3)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert ended == ["first", "second"]
    assert (here / "id/ca.key").read_text() == "of the first"


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that ends a process here and in those that it starts, also where the tests run under nohup."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_who_is_ended_while_it_writes_leaves_nothing(here: Path, number: signal.Signals) -> None:
    """A file that nobody looks for would hold what is private for good."""
    writes = """
import time
from pathlib import Path
from orchestrator.files import new_file
with new_file(Path("m.csv")) as fresh:
    fresh.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""
    before = names(here)
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen([sys.executable, "-c", writes], env=path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    assert names(here) != before
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert names(here) == before
    assert signal.getsignal(number) is signal.SIG_DFL
    with new_file(Path("y.npy")):
        assert signal.getsignal(number) is not signal.SIG_DFL
    assert signal.getsignal(number) is signal.SIG_DFL
