"""A gateway's past, read from OUT/gateway.sqlite without ever writing to it, also while a gateway works on it.

    with History(out) as history:
        for run in history.runs(): ...

Times are seconds since 1970 by the gateway's clock. A `History` is for one thread; opening one costs a millisecond. Of runs whose
claim counts on a secret sample of nodes it does not say who was in which round, nor what that follows from (participation.py).
"""

import hashlib
import hmac
import json
import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import quote

from orchestrator.errors import EdgewardError, GivenError, UsageError
from orchestrator.gateway.run_store import PSEUDONYM_SECRET
from orchestrator.privacy.participation import WITHHELD, public_round, secret_sample_in
from orchestrator.rounds.events import event_from_dict
from orchestrator.rounds.members import DECLINED, Member, Members
from orchestrator.wire.codec import EXACT

STORE_NAME = "gateway.sqlite"
_TABLES = {"runs", "events", "results", "nodes"}
_METRICS = ("loss", "accuracy", "auc")


@dataclass(frozen=True)
class RunSummary:
    """One run. `state`: open (a gateway works on it, or may continue it; running.holder says which), finished or failed."""

    id: str
    task: str
    number: int  # of the training: 1, or more after retraining
    started: Optional[float]
    ended: Optional[float]  # None while open
    state: str
    phase: str  # gathering, collecting, aggregating, finished, failed; unknown in stores of earlier versions
    reason: str  # why it failed
    round: int  # -1 before the first, 0 statistics
    rounds: int  # of training, as the task says
    rounds_done: int
    nodes: Tuple[str, ...]  # names of all that ever joined
    epsilon_budget: Optional[float]  # None without privacy
    epsilon: Optional[float]  # charged by the statement; None until the run is finished
    metrics: Dict[str, float]  # of the last evaluated round, keys of loss, accuracy, auc
    digest: str  # of the model; empty until there is one
    strategy: str  # of a run without a model the kind of its analysis
    codec: str


@dataclass(frozen=True)
class RoundView:
    """One aggregated round. `figures` holds everything the gateway noted of it, also what has no field here.

    Where the sample of nodes is secret, all but number, loss, accuracy and AUC is None.
    """

    number: int
    started: Optional[float]
    ended: Optional[float]
    seconds: Optional[float]
    nodes: Optional[Tuple[str, ...]]
    bytes_up: Optional[int]
    bytes_down: Optional[int]
    codec_error: Optional[float]
    loss: Optional[float]
    accuracy: Optional[float]
    auc: Optional[float]
    figures: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeView:
    """One node of a run, from the journal. `state`: online, left or declined; a gateway that died leaves it as it was.

    Where the sample of nodes is secret, `rounds` and `figures` are empty, and `last_seen` is when it last came or left.
    """

    name: str
    pseudonym: str  # empty in stores of earlier versions, which lack the key for it
    records: Optional[int]
    state: str
    reason: str  # why it declined
    code: str  # the same for programs; empty where it gave none
    joined: Optional[float]
    last_seen: float
    rounds: Tuple[int, ...]  # whose aggregate its update is in
    figures: Dict[str, Any] = field(default_factory=dict)  # what it last said of its process


def pseudonym(key: bytes, name: str) -> str:
    """16 hex digits that stand for a node; without the key a list of names does not lead back (HMAC-SHA-256)."""
    return "node-" + hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:16]


class History:
    """The store below the folder `out`. Raises EdgewardError for a file that is missing, foreign or damaged."""

    def __init__(self, out: Path) -> None:
        self.path = out / STORE_NAME
        if not self.path.is_file():
            raise GivenError(f"{self.path}: no such file; give the --out folder of `edgeward gateway run`")
        try:
            self._db = sqlite3.connect(
                f"file:{quote(str(self.path.resolve()))}?mode=ro", uri=True, isolation_level=None
            )
            rows = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        self._tables = {row[0] for row in rows}
        if not self._tables >= _TABLES:
            self._db.close()
            raise GivenError(
                f"{self.path}: is no gateway's store (it lacks {', '.join(sorted(_TABLES - self._tables))})"
            )

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def ids(self) -> List[str]:
        """Every run, oldest first."""
        return [row[0] for row in self._rows("SELECT id FROM runs ORDER BY rowid")]

    def find(self, prefix: str) -> str:
        """The one run whose id begins with `prefix`; an id is itself also where others begin with it."""
        known = self.ids()
        matching = [prefix] if prefix in known else [run for run in known if run.startswith(prefix)]
        if len(matching) != 1:
            what = (
                f"fits {', '.join(matching[:5])}" if matching else f"is not among {', '.join(known[:5]) or 'no runs'}"
            )
            raise UsageError(f"{self.path}: run {prefix!r} {what}")
        return matching[0]

    def runs(self) -> List[RunSummary]:
        """All runs, newest first."""
        found = [self.run(run) for run in self.ids()]
        return sorted(found, key=lambda run: run.started or 0.0, reverse=True)

    def run(self, run: str) -> RunSummary:
        task = self.task(run)
        training, privacy = task.get("training", {}), task.get("privacy", {})
        rounds = int(training.get("rounds", 0))
        results = self._results(run)
        done = sum(1 <= r["round"] <= rounds for r in results)
        phase, number, reason, _ = self._last_phase(run) or (
            "unknown",
            results[-1]["round"] if results else -1,
            "",
            0.0,
        )
        report = self.report(run)
        state = phase if phase in ("finished", "failed") else "finished" if report is not None else "open"
        bounds = self._one("SELECT MIN(at), MAX(at) FROM phases WHERE run = ?", run) if self._has("phases") else None
        started, last = bounds or (None, None)
        metrics: Dict[str, float] = {}
        for result in results:
            metrics.update({k: v for k, v in quality(result).items() if v is not None})
        return RunSummary(
            id=run,
            task=str(task.get("name", "")),
            number=training_number(run),
            started=started,
            ended=last if state != "open" else None,
            state=state,
            phase=phase,
            reason=WITHHELD if reason and secret_sample_in(task) else reason,
            round=number,
            rounds=rounds,
            rounds_done=done,
            nodes=tuple(sorted(name for name, member in self._members(run).items() if member.first_joined)),
            epsilon_budget=privacy.get("epsilon") if privacy.get("unit") != "none" else None,
            epsilon=(report or {}).get("privacy", {}).get("epsilon"),
            metrics=metrics,
            digest=(report or {}).get("digest", ""),
            strategy=kind_of(task),
            codec=EXACT if task.get("analysis") else str(task.get("codec", "")),
        )

    def task(self, run: str) -> Dict[str, Any]:
        """The task as plain data, with the noise the gateway planned."""
        row = self._one("SELECT task FROM runs WHERE id = ?", run)
        if row is None:
            raise UsageError(f"{self.path}: there is no run {run!r}")
        task: Dict[str, Any] = json.loads(row[0])
        return task

    def rounds(self, run: str) -> List[RoundView]:
        """Rounds with a result, in their order; 0 is the release of standardization sums."""
        if self.secret_sample(run):
            return [_without_participation(r) for r in self._results(run)]
        began, ended = self._times(run)
        return [
            RoundView(
                number=r["round"],
                started=began.get(r["round"]),
                ended=ended.get(r["round"]),
                seconds=r["seconds"],
                nodes=tuple(r["nodes"]),
                bytes_up=r["bytes_up"],
                bytes_down=r["bytes_down"],
                figures=r,
                codec_error=r.get("codec_error"),
                **quality(r),
            )
            for r in self._results(run)
        ]

    def nodes(self, run: str) -> List[NodeView]:
        """Every node the journal of the run mentions, by name."""
        key, secret = self._pseudonym_key(), self.secret_sample(run)
        members = self._members(run)
        if secret:
            members = {name: member for name, member in members.items() if member.word}
        took: Dict[str, List[int]] = {}
        figures: Dict[str, Dict[str, Any]] = {}
        if not secret:
            for result in self._results(run):
                for name in result["nodes"]:
                    took.setdefault(name, []).append(result["round"])
            rows = self._rows("SELECT node, figures FROM nodes WHERE run = ?", run)
            figures = {row[0]: json.loads(row[1]) for row in rows}
        return [
            NodeView(
                name=name,
                pseudonym=pseudonym(key, name) if key else "",
                records=member.records or None,
                state=member.state,
                reason=member.reason if member.state == DECLINED else "",
                code=member.code if member.state == DECLINED else "",
                joined=member.first_joined or None,
                last_seen=member.word if secret else member.seen,
                rounds=tuple(took.get(name, ())),
                figures=figures.get(name, {}),
            )
            for name, member in sorted(members.items())
        ]

    def secret_sample(self, run: str) -> bool:
        """Whether the run's claim counts on nobody but the gateway knowing who was in which round."""
        return secret_sample_in(self.task(run))

    def report(self, run: str) -> Optional[Dict[str, Any]]:
        """result.json of the run, with metrics of the int8 model; None until its bundle is made."""
        row = self._one("SELECT report FROM reports WHERE run = ?", run) if self._has("reports") else None
        return json.loads(row[0]) if row else None

    def statement(self, run: str) -> Optional[Dict[str, Any]]:
        """The privacy statement of the finished run; None before."""
        return (self.report(run) or {}).get("privacy")

    def parent(self, run: str) -> Optional[str]:
        """The run whose result this one went on from (retraining); None for a first training."""
        number = training_number(run)
        if number == 1:
            return None
        base = run[: run.rindex("-")]
        return base if number == 2 else f"{base}-{number - 1}"

    def _pseudonym_key(self) -> Optional[bytes]:
        if not self._has("secrets"):
            return None
        row = self._one("SELECT value FROM secrets WHERE run = ? AND name = ?", *PSEUDONYM_SECRET)
        return bytes(row[0]) if row else None

    def _last_phase(self, run: str) -> Optional[Tuple[str, int, str, float]]:
        if not self._has("phases"):
            return None
        row = self._one("SELECT phase, round, reason, at FROM phases WHERE run = ? ORDER BY rowid DESC LIMIT 1", run)
        return (row[0], row[1], row[2], row[3]) if row else None

    def _results(self, run: str) -> List[Dict[str, Any]]:
        return [json.loads(row[0]) for row in self._rows("SELECT data FROM results WHERE run = ? ORDER BY round", run)]

    def _times(self, run: str) -> Tuple[Dict[int, float], Dict[int, float]]:
        """(round -> when it began, round -> when it ended): of the journal, and of what was compacted before."""
        began: Dict[int, float] = {}
        if self._has("phases"):
            query = "SELECT round, MIN(at) FROM phases WHERE run = ? AND phase = 'collecting' GROUP BY round"
            began.update(self._rows(query, run))
        # The kind is the first key of every entry (rounds/events.py), so the text is enough to choose by.
        query = "SELECT event FROM events WHERE run = ? AND event LIKE ? ORDER BY seq"
        events = [json.loads(row[0]) for row in self._rows(query, run, '{"event": "Aggregated"%')]
        ended = {event["round"]: event["at"] for event in events}
        if self._has("times"):
            for number, first, last in self._rows("SELECT round, began, ended FROM times WHERE run = ?", run):
                began.update({} if first is None else {number: first})
                ended.update({} if last is None else {number: last})
        return began, ended

    def _members(self, run: str) -> Dict[str, Member]:
        members = Members()
        for row in self._rows("SELECT event FROM events WHERE run = ? ORDER BY seq", run):
            members.take(event_from_dict(json.loads(row[0])))
        return members

    def _has(self, table: str) -> bool:
        return table in self._tables

    def _one(self, statement: str, *values: object) -> Optional[Tuple[Any, ...]]:
        rows = self._rows(statement, *values)
        return rows[0] if rows else None

    def _rows(self, statement: str, *values: object) -> List[Tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: sqlite3.Error) -> EdgewardError:
        return GivenError(
            f"{self.path}: cannot be read as a gateway's store: {error}. Is it the right file, and may this user read it and "
            "write to its folder (SQLite shares its log there)? `edgeward doctor` checks it"
        )


def _without_participation(result: Dict[str, Any]) -> RoundView:
    figures = public_round(result)
    hidden: Dict[str, Any] = dict.fromkeys(("started", "ended", "seconds", "nodes", "bytes_up", "bytes_down"))
    known = {key: figures.get(key) for key in ("codec_error", *_METRICS)}
    return RoundView(number=figures["round"], figures=figures, **hidden, **known)


def quality(result: Dict[str, Any]) -> Dict[str, Optional[float]]:
    """loss, accuracy and AUC of a round's result: on the gateway's rows, or where it has none on those held out by nodes."""
    federated = result.get("federated") or {}
    found = {key: result[key] if result.get(key) is not None else federated.get(key) for key in _METRICS}
    return {key: None if value is None else float(value) for key, value in found.items()}


def kind_of(task: Dict[str, Any]) -> str:
    """The strategy a task trains by, or the kind of its analysis; of a task as plain data."""
    return (
        str(task["analysis"].get("kind", ""))
        if task.get("analysis")
        else str(task.get("training", {}).get("strategy", ""))
    )


def training_number(run: str) -> int:
    """The number of the training in a run's id (see run.run_id); 1 for an id of another form."""
    found = re.fullmatch(r".*-[0-9a-f]{8}-([0-9]+)", run)
    return int(found[1]) if found else 1


def open_histories(out: Path) -> List[Tuple[Path, History]]:
    """(folder, history) of `out` itself, or of every folder directly below it that holds a store."""
    folders = [out] if (out / STORE_NAME).is_file() else sorted(p.parent for p in out.glob(f"*/{STORE_NAME}"))
    if not folders:
        raise GivenError(
            f"{out}: neither it nor a folder in it holds a {STORE_NAME}; give --out as to `edgeward gateway run`"
        )
    return [(folder, History(folder)) for folder in folders]
