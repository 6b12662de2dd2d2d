"""`edgeward demo`: data, federation, bundle, board, report, in that order."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import tomli_w
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from model_export.manifest import read_manifest
from orchestrator.data.dataset import load_dataset
from orchestrator.demo.board import run_board
from orchestrator.demo.processes import Federation
from orchestrator.demo.report import assemble, plot_rounds, print_table
from orchestrator.demo.tasks import TASKS, Prepared, Request, under_secure_sums
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.bundling import EVALUATION, board_answers
from orchestrator.gateway.evaluation import judge
from orchestrator.gateway.federation import write_json
from orchestrator.gateway.progress import describe, json_progress
from orchestrator.wire.plain import many
from orchestrator.wire.task import task_to_dict


def run_demo(task: str, request: Request, broker: str = "embedded", as_json: bool = False) -> Dict[str, Any]:
    """Runs one demo task; returns the content of OUT/report.json. Raises EdgewardError for what went wrong."""
    started = time.monotonic()
    _make_fresh(request.out)
    console = Console(stderr=as_json)
    prepared = TASKS[task](request)
    if request.secure:
        prepared = replace(prepared, task=under_secure_sums(prepared.task))
    console.print(f"[bold]{task}[/bold]: {prepared.about}. {many(len(prepared.node_files), 'node')}.", highlight=False)
    config, address = _write_config(prepared, request.out, broker)
    show: Any = json_progress if as_json else None
    result = _federate(prepared, config, address, request.out, console, show)
    console.print("running every test row on a virtual board over serial", highlight=False)
    bundle = Path(result["bundle"])
    board = run_board(bundle, request.out / EVALUATION)
    y, groups = _labels(prepared)
    schema = prepared.task.schema
    inputs = np.load(request.out / EVALUATION / "eval_int8_inputs.npy")
    board_metrics = judge(schema, y, board_answers(schema, read_manifest(bundle), inputs, board["outputs"], y), groups)
    report = assemble(result, board["report"], board_metrics, time.monotonic() - started)
    write_json(request.out / "report.json", report)
    plot_rounds(report, request.out / "rounds.png")
    print_table(report, console)
    console.print(
        f"report {request.out / 'report.json'}, plot {request.out / 'rounds.png'}, bundle {bundle}", highlight=False
    )
    return report


def _make_fresh(out: Path) -> None:
    """A demo starts from nothing; it clears only a folder an earlier demo made."""
    if out.exists() and any(out.iterdir()):
        if not (out / "edgeward.toml").is_file():
            raise UsageError(f"--out {out}: the folder has other things in it; name an empty or new one")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)


def _write_config(prepared: Prepared, out: Path, broker: str) -> Any:
    """Writes the edgeward.toml a user would write for this task; returns its path and the broker's address."""
    gateway: Dict[str, Any] = {"federation": "demo", "broker": broker}
    address = broker
    if "://" not in broker:
        gateway["port"] = free_port()
        address = f"mqtt://127.0.0.1:{gateway['port']}"
    data: Dict[str, Any] = {"gateway": gateway}
    if prepared.calibration is not None:
        data["calibration"] = str(prepared.calibration.relative_to(out))
    data["evaluation"] = {name: str(path.relative_to(out)) for name, path in prepared.test_files.items()}
    data["task"] = {k: v for k, v in task_to_dict(prepared.task).items() if k != "format"}
    path = out / "edgeward.toml"
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    return path, address


def _federate(
    prepared: Prepared, config: Path, address: str, out: Path, console: Console, show: Optional[Any]
) -> Dict[str, Any]:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    result: Dict[str, Any] = {}
    with Federation(config, out, address, "demo", prepared.node_files) as federation, bar:
        rounds = bar.add_task("rounds", total=prepared.task.training.rounds)
        for event in federation.events():
            if event["event"] == "result":
                result = event
                continue
            if show is not None:
                show(event)
            text = describe(event)
            if text and show is None:
                bar.console.print(text, highlight=False, markup=False)
            if event["event"] == "aggregated":
                bar.update(rounds, completed=event["round"])
    if not result:
        raise EdgewardError("the gateway ended without a result")
    return result


def _labels(prepared: Prepared) -> Any:
    """(y, groups) of the test rows, in the order the gateway evaluated them."""
    sets = {name: load_dataset(path, prepared.task.schema) for name, path in sorted(prepared.test_files.items())}
    groups = [name for name, data in sets.items() for _ in range(data.records)]
    return np.concatenate([data.y for data in sets.values()]), groups
