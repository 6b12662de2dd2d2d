import json
import os
import sqlite3
import stat
from pathlib import Path
from typing import List

import pytest

from orchestrator.errors import EdgewardError
from orchestrator.gateway.audit import MAX_REFUSALS, AuditLog, verify


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl", sqlite3.connect(str(tmp_path / "s.sqlite"), isolation_level=None))
    for number in range(5):
        log.append("joined", node=f"n{number}")
    return log


def test_a_whole_log_verifies_and_goes_on_after_a_restart(log: AuditLog) -> None:
    again = AuditLog(log.path, log._db)
    again.append("left", node="n0")
    assert verify(log.path, log._db)[0] == 6
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
        verify(log.path, log._db)
    if how in ("changed last", "cut", "half a line", "emptied"):
        with pytest.raises(EdgewardError, match="changed or truncated"):
            log.append("joined", node="late")


def test_a_kill_between_file_and_store_is_caught_up_with(log: AuditLog) -> None:
    log._db.execute("BEGIN")
    log.append("joined", node="last words")
    log._db.execute("ROLLBACK")
    assert verify(log.path, log._db)[0] == 6
    log.append("left", node="n1")
    assert verify(log.path, log._db)[0] == 7


def test_a_line_torn_by_a_power_cut_does_not_stop_the_log(log: AuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(b'{"n": 6, "at": 17')
    log.append("left", node="n1")
    assert verify(log.path, log._db)[0] == 6


def test_what_cannot_be_written_fails_loudly(log: AuditLog) -> None:
    os.remove(log.path)
    os.mkdir(log.path)
    with pytest.raises(EdgewardError, match="cannot be written|cannot be used"):
        log.append("joined", node="x")


def test_a_flood_of_refusals_does_not_fill_the_disk(tmp_path: Path, log: AuditLog) -> None:
    passed = []
    progress = log.progress(passed.append)
    log._refusals = MAX_REFUSALS - 1
    for _ in range(5):
        progress({"event": "refused", "run": "r", "node": "n", "reason": "why"})
    progress({"event": "export", "message": "not recorded"})
    assert len(passed) == 6
    events = [json.loads(line)["event"] for line in log.path.read_text().splitlines()[5:]]
    assert events == ["refused", "refusals_no_longer_recorded"]
