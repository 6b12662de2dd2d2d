"""Any one bit of any store that is not as it was written: the store says so, or what it gives is the same as before."""

import json
import random
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple

import numpy as np
import pytest

from orchestrator.errors import EdgewardError
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.password import FILE_NAME, Login
from orchestrator.node.key_journal import KeyJournal
from orchestrator.node.ledger import Ledger
from orchestrator.node.reservation import Reservation
from orchestrator.node.store import NodeStore
from orchestrator.privacy.charges import Charge
from orchestrator.rounds.events import Aggregated, Arrived, Joined, Started

FLIPS = 400
RUN, OTHER, ROUNDS = "run-0123456789abcdef", "run-fedcba9876543210", 40


def fill_gateway(path: Path) -> None:
    store = Store(path)
    for run in (RUN, OTHER):
        store.create_run(run, {"name": "t"}, b"graph" * 50, np.ones(40, np.float32))
        for event in (Started(1.0), Joined(2.0, "a", 10)):
            store.append(run, event)
        for number in range(1, ROUNDS):
            store.append(run, Arrived(3.0, "a", number, "d" * 64, 10.0))
            store.put_result(run, number, {"round": number, "loss": 0.5})
            store.append(run, Aggregated(4.0, number))
        store.put_update(run, ROUNDS, "a", b"body" * 30)
        store.put_answer(run, ROUNDS, 1, "keys", "a", b"body" * 30)
        store.secret(run, "s")
        store.serial(run)
        store.put_node(run, "a", {"memory_mib": 40.5})
        store.put_ledger_head("a", {"entries": 7, "hash": "h" * 64})
    store.close()


def read_gateway(path: Path) -> Any:
    store = Store(path)
    try:
        return [
            (
                store.find_run(run),
                store.journal(run),
                store.results(run),
                store.newest_round(run),
                list(store.updates(run, ROUNDS, ["a"])),
                store.answer(run, ROUNDS, 1, "keys", "a"),
                np.asarray(store.vector(run, "weights")).tobytes(),
                store.secret(run, "s"),
                store.serial(run),
                store.certificates(run),
                store.nodes(run),
                store.ledger_head("a"),
            )
            for run in (RUN, OTHER)
        ]
    finally:
        store.close()


def fill_node(path: Path) -> None:
    store = NodeStore(path)
    for run in (RUN, OTHER):
        for number in range(ROUNDS):
            store.release(run, number, "t", b"body" * 30, {"residual": np.ones(40, np.float32)})
            store.note_opened(run, number, "t", {f"{run} {number}": "a b c"})
            store.note_revealed(run, number, 1)
        store.put_count(run, "t", 40, -1)
        store.seen_runs.begin(run, 3)
    store.secret("s")
    store.peers.pin("b", b"k" * 32)
    store.may_look("schema", 1e9, 3)
    store.put_anchor("ledger", 7, "h" * 64)
    store.close()


def kept_round(store: NodeStore, run: str) -> int:
    kept = store.kept(run, "residual")
    assert kept is not None
    return kept.round


def read_node(path: Path) -> Any:
    store = NodeStore(path)
    try:
        return [
            *((store.opened(r, n), store.sum_over(f"{r} {n}")) for r in (RUN, OTHER) for n in range(ROUNDS + 1)),
            *(
                (store.counted(r, "t"), kept_round(store, r), store.releases(r), store.seen_runs.find(r))
                for r in (RUN, OTHER)
            ),
            store.secret("s"),
            store.peers.pinned(),
            store.peers.pinned_as(b"k" * 32),
            store.anchor("ledger"),
            [store.note_revealed(r, n, 1) for r in (RUN, OTHER) for n in range(ROUNDS)],
            store.may_look("another", 1e9, 1),
        ]
    finally:
        store.close()


def fill_ledger(path: Path) -> None:
    ledger = Ledger(path)
    for run in (RUN, OTHER):
        ledger.reserve(Reservation(run, "d" * 64, "sepsis", "record", (Charge("training", 1.1, 0.25, 600),)))
        for number in range(ROUNDS):
            ledger.charge(run, number, {"training": 1})
    ledger.decide("e" * 64, "approved")
    ledger.trust("b", "f" * 64)
    ledger.close()


def read_ledger(path: Path) -> Any:
    ledger = Ledger(path)
    try:
        found = [ledger.reservation(run) for run in (RUN, OTHER)]
        return found, ledger.reservations(), ledger.decision("e" * 64), ledger.trusted(), ledger.entries()
    finally:
        ledger.close()


def fill_keys(path: Path) -> None:
    journal = KeyJournal(path)
    for run in (RUN, OTHER):
        for number in range(ROUNDS):
            journal.make_keys(run, number, 1)
            journal.open(run, number, 1)
    journal.close()


def read_keys(path: Path) -> Any:
    journal = KeyJournal(path)
    try:
        said = []
        for run in (RUN, OTHER):
            for number in range(ROUNDS):
                with pytest.raises(EdgewardError) as refused:
                    journal.make_keys(run, number, 1)
                said.append(str(refused.value))
        return said, journal.id
    finally:
        journal.close()


class Kind(NamedTuple):
    fill: Callable[[Path], None]
    read: Callable[[Path], Any]


KINDS: Dict[str, Kind] = {
    "gateway.sqlite": Kind(fill_gateway, read_gateway),
    "node.sqlite": Kind(fill_node, read_node),
    "ledger.sqlite": Kind(fill_ledger, read_ledger),
    "keys.sqlite": Kind(fill_keys, read_keys),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_bit_is_named_or_changes_nothing(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    kind.fill(tmp_path / name)
    good = (tmp_path / name).read_bytes()
    before = repr(kind.read(tmp_path / name))
    good = (tmp_path / name).read_bytes()
    chance = random.Random(len(good))
    refused = 0
    for _ in range(FLIPS):
        at, bit = chance.randrange(len(good)), chance.randrange(8)
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / name).write_bytes(good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :])
        try:
            after = repr(kind.read(folder / name))
        except EdgewardError as error:
            refused += name in str(error)
            continue
        assert after == before, f"byte {at}, bit {bit}"
    print(f"{refused} of {FLIPS} flipped bits were named")
    assert refused > FLIPS / 10


def test_what_a_key_holder_opened_is_in_the_file_itself(tmp_path: Path) -> None:
    """Not in a log beside it, which SQLite reads up to its first damaged byte: nothing else remembers what was opened."""
    journal = KeyJournal(tmp_path / "keys.sqlite")
    journal.make_keys(RUN, 1, 1)
    journal.open(RUN, 1, 1)
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "keys.sqlite", tmp_path / "copy")  # as after SIGKILL, with the log lost
    journal.close()
    left = KeyJournal(tmp_path / "copy" / "keys.sqlite")
    with pytest.raises(EdgewardError, match="was opened"):
        left.make_keys(RUN, 1, 2)
    left.close()


def test_a_flipped_bit_in_the_login_file_is_named(tmp_path: Path) -> None:
    """And is no "wrong password" for its owner."""
    Login(tmp_path).set_password("a long password")
    Login(tmp_path).new_token()
    path = tmp_path / FILE_NAME
    good, chance = path.read_bytes(), random.Random(3)
    assert Login(tmp_path).accepts("a long password")
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << chance.randrange(8))]) + good[at + 1 :])
        with pytest.raises(EdgewardError, match=f"{FILE_NAME}: .*makes it again"):
            assert Login(tmp_path).configured, f"byte {at}"
    entries = json.loads(good)
    del entries["digest"]  # as earlier versions wrote it
    path.write_text(json.dumps(entries))
    assert Login(tmp_path).accepts("a long password")
