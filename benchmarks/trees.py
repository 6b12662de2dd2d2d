"""Forests and boosted trees of four hospitals on rv32imc: what benchmarks/firmware.py measures of models of trees."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from model_export.evaluation import area_under_roc
from model_export.trees import pack_trees, run_trees, sizes_of
from orchestrator.boards.rv32 import run_rv32
from orchestrator.data.dataset import Dataset
from orchestrator.gateway.analysed import report_of
from orchestrator.gateway.trees_bundle import integers, parse_result
from orchestrator.gateway.trees_inputs import codes_of
from orchestrator.gateway.trial import planned, try_planned
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "analyses"))

from hospitals import SCHEMA, hospitals

CASES: Tuple[Tuple[str, Dict[str, Any]], ...] = (
    ("boosted, 30 trees of depth 3", {"kind": "boosted", "outcome": "disease"}),
    ("boosted, 100 trees of depth 4", {"kind": "boosted", "outcome": "disease", "trees": 100, "depth": 4}),
    ("forest, 100 trees of depth 4", {"kind": "forest", "outcome": "disease"}),
    ("forest, 200 trees of depth 6", {"kind": "forest", "outcome": "disease", "trees": 200, "depth": 6}),
    ("forest, 100 trees of depth 4, 4 classes", {"kind": "forest", "outcome": "cp", "bins": 10}),
)


def measure_trees(data: Path, rows: int) -> List[Dict[str, Any]]:
    """A row of the table for each case. rows: of the records, all of which are predicted for the last columns."""
    with tempfile.TemporaryDirectory() as folder:
        sites, _ = hospitals(data / "heart-disease", Path(folder))
    x = np.concatenate([site.x for site in sites])
    return [_measure(name, declared, sites, x, rows) for name, declared in CASES]


def _measure(name: str, declared: Dict[str, Any], sites: List[Dataset], x: np.ndarray, rows: int) -> Dict[str, Any]:
    task, _ = planned(
        Task(
            "heart",
            SCHEMA,
            {},
            training=Training(rounds=1),
            privacy=Privacy("none"),
            rounds=Rounds(3, 3),
            aggregation=Aggregation(),
            analysis=declared,
        )
    )
    found = parse_result({"analysis": report_of(try_planned(task, sites).result, task)}, name)
    made = integers(found.grown, found.schema)
    codes = codes_of(Dataset(x, np.zeros(len(x), np.int32)), SCHEMA, made.features)
    expected, chosen = run_trees(made.model, codes), np.linspace(0, len(x) - 1, rows).astype(int)
    ran = run_rv32(pack_trees(made.model), codes[chosen])
    row = {
        "model": name,
        "instructions": int(ran.instructions.max()),
        "mean_instructions": round(float(ran.instructions.mean())),
        "load_instructions": ran.load_instructions,
        "ram_bytes": made.model.arena_bytes,
        "model_bytes": len(pack_trees(made.model)),
        **sizes_of(made.model),
        "rows": rows,
        "rows_that_differ": int((ran.outputs != expected[chosen]).any(axis=1).sum()),
    }
    if made.model.outputs == 2:
        ill = x[:, -1] == 1
        row["auc"] = round(area_under_roc(expected[:, 1].astype(int), ill), 4)
    return {**row, "ok": row["rows_that_differ"] == 0}


def lines_of(rows: List[Dict[str, Any]], code: Dict[str, int]) -> List[str]:
    """The section of the table."""
    lines = [
        *("", "## Trees: instructions per inference, -O2", ""),
        "Of `engine/trees`, which every firmware has, on models made by `edgeward model export` of analyses of 920 heart disease",
        f"records; over {rows[0]['rows']} of them. Models are without known answers; the AUC is over all records.",
        "",
        "| model | nodes | most | mean | load, with all checks | RAM | model | AUC, int8 | rows unlike the reference's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['nodes']:,} | **{row['instructions']:,}** | {row['mean_instructions']:,} "
            f"| {row['load_instructions']:,} | {row['ram_bytes']} B | {row['model_bytes']:,} B | {row.get('auc', '')} "
            f"| {row['rows_that_differ']} of {row['rows']} |"
        )
    return [*lines, "", f"engine/trees adds {code['flash']:,} B of code at -O2, and {code['ram']} B of static RAM."]
