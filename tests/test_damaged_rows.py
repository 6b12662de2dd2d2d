"""What a disk or somebody changed in a store is named, and nothing is made of it."""

import sqlite3
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest

from orchestrator.database import Rows, StoreError, open_database
from orchestrator.errors import DamagedError, EdgewardError
from orchestrator.gateway.store import Store
from orchestrator.node.store import NodeStore
from orchestrator.rounds.events import Joined, Started

READS: Dict[str, Callable[[Store], Any]] = {
    "runs": lambda store: store.find_run("r"),
    "events": lambda store: store.journal("r"),
    "updates": lambda store: list(store.updates("r", 1, ["a"])),
    "answers": lambda store: store.answer("r", 1, 1, "keys", "a"),
    "vectors": lambda store: store.vector("r", "weights"),
    "secrets": lambda store: store.secret("r", "s"),
    "results": lambda store: store.results("r"),
}
NODE_READS: Dict[str, Callable[[NodeStore], Any]] = {
    "releases": lambda store: store.released("r", 1, "t"),
    "secrets": lambda store: store.secret("s"),
    "counts": lambda store: store.counted("r", "t"),
    "kept": lambda store: store.kept("r", "residual"),
    "past": lambda store: store.released("r", 1, "t"),
}


def fill(path: Path) -> None:
    store = Store(path)
    store.create_run("r", {"name": "t"}, b"graph", np.ones(4, np.float32))
    for event in (Started(1.0), Joined(2.0, "a", 10)):
        store.append("r", event)
    store.put_update("r", 1, "a", b"body")
    store.put_answer("r", 1, 1, "keys", "a", b"body")
    store.put_result("r", 1, {"loss": 0.5})
    store.secret("r", "s")
    store.close()


def fill_node(path: Path) -> None:
    store = NodeStore(path)
    store.release("r", 0, "t", b"body")
    store.release("r", 1, "t", b"body", {"residual": np.ones(4, np.float32)})
    store.put_count("r", "t", 40, -1)
    store.secret("s")
    store.close()


def flip(path: Path, table: str) -> None:
    """One bit of the last column before the digest, in every row."""
    database = sqlite3.connect(path, isolation_level=None)
    column = [row[1] for row in database.execute(f"PRAGMA table_info({table})")][-2]
    for row, value in database.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
        data = bytearray(value if isinstance(value, bytes) else str(value).encode())
        data[len(data) // 2] ^= 1
        changed: Any = bytes(data) if isinstance(value, bytes) else data.decode()
        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, row))
    database.close()


@pytest.mark.parametrize("table", READS)
def test_one_flipped_bit_in_a_gateways_row_is_an_error_with_its_place(tmp_path: Path, table: str) -> None:
    fill(tmp_path / "gateway.sqlite")
    flip(tmp_path / "gateway.sqlite", table)
    with pytest.raises(DamagedError, match=rf"gateway\.sqlite: a row of '{table}' \(.*restore it from a backup"):
        READS[table](Store(tmp_path / "gateway.sqlite"))


@pytest.mark.parametrize("table", NODE_READS)
def test_one_flipped_bit_in_a_nodes_row_is_an_error_with_its_place(tmp_path: Path, table: str) -> None:
    fill_node(tmp_path / "node.sqlite")
    flip(tmp_path / "node.sqlite", table)
    with pytest.raises(DamagedError, match=rf"node\.sqlite: a row of '{table}' \("):
        NODE_READS[table](NodeStore(tmp_path / "node.sqlite"))


@pytest.mark.parametrize(("fill", "open_store", "reads"), [(fill, Store, READS), (fill_node, NodeStore, NODE_READS)])
def test_a_store_of_before_there_were_digests_gets_them(
    tmp_path: Path, fill: Callable[[Path], None], open_store: Callable[[Path], Any], reads: Any
) -> None:
    path = tmp_path / "old.sqlite"
    fill(path)
    database = sqlite3.connect(path)
    for table in reads:
        database.execute(f"ALTER TABLE {table} DROP COLUMN digest")
    database.close()
    store = open_store(path)
    assert all(read(store) is not None for read in reads.values())
    store.close()
    for table in reads:
        flip(path, table)
        with pytest.raises(DamagedError):
            reads[table](open_store(path))


def test_a_row_has_the_digest_of_what_sqlite_gives_back(tmp_path: Path) -> None:
    """Buffers come back as bytes, truths as numbers."""
    database = open_database(tmp_path / "some.sqlite", "CREATE TABLE t (a, b, c, d, e, digest BLOB)", "node")
    rows = Rows(database, tmp_path / "some.sqlite", {"t": ("a", "b", "c", "d", "e")})
    rows.put("t", bytearray(b"x"), memoryview(b"y"), True, 2.5, None)
    assert rows.get("t") == [(b"x", b"y", 1, 2.5, None)]


def test_rows_that_changed_places_are_noticed(tmp_path: Path) -> None:
    fill(tmp_path / "gateway.sqlite")
    database = sqlite3.connect(tmp_path / "gateway.sqlite", isolation_level=None)
    for before, after in ((1, 3), (2, 1), (3, 2)):
        database.execute("UPDATE events SET seq = ? WHERE seq = ?", (after, before))
    database.close()
    with pytest.raises(DamagedError):
        Store(tmp_path / "gateway.sqlite").journal("r")


def test_a_damaged_page_is_named_when_the_store_is_opened(tmp_path: Path) -> None:
    fill(tmp_path / "gateway.sqlite")
    data = bytearray((tmp_path / "gateway.sqlite").read_bytes())
    data[4096 : 4096 + 64] = b"\xff" * 64
    (tmp_path / "gateway.sqlite").write_bytes(data)
    with pytest.raises(EdgewardError, match=r"gateway\.sqlite: .*restore it from a backup"):
        Store(tmp_path / "gateway.sqlite").journal("r")


@pytest.mark.parametrize("left", [b"0", b"{}", bytes(100)])
def test_a_few_bytes_are_no_new_store(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "node.sqlite").write_bytes(left)
    with pytest.raises(EdgewardError, match=r"node\.sqlite: is damaged \(\d+ bytes are no store\): restore it"):
        NodeStore(tmp_path / "node.sqlite")


def test_what_fails_later_names_the_store_and_what_to_do(tmp_path: Path) -> None:
    database = open_database(tmp_path / "some.sqlite", "CREATE TABLE t (x)", "node")
    database.execute("PRAGMA max_page_count = 1")  # SQLite's own "the disk is full"
    with pytest.raises(StoreError, match=r"some\.sqlite: database or disk is full: make room"):
        database.execute("INSERT INTO t VALUES (?)", (bytes(100_000),))
