"""`edgeward gateway scrub OUT`: takes what earlier versions may have stored of patients' data out of a gateway's folder.

Nodes of version 0.1 said in words why they declined or abstained, and a fault in their data was quoted: file, line, column and
value. Those words are in the journal, the phases, the audit log and the log files. Here they are replaced by one fixed text; the
code beside them stays. Lineages and reports of runs whose claim counts on a secret sample of nodes lose who was in which round.

Each file is replaced as a whole or not at all, and doing it again changes nothing more. The store is rewritten (VACUUM), so that
its freed pages keep nothing. The audit log is chained: what replaces it begins with an entry that says what was done, when, and
how the log before ended. Copies elsewhere (backups, a log service, exports) are not seen from here: `ELSEWHERE` names them.
"""

import json
import os
import re
import sqlite3
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

from orchestrator.errors import EdgewardError, UsageError
from orchestrator.files import replace_file, sync_path
from orchestrator.gateway.audit import AUDIT_FILE, chained, hash_of, stored_head, verify
from orchestrator.gateway.audit_files import (
    FIRST,
    drop_torn_line,
    earlier_files,
    lines_of,
    put_begin,
    remaining,
)
from orchestrator.gateway.history import STORE_NAME
from orchestrator.gateway.registry import MODELS, read_object
from orchestrator.gateway.running import LOCK_NAME, Held
from orchestrator.gateway.scrub_text import REMOVED, STAMPED, clean_log, without, worth_looking_for
from orchestrator.privacy.participation import WITHHELD, public_report, secret_sample_in
from orchestrator.wire.refusals import TEXTS, UNKNOWN, text_of

STORES = (STORE_NAME, "region.sqlite")
"""A gateway's, and that of a relay's lower half."""

ELSEWHERE = (
    "backups and copies of this folder",
    "journald, and log files outside this folder that --log-file did not name",
    "files made by `edgeward runs show` or by redirecting a gateway's output",
    "presence that a broker keeps of nodes of version 0.1 (--broker replaces it)",
    "blocks of the disk that the replaced files lay on",
)
"""What this command cannot see."""

_OURS = {AUDIT_FILE, LOCK_NAME, *(f"{name}{end}" for name in STORES for end in ("", "-wal", "-shm"))}
_EVENTS = ("Declined", "Abstained", "Unopened")
_COMPACTED = "Compacted"
_ENTRIES = ("declined", "abstained", "waiting", "refused", "node_refused", "failed")
_CODE = re.compile(r"[a-z]+([.-][a-z]+)*")


@dataclass
class Scrubbed:
    """What was (or with `dry_run` would be) replaced: how many texts of each kind, and in which files of the folder."""

    out: str
    dry_run: bool
    journal: int = 0
    phases: int = 0
    audit: int = 0
    lineages: int = 0
    reports: int = 0
    files: Dict[str, int] = field(default_factory=dict)  # log and other text files -> lines or texts replaced
    left: List[str] = field(default_factory=list)  # files a removed text is still in: not text, or part of a model
    audit_before: Optional[Dict[str, Any]] = None  # entries and head of the log that was replaced
    elsewhere: Tuple[str, ...] = ELSEWHERE

    @property
    def anything(self) -> bool:
        return bool(self.journal or self.phases or self.audit or self.lineages or self.reports or self.files)

    def as_dict(self) -> Dict[str, Any]:
        return {**asdict(self), "elsewhere": list(self.elsewhere)}


def scrub(out: Path, dry_run: bool = False, logs: Iterable[Path] = ()) -> Scrubbed:
    """Scrubs the folder of a gateway (or relay). `logs`: --log-file of other places; those rotated beside them are done too.

    UsageError where there is no store, or a gateway works on the folder.
    """
    stores = [out / name for name in STORES if (out / name).is_file()]
    if not stores:
        raise UsageError(f"{out}: holds no {' or '.join(STORES)}; name the --out folder of a gateway")
    named = [beside for log in logs for beside in _with_rotated(log)]
    done, only_read = Scrubbed(str(out), dry_run), Scrubbed(str(out), True)
    with Held(out):
        # What the stores hold is what other files are searched for: so they come last, and a scrub that was cut off goes on.
        texts = {text for path in stores for text in _scrub_store(path, only_read, _audit_of(path))}
        _scrub_lineages(out, _secret_runs(stores), done)
        _scrub_files(out, texts, done, named)
        for path in stores:
            _scrub_store(path, done, _audit_of(path))
    return done


def _audit_of(store: Path) -> Optional[Path]:
    """The audit log whose head is in this store."""
    return store.with_name(AUDIT_FILE) if store.name == STORE_NAME else None


# The store, and the audit log whose head it keeps


def _scrub_store(path: Path, done: Scrubbed, audit: Optional[Path]) -> "set[str]":
    """Replaces reasons in a store and its audit log; returns the texts that were there."""
    texts: set[str] = set()
    try:
        database = sqlite3.connect(str(path), isolation_level=None, timeout=5.0)
        try:
            database.execute("PRAGMA secure_delete=ON")
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if audit is not None and not done.dry_run:
                _finish_audit(audit, database)
                drop_torn_line(audit)
            database.execute("BEGIN IMMEDIATE")
            before = (done.journal, done.phases, done.reports, done.audit)
            texts |= _scrub_journal(database, done)
            if "phases" in tables:
                texts |= _scrub_phases(database, done)
            if "reports" in tables:
                _scrub_reports(database, done)
            replaced = None if audit is None else _rewritten(audit, database, done, texts)
            if done.dry_run or before == (done.journal, done.phases, done.reports, done.audit):
                database.execute("ROLLBACK")
            else:
                _commit(database, audit, replaced)
            if not done.dry_run:
                _rewrite(path, database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise EdgewardError(f"{path}: cannot be scrubbed: {error}. Is another program using it?") from error
    return texts


def _scrub_journal(database: sqlite3.Connection, done: Scrubbed) -> "set[str]":
    texts: set[str] = set()
    sealed = "digest" in {row[1] for row in database.execute("PRAGMA table_info(events)")}
    rows = database.execute("SELECT run, seq, event FROM events").fetchall()
    for run, seq, text in rows:
        event = json.loads(text)
        kind = event.get("event")
        clean = _clean_compacted if kind == _COMPACTED else _clean
        if kind in (_COMPACTED, *_EVENTS) and clean(event, texts):
            done.journal += 1
            text = json.dumps(event)
            database.execute("UPDATE events SET event = ? WHERE run = ? AND seq = ?", (text, run, seq))
            if sealed:  # the next gateway seals what it finds
                database.execute("UPDATE events SET digest = NULL WHERE run = ? AND seq = ?", (run, seq))
    return texts


def _scrub_phases(database: sqlite3.Connection, done: Scrubbed) -> "set[str]":
    """Why a run failed quotes the nodes that declined."""
    texts = set()
    for row, reason in database.execute("SELECT rowid, reason FROM phases WHERE reason NOT IN ('', ?)", (REMOVED,)):
        texts.add(reason)
        done.phases += 1
        database.execute("UPDATE phases SET reason = ? WHERE rowid = ?", (REMOVED, row))
    return texts


def _scrub_reports(database: sqlite3.Connection, done: Scrubbed) -> None:
    secret = {run for run, task in database.execute("SELECT id, task FROM runs") if secret_sample_in(json.loads(task))}
    for run, text in database.execute("SELECT run, report FROM reports").fetchall():
        if run in secret and "participation" not in json.loads(text):
            done.reports += 1
            report = json.dumps(public_report(json.loads(text)))
            database.execute("UPDATE reports SET report = ? WHERE run = ?", (report, run))


def _clean(said: Dict[str, Any], texts: "set[str]") -> bool:
    """Replaces an event's or entry's reason, and an unknown code; whether there was something to replace."""
    changed = False
    reason = said.get("reason", "")
    if reason not in ("", REMOVED, *TEXTS.values(), text_of(UNKNOWN)):
        texts.add(str(reason))
        said["reason"], changed = TEXTS.get(str(said.get("code", "")), REMOVED), True
    code = said.get("code", "")
    if code and not (isinstance(code, str) and len(code) <= 64 and _CODE.fullmatch(code)):
        said["code"], changed = "", True
    return changed


def _clean_compacted(event: Dict[str, Any], texts: "set[str]") -> bool:
    """The same of what events came to when a journal was compacted; whether there was something to replace."""
    changed = [_clean(member, texts) for member in event["members"].values()]
    for reasons in (event["state"]["declined"], event["state"].get("abstained", {})):
        for node, reason in reasons.items():
            said = {"reason": reason, "code": event["members"].get(node, {}).get("code", "")}
            changed.append(_clean(said, texts))
            reasons[node] = said["reason"]
    skipped = {"reason": event["state"].get("skip_reason", "")}
    changed.append(_clean(skipped, texts))
    if changed[-1]:
        event["state"]["skip_reason"] = skipped["reason"]
    return any(changed)


def _rewritten(path: Path, database: sqlite3.Connection, done: Scrubbed, texts: "set[str]") -> Optional[bytes]:
    """The whole new audit log, chained from an entry that says what it replaces; None where nothing in it changes."""
    files = remaining(path, database)
    if not files:
        return None
    try:
        (count, head), fault = verify(path, database), ""
    except EdgewardError as error:
        (count, head), fault = stored_head(database), str(error)
    entries, cleaned = [], 0
    for file, number, line in lines_of(files):
        if not line.endswith(b"\n"):
            continue  # the end, which `drop_torn_line` would cut off
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise EdgewardError(
                f"{file}:{number}: is no entry, so it cannot be said what is in it; repair or move it first"
            )
        if entry.get("event") in _ENTRIES:
            cleaned += _clean(entry, texts)
        entries.append(entry)
    if not cleaned:
        return None
    done.audit = cleaned
    done.audit_before = {"entries": count, "head": head, "whole": not fault}
    first = {
        "at": round(time.time(), 3),
        "event": "scrubbed",
        "by": "edgeward gateway scrub",
        "replaced": cleaned,
        "entries_before": count,
        "head_before": head,
        # A log that was damaged before is not made whole by being written again.
        "whole_before": not fault,
        **({"fault_before": fault} if fault else {}),
    }
    return chained([first, *entries])


def _commit(database: sqlite3.Connection, audit: Optional[Path], log: Optional[bytes]) -> None:
    """Head and journal in one transaction; the new log is on the disk before, and takes its place after it."""
    if audit is None or log is None:
        database.execute("COMMIT")
        return
    count, last = log.count(b"\n"), log.splitlines(keepends=True)[-1]
    replace_file(_waiting(audit), log)
    database.execute("INSERT OR REPLACE INTO audit_head VALUES (1, ?, ?)", (count, hash_of(last)))
    put_begin(database, 0, FIRST)
    database.execute("COMMIT")
    _finish_audit(audit, database)


def _finish_audit(audit: Path, database: sqlite3.Connection) -> None:
    """Puts a new log that waits into its place if the store has its head; otherwise it was never committed to."""
    waiting = _waiting(audit)
    if not waiting.is_file():
        return
    lines = waiting.read_bytes().splitlines(keepends=True)
    if lines and stored_head(database) == (len(lines), hash_of(lines[-1])):
        for file in earlier_files(audit):  # what they held is in the new one
            file.unlink()
        os.replace(waiting, audit)
        sync_path(audit.parent)
    else:
        waiting.unlink()


def _waiting(audit: Path) -> Path:
    return audit.with_suffix(".scrubbed")


def _rewrite(path: Path, database: sqlite3.Connection) -> None:
    """Writes every page again, and empties the write-ahead log."""
    database.execute("VACUUM")
    busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise EdgewardError(
            f"{path}: another program reads it (a dashboard, perhaps), so its log of old pages could not be emptied: stop that "
            "program and run this again"
        )


# Lineages, reports, logs


def _secret_runs(stores: Iterable[Path]) -> "set[str]":
    found = set()
    for path in stores:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        found |= {
            run for run, task in database.execute("SELECT id, task FROM runs") if secret_sample_in(json.loads(task))
        }
        database.close()
    return found


def _scrub_lineages(out: Path, secret: "set[str]", done: Scrubbed) -> None:
    for path in sorted((out / MODELS).glob("*/lineage.json")):
        content = read_object(path)
        hidden = [e for e in content.get("made_by", ()) if e.get("run") in secret and "participation" not in e]
        for entry in hidden:
            entry["rounds"] = [{"round": r["round"]} for r in entry["rounds"]]
            entry["participation"] = WITHHELD
        if hidden:
            done.lineages += len(hidden)
            _put(path, content, done)
    path = out / "result.json"
    if path.is_file() and secret:
        report = read_object(path)
        if report.get("run") in secret and "participation" not in report:
            done.reports += 1
            _put(path, public_report(report), done)


def _scrub_files(out: Path, texts: "set[str]", done: Scrubbed, logs: List[Path]) -> None:
    """Log files, by how their lines begin; and whatever else in the folder repeats a text that was removed."""
    needles = sorted(filter(worth_looking_for, texts), key=len, reverse=True)
    inside = [path for path in sorted(out.rglob("*")) if path.is_file() and not path.is_symlink()]
    for path in dict.fromkeys([*logs, *inside]):
        name = str(path.relative_to(out)) if path in inside else str(path)
        if path.parent == out and (path.name in _OURS or path in earlier_files(out / AUDIT_FILE)):
            continue
        content = path.read_bytes()
        try:
            text = content.decode()
        except UnicodeDecodeError:
            done.left += [name] if any(needle.encode() in content for needle in needles) else []
            continue
        is_log = path in logs or ".log" in path.name or any(STAMPED.match(line) for line in text.splitlines())
        clean, count = clean_log(text) if is_log else (text, 0)
        clean, more = without(clean, needles)
        count += more
        if not count:
            continue
        if (out / MODELS) in path.parents or (out / "bundle") in path.parents:
            done.left.append(name)  # digests and signatures are over these bytes
            continue
        done.files[name] = count
        if not done.dry_run:
            replace_file(path, clean.encode())


def _with_rotated(log: Path) -> List[Path]:
    if not log.is_file():
        raise UsageError(f"--log-file {log}: no such file")
    return [log, *sorted(log.parent.glob(f"{log.name}.[0-9]*"))]


def _put(path: Path, content: Dict[str, Any], done: Scrubbed) -> None:
    if not done.dry_run:
        replace_file(path, (json.dumps(content, indent=1) + "\n").encode())
