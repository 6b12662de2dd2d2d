"""The gateway's part in a round of an analysis: from the sum of all answers to what is announced next, and in the end to tables.

Read from the store, like every round's outcome (aggregation.py): a round computed again after a crash gives the same.
"""

import csv
import io
import math
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from orchestrator.analyses.agents import PeerAnalysis
from orchestrator.analyses.base import Cell, Result, Table, Total
from orchestrator.analyses.blocks import parts_of
from orchestrator.analyses.grown import OfTrees
from orchestrator.analyses.registry import ANALYSES, KIND, analysis_of
from orchestrator.errors import RoundError
from orchestrator.files import replace_file
from orchestrator.gateway.exchanged import exchanged_of
from orchestrator.gateway.published import published, words_of
from orchestrator.gateway.run_store import STATE_PREFIX, RunStore
from orchestrator.privacy.lattice import party_variance
from orchestrator.privacy.noisy_sum import analysis_sum
from orchestrator.privacy.statement_page import markdown
from orchestrator.privacy.terms import counted
from orchestrator.wire.plain import as_run_name, csv_cell, file_name, plain
from orchestrator.wire.task import Task, plain_data

FOLDER = "analysis"
"""Below OUT: a folder for each run, with a CSV for each table, a picture and the privacy page."""

NO_BUNDLE = "an analysis gives tables, and no model for a board"
NO_BUNDLE_YET = "an analysis gives tables; `edgeward model export OUT --out DIR` makes a bundle of these trees"
FIGURES = "analysis"
"""Of a round's figures: those its analysis gave."""

NO_HEADERS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

_MOST_DRAWN = 24
_TITLE, _TICK = 44, 12
"""Characters of names in the picture."""


def deviation_of(task: Task, nodes: int) -> float:
    """Standard deviation of the noise on each value of the sum of so many nodes; 0.0 without noise."""
    if not task.privacy.on:
        return 0.0
    released = analysis_sum(task)
    return math.sqrt(nodes * party_variance(released.mechanism, released.std)) * released.lattice.step


def folded(
    task: Task,
    asked: np.ndarray,
    values: np.ndarray,
    nodes: int,
    headers: Mapping[str, Mapping[str, Any]] = NO_HEADERS,
    others: bool = False,
) -> Tuple[Dict[str, np.ndarray], Dict[str, Any], bool]:
    """(vectors to store, figures, whether no further round is needed) of a round over `nodes` nodes.

    headers: of their answers, by node. others: whether they are not those of the round before.
    """
    analysis = analysis_of(task)
    question = analysis.question(asked)
    words = words_of(headers.values(), parts_of(analysis.blocks(question)))
    if isinstance(analysis, PeerAnalysis) and analysis.exchanges(question):
        words.update(exchanged_of(analysis.exchange.graph, headers))
    asked = analysis.over_others(asked) if others else asked
    announced, found = analysis.fold(asked, Total(values, deviation_of(task, nodes)))
    kept = {f"{STATE_PREFIX}{name}": vector for name, vector in {**found.state, **words}.items()}
    return {"weights": announced, **kept}, {FIGURES: found.figures}, found.done


def result_of(store: RunStore, run: str, task: Task, minimum: int = 0) -> Result:
    """What the run's last round left, without cells of fewer than `minimum`. RoundError where there was none."""
    stored = store.vectors(run, STATE_PREFIX)
    if not stored:
        raise RoundError(f"run {run} has no result: no round of it was over any node")
    state = {name[len(STATE_PREFIX) :]: vector for name, vector in stored.items()}
    return published(analysis_of(task), state, counted(task.privacy), minimum)


def report_of(result: Result, task: Task) -> Dict[str, Any]:
    """The part of result.json that is of an analysis."""
    tables = [
        {"name": table.name, "columns": list(table.columns), "rows": [list(row) for row in table.rows]}
        for table in result.tables
    ]
    made = {"kind": task.analysis[KIND], "tables": tables, "notes": list(result.notes)}
    if is_of_trees(task.analysis[KIND]):
        made["of"] = {"task": task.name, "schema": plain_data(task.schema), "analysis": plain_values(task.analysis)}
    return made


def is_of_trees(kind: Any) -> bool:
    """Whether the tables of an analysis of this kind are trees."""
    return isinstance(kind, str) and kind in ANALYSES and issubclass(ANALYSES[kind], OfTrees)


def plain_values(declared: Mapping[str, Any]) -> Dict[str, Any]:
    """What a task says of its analysis, as JSON has it."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in declared.items()}


def no_bundle(task: Task) -> str:
    """Why a run of an analysis makes no bundle."""
    return NO_BUNDLE_YET if is_of_trees(task.analysis[KIND]) else NO_BUNDLE


def folder_of(out: Path, run: str) -> Path:
    """Where the tables of a run are."""
    return out / FOLDER / file_name("run", run, "tables")


def write_result(out: Path, run: str, result: Result, claim: Dict[str, Any]) -> Path:
    """Writes the folder of a run's result, and returns it."""
    folder = folder_of(out, run)
    write_tables(folder, result)
    replace_file(folder / "privacy.md", markdown(claim).encode())
    return folder


def write_tables(folder: Path, result: Result) -> None:
    """Writes each table as a CSV, all of them as result.md, and a picture of those that can be drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(result.tables, 1):
        # Named after columns, which a task's author chose: two may come to the same name.
        replace_file(
            folder / file_name(f"{number:02}", as_run_name(table.name.replace(" ", "-")), "csv"), _csv(table).encode()
        )
    replace_file(folder / "result.md", _markdown(result).encode())
    drawn = [table for table in result.tables if table.bars][:_MOST_DRAWN]
    if drawn:
        _draw(drawn, folder / "result.png")


_SPECIAL = str.maketrans({letter: f"\\{letter}" for letter in "\\`*_{}[]<>#|~"})


def _markdown(result: Result) -> str:
    """The tables for a page of text. What names hold is text there, and no mark-up."""
    lines: List[str] = []
    for table in result.tables:
        lines += [f"## {_plain_cell(table.name)}", ""]
        lines += [f"| {' | '.join(map(_plain_cell, table.columns))} |", f"|{'---|' * len(table.columns)}"]
        lines += [f"| {' | '.join(map(_plain_cell, row))} |" for row in table.rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {_plain_cell(note)}" for note in result.notes)]) + "\n"


def _plain_cell(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else plain(cell, 200).translate(_SPECIAL)


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in table.columns])
    writer.writerows([["" if cell is None else csv_cell(cell) for cell in row] for row in table.rows])
    return text.getvalue()


def be_ready_to_draw() -> None:
    """Loads what draws, which takes a second: while nodes start, and not while people wait for a result."""
    import matplotlib.figure  # noqa: F401


def _draw(tables: List[Table], path: Path) -> None:
    from matplotlib.figure import Figure

    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * rows), layout="constrained")
    for axis, table in zip(figure.subplots(rows, columns, squeeze=False).ravel(), tables):
        shown = table.rows
        heights = [row[table.columns.index(table.bars)] for row in shown]
        axis.bar(range(len(shown)), [float(height or 0.0) for height in heights], width=0.9)
        for place in (place for place, height in enumerate(heights) if height is None):
            axis.text(place, 0.0, "?", ha="center", va="bottom", color="gray")  # left out, which is no 0
        axis.set_title(plain(table.name, _TITLE), fontsize="small", parse_math=False)
        axis.set_ylabel(table.bars)
        some = range(0, len(shown), max(1, len(shown) // 6))
        names = [_tick(shown[place][0]) for place in some]
        axis.set_xticks(list(some), names, fontsize="x-small", parse_math=False)
    for axis in figure.axes[len(tables) :]:
        axis.set_visible(False)
    with warnings.catch_warnings():
        # Of letters that its font does not have it draws boxes; the tables have them.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(path, dpi=120)


def _tick(cell: Cell) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else plain(cell, _TICK)
