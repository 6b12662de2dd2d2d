"""Runs as rows: side by side, and as files for other programs."""

import csv
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from orchestrator.errors import UsageError
from orchestrator.files import new_file
from orchestrator.gateway.history import History, RoundView
from orchestrator.wire.plain import csv_cell, plain

SUFFIXES = (".csv", ".json", ".parquet")
COLUMNS = ("run", "round", "started", "ended", "seconds", "nodes", "bytes_up", "bytes_down", "codec_error")
METRICS = ("loss", "accuracy", "auc")
FIGURES = tuple(name for metric in METRICS for name in (metric, f"{metric}_low", f"{metric}_high"))
"""Each with the ends of its interval of 95 %."""


def flatten(data: Any, prefix: str = "") -> Dict[str, Any]:
    """Nested maps as one map with dotted keys; lists stay values."""
    if not isinstance(data, dict):
        return {prefix: data}
    flat: Dict[str, Any] = {}
    for key, value in data.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def differences(tasks: Sequence[Dict[str, Any]]) -> Dict[str, List[Any]]:
    """dotted setting -> its value in each task, where they are not all the same; None where a task lacks it."""
    flat = [flatten(task) for task in tasks]
    keys = sorted({key for task in flat for key in task})
    rows = {key: [task.get(key) for task in flat] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values[1:])}


def round_rows(run: str, rounds: Sequence[RoundView], names: Dict[str, str]) -> List[Dict[str, Any]]:
    """One flat row a round; `names` maps a node's name to what is shown instead. Nodes are separated by spaces.

    Where the sample of nodes is secret, cells it could be read off are None.
    """
    return [
        {
            "run": plain(run),
            "round": r.number,
            "started": r.started,
            "ended": r.ended,
            "seconds": r.seconds,
            "nodes": None if r.nodes is None else " ".join(sorted(names.get(n, n) for n in r.nodes)),
            "bytes_up": r.bytes_up,
            "bytes_down": r.bytes_down,
            "codec_error": r.codec_error,
            **_figures(r),
        }
        for r in rounds
    ]


def _figures(view: RoundView) -> Dict[str, Any]:
    found = view.figures if view.figures.get("loss") is not None else view.figures.get("federated") or {}
    row: Dict[str, Any] = {}
    for metric in METRICS:
        low, high = found.get("intervals", {}).get(metric) or (None, None)
        row.update({metric: getattr(view, metric), f"{metric}_low": low, f"{metric}_high": high})
    return row


def pseudonyms(history: History, run: str) -> Dict[str, str]:
    """name -> pseudonym of every node of a run; UsageError for a store of a version that had none."""
    found = {node.name: node.pseudonym for node in history.nodes(run)}
    if not all(found.values()):
        raise UsageError(f"{history.path}: was made by a version without pseudonyms; leave --pseudonyms out")
    return found


def write_rows(path: Path, rows: List[Dict[str, Any]]) -> None:
    """Writes rows as the file's suffix says; UsageError for another suffix, or where it cannot be written."""
    columns = (*COLUMNS, *FIGURES)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: rounds are written as {', '.join(SUFFIXES)}")
    try:
        with new_file(path, replaces=True) as fresh:
            if path.suffix == ".json":
                fresh.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            elif path.suffix == ".csv":
                with fresh.open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, columns)
                    writer.writeheader()
                    writer.writerows({name: csv_cell(held) for name, held in row.items()} for row in rows)
            else:
                _write_parquet(fresh, columns, rows)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _write_parquet(path: Path, columns: Tuple[str, ...], rows: List[Dict[str, Any]]) -> None:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"{path.suffix}: Parquet needs pyarrow (pip install pyarrow); .csv and .json do not"
        ) from error
    kinds = {"run": arrow.string(), "nodes": arrow.string()}
    kinds.update({name: arrow.int64() for name in ("round", "bytes_up", "bytes_down")})
    schema = arrow.schema([(name, kinds.get(name, arrow.float64())) for name in columns])
    parquet.write_table(arrow.table({n: [row[n] for row in rows] for n in columns}, schema=schema), path)
