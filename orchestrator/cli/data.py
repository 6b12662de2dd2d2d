"""`edgeward data`: a node's data held against a task, and invented ones in place of them."""

import argparse
import json
from pathlib import Path
from typing import Any

from orchestrator.cli.arguments import check_output
from orchestrator.cli.commands import COMMANDS

MOST_ROWS = 1_000_000

_EPILOG = """examples:
  edgeward data mock edgeward.toml --rows 300 --out mock.csv
  edgeward data check records.sqlite#visits edgeward.toml

Both read the schema of an edgeward.toml. What they print of data is for their owner."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "data", help=COMMANDS["data"], epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    mock = verbs.add_parser("mock", help="write invented records that fit the schema of an edgeward.toml")
    mock.add_argument("config", type=Path, metavar="edgeward.toml", help="the federation's file")
    mock.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .csv, of signals an .npz")
    mock.add_argument("--rows", type=int, default=200, metavar="N", help="how many (default: %(default)s)")
    mock.add_argument("--seed", type=int, default=0, metavar="S", help="other records for another one (default: 0)")
    mock.add_argument(
        "--missing", type=float, default=0.0, metavar="SHARE", help="of the cells of a table (default: 0)"
    )
    mock.set_defaults(run=_mock)
    check = verbs.add_parser("check", help="read data as a node would, and say what does not fit the schema")
    check.add_argument("data", type=Path, metavar="FILE", help="as for `edgeward node run --data`")
    check.add_argument("config", type=Path, metavar="edgeward.toml", help="the federation's file")
    check.set_defaults(run=_check)
    for verb in (mock, check):
        verb.add_argument("--json", action="store_true", help="as JSON")


def _mock(arguments: argparse.Namespace) -> int:
    import csv

    from orchestrator.cli.tables import report
    from orchestrator.data.mock import in_words, mock_rows, write_signals
    from orchestrator.errors import UsageError
    from orchestrator.gateway.config import load_config
    from orchestrator.wire.bounds import count, not_negative, within

    task = load_config(arguments.config).task
    schema, ending = task.schema, ".csv" if task.schema.kind == "table" else ".npz"
    wrong = [*count("--rows", arguments.rows, 1, MOST_ROWS), *not_negative("--seed", arguments.seed)]
    wrong += within("--missing", arguments.missing, 0, 1)
    if arguments.missing and (task.trains and not schema.drop_missing):
        wrong.append("--missing: the task has neither drop_missing nor an analysis, so nodes would refuse such rows")
    if arguments.out.suffix != ending:
        wrong.append(f"--out {arguments.out}: records of this schema are written as {ending}")
    if wrong:
        raise UsageError("\n".join(wrong))
    check_output(arguments.out, "--out")
    if ending == ".csv":
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(mock_rows(schema, arguments.rows, arguments.seed, arguments.missing))
    else:
        write_signals(schema, arguments.out, arguments.rows, arguments.seed)
    found = {"file": str(arguments.out), "records": arguments.rows}
    report(arguments.json, found, in_words(schema, arguments.rows, arguments.out))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import say
    from orchestrator.data.dataset import clamped_columns, load_for
    from orchestrator.gateway.config import load_config

    task = load_config(arguments.config).task
    data = load_for(arguments.data, task)
    units = len(data.units(task.privacy.unit)) if task.privacy.unit == "patient" else data.records
    clamped = [text for _, text in clamped_columns(data, task.schema)]
    if arguments.json:
        counts = {"records": data.records, "units": units, "dropped": data.dropped}
        print(json.dumps({"file": str(arguments.data), **counts, "clamped": clamped}))
        return 0
    patients = f" of {units} patients" if task.privacy.unit == "patient" else ""
    dropped = f", {data.dropped} rows without a used value are left out" if data.dropped else ""
    say("\n".join([f"{arguments.data}: {data.records} records{patients} fit the schema{dropped}", *clamped]))
    return 0
