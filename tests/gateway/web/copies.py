"""More runs for a stored one: the same task with some settings changed, and if wanted the same rounds."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from dashboards import RUN


def copy_runs(out: Path, *names: str, of: str = RUN, rounds: bool = False, **training: Any) -> None:
    """Adds runs called `names`, whose training has these settings; `rounds`: with the journal and results of the run `of`."""
    with sqlite3.connect(out / "gateway.sqlite") as database:
        task = json.loads(database.execute("SELECT task FROM runs WHERE id = ?", (of,)).fetchone()[0])
        task["training"].update(training)
        for name in names:
            for table, key in (("runs", "id"), *((("events", "run"), ("results", "run")) if rounds else ())):
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != key]
                listed = ", ".join(columns)
                query = f"INSERT INTO {table} ({key}, {listed}) SELECT ?, {listed} FROM {table} WHERE {key} = ?"
                database.execute(query, (name, of))
            database.execute("UPDATE runs SET task = ?, digest = NULL WHERE id = ?", (json.dumps(task), name))
            database.execute("UPDATE events SET digest = NULL WHERE run = ?", (name,))
            database.execute("UPDATE results SET digest = NULL WHERE run = ?", (name,))
    database.close()
