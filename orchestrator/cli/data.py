"""`edgeward data`: what a table holds, how it answers a task, what does not fit; and invented records in place of it."""

import argparse
import json
from pathlib import Path
from typing import Any

from orchestrator.cli.arguments import check_new_file, number_within, whole_within
from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.plain import many

MOST_ROWS = 1_000_000

MOST_PROBLEMS = 1_000_000

_EPILOG = """examples:
  edgeward data describe export.csv --out codebook.csv
  edgeward data map export.csv edgeward.toml --out ward.toml
  edgeward data validate ward.toml edgeward.toml
  edgeward data mock edgeward.toml --rows 300 --out mock.csv
  edgeward data schema codebook.csv

What they print and write of data is for the owner of the data."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "data", help=COMMANDS["data"], epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    describe = verbs.add_parser("describe", help="say what the columns of a table hold, as a proposal for a codebook")
    describe.add_argument(
        "data", type=Path, metavar="FILE", help="a table in any format a node reads, or its description"
    )
    describe.add_argument(
        "--out", type=Path, metavar="CODEBOOK", help="write it: .csv, or .json as a Table Schema; must not exist"
    )
    describe.set_defaults(run=_describe)
    mapping = verbs.add_parser("map", help="draft the description that leads from a table to the columns of a task")
    mapping.add_argument("data", type=Path, metavar="FILE", help="a table in any format a node reads")
    mapping.add_argument("config", type=Path, metavar="edgeward.toml", help="the federation's file")
    mapping.add_argument("--out", type=Path, required=True, metavar="WARD.toml", help="must not exist")
    mapping.set_defaults(run=_map)
    validate = verbs.add_parser("validate", help="read data as a node would, and list what does not fit the schema")
    validate.add_argument("data", type=Path, metavar="FILE", help="as for `edgeward node run --data`")
    validate.add_argument("config", type=Path, metavar="edgeward.toml", help="the federation's file")
    validate.add_argument(
        "--problems",
        type=whole_within(1, MOST_PROBLEMS),
        default=100,
        metavar="N",
        help="that are listed; the rest is counted (default: 100)",
    )
    validate.set_defaults(run=_validate)
    mock = verbs.add_parser("mock", help="write invented records that fit the schema of an edgeward.toml")
    mock.add_argument("config", type=Path, metavar="edgeward.toml", help="the federation's file")
    mock.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .csv, of signals an .npz; must not exist"
    )
    mock.add_argument(
        "--rows", type=whole_within(1, MOST_ROWS), default=200, metavar="N", help="how many (default: %(default)s)"
    )
    mock.add_argument("--seed", type=int, default=0, metavar="S", help="other records for another one (default: 0)")
    mock.add_argument(
        "--missing",
        type=number_within(0, 1),
        default=0.0,
        metavar="SHARE",
        help="of the cells of a table, 0 to 1 (default: 0)",
    )
    mock.set_defaults(run=_mock)
    schema = verbs.add_parser("schema", help="print the [task.schema] of a codebook or a Table Schema")
    schema.add_argument("codebook", type=Path, metavar="CODEBOOK", help=".csv, or .json as a Table Schema")
    schema.set_defaults(run=_schema)
    for verb in (describe, mapping, validate, mock, schema):
        verb.add_argument("--json", action="store_true", help="as JSON")


def _describe(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report, table
    from orchestrator.data.cells import shown
    from orchestrator.data.codebook import table_schema, write_codebook
    from orchestrator.files import new_file
    from orchestrator.gateway.any_table import read_any
    from orchestrator.gateway.odd_texts import bad_name, short
    from orchestrator.gateway.proposed import propose

    if arguments.out is not None:
        _check_codebook(arguments.out)
    found = read_any(arguments.data)
    proposed = propose(found)
    nameless = [each.entry.name for each in proposed if bad_name(each.entry.name)]
    entries = [each.entry for each in proposed if each.entry.name not in nameless]
    if arguments.out is not None:
        with new_file(arguments.out) as fresh:
            write_codebook(entries, fresh)
    rows = [("column", "type", "values", "missing", "look at")]
    rows += [
        (short(each.entry.name), each.entry.type, each.values, f"{each.missing:,}", each.note) for each in proposed
    ]
    about = {
        "file": str(arguments.data),
        "rows": found.total,
        "assumed": found.assumed,
        "schema": table_schema(entries),
        "notes": {each.entry.name: each.note for each in proposed if each.note},
    }
    without = f", without {', '.join(map(shown, nameless))}, which no task can name" if nameless else ""
    wrote = f"\nwrote {arguments.out}{without}: its ranges and levels are read off these rows; confirm them"
    head = "; ".join([f"{arguments.data}: {many(found.total, 'row')}", *found.assumed])
    report(arguments.json, about, f"{head}\n{table(rows)}{wrote if arguments.out else ''}")
    return 0


def _check_codebook(out: Path) -> None:
    """Its owner corrects it by hand, so that one that is there stays."""
    from orchestrator.errors import UsageError

    if out.suffix not in (".csv", ".json"):
        raise UsageError(f"--out {out}: a codebook ends with .csv, or with .json as a Table Schema")
    check_new_file(out, "--out")


def _map(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.data.described import ENDING
    from orchestrator.errors import UsageError
    from orchestrator.files import new_file
    from orchestrator.gateway.any_table import read_own
    from orchestrator.gateway.config import load_config
    from orchestrator.gateway.mapping_draft import draft_mapping, name_in

    out: Path = arguments.out
    if out.suffix != ENDING:
        raise UsageError(f"--out {out}: a description ends with {ENDING}")
    check_new_file(out, "--out")
    schema = load_config(arguments.config).task.schema
    if schema.kind != "table":
        raise UsageError(f"{arguments.config}: of signals; a description maps the columns of a table")
    draft = draft_mapping(read_own(arguments.data), name_in(out, arguments.data), schema)
    with new_file(out) as fresh:
        fresh.write_text(draft.text, encoding="utf-8")
    left = "\n".join(f"  {line}" for line in draft.open)
    text = f"wrote {out}; it leaves open:\n{left}" if draft.open else f"wrote {out}; confirm it line by line"
    after = f"edgeward data validate {out} {arguments.config}"
    report(arguments.json, {"file": str(out), "open": draft.open, "next": after}, f"{text}\nNext: {after}")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.data.codebook import read_codebook, schema_of
    from orchestrator.gateway.draft import schema_lines
    from orchestrator.wire.structure import unstructure

    schema = schema_of(read_codebook(arguments.codebook))
    report(arguments.json, unstructure(schema), "\n".join(schema_lines(schema)))
    return 0


def _mock(arguments: argparse.Namespace) -> int:
    import csv

    from orchestrator.cli.tables import report
    from orchestrator.data.mock import in_words, mock_rows, write_signals
    from orchestrator.errors import UsageError
    from orchestrator.files import new_file
    from orchestrator.gateway.config import load_config

    task = load_config(arguments.config).task
    schema, ending = task.schema, ".csv" if task.schema.kind == "table" else ".npz"
    wrong = []
    if arguments.missing and schema.kind != "table":
        wrong.append("--missing: of the cells of a table, and the task's records are signals")
    elif arguments.missing and (task.trains and not schema.drop_missing):
        wrong.append("--missing: the task has neither drop_missing nor an analysis, so nodes would refuse such rows")
    if arguments.out.suffix != ending:
        wrong.append(f"--out {arguments.out}: records of this schema are written as {ending}")
    if wrong:
        raise UsageError("\n".join(wrong))
    check_new_file(arguments.out, "--out")
    with new_file(arguments.out) as fresh:
        if ending == ".csv":
            with fresh.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(mock_rows(schema, arguments.rows, arguments.seed, arguments.missing))
        else:
            write_signals(schema, fresh, arguments.rows, arguments.seed)
    found = {"file": str(arguments.out), "records": arguments.rows}
    report(arguments.json, found, in_words(schema, arguments.rows, arguments.out))
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.logs import show_milestones
    from orchestrator.cli.tables import report
    from orchestrator.data.dataset import clamped_columns, load_for
    from orchestrator.data.problems import ProblemsError
    from orchestrator.errors import exit_code_of
    from orchestrator.gateway.config import load_config
    from orchestrator.privacy.terms import unit_of

    task = load_config(arguments.config).task
    show_milestones()
    try:
        data = load_for(arguments.data, task, arguments.problems)
    except ProblemsError as error:
        if not arguments.json:
            raise
        listed = [
            {"place": f"{file}{place}" if file else place.lstrip(":"), "problem": text}
            for place, text, file in error.first
        ]
        print(json.dumps({"file": str(arguments.data), "problems": error.count, "listed": listed}))
        return exit_code_of(error)
    units = len(data.units(unit_of(task.privacy))) if task.privacy.of_patients else data.records
    clamped = [text for _, text in clamped_columns(data, task.schema)]
    patients = f" of {many(units, 'patient')}" if task.privacy.of_patients else ""
    dropped = (
        f", {many(data.dropped, 'row')} without a used value {'is' if data.dropped == 1 else 'are'} left out"
        if data.dropped
        else ""
    )
    counts = {"records": data.records, "units": units, "dropped": data.dropped}
    found = {"file": str(arguments.data), **counts, "clamped": clamped, "problems": 0}
    records = f"{many(data.records, 'record')}{patients} {'fits' if data.records == 1 else 'fit'} the schema"
    text = "\n".join([f"{arguments.data}: {records}{dropped}", *clamped])
    report(arguments.json, found, text)
    return 0
