import json
import os
import shutil
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, List

import pytest

from orchestrator.cli.main import main
from orchestrator.errors import EdgewardError
from orchestrator.gateway import audit, audit_files
from orchestrator.gateway.audit import AuditLog, read_log, verify
from orchestrator.gateway.audit_files import FIRST, put_begin, remaining
from orchestrator.gateway.web.audit_pages import AuditPages


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl", sqlite3.connect(str(tmp_path / "s.sqlite"), isolation_level=None))
    for number in range(5):
        log.append("joined", node=f"n{number}")
    return log


def test_a_whole_log_verifies_and_goes_on_after_a_restart(log: AuditLog) -> None:
    again = AuditLog(log.path, log.database)
    again.append("left", node="n0")
    assert verify(log.path, log.database)[0] == 6
    assert [json.loads(line)["n"] for line in log.path.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]


def test_only_its_owner_reads_it(log: AuditLog) -> None:
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def damage(lines: List[bytes], how: str) -> List[bytes]:
    if how == "changed":
        return [*lines[:2], lines[2].replace(b"n2", b"n9"), *lines[3:]]
    if how == "changed last":
        return [*lines[:4], lines[4].replace(b"n4", b"n9")]
    if how == "removed":
        return [*lines[:2], *lines[3:]]
    if how == "reordered":
        return [lines[0], lines[2], lines[1], *lines[3:]]
    if how == "cut":
        return lines[:4]
    if how == "half a line":
        return [*lines[:4], lines[4][:20]]
    assert how == "emptied"
    return []


@pytest.mark.parametrize("how", ["changed", "changed last", "removed", "reordered", "cut", "half a line", "emptied"])
def test_every_damage_is_found_and_nothing_is_appended_after_a_cut(log: AuditLog, how: str) -> None:
    log.path.write_bytes(b"".join(damage(log.path.read_bytes().splitlines(keepends=True), how)))
    with pytest.raises(EdgewardError, match=r"audit\.jsonl"):
        verify(log.path, log.database)
    if how in ("changed last", "cut", "half a line", "emptied"):
        with pytest.raises(EdgewardError, match="changed or truncated"):
            log.append("joined", node="late")


def test_a_kill_between_file_and_store_is_caught_up_with(log: AuditLog) -> None:
    log.database.execute("BEGIN")
    log.append("joined", node="last words")
    log.database.execute("ROLLBACK")
    assert verify(log.path, log.database)[0] == 6
    log.append("left", node="n1")
    assert verify(log.path, log.database)[0] == 7


def test_a_line_torn_by_a_power_cut_does_not_stop_the_log(log: AuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(b'{"n": 6, "at": 17')
    log.append("left", node="n1")
    assert verify(log.path, log.database)[0] == 6


def test_what_cannot_be_written_fails_loudly(log: AuditLog) -> None:
    os.remove(log.path)
    os.mkdir(log.path)
    with pytest.raises(EdgewardError, match="cannot be written|cannot be used"):
        log.append("joined", node="x")


def test_a_flood_of_refusals_does_not_fill_the_disk(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: List[Any] = []
    progress = log.progress(passed.append)
    monkeypatch.setattr(audit, "MAX_REFUSALS", 1)
    for _ in range(5):
        progress({"event": "refused", "run": "r", "node": "n", "reason": "why"})
    progress({"event": "export", "message": "not recorded"})
    assert len(passed) == 6
    events = [json.loads(line)["event"] for line in log.path.read_text().splitlines()[5:]]
    assert events == ["refused", "refusals_no_longer_recorded"]


def test_a_long_log_is_in_files_of_which_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_files, "FILE_BYTES", 2000)
    monkeypatch.setattr(audit, "EARLIER", 3)
    database = sqlite3.connect(str(tmp_path / "s.sqlite"), isolation_level=None)
    path = tmp_path / "audit.jsonl"
    most = 0
    for number in range(200):
        log = AuditLog(path, database)  # as after a restart
        log.append("joined", node=f"node-{number}", records=5)
        most = max(most, sum(file.stat().st_size for file in tmp_path.glob("audit*")))
    assert most < (3 + 3) * 2000
    count, _ = verify(path, database)
    entries = read_log(path)
    assert entries[-1]["n"] == count == 200
    assert [e["n"] for e in entries] == list(range(entries[0]["n"], count + 1))
    removed = [e["oldest_removed"] for e in entries if "oldest_removed" in e]
    assert removed[-1]["entries"] >= entries[0]["n"] - 1
    pages = AuditPages(path)
    shown: List[Any] = []
    before = None
    while page := pages.page(7, before)["entries"]:
        shown, before = [*shown, *(e["n"] for e in page)], page[-1]["n"]
    assert shown == [e["n"] for e in reversed(entries)], "page after page through all files"
    assert pages.page(7)["total"] == count

    oldest, *_ = remaining(path, database)
    for fault, says in (
        (lambda: oldest.unlink(), "does not follow"),
        (lambda: put_begin(database, 0, FIRST), "does not follow"),
        (lambda: oldest.write_bytes(oldest.read_bytes().replace(b"records", b"recordz")), "does not follow"),
        (lambda: path.write_bytes(b""), "the end was cut off"),
    ):
        kept = {file: file.read_bytes() for file in tmp_path.glob("audit*")}
        database.execute("BEGIN")
        fault()
        with pytest.raises(EdgewardError, match=says):
            verify(path, database)
        database.execute("ROLLBACK")
        for file, content in kept.items():
            file.write_bytes(content)
    verify(path, database)


def test_a_line_only_the_file_has_is_named_by_the_next(log: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    """A process killed after it wrote one leaves such a line, and who may write to the file alone can add one."""
    last = log.path.read_bytes().splitlines(keepends=True)[-1]
    added = {"n": 6, "at": 1.0, "event": "joined", "node": "invented", "before": audit.hash_of(last)}
    with log.path.open("ab") as file:
        file.write(json.dumps(added).encode() + b"\n")
    log.append("left", node="n0")
    log.append("left", node="n1")
    assert [entry.get("unrecorded") for entry in read_log(log.path)] == [None] * 6 + [6, None]
    assert verify(log.path, log.database)[0] == 8
    shutil.copy(log.path.parent / "s.sqlite", log.path.parent / "gateway.sqlite")
    assert main(["gateway", "audit", str(log.path.parent), "--verify"]) == 0
    assert "entry 6: in the file before the store knew it" in capsys.readouterr().out


def test_killed_while_a_file_is_put_aside_the_log_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_files, "FILE_BYTES", 1000)
    monkeypatch.setattr(audit, "EARLIER", 2)
    database = sqlite3.connect(str(tmp_path / "s.sqlite"), isolation_level=None)
    path = tmp_path / "audit.jsonl"

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for step in ("put_aside", "put_begin", "remove_gone", "hash_of"):
        for number in range(60):
            with monkeypatch.context() as patch:
                if number % 7 == 3:
                    patch.setattr(audit, step, killed)
                    with suppress(Killed):
                        AuditLog(path, database).append("joined", node="a", records=number)
                    if database.in_transaction:  # gone with its process
                        database.execute("ROLLBACK")
            AuditLog(path, database).append("joined", node="a", records=number)
        verify(path, database)
        assert len(list(tmp_path.glob("audit*"))) <= 5


@pytest.mark.parametrize("read", [audit.stored_head, audit_files.stored_begin])
def test_a_store_that_cannot_be_read_is_not_one_without_a_log(tmp_path: Path, read: Callable[..., Any]) -> None:
    """Else a sound log would look forged."""
    path = str(tmp_path / "s.sqlite")
    mine, other = (sqlite3.connect(path, timeout=0, isolation_level=None) for _ in range(2))
    AuditLog(tmp_path / "audit.jsonl", mine).append("joined", node="a")
    put_begin(mine, 3, "f" * 64)
    assert read(other)[0] in (1, 3)
    mine.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        read(other)
