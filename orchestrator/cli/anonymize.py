"""`edgeward anonymize`: a k-anonymous copy of a table, and what it shows, what was lost, and what it does not promise."""

import argparse
import json
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List

from orchestrator.cli.arguments import check_new_file, check_output, whole_within
from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.plain import many

_EPILOG = """example:
  edgeward anonymize visits.csv rules.toml --out anonymous.csv --report report.json --plot report.png

The rules name the columns by which somebody could be known (docs/data.md). Hospitals that publish tables together cut numbers
at the same values: --cuts takes them from the histograms of an analysis of all of them."""

PARTS = 16


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "anonymize", help=COMMANDS["anonymize"], epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", type=Path, metavar="FILE", help="a table in any format a node reads, or its description"
    )
    parser.add_argument("rules", type=Path, metavar="RULES.toml", help="what is a quasi-identifier, k, l and t")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.csv", help="the anonymous table; must not exist"
    )
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture of the classes: .png or .svg")
    parser.add_argument(
        "--cuts",
        type=Path,
        metavar="RESULT.json",
        help="result of a `statistics` analysis: cut numbers by its histograms",
    )
    parser.add_argument(
        "--parts",
        type=whole_within(2, 1000),
        metavar="N",
        help=f"of equal size, into which --cuts cuts (default: {PARTS})",
    )
    parser.add_argument("--json", action="store_true", help="say all figures as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import csv

    from orchestrator.cli.tables import report as say_report
    from orchestrator.data.anonymity.anonymize import anonymize, domains_of, read_for, report
    from orchestrator.data.anonymity.cuts import with_cuts
    from orchestrator.data.anonymity.rules import read_rules
    from orchestrator.data.table import every_row
    from orchestrator.errors import UsageError
    from orchestrator.files import new_file

    parts = PARTS if arguments.parts is None else arguments.parts
    if arguments.parts is not None and arguments.cuts is None:
        raise UsageError("--parts: says into how many --cuts cuts, which is not given")
    check_new_file(arguments.out, "--out")
    others = {
        "the data file": arguments.data,
        "RULES": arguments.rules,
        "--cuts": arguments.cuts,
        "--out": arguments.out,
    }
    check_output(arguments.report, "--report", others)
    check_output(arguments.plot, "--plot", {**others, "--report": arguments.report})
    if arguments.plot is not None and arguments.plot.suffix not in (".png", ".svg"):
        raise UsageError(f"--plot {arguments.plot}: a picture is written as .png or .svg")
    if arguments.plot is not None and find_spec("matplotlib") is None:
        raise UsageError("--plot: a picture needs matplotlib, which is not installed here: pip install matplotlib")
    rules = read_rules(arguments.rules)
    if arguments.cuts is not None:
        rules = with_cuts(rules, arguments.cuts, parts)
    domains = domains_of(rules, arguments.rules.parent)
    read = read_for(arguments.data, every_row(arguments.data), rules, domains)
    found = anonymize(arguments.data, read, rules, domains)
    figures = report(found, rules)
    with ExitStack() as stack:  # all of the files are there in the end, or none
        with stack.enter_context(new_file(arguments.out)).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(found.header)
            writer.writerows(found.rows)
        if arguments.report is not None:
            text = json.dumps(figures, indent=1) + "\n"
            stack.enter_context(new_file(arguments.report, replaces=True)).write_text(text, encoding="utf-8")
        if arguments.plot is not None:
            from orchestrator.data.anonymity.picture import draw

            draw(found, rules, stack.enter_context(new_file(arguments.plot, replaces=True)))
    say_report(arguments.json, {"file": str(arguments.out), **figures}, "\n".join(_words(arguments.out, figures)))
    return 0


def _words(out: Path, figures: Dict[str, Any]) -> List[str]:
    from orchestrator.cli.tables import table

    asked, before, after = figures["asked"], figures["before"], figures["after"]
    rows = [["", "before", "after"]]
    for name, key in (("k", "k"), ("l, different values", "l_distinct"), ("l, by entropy", "l_entropy"), ("t", "t")):
        if after[key] is not None:
            rows.append([name, f"{before[key]:.4g}", f"{after[key]:.4g}"])
    rows += [
        ["classes", f"{before['classes']:,}", f"{after['classes']:,}"],
        ["rows alone in their class", f"{before['unique']:.1%}", f"{after['unique']:.1%}"],
        [
            "risk of being known again, greatest",
            f"{before['risk']['greatest']:.3g}",
            f"{after['risk']['greatest']:.3g}",
        ],
        ["the same, mean over rows", f"{before['risk']['mean']:.3g}", f"{after['risk']['mean']:.3g}"],
    ]
    if figures["auc"]:
        areas = ["-" if area is None else f"{area:.3f}" for area in figures["auc"].values()]
        rows.append(["AUC of a logistic regression", *areas])
    lines = [
        f"{out}: {many(after['rows'], 'row')}, {figures['suppressed']:,} suppressed; {asked['counted']} counted, "
        f"mode {asked['mode']}",
        table(rows),
        f"lost: NCP {figures['ncp']:.3f} of the domains; discernibility {figures['discernibility']:,}; a class has "
        f"{figures['average_class']:.2f} k rows on average",
    ]
    if figures["left_out"]:
        lines.append(f"left out, since the rules do not name them: {', '.join(figures['left_out'])}")
    return [*lines, "What this does not promise:", *(f"- {line}" for line in figures["not_promised"])]
