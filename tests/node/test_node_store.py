import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import EdgewardError
from orchestrator.node.store import NodeStore


def test_a_round_is_answered_with_the_same_bytes_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    store = NodeStore(path)
    assert store.released("run", 1, "task") is None
    store.release("run", 1, "task", b"update one")
    store.close()
    again = NodeStore(path)
    assert again.released("run", 1, "task") == b"update one"
    again.release("run", 2, "task", b"update two")
    with pytest.raises(EdgewardError, match="round 1 of run run was answered before"):
        again.released("run", 1, "task")
    assert again.releases("run") == 2
    assert again.released("another", 1, "task") is None


def test_however_many_rounds_their_facts_take_a_row_for_each_gap(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.sqlite")
    for number in [*range(1, 50), *range(60, 80), 55, 90]:  # 55 comes late: nothing of it is kept to be sent again
        store.release("run", number, "task", b"body")
        store.note_opened("run", number, "task")
    store.close()
    database = sqlite3.connect(tmp_path / "node.sqlite")
    ranges = "SELECT first, last FROM past WHERE kind = ? ORDER BY first"
    assert database.execute(ranges, ("answered",)).fetchall() == [(1, 49), (55, 55), (60, 79)]
    assert database.execute(ranges, ("opened",)).fetchall() == [(1, 49), (55, 55), (60, 79), (90, 90)]
    assert database.execute("SELECT COUNT(*) FROM releases").fetchone() == (1,)
    again = NodeStore(tmp_path / "node.sqlite")
    assert again.releases("run") == 71
    assert [again.opened("run", number) for number in (49, 50, 90)] == [True, False, True]
    for number in (1, 49, 55, 79):
        with pytest.raises(EdgewardError, match="was answered before and is over"):
            again.released("run", number, "task")
        again.release(
            "run", number, "task", b"another"
        )  # as a second process that drew before would: nothing is stored
        again.forfeit("run", number, "task")
        with pytest.raises(EdgewardError, match="was answered before and is over"):
            again.released("run", number, "task")
    assert again.released("run", 50, "task") is None
    assert again.released("run", 90, "task") == b"body"
    with pytest.raises(EdgewardError, match="changed its task"):
        again.released("run", 91, "another task")


def test_facts_of_earlier_versions_count_and_become_ranges(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.sqlite")
    store.close()
    rows = [("run", number, "task", None, None) for number in range(1, 9)]
    with closing(sqlite3.connect(tmp_path / "node.sqlite")) as database, database:
        database.executemany("INSERT INTO releases VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("INSERT INTO opened VALUES ('run', 8)")
    again = NodeStore(tmp_path / "node.sqlite")
    with pytest.raises(EdgewardError, match="is over"):
        again.released("run", 3, "task")
    assert again.opened("run", 8)
    again.release("run", 9, "task", b"body")
    with closing(sqlite3.connect(tmp_path / "node.sqlite")) as database:
        assert database.execute("SELECT COUNT(*) FROM releases").fetchone() == (1,)
    assert again.releases("run") == 9


def test_a_run_cannot_change_its_task(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.sqlite")
    store.release("run", 1, "task", b"x")
    with pytest.raises(EdgewardError, match="changed its task"):
        store.released("run", 2, "another task")


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be read" * 50)
    with pytest.raises(EdgewardError, match=r"node\.sqlite: cannot be used"):
        NodeStore(path)


def test_what_a_codec_left_out_is_kept_with_the_release(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.sqlite")
    assert store.kept("run", "residual") is None
    store.release("run", 1, "task", b"x", {"residual": np.array([1.5, -2], np.float32)})
    store.release("run", 2, "task", b"y")
    store.close()
    kept = NodeStore(tmp_path / "node.sqlite").kept("run", "residual")
    assert kept is not None
    assert kept.round == 1
    assert kept.vector == pytest.approx([1.5, -2.0])


def test_of_two_processes_that_answer_a_round_the_first_is_heard(tmp_path: Path) -> None:
    """Two draws of a round's noise, of which one was charged, would be a release too many."""
    one, other = NodeStore(tmp_path / "node.sqlite"), NodeStore(tmp_path / "node.sqlite")
    assert one.released("r", 1, "t") is None
    assert other.released("r", 1, "t") is None
    one.release("r", 1, "t", b"first", {"kept": np.zeros(2, np.float32)})
    other.release("r", 1, "t", b"second", {"kept": np.ones(2, np.float32)})
    assert [store.released("r", 1, "t") for store in (one, other)] == [b"first"] * 2
    kept = other.kept("r", "kept")
    assert kept is not None
    assert not kept.vector.any()
    one.put_count("r", "t", 5, -1)
    other.put_count("r", "t", 6, -1)
    assert other.counted("r", "t") == 5
