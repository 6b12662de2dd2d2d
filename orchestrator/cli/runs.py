"""`edgeward runs`: what a gateway did: list, show, compare, plot, export. Reads only."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Tuple

from orchestrator.cli.arguments import check_output
from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.gateway.history import History

    Chosen = List[Tuple[History, str]]

_EPILOG = """examples:
  edgeward runs list --out federation
  edgeward runs show sepsis-1f --out federation
  edgeward runs compare sepsis-1f sepsis-90 --out .
  edgeward runs plot sepsis-1f sepsis-90 -o rounds.png
  edgeward runs export sepsis-1f -o rounds.csv --pseudonyms

A run is named by its id or a beginning that fits only one. It may be running: reading disturbs nothing."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "runs",
        help=COMMANDS["runs"],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="all runs, newest first")
    listing.set_defaults(run=_list)
    show = verbs.add_parser("show", help="rounds, nodes and privacy statement of a run")
    show.add_argument("runs", nargs=1, metavar="RUN", help="id of the run, or a beginning that fits only one")
    show.set_defaults(run=_show)
    compare = verbs.add_parser("compare", help="what the tasks of runs differ in, and what came of it")
    compare.add_argument("runs", nargs="+", metavar="RUN", help="ids of runs, or beginnings that fit only one")
    compare.set_defaults(run=_compare)
    plot = verbs.add_parser("plot", help="metrics, bytes, seconds and epsilon over the rounds")
    plot.add_argument("runs", nargs="+", metavar="RUN", help="ids of runs, or beginnings that fit only one")
    plot.add_argument("-o", "--output", required=True, type=Path, metavar="X.png|X.svg", help="file for the plot")
    plot.set_defaults(run=_plot)
    export = verbs.add_parser("export", help="the rounds as a table for other programs")
    export.add_argument("runs", nargs="+", metavar="RUN", help="ids of runs, or beginnings that fit only one")
    export.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="X.csv|X.json|X.parquet",
        help="file for the table; its ending says which format",
    )
    export.set_defaults(run=_export)
    for verb in (show, export):
        verb.add_argument("--pseudonyms", action="store_true", help="show nodes by pseudonym, as in a model's lineage")
    for verb in (listing, show, compare, plot, export):
        verb.add_argument(
            "--out", type=Path, default=Path("out"), help="a gateway's folder, or one of several (default: %(default)s)"
        )
        verb.add_argument("--json", action="store_true", help="as JSON")


def _list(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from orchestrator.cli.tables import moment, number, table
    from orchestrator.gateway.history import open_histories
    from orchestrator.gateway.running import holder
    from orchestrator.gateway.simulated import is_simulated

    found = []
    for folder, history in open_histories(arguments.out):
        with history:
            found += [(folder, run) for run in history.runs()]
    found.sort(key=lambda pair: pair[1].started or 0.0, reverse=True)
    if arguments.json:
        listed = [{"out": str(folder), **asdict(run), "simulated": is_simulated(folder)} for folder, run in found]
        print(json.dumps(listed, indent=1))
        return 0
    rows: List[Tuple[str, ...]] = [
        ("run", "started", "state", "rounds", "nodes", "epsilon", "accuracy", "auc", "model", "folder")
    ]
    for folder, run in found:
        state = run.state
        if state == "open":
            state = run.phase if holder(folder) is not None else f"stopped ({run.phase})"
        state += ", simulated" if is_simulated(folder) else ""
        figures = [number(v) for v in (run.epsilon, run.metrics.get("accuracy"), run.metrics.get("auc"))]
        done = f"{run.rounds_done}/{run.rounds}"
        rows.append((run.id, moment(run.started), state, done, str(len(run.nodes)), *figures, run.digest, str(folder)))
    print(table(rows))
    return 0


@contextmanager
def _chosen(arguments: argparse.Namespace) -> Iterator[Chosen]:
    """(history, run id) of each run asked for; UsageError where a beginning fits none or several."""
    from orchestrator.errors import UsageError
    from orchestrator.gateway.history import open_histories
    from orchestrator.wire.bounds import near

    with ExitStack() as stack:
        histories = [stack.enter_context(history) for _, history in open_histories(arguments.out)]
        chosen: Chosen = []
        for wanted in arguments.runs:
            exact = [(h, run) for h in histories for run in h.ids() if run == wanted]
            fitting = exact or [(h, run) for h in histories for run in h.ids() if run.startswith(wanted)]
            if len(fitting) != 1:
                places = ", ".join(f"{run} in {h.path.parent}" for h, run in fitting[:5])
                meant = near(wanted, [run for h in histories for run in h.ids()])
                what = (
                    f"fits {places}: say more of it, or name one folder"
                    if fitting
                    else f"fits none{meant or '; see `runs list`'}"
                )
                raise UsageError(f"{arguments.out}: run {wanted!r} {what}")
            chosen += fitting
        yield chosen


def _show(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict, replace

    from orchestrator.cli.tables import say
    from orchestrator.gateway import score_tables
    from orchestrator.gateway.run_tables import pseudonyms, round_rows
    from orchestrator.gateway.simulated import is_simulated
    from orchestrator.privacy.participation import WITHHELD

    with _chosen(arguments) as ((history, run),):
        names = pseudonyms(history, run) if arguments.pseudonyms else {}
        shown = [replace(node, name=names.get(node.name, node.name)) for node in history.nodes(run)]
        summary = history.run(run)
        summary = replace(summary, nodes=tuple(sorted(names.get(n, n) for n in summary.nodes)))
        statement = dict(history.statement(run) or {})
        if "records_per_node" in statement:
            statement["records_per_node"] = {names.get(n, n): c for n, c in statement["records_per_node"].items()}
        found = {
            "run": asdict(summary),
            "simulated": is_simulated(history.path.parent),
            "parent": history.parent(run),
            "rounds": round_rows(run, history.rounds(run), names),
            "nodes": [asdict(node) for node in shown],
            "privacy": statement or None,
            "task": history.task(run),
            "analysis": (history.report(run) or {}).get("analysis"),
            "scores": score_tables.renamed(score_tables.chosen(_scored(history, run)), names),
            "participation": WITHHELD if history.secret_sample(run) else None,
        }
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        say(_page(found))
    return 0


def _scored(history: History, run: str) -> Dict[str, Any]:
    """What of a run's figures is shown: those of its report, and of its rounds so far."""
    return {**(history.report(run) or {}), "per_round": [r.figures for r in history.rounds(run)]}


def _page(found: Dict[str, Any]) -> str:
    from orchestrator.cli.tables import moment, number, scores, table, tables

    run = found["run"]
    lines = [
        f"{run['id']}: task {run['task']}, {run['strategy']}, codec {run['codec']}, training {run['number']}"
        + (f", went on from {found['parent']}" if found["parent"] else ""),
        f"{run['state']} ({run['phase']}), {run['rounds_done']} of {run['rounds']} rounds, "
        f"{moment(run['started'])} to {moment(run['ended'])}" + (f": {run['reason']}" if run["reason"] else ""),
        *(["simulated: all nodes ran in one process, nothing was protected"] if found["simulated"] else []),
        f"model {run['digest'] or 'not made yet'}",
        "",
    ]
    heads = ("round", "ended", "seconds", "updates", "bytes up", "bytes down", "codec error", "loss", "accuracy", "auc")
    rows: List[Tuple[str, ...]] = [heads]
    for r in found["rounds"]:
        figures = (number(r[key]) for key in ("codec_error", "loss", "accuracy", "auc"))
        updates = None if r["nodes"] is None else len(r["nodes"].split())
        counts = (number(updates), number(r["bytes_up"]), number(r["bytes_down"]))
        seconds = "-" if r["seconds"] is None else f"{r['seconds']:.2f}"
        rows.append((str(r["round"]), moment(r["ended"]), seconds, *counts, *figures))
    lines += [table(rows), ""]
    shown = scores(found["scores"], found["task"].get("schema", {}).get("classes", ()))
    lines += [shown, ""] if shown else []
    lines += [tables(found["analysis"]), ""] if found["analysis"] else []
    if found["participation"]:
        lines += [f"who was in which round: {found['participation']}", ""]
    rows_of_nodes: List[Tuple[str, ...]] = [("node", "records", "state", "rounds", "last seen", "memory MiB")]
    for node in found["nodes"]:
        state = f"declined: {node['reason']}" if node["state"] == "declined" else node["state"]
        memory = number(node["figures"].get("memory_mib"))
        took_part = "-" if found["participation"] else str(len(node["rounds"]))
        cells = (number(node["records"]), state, took_part, moment(node["last_seen"]), memory)
        rows_of_nodes.append((node["name"], *cells))
    lines += [table(rows_of_nodes), ""]
    if found["privacy"]:
        lines += [f"privacy: {found['privacy']['claim']}"]
        lines += [f"  {found['privacy']['clipped']}"] if found["privacy"].get("clipped") else []
        lines += [f"  not covered: {what}" for what in found["privacy"].get("not_covered", ())]
    elif run["epsilon_budget"] is None:
        lines += ["privacy: none"]
    else:
        lines += [f"privacy: budget epsilon {run['epsilon_budget']:g}; the statement is made when the run is finished"]
    return "\n".join(lines)


def _compare(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import number, table
    from orchestrator.gateway.run_tables import differences, flatten

    with _chosen(arguments) as chosen:
        runs = [history.run(run) for history, run in chosen]
        settings = differences([history.task(run) for history, run in chosen])
        results: Dict[str, List[Any]] = {}
        rounds = [history.rounds(run) for history, run in chosen]
        reports = [flatten((history.report(run) or {}).get("metrics", {})) for history, run in chosen]
    results["state"] = [run.state for run in runs]
    results["rounds done"] = [run.rounds_done for run in runs]
    for key in ("loss", "accuracy", "auc"):
        results[f"last {key}"] = [run.metrics.get(key) for run in runs]
    for key in ("tflm.accuracy", "tflm.auc"):
        results[f"int8 in TFLM, {key[5:]}"] = [report.get(key) for report in reports]
    results["epsilon"] = [run.epsilon for run in runs]
    for key, figure in (("bytes up", "bytes_up"), ("bytes down", "bytes_down"), ("seconds in rounds", "seconds")):
        results[key] = [_total([getattr(r, figure) for r in of_run]) for of_run in rounds]
    if arguments.json:
        print(json.dumps({"runs": [run.id for run in runs], "settings": settings, "results": results}, indent=1))
        return 0
    rows = [("", *(run.id for run in runs))]
    rows += [(key, *(_cell(v) for v in values)) for key, values in settings.items()]
    rows += [("", *("" for _ in runs))]
    rows += [(key, *(number(v) for v in values)) for key, values in results.items()]
    print(table(rows))
    return 0


def _total(values: List[Any]) -> Any:
    """Their sum; None where one of them is left out."""
    return None if None in values else sum(values)


def _cell(value: Any) -> str:
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _plot(arguments: argparse.Namespace) -> int:
    from orchestrator.gateway.run_plot import Course, draw

    check_output(arguments.output, "--output")
    from orchestrator.privacy.accounting_process import curve_apart
    from orchestrator.wire.task import task_from_dict

    courses = []
    with _chosen(arguments) as chosen:
        for history, run in chosen:
            task, rounds = task_from_dict(history.task(run), f"run {run}"), history.rounds(run)
            points = curve_apart(task, {}, history.run(run).number)["points"] if task.privacy.on and rounds else []
            last = max((r.number for r in rounds), default=0)
            courses.append(Course(run, rounds, [(number, epsilon) for number, epsilon in points if number <= last]))
    drawn = draw(courses, arguments.output)
    if arguments.json:
        print(json.dumps({"plot": str(arguments.output), "runs": [c.run for c in courses], "panels": drawn}))
    else:
        print(f"{arguments.output}: {', '.join(drawn)} of {', '.join(c.run for c in courses)}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from orchestrator.gateway.run_tables import pseudonyms, round_rows, write_rows

    check_output(arguments.output, "--output")
    rows = []
    with _chosen(arguments) as chosen:
        for history, run in chosen:
            names = pseudonyms(history, run) if arguments.pseudonyms else {}
            rows += round_rows(run, history.rounds(run), names)
    write_rows(arguments.output, rows)
    if arguments.json:
        print(json.dumps({"export": str(arguments.output), "rows": len(rows)}))
    else:
        print(f"{arguments.output}: {many(len(rows), 'round')}")
    return 0
