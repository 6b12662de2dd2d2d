"""History reads what a gateway wrote, while it writes, and nothing else."""

import sqlite3
from pathlib import Path

import pytest
from stored_runs import finish_run, result, write_run

from orchestrator.errors import EdgewardError, UsageError
from orchestrator.gateway.history import History, open_histories, pseudonym
from orchestrator.gateway.run_store import PSEUDONYM_SECRET
from orchestrator.gateway.store import Store
from orchestrator.wire.protection import Privacy


def test_an_open_run_is_read_while_its_gateway_writes(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    write_run(store, "ward-0123abcd", privacy=Privacy(epsilon=4.0))
    with History(tmp_path) as history:
        run = history.run("ward-0123abcd")
        assert (run.state, run.phase, run.round, run.rounds_done, run.rounds) == ("open", "collecting", 2, 1, 2)
        assert (run.started, run.ended, run.nodes) == (1000.0, None, ("er", "icu"))
        assert (run.epsilon_budget, run.epsilon, run.digest) == (4.0, None, "")
        assert run.metrics == {"loss": 0.5, "accuracy": 0.75}
        with store.transaction():  # a writer does not stop a reader, and shows nothing half done
            store.put_result("ward-0123abcd", 2, result(2, 0.875))
            assert len(history.rounds("ward-0123abcd")) == 1
        assert len(history.rounds("ward-0123abcd")) == 2
        finish_run(store, "ward-0123abcd")
        done = history.run("ward-0123abcd")
    assert (done.state, done.rounds_done, done.ended, done.epsilon, done.digest) == (
        "finished",
        2,
        1010.0,
        3.5,
        "00ff" * 4,
    )


def test_rounds_and_nodes_of_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    write_run(store, "ward-0123abcd")
    store.put_node("ward-0123abcd", "er", {"memory_mib": 61.0})
    with History(tmp_path) as history:
        (first,) = history.rounds("ward-0123abcd")
        assert (first.number, first.started, first.ended, first.nodes) == (1, 1002.0, 1006.0, ("er", "icu"))
        assert (first.bytes_up, first.codec_error, first.auc, first.figures["extra"]) == (600, 0.01, None, 7)
        er, icu, lab = history.nodes("ward-0123abcd")
        assert (er.records, er.state, er.rounds, er.figures) == (50, "online", (1,), {"memory_mib": 61.0})
        assert (icu.state, icu.joined, icu.last_seen) == ("left", 1001.0, 1007.0)
        assert (lab.state, lab.reason, lab.joined, lab.rounds) == ("declined", "no", None, ())
        key = store.secret(*PSEUDONYM_SECRET)
        assert history.nodes("ward-0123abcd")[1].pseudonym == pseudonym(key, "icu") != pseudonym(b"other", "icu")


def test_retrained_runs_know_their_parent_and_prefixes_find_one_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    write_run(store, "ward-0123abcd", 1000.0)
    write_run(store, "ward-0123abcd-2", 2000.0)
    write_run(store, "other-99999999", 1500.0)
    with History(tmp_path) as history:
        assert [run.id for run in history.runs()] == ["ward-0123abcd-2", "other-99999999", "ward-0123abcd"]
        assert [run.number for run in history.runs()] == [2, 1, 1]
        assert (history.parent("ward-0123abcd-2"), history.parent("ward-0123abcd")) == ("ward-0123abcd", None)
        assert (history.find("o"), history.find("ward-0123abcd")) == ("other-99999999", "ward-0123abcd")
        with pytest.raises(UsageError, match="'ward' fits ward-0123abcd, ward-0123abcd-2"):
            history.find("ward")
        with pytest.raises(UsageError, match="'x' is not among"):
            history.find("x")


def test_a_store_of_an_earlier_version_is_read_without_phases(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    write_run(store, "ward-0123abcd")
    store.close()
    with sqlite3.connect(tmp_path / "gateway.sqlite") as db:
        for table in ("phases", "reports", "secrets"):
            db.execute(f"DROP TABLE {table}")
    with History(tmp_path) as history:
        run = history.run("ward-0123abcd")
        assert (run.state, run.phase, run.started, run.rounds_done) == ("open", "unknown", None, 1)
        assert history.rounds("ward-0123abcd")[0].started is None
        assert {node.pseudonym for node in history.nodes("ward-0123abcd")} == {""}


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(EdgewardError, match="no such file"):
        History(tmp_path)
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "gateway.sqlite"
    path.write_bytes(b"something else" * 400)
    with pytest.raises(EdgewardError, match="cannot be read as a gateway's store"):
        History(tmp_path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE cats (name TEXT)")
    with pytest.raises(EdgewardError, match="is no gateway's store \\(it lacks events"):
        History(tmp_path)
    with pytest.raises(EdgewardError, match="neither it nor a folder in it"):
        open_histories(tmp_path / "nowhere")


def test_a_damaged_page_is_an_error_not_a_wrong_answer(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    write_run(store, "ward-0123abcd")
    store.close()
    path = tmp_path / "gateway.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    with History(tmp_path) as history, pytest.raises(EdgewardError, match="cannot be read"):
        history.runs()


def test_reading_writes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    write_run(store, "ward-0123abcd")
    before = (tmp_path / "gateway.sqlite").read_bytes()
    with History(tmp_path) as history:
        history.runs()
        with pytest.raises(EdgewardError, match="readonly"):
            history._rows("DELETE FROM runs")
    assert (tmp_path / "gateway.sqlite").read_bytes() == before
