"""After a scrub no byte of a gateway's folder holds what nodes of version 0.1 quoted of their data; runs and audit log go on."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from stored_runs import write_bundle

from orchestrator.cli.main import main
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.gateway.audit import AUDIT_FILE, verify
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.history import History
from orchestrator.gateway.registry import find_model, keep_model
from orchestrator.gateway.run import plan_of
from orchestrator.gateway.running import LOCK_NAME, Held
from orchestrator.gateway.scrub import scrub
from orchestrator.gateway.scrub_presence import scrub_presence
from orchestrator.gateway.scrub_text import REMOVED
from orchestrator.gateway.store import Store
from orchestrator.rounds.coordinator import Coordinator
from orchestrator.rounds.events import Abstained, Declined, Joined, Started, Unopened
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.link import Link, Message
from orchestrator.wire.protection import Privacy
from orchestrator.wire.refusals import text_of
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task, task_to_dict
from orchestrator.wire.training import Training

RUN, SAMPLED, DIGEST = "ward-0123abcd", "fleet-0123abcd", "aa" * 8
CELLS = ("Sørensen", "1957-03-11", "HIV+ 93.7")
REASONS = [f"icu.csv, line 17, column age: {cell!r} is not a number\n  and neither is {cell}" for cell in CELLS]
SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", -1, 3),), standardization="range")
TASK = Task("ward", SCHEMA, {"kind": "none"}, Training(rounds=3), Privacy(unit="none"), Rounds(2, 1))


def event(kind: str, node: str, reason: str, **more: Any) -> Dict[str, Any]:
    return {"event": kind, "run": RUN, "node": node, "reason": reason, **more}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder as version 0.1 left it, through its own store and audit log, with values in every place they could get to."""
    folder = tmp_path / "federation"
    store = Store(folder / "gateway.sqlite")
    store.create_run(RUN, task_to_dict(TASK), b"graph", np.zeros(3, np.float32))
    for happened in (Started(1.0), Joined(2.0, "icu", 40), Joined(3.0, "er", 50)):
        store.append(RUN, happened)
    (folder / LOCK_NAME).touch()
    shown: List[Dict[str, Any]] = []
    progress = store.audit(folder / AUDIT_FILE).progress(shown.append)
    progress({"event": "joined", "run": RUN, "node": "er", "records": 50})
    for number, reason in enumerate(REASONS):
        store.append(RUN, Declined(4.0 + number, f"lab-{number}", reason, "data"))
        progress(event("declined", f"lab-{number}", reason, code="data"))
    store.append(RUN, Abstained(8.0, "er", 1, 1, REASONS[0]))
    store.append(RUN, Unopened(9.0, 1, f"er abstained: {REASONS[1]}"))
    progress(event("node_refused", "icu", REASONS[2]))
    failed = "round 1: 0 of 1 updates needed" + "".join(f"; lab declined: {reason}" for reason in REASONS)
    store.put_phase(RUN, 10.0, "failed", 1, failed)
    progress({"event": "failed", "run": RUN, "reason": failed})
    _sampled_run(store, folder)
    lines = [f"lab-{n} declined: {reason}" for n, reason in enumerate(REASONS)] + [
        f"failed: {failed}",
        "all rounds done",
    ]
    for name in ("gateway.log", "gateway.log.1"):
        (folder / name).write_text("".join(f"2026-01-02 03:04:05,678 INFO {line}\n" for line in lines))
    (folder / "shown.json").write_text("\n".join(map(json.dumps, shown)))
    # A freed page: rows that were deleted are not overwritten.
    store.database.execute("PRAGMA secure_delete=OFF")
    store.append("gone", Declined(1.0, "lab", " ".join(CELLS) * 200, "data"))
    store.database.execute("DELETE FROM events WHERE run = 'gone'")
    store.close()
    return folder


def _sampled_run(store: Store, folder: Path) -> None:
    """With a lineage as version 0.1 wrote it: who was in which round, though the claim counts on that being secret."""
    privacy = Privacy("node", delta=1e-2, noise="gateway", noise_multiplier=1.0)
    task = Task("fleet", SCHEMA, {}, Training(rounds=1), privacy, Rounds(2, 1), Selection(sampling_rate=0.5))
    store.create_run(SAMPLED, task_to_dict(task), b"graph", np.zeros(3, np.float32))
    store.append(SAMPLED, Joined(2.0, "icu", 40))
    report = {
        "run": SAMPLED,
        "digest": DIGEST,
        "privacy": {"epsilon": 1, "claim": "c"},
        "per_round": [{"round": 1, "nodes": ["icu"]}],
    }
    store.put_report(SAMPLED, 11.0, report)
    (folder / "result.json").write_text(json.dumps(report))
    write_bundle(folder, b"model")
    keep_model(folder, SAMPLED)
    path = folder / "models" / DIGEST / "lineage.json"
    lineage = json.loads(path.read_text())
    lineage["made_by"][0]["rounds"] = [{"round": 1, "ended": 12.0, "nodes": ["node-0011"]}]
    del lineage["made_by"][0]["participation"]
    path.write_text(json.dumps(lineage))


def forms(cell: str) -> List[bytes]:
    return [cell.encode(), json.dumps(cell)[1:-1].encode(), ascii(cell)[1:-1].encode(), cell.encode("utf-16-le")]


def holding(folder: Path) -> Dict[str, List[str]]:
    """file -> the cells whose bytes are in it, in any form."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            cells = [cell for cell in CELLS if any(form in content for form in forms(cell))]
            if cells:
                found[str(path.relative_to(folder))] = cells
    return found


def contents(folder: Path) -> Dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_folder_held_them_everywhere(out: Path) -> None:
    assert set(holding(out)) == {"gateway.sqlite", AUDIT_FILE, "gateway.log", "gateway.log.1", "shown.json"}


def test_afterwards_no_byte_of_any_file_does(out: Path) -> None:
    done = scrub(out)
    assert holding(out) == {}
    assert done.left == []
    assert (done.journal, done.phases, done.audit, done.lineages, done.reports) == (5, 1, 5, 1, 2)
    assert set(done.files) == {"gateway.log", "gateway.log.1", "shown.json"}
    assert not [
        path.name for path in out.iterdir() if path.name.startswith(".") or path.name.endswith(("-wal", "-shm"))
    ]


def test_what_was_not_a_nodes_word_stays(out: Path) -> None:
    scrub(out)
    log = (out / "gateway.log").read_text().splitlines()
    assert log[0] == f"2026-01-02 03:04:05,678 INFO lab-0 declined: {REMOVED}"
    assert [line.split(" INFO ")[1] for line in log[3:]] == [f"failed: {REMOVED}", "all rounds done"]
    with History(out) as history:
        assert {(n.name, n.code, n.reason) for n in history.nodes(RUN) if n.state == "declined"} == {
            (f"lab-{number}", "data", text_of("data")) for number in range(3)
        }


def test_the_run_goes_on_where_it_was(out: Path) -> None:
    def replayed() -> Coordinator:
        store = Store(out / "gateway.sqlite")
        coordinator = Coordinator(plan_of(TASK, store.secret(RUN, "selection")))
        for happened in store.journal(RUN):
            coordinator.handle(happened)
        store.append(RUN, Joined(20.0, "late", 3))
        store.close()
        return coordinator

    before = replayed()
    scrub(out)
    after = replayed()
    assert (after.phase, after.round, after.online) == (before.phase, before.round, {**before.online, "late": 3})
    assert set(after.declined) == set(before.declined) == {"lab-0", "lab-1", "lab-2"}


def test_the_audit_log_says_that_it_was_rewritten_verifies_and_goes_on(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = sqlite3.connect(out / "gateway.sqlite")
    count, head = verify(out / AUDIT_FILE, database)
    database.close()
    began = time.time()
    scrub(out)
    assert main(["gateway", "audit", str(out), "--verify"]) == 0
    shown = capsys.readouterr().out
    assert f"{count + 1} entries, whole" in shown
    assert "written again by edgeward gateway scrub" in shown
    assert head in shown
    assert main(["gateway", "audit", str(out), "--verify", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["scrubbed"]
    assert (entry["n"], entry["entries_before"], entry["head_before"], entry["whole_before"]) == (1, count, head, True)
    assert began - 1 <= entry["at"] <= time.time()
    store = Store(out / "gateway.sqlite")
    store.audit(out / AUDIT_FILE).append("joined", node="er")
    assert verify(out / AUDIT_FILE, store.database)[0] == count + 2
    store.close()
    entries = [json.loads(line) for line in (out / AUDIT_FILE).read_text().splitlines()]
    assert [e["event"] for e in entries[1:-1]] == ["joined", *["declined"] * 3, "node_refused", "failed"]
    assert entries[2]["code"] == "data"


def test_a_log_that_was_damaged_before_is_not_made_whole(out: Path) -> None:
    lines = (out / AUDIT_FILE).read_bytes().splitlines(keepends=True)
    (out / AUDIT_FILE).write_bytes(b"".join(lines[1:]))
    done = scrub(out)
    assert done.audit_before is not None
    assert done.audit_before["whole"] is False
    first = json.loads((out / AUDIT_FILE).read_text().splitlines()[0])
    assert first["whole_before"] is False
    assert "does not follow the line before it" in first["fault_before"]
    assert holding(out) == {}


def test_doing_it_again_changes_nothing(out: Path) -> None:
    scrub(out)
    before = contents(out)
    again = scrub(out)
    assert not again.anything
    after = contents(out)
    assert {name for name in before if before[name] != after[name]} <= {"gateway.sqlite"}, "VACUUM counts its changes"
    assert len((out / AUDIT_FILE).read_text().splitlines()) == 7


def test_a_dry_run_counts_and_changes_nothing(out: Path) -> None:
    before = contents(out)
    found = scrub(out, dry_run=True)
    assert contents(out) == before
    done = scrub(out)
    assert {**found.as_dict(), "dry_run": False} == done.as_dict()


@pytest.mark.parametrize("at", range(1, 8))
def test_cut_off_anywhere_it_ends_when_done_again(out: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Killed at each replacement of a file, and between the store and the audit log."""
    calls = 0
    replace = os.replace

    def dies(*paths: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", dies)
    try:
        scrub(out)
    except KeyboardInterrupt:
        monkeypatch.undo()
        scrub(out)
    assert holding(out) == {}
    database = sqlite3.connect(out / "gateway.sqlite")
    verify(out / AUDIT_FILE, database)
    database.close()
    entries = [json.loads(line) for line in (out / AUDIT_FILE).read_text().splitlines()]
    (scrubbed,) = [entry for entry in entries if entry["event"] == "scrubbed"]
    assert scrubbed["whole_before"], "a scrub that was cut off is no damage to the log"


def test_a_working_gateway_and_a_foreign_folder_are_left_alone(out: Path, tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path\nfrom orchestrator.gateway.running import Held\nwith Held(Path({str(out)!r})):\n"
        "    print(1, flush=True)\n    input()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    before = contents(out)
    with pytest.raises(UsageError, match="runs a gateway on this folder"):
        scrub(out)
    holder.communicate("\n")
    assert contents(out) == before
    with pytest.raises(UsageError, match=r"holds no gateway\.sqlite"):
        scrub(tmp_path)
    assert not (tmp_path / "gateway.lock").exists()


def test_a_reader_that_keeps_old_pages_is_named(out: Path) -> None:
    reader = sqlite3.connect(out / "gateway.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM events").fetchall()
    with pytest.raises(EdgewardError, match="another program"):
        scrub(out)
    reader.close()
    scrub(out)
    assert holding(out) == {}


def test_logs_elsewhere_are_scrubbed_with_those_rotated_beside_them(out: Path, tmp_path: Path) -> None:
    logs = tmp_path / "var"
    logs.mkdir()
    for name in ("edgeward.log", "edgeward.log.1", "edgeward.log.5"):
        (out / "gateway.log").rename(logs / name) if name == "edgeward.log" else (logs / name).write_bytes(
            (logs / "edgeward.log").read_bytes()
        )
    done = scrub(out, logs=[logs / "edgeward.log"])
    assert holding(tmp_path) == {}
    assert {str(logs / "edgeward.log"), str(logs / "edgeward.log.5")} <= set(done.files)


def test_what_cannot_be_changed_is_said(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "backup.bin").write_bytes(b"\xff\x00" + REASONS[0].encode())
    assert main(["gateway", "scrub", str(out)]) == 1
    assert "STILL IN backup.bin" in capsys.readouterr().out


def test_the_command(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "scrub", str(out), "--dry-run"]) == 0
    assert "would replace 5 reasons in the journal" in capsys.readouterr().out
    assert main(["gateway", "scrub", str(out), "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["audit_before"]["whole"] is True
    assert not any(cell in shown for cell in CELLS)
    assert main(["gateway", "scrub", str(out)]) == 0
    assert "nothing to replace" in capsys.readouterr().out
    assert find_model(out, DIGEST).made_by[0]["rounds"] == [{"round": 1}]


def test_presence_that_the_broker_keeps_loses_its_words() -> None:
    said = {"kind": "declined", "run": RUN, "code": "data", "reason": REASONS[0], "labels": {"site": "north"}}
    topic = "edgeward/1/default/node/lab/presence"
    broker = OwnBroker("embedded")
    broker.start()
    try:
        node = Link(broker.address, "lab", [])
        node.open(30.0)
        node.publish(topic, encode_body(said), retain=True)
        node.publish("edgeward/1/default/node/er/presence", encode_body({"kind": "ready", "run": RUN}), retain=True)
        assert node.flush(10.0)
        assert scrub_presence(broker.address, "default", dry_run=True) == ["lab"]
        assert scrub_presence(broker.address, "default") == ["lab"]
        assert scrub_presence(broker.address, "default") == []
        reader = Link(broker.address, "reader", [topic])
        reader.open(30.0)
        kept = next(e for e in iter(lambda: reader.events.get(timeout=300), None) if isinstance(e, Message))
        assert decode_body(kept.payload, 1 << 20)[0] == {**said, "reason": REMOVED}
        node.close()
        reader.close()
    finally:
        broker.close()


def test_held_ends_with_the_scrub(out: Path) -> None:
    scrub(out)
    with Held(out):
        pass
