"""A store's integrity, and a node's data against the task's schema."""

import sqlite3
import stat
from pathlib import Path
from typing import Optional
from urllib.parse import quote

from orchestrator.data.dataset import CLAMPED_SHARE, clamped_columns, load_for
from orchestrator.data.described import is_description, read_description
from orchestrator.data.sources.registry import SIGNALS, located, service_rows
from orchestrator.doctor.finding import NOT_CHECKED, OK, PROBLEM, WARNING, Finding, problem_of
from orchestrator.errors import AwayError, DataError
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.claims import oversized
from orchestrator.wire.plain import many
from orchestrator.wire.task import Task


def check_store(path: Path) -> Finding:
    """SQLite's own check of every page; reads only."""
    if not path.is_file():
        return Finding(NOT_CHECKED, "store", f"{path}: does not exist yet")
    fix = f"restore it from a backup (docs/operations.md), or move it away and begin again: mv {path} {path}.damaged"
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
        try:
            said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Finding(PROBLEM, "store", f"{path}: {error}", fix)
    if said != ["ok"]:
        return Finding(PROBLEM, "store", f"{path}: damaged: {'; '.join(said[:3])}", fix)
    return Finding(OK, "store", f"{path}: whole")


def check_private(state: Path) -> Finding:
    """Whether a node's state folder, and with it all that is in it, is its owner's alone."""
    if not state.is_dir():
        return Finding(NOT_CHECKED, "state", f"{state}: does not exist yet")
    mode = stat.S_IMODE(state.stat().st_mode)
    if mode & 0o077:
        return Finding(
            PROBLEM, "state", f"{state}: others on this machine can use it (mode {mode:04o})", f"chmod 700 {state}"
        )
    return Finding(OK, "state", f"{state}: its owner's alone")


def check_data(path: Path, task: Optional[Task]) -> Finding:
    """The data file as the node would read it, and the node's objections to the task."""
    file, _ = located(path)
    if not file.is_file():
        what = "a folder; name the file in it" if file.is_dir() else "no such file"
        return problem_of("data", DataError(f"{file}: {what}"), f"ls -l {file.parent}")
    try:
        if task is None:
            there = "is there" if not is_description(path) else _described(path)
            return Finding(
                NOT_CHECKED, "data", f"{path}: {there}; give the federation's edgeward.toml to check what is in it"
            )
        dataset = load_for(path, task)
    except AwayError as error:
        return problem_of("data", error, "see whether the server runs and listens there")
    except DataError as error:
        fix = "fix the description" if task is None else "fix the file, or ask the author of the task"
        return problem_of("data", error, fix)
    units = task.privacy.most_units(len(dataset.units(unit_of(task.privacy))))
    objection = oversized(task, units)
    if objection:
        return Finding(
            PROBLEM, "data", f"{path}: {objection}", f"ask for a delta below {1 / units:.2g} in [task.privacy]"
        )
    clamped = [text for share, text in clamped_columns(dataset, task.schema) if share > CLAMPED_SHARE]
    if clamped:
        return Finding(
            WARNING,
            "data",
            f"{path}: {'; '.join(clamped)}",
            "bring the values into the task's units, or ask the author of the task for another range",
        )
    dropped = (
        f", {many(dataset.dropped, 'row')} without a used value {'is' if dataset.dropped == 1 else 'are'} left out"
        if dataset.dropped
        else ""
    )
    return Finding(
        OK,
        "data",
        f"{path}: {many(dataset.records, 'record')} {'fits' if dataset.records == 1 else 'fit'} the schema{dropped}",
    )


def _described(path: Path) -> str:
    """What a description leads to, where no task says what should be in it; of a server the names of the columns, read there."""
    description = read_description(path)
    if description.file is not None:
        file, _ = located(description.file)
        if not file.is_file():
            raise DataError(f"{path}: source.file: {file}: no such file")
        for name, events in description.tables.items():
            other, _ = located(path.parent / events.file)
            if not other.is_file():
                raise DataError(f"{path}: tables.{name}: file: {other}: no such file")
        return f"{file} is there"
    if description.service["kind"] in SIGNALS:
        return f"signals of kind {description.service['kind']}"
    _, names = next(service_rows(path, description.service))
    return f"columns {', '.join(names[:12])}{', ...' if len(names) > 12 else ''} are there"
