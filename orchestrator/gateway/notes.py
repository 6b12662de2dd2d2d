"""What people write on runs: a note and tags, in the gateway's store. Nothing is decided by them.

Written by the dashboard while a gateway may be at work on the same store: one short transaction, which waits for the gateway's
and which the gateway waits for, a moment each.
"""

import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any, Dict, List, Optional
from urllib.parse import quote

from orchestrator.database import advised, has_table
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.wire.plain import plain

MOST_NOTE, MOST_TAGS = 500, 8
SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (run TEXT PRIMARY KEY, at REAL NOT NULL, note TEXT NOT NULL, tags TEXT NOT NULL);
"""
_TAG = re.compile(r"\w[\w.-]{0,31}")
_WAIT_S = 5.0


def checked(note: Any, tags: Any) -> "tuple[str, List[str]]":
    """(note, tags without repetition) made fit to be shown. UsageError says what is wrong with them."""
    if not isinstance(note, str) or len(note) > MOST_NOTE:
        raise UsageError(f"note: expected text of at most {MOST_NOTE} characters")
    if not isinstance(tags, list) or not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
        raise UsageError(
            "tags: expected names of at most 32 letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    kept = list(dict.fromkeys(tags))
    if len(kept) > MOST_TAGS:
        raise UsageError(f"tags: at most {MOST_TAGS} to a run")
    return plain(" ".join(note.split()), MOST_NOTE), kept


def put_note(store: Path, run: str, note: str, tags: List[str]) -> None:
    """Keeps note and tags of a run instead of those before; empty ones take them away. EdgewardError where it cannot."""
    try:
        database = sqlite3.connect(
            f"file:{quote(str(store.resolve()))}?mode=rw", uri=True, timeout=_WAIT_S, isolation_level=None
        )
        try:
            database.execute("PRAGMA synchronous=NORMAL")  # the gateway waits no disk's time for a note
            database.executescript(SCHEMA)
            if note or tags:
                row = (run, time.time(), note, json.dumps(tags))
                database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?)", row)
            else:
                database.execute("DELETE FROM notes WHERE run = ?", (run,))
        finally:
            database.close()
    except sqlite3.Error as error:
        raise EdgewardError(f"{store}: the note was not kept: {advised(error)}") from error


def notes_in(database: sqlite3.Connection) -> Dict[str, Dict[str, Any]]:
    """run -> {note, tags, at}; nothing in a store that never had a note."""
    if not has_table(database, "notes"):
        return {}
    rows = database.execute("SELECT run, at, note, tags FROM notes").fetchall()
    return {run: {"note": note, "tags": json.loads(tags), "at": at} for run, at, note, tags in rows}


def note_of(found: Dict[str, Dict[str, Any]], run: str) -> Dict[str, Any]:
    """{note, tags} of a run; empty ones without."""
    said: Optional[Dict[str, Any]] = found.get(run)
    return {"note": said["note"], "tags": said["tags"]} if said else {"note": "", "tags": []}
