"""The chain, what it is held against, and what counts when."""

import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Callable, List

import pytest

from orchestrator.errors import LedgerError, PrivacyError
from orchestrator.node.anchor import ANCHOR_FILE, Anchor, FolderAnchor, StoreAnchor
from orchestrator.node.ledger import APPROVED, DENIED, LEDGER_FILE, Ledger
from orchestrator.node.reservation import Reservation
from orchestrator.node.round_ranges import RoundRanges
from orchestrator.node.store import NodeStore
from orchestrator.privacy.charges import Charge

CHARGES = (Charge("training", 1.1, 0.25, 6), Charge("statistics", 2.5))


def reservation(run: str = "run", digest: str = "d" * 64) -> Reservation:
    return Reservation(run, digest, "sepsis", "record", CHARGES)


def anchors(state: Path) -> List[Anchor]:
    folder = state / "identity"
    folder.mkdir(parents=True, exist_ok=True)
    return [StoreAnchor(NodeStore(state / "node.sqlite")), FolderAnchor(folder)]


def opened(state: Path) -> Ledger:
    return Ledger(state / LEDGER_FILE, anchors(state))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder whose ledger has four entries: opened, reserve, release, release."""
    ledger = opened(tmp_path)
    assert ledger.reserve(reservation())
    ledger.charge("run", 0, {"statistics": 1})
    ledger.charge("run", 1, {"training": 2})
    ledger.close()
    return tmp_path


def tampered(state: Path, *statements: str) -> None:
    with sqlite3.connect(state / LEDGER_FILE) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def test_what_was_noted_is_there_after_a_restart(state: Path) -> None:
    ledger = opened(state)
    (found,) = ledger.reservations()
    assert found == replace(reservation(), used={"statistics": 1, "training": 2}, rounds=RoundRanges(((0, 1),)))
    assert [entry["kind"] for entry in ledger.entries()] == ["opened", "reserve", "release", "release"]
    assert ledger.verify() == ledger.head
    assert ledger.head.entries == 4


def test_a_replayed_task_reserves_nothing_and_a_repeated_round_is_charged_once(state: Path) -> None:
    ledger = opened(state)
    head = ledger.head
    assert not ledger.reserve(reservation())
    ledger.charge("run", 1, {"training": 2})
    assert ledger.head == head
    with pytest.raises(PrivacyError, match="reserved for another task"):
        ledger.reserve(reservation(digest="e" * 64))
    with pytest.raises(PrivacyError, match="run other is not reserved"):
        ledger.charge("other", 1, {"training": 2})


def test_no_more_is_released_than_was_reserved(state: Path) -> None:
    ledger = opened(state)
    ledger.charge("run", 2, {"training": 2})
    ledger.charge("run", 3, {"training": 2})
    with pytest.raises(PrivacyError, match="would be release 8 of kind training, reserved are 6"):
        ledger.charge("run", 4, {"training": 2})
    with pytest.raises(PrivacyError, match="release 1 of kind evaluation, reserved are 0"):
        ledger.charge("run", 4, {"evaluation": 1})
    assert ledger.reservations()[0].used == {"statistics": 1, "training": 6}


def test_only_what_was_released_counts_once_a_run_is_closed(state: Path) -> None:
    ledger = opened(state)
    assert ledger.reservations()[0].counted == CHARGES
    ledger.close_run("run")
    assert ledger.reservations()[0].counted == (replace(CHARGES[0], count=2), CHARGES[1])
    for attempt in (lambda: ledger.charge("run", 2, {"training": 2}), lambda: ledger.reserve(reservation())):
        with pytest.raises(PrivacyError, match="closed by"):
            attempt()
    with pytest.raises(PrivacyError, match="closed already"):
        ledger.close_run("run")
    with pytest.raises(PrivacyError, match="never reserved"):
        ledger.close_run("other")


def test_the_last_word_on_a_task_counts_and_only_for_it(state: Path) -> None:
    ledger = opened(state)
    assert ledger.decision("a" * 64) is None
    ledger.decide("a" * 64, DENIED)
    ledger.decide("a" * 64, APPROVED)
    ledger.decide("b" * 64, DENIED)
    ledger.close()
    again = opened(state)
    assert [again.decision(c * 64) for c in "abc"] == [APPROVED, DENIED, None]


def edited(state: Path) -> None:
    tampered(state, """UPDATE entries SET entry = replace(entry, '"count":6', '"count":1') WHERE seq = 2""")


def rehashed(state: Path) -> None:
    """An edit by someone who knows how entries are hashed, of the newest one."""
    import hashlib

    with sqlite3.connect(state / LEDGER_FILE) as db:
        text = (
            db.execute("SELECT entry FROM entries WHERE seq = 4").fetchone()[0].replace('"training":2', '"training":1')
        )
        db.execute(
            "UPDATE entries SET entry = ?, hash = ? WHERE seq = 4", (text, hashlib.sha256(text.encode()).hexdigest())
        )
    db.close()


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (edited, "entry 2 was changed"),
        (rehashed, "entry 4 is not the one node.sqlite beside it remembers"),
        (lambda state: tampered(state, "DELETE FROM entries WHERE seq = 3"), "entry 3 is missing"),
        (lambda state: tampered(state, "DELETE FROM entries WHERE seq = 4"), "3 entries, .* remembers 4: 1 are lost"),
        (lambda state: tampered(state, "DELETE FROM entries"), "0 entries, .* remembers 4: 4 are lost"),
        (lambda state: tampered(state, "UPDATE entries SET subject = 'x' WHERE seq = 3"), "entry 3 was changed"),
        (lambda state: tampered(state, "UPDATE entries SET seq = 9 WHERE seq = 4"), "entry 4 is missing"),
        (lambda state: (state / LEDGER_FILE).unlink(), "the ledger is gone"),
        (lambda state: put_back(state / LEDGER_FILE, b"garbage" * 900), "cannot be used .* is not known"),
        (lambda state: (state / "node.sqlite").unlink(), "4 entries, node.sqlite beside it knows none"),
    ],
)
def test_tampering_is_named(state: Path, tamper: Callable[[Path], None], reason: str) -> None:
    tamper(state)
    with pytest.raises(LedgerError, match=reason):
        opened(state)


def test_a_state_folder_that_is_gone_is_missed_by_the_identity(state: Path) -> None:
    for name in os.listdir(state):
        if name != "identity":
            (state / name).unlink()
    with pytest.raises(LedgerError, match=f"the ledger is gone, .*{ANCHOR_FILE} remembers it"):
        opened(state)


def copied(path: Path) -> bytes:
    """The database as it is now, in one file."""
    copy = path.with_suffix(".copy")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    content = copy.read_bytes()
    copy.unlink()
    return content


def put_back(path: Path, content: bytes) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(content)


def test_older_copies_are_refused(state: Path) -> None:
    store, file = state / "node.sqlite", state / LEDGER_FILE
    old = copied(store), copied(file)
    ledger = opened(state)
    ledger.charge("run", 2, {"training": 2})
    ledger.charge("run", 3, {"training": 2})
    ledger.close()
    new = copied(store), copied(file)
    put_back(store, old[0])
    with pytest.raises(LedgerError, match="6 entries, node.sqlite beside it knows only 4"):
        opened(state)  # the answers it gave would be drawn again
    put_back(file, old[1])
    with pytest.raises(LedgerError, match=rf"4 entries, .*{ANCHOR_FILE} remembers 6: 2 are lost"):
        opened(state)
    put_back(store, new[0])
    put_back(file, new[1])
    assert opened(state).head.entries == 6


def test_a_ledger_removed_while_it_is_used_is_missed_at_the_next_release(state: Path) -> None:
    ledger = opened(state)
    (state / LEDGER_FILE).unlink()
    with pytest.raises(LedgerError, match="removed or replaced while it was in use"):
        ledger.charge("run", 2, {"training": 2})


def test_a_kill_between_entry_and_anchor_is_no_loss(state: Path) -> None:
    anchor = StoreAnchor(NodeStore(state / "node.sqlite"))
    ledger = Ledger(state / LEDGER_FILE, [anchor])
    ledger.charge("run", 2, {"training": 2})
    assert anchor.read() == (4, ledger.entries()[4]["before"]), "it is written with what the entry was made for"
    del ledger  # as a kill leaves it, which closes nothing
    assert opened(state).head.entries == 5
    assert json.loads((state / "identity" / ANCHOR_FILE).read_text())["entries"] == 5


def test_the_anchor_comes_with_the_release_and_at_the_latest_with_the_next_entry(state: Path) -> None:
    store = NodeStore(state / "node.sqlite")
    anchor = StoreAnchor(store)
    ledger = Ledger(state / LEDGER_FILE, [anchor])
    ledger.charge("run", 2, {"training": 2})
    store.release("run", 2, "digest", b"update")
    assert anchor.read() == ledger.head
    for number in (3, 4, 5):
        ledger.charge("run", number, {"training": 1} if number < 5 else {})
        assert anchor.read() == (ledger.head.entries - 1, ledger.entries()[-1]["before"])
    store.note_opened("run", 5, "digest")
    assert anchor.read() == ledger.head


def test_another_process_takes_along_the_anchor_that_waits(state: Path) -> None:
    node, owner = opened(state), opened(state)
    node.charge("run", 2, {"training": 2})
    owner.decide("a" * 64, APPROVED)
    del owner, node  # neither was closed as it should be
    assert opened(state).head.entries == 6


def test_two_processes_write_one_chain(state: Path) -> None:
    """The node, and its owner at the command line."""
    node, owner = opened(state), opened(state)
    owner.decide("a" * 64, APPROVED)
    node.charge("run", 2, {"training": 2})
    owner.close_run("run")
    with pytest.raises(PrivacyError, match="closed by"):
        node.charge("run", 3, {"training": 2})
    assert node.verify() == owner.verify() == node.head
    assert node.head.entries == 7
