"""`edgeward analyze`: the analysis of an edgeward.toml, run over a federation, or tried on files of this machine."""

import argparse
from pathlib import Path
from typing import Any

from orchestrator.cli.arguments import check_output_folder
from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.plain import many

_EPILOG = """examples:
  edgeward analyze edgeward.toml --out federation               # as gateway run: nodes compute, the gateway adds up
  edgeward data mock edgeward.toml --out mock.csv
  edgeward analyze edgeward.toml --data mock.csv mock.csv       # tried here, each file a node

Tried on files nothing is protected, charged or sent: noise is simulated, as strong as that of a run."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "analyze", help=COMMANDS["analyze"], epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, metavar="edgeward.toml", help="with a [task.analysis]")
    parser.add_argument("--data", type=Path, nargs="+", metavar="FILE", help="try it on these, each in place of a node")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="tables, picture and result.json (default: out/federation; tried: none)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="of the noise that is simulated, with --data (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from orchestrator.errors import UsageError
    from orchestrator.gateway.config import load_config

    if load_config(arguments.config).task.trains:
        raise UsageError(
            f"{arguments.config}: trains a model, and has no [task.analysis]: edgeward gateway run {arguments.config}"
        )
    if arguments.data is not None:
        return _try(arguments)
    if arguments.seed is not None:
        raise UsageError("--seed: of the noise that is simulated where --data is given; in a run nobody chooses it")
    from orchestrator.cli.main import main

    out = ["--out", str(arguments.out)] if arguments.out is not None else []
    return main(["gateway", "run", str(arguments.config), *out, *(["--json"] if arguments.json else [])])


def _try(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.cli.tables import report, tables
    from orchestrator.gateway.analysed import report_of, write_tables
    from orchestrator.gateway.config import load_config
    from orchestrator.gateway.scored_file import model_path
    from orchestrator.gateway.trial import try_analysis

    if arguments.out is not None:
        _check_out(arguments.out)
    config = load_config(arguments.config)
    task = config.task
    path = model_path(task, arguments.config.parent)
    tried = try_analysis(task, arguments.data, arguments.seed or 0, config.gateway.minimum_cell, path)
    analysis = report_of(tried.result, task)
    found = {
        "tried": True,
        "nodes": [
            {"data": str(path), "records": n, "clamped": clamped}
            for path, n, clamped in zip(arguments.data, tried.records, tried.clamped)
        ],
        "rounds": tried.rounds,
        "epsilon": tried.epsilon,
        "simulated_noise": tried.deviation,
        "analysis": analysis,
    }
    if arguments.out is not None:
        write_tables(arguments.out, tried.result)
        (arguments.out / "result.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    noise = f"noise of deviation {tried.deviation:.4g} on each sum, simulated" if tried.deviation else "no noise"
    spent = f"; a run spends epsilon {tried.epsilon:.3g}" if tried.epsilon is not None else ""
    head = (
        f"tried on {many(len(tried.records), 'file')} of {many(sum(tried.records), 'record')} in "
        f"{many(tried.rounds, 'round')}, {noise}{spent}. Nothing was protected, charged or sent."
    )
    head += "".join(f"\n{path}: {text}" for path, texts in zip(arguments.data, tried.clamped) for text in texts)
    wrote = f"\nwrote {arguments.out}" if arguments.out is not None else ""
    report(arguments.json, found, f"{head}\n\n{tables(analysis)}{wrote}")
    return 0


def _check_out(out: Path) -> None:
    """Tables are numbered, so those of another analysis would stay among the new ones."""
    from orchestrator.errors import UsageError

    check_output_folder(out, "--out")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"--out {out}: it holds files, and is not overwritten; name another folder, or remove it")
