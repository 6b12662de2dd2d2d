"""`edgeward attack`: attacks a task's own training, or its analysis, and prints what that shows next to what the task claims."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.plain import many

BROKEN_KINDS = (
    "noise-off",
    "wrong-scale",
    "noise-less",
    "noise-tenth",
    "noise-cut",
    "noise-uniform",
    "noise-laplace",
    "noise-reused",
    "noise-of-all-nodes",
    "noise-signs",
    "noise-broadcast",
    "noise-in-pairs",
    "noise-not-last",
    "noise-every-second",
    "noise-before-clipping",
    "empty-silent",
    "multiplier-ignored",
    "coarse-grid",
    "noise-share",
    "fixed-key",
    "seeded",
    "tally-noise-off",
    "tally-twice",
    "same-sample",
    "fixed-size",
    "epochs",
    "rate-up",
    "rate-up-slightly",
    "rate-of-half",
    "sample-twice",
    "sample-in-pairs",
    "real-size",
    "clip-per-batch",
    "clip-off",
    "clip-halves",
    "clip-layers",
    "clip-numbers",
    "clip-loose",
    "round-up",
    "record-for-patient",
    "statistics-noise-off",
    "statistics-unclipped",
    "statistics-records",
    "evaluation-noise-off",
    "evaluation-twice",
    "evaluation-loss",
    "evaluation-records",
    "held-out-trained",
    "held-out-by-place",
    "mask-reuse",
)

_EPILOG = """example:
  edgeward attack edgeward.toml --data node-1.csv --data node-2.csv --canaries 1000

Exit code 1: the measurements contradict the claim. --broken shows that they would: it audits a build with that mistake."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "attack",
        help=COMMANDS["attack"],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the gateway's edgeward.toml")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="FILE", help="a node's data; again for more nodes"
    )
    parser.add_argument(
        "--canaries",
        type=_at_least(8),
        default=1000,
        help="in each training; of an analysis so many runs with one (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=_at_least(1),
        default=1,
        help="trainings, or times so many runs, whose canaries are pooled (default: %(default)s)",
    )
    parser.add_argument(
        "--deep", action="store_true", help="draw ten times as much, and probe what else the build can do; minutes"
    )
    parser.add_argument(
        "--broken",
        choices=BROKEN_KINDS,
        default="",
        metavar="KIND",
        help="audit a build with a mistake (docs/audit.md)",
    )
    parser.add_argument("--plot", type=Path, metavar="X.png|X.svg", help="scores of the canaries, bound and claim")
    parser.add_argument("--statement", type=Path, metavar="BUNDLE", help="write the result into a bundle's statement")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.set_defaults(run=_run)


def _at_least(least: int) -> Any:
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text}: at least {least}")
        return value

    return parse


def _run(arguments: argparse.Namespace) -> int:
    from orchestrator.analyses.registry import scored_by
    from orchestrator.audit.plot import plot_audit
    from orchestrator.audit.run import BROKEN, Request, audit
    from orchestrator.audit.statement import check_claim, write_audit
    from orchestrator.cli.arguments import check_output
    from orchestrator.errors import UsageError
    from orchestrator.files import new_file
    from orchestrator.gateway.config import load_config
    from orchestrator.gateway.scored_file import model_of, model_path

    check_output(arguments.plot, "--plot")
    if arguments.statement is not None:
        check_claim(arguments.statement)
    config = load_config(arguments.config)
    if arguments.statement is not None and not config.task.trains:
        raise UsageError(
            f"--statement {arguments.statement}: {arguments.config} has an analysis, which makes no bundle"
        )
    request = Request(arguments.canaries, arguments.seeds, arguments.broken, arguments.deep)
    base = arguments.config.resolve().parent
    model = model_of(scored_by(config.task), model_path(config.task, base))
    with _progress(arguments.json) as progress:
        report = audit(config, base, arguments.data, request, progress, model=model)
    if arguments.plot is not None:
        with new_file(arguments.plot, replaces=True) as fresh:
            plot_audit(report, fresh)
    if arguments.statement is not None:
        left = write_audit(arguments.statement, report)
        if left:
            print(f"warning: {left}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        _print(report)
    return 1 if report["verdict"] == BROKEN else 0


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """A function (what, done, of) that shows a bar on stderr."""
    if quiet:
        yield lambda what, done, of: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from orchestrator.cli.screen import console

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        shown = bar.add_task("starting", total=None)
        yield lambda what, done, of: bar.update(shown, description=what, completed=done, total=of if of > 1 else None)


def _print(report: Dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from orchestrator.cli.screen import console

    screen = console()
    table = Table("attack", "claimed", "measured", "", box=SIMPLE, title=_title(report), title_justify="left")
    for row in _rows(report):
        table.add_row(*row)
    screen.print(table)
    screen.print(report["verdict"], style="bold red" if report["because"] else "bold")
    for reason in report["because"]:
        screen.print(f"  {reason}")
    screen.print("\nWhat this cannot show:")
    for limit in report["limits"]:
        screen.print(f"  {limit}")


def _title(report: Dict[str, Any]) -> str:
    claim, nodes = report["claim"], report["nodes"]
    said = (
        "claims no differential privacy"
        if claim["epsilon"] is None
        else f"claims epsilon {claim['epsilon']:.3g} at delta {claim['delta']:g} for each {claim['unit']}"
    )
    broken = f", broken on purpose: {report['broken']}" if report["broken"] else ""
    return f"{report['task']} {said}; {many(sum(nodes.values()), 'record')} on {many(len(nodes), 'node')}{broken}"


def _rows(report: Dict[str, Any]) -> List[Tuple[str, str, str, str]]:
    rows: List[Tuple[str, str, str, str]] = []
    canaries = report["canaries"]
    if canaries is not None:
        for bound in canaries["bounds"]:
            reach = f"{bound['correct']} of {bound['guesses']} guesses right; {bound['reach']:.3g} if all were"
            claimed = f"at most {bound['claimed']:.3g}"
            rows.append((f"epsilon at delta {bound['delta']:g}", claimed, f"at least {bound['epsilon']:.3g}", reach))
        for name, entry in canaries["measured"].items():
            limit = "at least 1" if name == "noise" else "at most 1"
            error = f"+- {entry['error']:.2g}{'' if entry['holds'] else ', which is wrong'}"
            rows.append((f"{name}, of the declared", limit, f"{entry['measured']:.3f}", error))
    rows += _probe_rows(report["probes"])
    masks = report["masks"]
    if masks is not None:
        rows.append(
            (
                "masks alike in two rounds",
                "0",
                f"{masks['agreeing']} of {masks['values']}",
                f"{masks['bits']} bits each",
            )
        )
    attack = report["membership"]
    if attack is None:
        return rows
    low, high = attack["auc_interval"]
    rows.append(("membership, AUC", "", f"{attack['auc']:.3f}", f"95 %: {low:.3f} to {high:.3f}; 0.5 is a coin"))
    low, high = attack["advantage_interval"]
    more = "" if attack["holds"] else "; more than the claim allows: are both of one population?"
    allowed = f"at most {attack['allowed_advantage']:.3f}"
    rows.append(
        ("membership, TPR - FPR", allowed, f"{attack['advantage']:.3f}", f"95 %: {low:.3f} to {high:.3f}{more}")
    )
    found = report["inversion"]
    if not found["applies"]:
        return [*rows, ("gradient inversion", "", "-", found["reason"])]
    plain = f"{found['plain']:.2g}"
    rows.append(("inversion error, plain gradient", "", plain, "median, in standard deviations of a number"))
    if found["protected"] is not None:
        guess = f"who guesses the mean has {found['guess']:.2g}"
        rows.append(("inversion error, clipped and noised", "", f"{found['protected']:.2g}", guess))
    return rows


def _probe_rows(probes: Any) -> List[Tuple[str, str, str, str]]:
    """One for each kind of release: how many tests it passed, and the least probability of what was found."""
    rows: List[Tuple[str, str, str, str]] = []
    for kind in probes["kinds"] if probes else []:
        wrong = len(kind["wrong"])
        passed = f"{kind['tests'] - wrong} of {kind['tests']} tests"
        rest = f"{wrong} wrong" if wrong else f"least p {kind['least_p']:.1g}; wrong below {probes['level']:g}"
        rows.append((kind["kind"], "as declared", passed, rest))
    return rows
