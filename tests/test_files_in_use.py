"""A lock or a store that somebody removes while it is used: no second program gets in, and nothing is written to nowhere."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict

import numpy as np
import pytest

from orchestrator.database import StoreError, open_database, open_read_only
from orchestrator.folder_lock import FolderLock, holder_of
from orchestrator.gateway.store import Store
from orchestrator.node.store import NodeStore

REFUSAL = "{folder} is held by process {pid}"
TAKE = """
import sys
from pathlib import Path
from orchestrator.errors import UsageError
from orchestrator.folder_lock import FolderLock
try:
    FolderLock(Path(sys.argv[1]), sys.argv[2], "held by {pid}").take()
except UsageError as error:
    print(error)
else:
    print("taken")
"""


def another_takes(folder: Path, name: str = "a.lock") -> str:
    """What a process reads that wants the lock: "taken" where it got it."""
    done = subprocess.run([sys.executable, "-c", TAKE, str(folder), name], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_lock_holds_without_its_file(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, "a.lock", REFUSAL)
    with lock:
        assert another_takes(tmp_path) == f"held by {os.getpid()}"
        (tmp_path / "a.lock").unlink()
        assert "its lock file was removed" in another_takes(tmp_path)
        assert "its lock file was removed" in another_takes(tmp_path)  # a file the refused one made changes nothing
    assert another_takes(tmp_path) == "taken"


def test_to_ask_for_a_lock_does_not_give_it_away(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "a.lock", REFUSAL):
        assert holder_of(tmp_path / "a.lock") == os.getpid()
        with FolderLock(tmp_path, "a.lock", REFUSAL):  # a process that asks again gets what it has
            assert another_takes(tmp_path) == f"held by {os.getpid()}"
        assert another_takes(tmp_path) == f"held by {os.getpid()}"
    assert holder_of(tmp_path / "a.lock") is None


def test_programs_of_two_kinds_share_a_folder(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "a.lock", REFUSAL):
        assert another_takes(tmp_path, "b.lock") == "taken"
        with FolderLock(tmp_path, "b.lock", REFUSAL):
            assert another_takes(tmp_path, "b.lock") == f"held by {os.getpid()}"
            assert another_takes(tmp_path) == f"held by {os.getpid()}"


def test_a_pipe_in_place_of_the_lock_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.lock")
    assert holder_of(tmp_path / "a.lock") is None
    with FolderLock(tmp_path, "a.lock", REFUSAL):
        assert "held by" in another_takes(tmp_path)


def removed(path: Path) -> None:
    path.unlink()


def with_its_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replaced(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy(path, other)
    os.replace(other, path)


def without_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


GONE: Dict[str, Callable[[Path], None]] = {
    function.__name__: function for function in (removed, with_its_folder, replaced, without_log)
}


@pytest.mark.parametrize("how", GONE)
def test_nothing_is_committed_to_a_store_that_is_gone(tmp_path: Path, how: str) -> None:
    path = tmp_path / "folder" / "x.sqlite"
    database = open_database(path, "CREATE TABLE IF NOT EXISTS t (a)", "test")
    database.execute("INSERT INTO t VALUES (1)")
    GONE[how](path)
    with pytest.raises(StoreError, match=r"x\.sqlite(-wal)?: was removed or replaced while it was in use"):
        database.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(StoreError, match="removed or replaced"), database:
        database.execute("BEGIN IMMEDIATE")
    assert not database.in_transaction
    database.close()


@pytest.mark.parametrize("explicit", [False, True])
def test_what_is_under_way_when_a_store_goes_is_taken_back(tmp_path: Path, explicit: bool) -> None:
    path = tmp_path / "x.sqlite"
    database = open_database(path, "CREATE TABLE IF NOT EXISTS t (a)", "test")

    def change() -> None:
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO t VALUES (1)")
            removed(path)
            if explicit:
                database.execute("COMMIT")

    with pytest.raises(StoreError, match="removed or replaced"):
        change()
    assert not database.in_transaction
    database.close()


def test_stores_of_gateway_and_node_say_so(tmp_path: Path) -> None:
    gateway, node = Store(tmp_path / "gateway.sqlite"), NodeStore(tmp_path / "node.sqlite")
    for name in ("gateway.sqlite", "node.sqlite"):
        removed(tmp_path / name)
    with pytest.raises(StoreError, match=r"gateway\.sqlite: was removed"), gateway.transaction():
        gateway.put_vector("run", "weights", np.zeros(3))
    with pytest.raises(StoreError, match=r"node\.sqlite: was removed"):
        node.release("run", 1, "task", b"body")
    gateway.close()


def test_a_reader_does_not_go_on_with_what_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    open_database(path, "CREATE TABLE IF NOT EXISTS t (a)", "test").close()
    reader = open_read_only(path)
    assert reader.execute("SELECT COUNT(*) FROM t").fetchone() == (0,)
    replaced(path)
    with pytest.raises(sqlite3.Error, match="removed or replaced"):
        reader.execute("SELECT COUNT(*) FROM t")
