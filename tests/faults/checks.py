"""What has to hold in every cell. Each function returns what is wrong, in words; an empty list where nothing is."""

import contextlib
import json
import re
import sqlite3
import urllib.error
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set, Tuple

from .federation import Federation, reading
from .processes import Process, until

MOST_LINES = 60
"""On standard error, of one process in one cell: more is a flood."""
_RAW = re.compile(r"Traceback|^  File \"|Exception in thread|Exception ignored|Fatal Python|Segmentation|Errno", re.M)
_LOGGED = re.compile(r"^(\d{4}-\d\d-\d\d \S+ [A-Z]+ |(DEBUG|INFO|WARNING|ERROR) \S+: |warning: |  )")


def speaks_clearly(process: Process) -> List[str]:
    """No traceback, no number of an error, no flood; one that ended by itself says why in one sentence, last of all."""
    said = process.said()
    wrong = [f"{process.name} wrote {found.group().strip()!r}: {_line(said, found)}" for found in _RAW.finditer(said)][
        :1
    ]
    lines = said.splitlines()
    if len(lines) > MOST_LINES:
        wrong.append(f"{process.name} wrote {len(lines)} lines, such as {lines[-1]!r}")
    return wrong


def says_why(process: Process) -> List[str]:
    """Of one that ended with an error: `edgeward: ...`, once, and after that nothing."""
    lines = process.said().splitlines()
    last = [line for line in lines if line.startswith("edgeward: ")]
    if process.code not in (1, 2):
        return [f"{process.name} ended with {process.code}"]
    if len(last) != 1 or not lines[-1].startswith("edgeward: "):
        return [f"{process.name} ended, and its last words are {lines[-2:]!r}"]
    return []


def advice(process: Process) -> str:
    """What the user reads last."""
    lines = process.said().splitlines()
    return lines[-1] if lines else ""


def _line(text: str, found: "re.Match[str]") -> str:
    tail = text[found.start() : found.start() + 3000].strip().splitlines()
    return " / ".join([tail[0], *([tail[-1]] if len(tail) > 1 else [])])[:600]


def goes_on(federation: Federation, kind: str) -> List[str]:
    """Rounds are done again, this process takes part in them, and what it shows is the present state."""
    begun = federation.round()

    try:
        until(
            lambda: is_well(federation, kind, begun),
            lambda: f"rounds after {begun} with the {kind}\n{federation.logs()}",
        )
    except AssertionError as error:
        return [str(error)]
    numbers = [result["round"] for result in federation.results()]
    expected = list(range(numbers[0], numbers[-1] + 1))
    return [] if numbers == expected else [f"rounds are missing: {sorted(set(expected) - set(numbers))}"]


def is_well(federation: Federation, kind: str, begun: int) -> bool:
    """Whether two rounds after `begun` are done, and the process takes part now."""
    done = [result for result in federation.results() if result["round"] > begun]
    return len(done) >= 2 and _takes_part(federation, kind, done[-1]["nodes"])


def _takes_part(federation: Federation, kind: str, nodes: Sequence[str]) -> bool:
    if not federation.of_kind(kind).alive:
        return False
    if kind in ("node", "relay"):
        return federation.of_kind(kind).name in nodes
    if kind == "dashboard":
        return _shown(federation) >= federation.round() - 2
    if kind == "monitor":
        return _watched(federation)
    return True


def overview(federation: Federation) -> str:
    """What the page says, also where it says that something is wrong; empty while there is none."""
    try:
        return federation.page("/api/overview").decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def _shown(federation: Federation) -> int:
    """The round the dashboard shows."""
    try:
        shown = json.loads(federation.page("/api/overview"))
        return int(shown["runs"][-1]["rounds_done"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return -10


def _watched(federation: Federation) -> bool:
    """Records reach the file and the endpoint; the broker, too."""
    path = federation.of_kind("monitor").state / "records.csv"
    before, heard = path.stat().st_size, federation.heard()
    try:
        page = federation.page("/metrics", federation.metrics_port)
    except OSError:
        return False
    until(lambda: path.stat().st_size > before, lambda: f"records in {path}\n{federation.logs()}")
    until(lambda: federation.heard() > heard, lambda: f"records at the broker\n{federation.logs()}")
    return b"edgeward_board_up" in page


def nothing_is_left(process: Process) -> List[str]:
    """Of a command that ended: all its processes end soon."""
    try:
        until(lambda: not process.left(), lambda: "")
    except AssertionError:
        return [f"{process.name} left processes: {process.left()}"]
    return []


def keeps_what_counts(federation: Federation) -> List[str]:
    """Of every node: what was acknowledged is there, one answer a round, charged once."""
    wrong: List[str] = []
    for node, store, run in federation.answering():
        wrong += _answers(federation.notes / f"{node.name}.jsonl", node.name, store, run)
        if node.kind == "node":
            wrong += _budget(node, store, run)
    return wrong


def _answers(notes: Path, name: str, store: Path, run: str) -> List[str]:
    sent: Dict[Tuple[Any, ...], Set[str]] = defaultdict(set)
    acknowledged = []
    for line in notes.read_text().splitlines() if notes.exists() else ():
        entry = json.loads(line)
        if entry["kind"] == "update":
            sent[entry["run"], entry["round"]].add(entry["id"])
            if entry["what"] == "acknowledged":
                acknowledged.append(entry)
    wrong = [f"{name} sent {len(ids)} answers to round {key[1]}" for key, ids in sent.items() if len(ids) > 1]
    with reading(store) as db:
        events = [json.loads(row[0]) for row in db.execute("SELECT event FROM events WHERE run = ?", (run,))]
        cohorts = _cohorts(db, run)
    arrived = {(e["node"], e["digest"]) for e in events if e["event"] == "Arrived"}
    # Of rounds before the journal was compacted only their results are kept, in which the node is.
    since = max([e["state"]["round"] for e in events if e["event"] == "Compacted"], default=-1)
    lost = [
        e["round"]
        for e in acknowledged
        if e["round"] > since and (name, e["id"]) not in arrived and name in cohorts.get(e["round"], ())
    ]
    return [*wrong, *([f"acknowledged answers of {name} are lost: rounds {lost}"] if lost else [])]


def _budget(node: Process, store: Path, run: str) -> List[str]:
    with contextlib.suppress(sqlite3.Error), reading(node.state / "ledger.sqlite") as db:
        entries = [json.loads(row[0]) for row in db.execute("SELECT entry FROM entries ORDER BY seq")]
        charged = [e["round"] for e in entries if e["kind"] == "release" and e["run"] == run]
        with reading(store) as gateway:
            counted = {r for r, nodes in _cohorts(gateway, run).items() if node.name in nodes}
        twice = sorted({r for r in charged if charged.count(r) > 1}) if len(set(charged)) < len(charged) else []
        free = sorted(counted - set(charged))
        wrong = [f"{node.name}'s budget is charged twice for rounds {twice}"] if twice else []
        return wrong + ([f"{node.name} answered rounds {free} that its ledger does not know"] if free else [])
    return [f"the ledger of {node.name} cannot be read"]


def _cohorts(db: sqlite3.Connection, run: str) -> Dict[int, List[str]]:
    rows = (json.loads(row[0]) for row in db.execute("SELECT data FROM results WHERE run = ?", (run,)))
    return {row["round"]: row["nodes"] for row in rows}
