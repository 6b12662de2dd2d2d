"""`edgeward init`: the edgeward.toml of a table, as a draft to confirm."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from orchestrator.cli.commands import COMMANDS

if TYPE_CHECKING:
    from orchestrator.gateway.delimited import Table
    from orchestrator.gateway.survey import Survey

_EPILOG = """example:
  edgeward init records.csv --label outcome

The ranges and levels it suggests are read off the rows and rounded outward; every node gets them, so they are public. Give it
public or synthetic rows, or replace what it suggests by what such a value can be at all."""

LARGE = 20_000_000
"""Bytes of a table that takes seconds to read."""

_WARNING = (
    "ranges and levels were read off these rows, and all nodes get them: they show about how far the values go, and which "
    "levels there are. Confirm each of them, or write the clinical range, before you give {out} to anybody"
)


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "init",
        help=COMMANDS["init"],
        description="Looks at a table, and writes an edgeward.toml that runs: types of columns, suggested ranges, levels, the "
        "label, privacy for the number of rows. It says what it assumed and what it left out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "table", type=Path, metavar="CSV", help="delimited text with a first line that names the columns"
    )
    parser.add_argument("--label", metavar="COLUMN", help="what is to be learned; asked for where it is left out")
    parser.add_argument("--patient", metavar="COLUMN", help="whose record it is, where patients have several")
    parser.add_argument("--name", help="of federation and task (default: the file's)")
    parser.add_argument(
        "--nodes", type=int, default=3, metavar="N", help="nodes that are to take part (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("edgeward.toml"), metavar="FILE", help="must not exist (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="say what was found as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.arguments import check_output
    from orchestrator.errors import UsageError
    from orchestrator.gateway.delimited import read_delimited
    from orchestrator.gateway.draft import NO_EVALUATION, Wanted, evaluation_every, name_from, write_draft
    from orchestrator.gateway.survey import survey
    from orchestrator.wire.bounds import MAX_NODES, within
    from orchestrator.wire.topics import check_name

    out: Path = arguments.out
    if out.exists():
        raise UsageError(f"--out {out}: it exists, and is not overwritten; name another file, or remove it")
    check_output(out, "--out")
    for line in within("--nodes", arguments.nodes, 1, MAX_NODES):
        raise UsageError(line)
    if not arguments.table.is_file():
        raise UsageError(
            f"{arguments.table}: {'a folder; name the file in it' if arguments.table.is_dir() else 'no such file'}"
        )
    name = name_from(arguments.table.stem) if arguments.name is None else check_name(arguments.name, "--name")
    size = arguments.table.stat().st_size
    if size > LARGE:
        print(
            f"reading {arguments.table}: {size / 1e6:,.0f} MB, some seconds for each hundred",
            file=sys.stderr,
            flush=True,
        )
    table = read_delimited(arguments.table)
    found = survey(table, arguments.label or _ask(table), arguments.patient or "")
    if not found.columns:
        raise UsageError(f"{arguments.table}: no column is left to learn from:\n" + "\n".join(_left_out(found)))
    if not found.complete:
        raise UsageError(
            f"{arguments.table}: no row has both a value of {found.label!r} and all that is used:\n"
            + "\n".join(_left_out(found))
        )
    wanted = Wanted(name, arguments.nodes)
    _write(out, write_draft(found, wanted))
    warnings = [_WARNING.format(out=out), *found.warnings]
    if not evaluation_every(found, wanted):
        warnings.append(f"no evaluation by the nodes: {NO_EVALUATION}")
    if table.plain:
        if size > LARGE:
            print("reading it again as a node does: all rows", file=sys.stderr, flush=True)
        warnings += _refused_by_nodes(arguments.table, out)
    else:
        warnings.append("nodes read CSV with commas, points in decimals and UTF-8: save their files so")
    about = _about(found, table, warnings, _next(out, name, found))
    if arguments.json:
        print(json.dumps({"config": str(out), "name": name, **about}, indent=1))
    else:
        _show(arguments.table, out, found, about)
    return 0


def _ask(table: Table) -> str:
    """The label, typed by the user."""
    from orchestrator.errors import UsageError
    from orchestrator.gateway.survey import label_candidates

    candidates = label_candidates(table)
    if not sys.stdin.isatty():
        likely = f"likely ones are {', '.join(candidates[:5])}" if candidates else "none has a few values only"
        raise UsageError(f"--label COLUMN: name the column that is to be learned; {likely}")
    for number, name in enumerate(candidates, 1):
        print(f"{number:>3} {name}", file=sys.stderr)
    print("which column is to be learned, by its number or name? ", end="", file=sys.stderr, flush=True)
    given = sys.stdin.readline().strip()
    if given.isdecimal() and len(given) <= 6 and given not in table.header and 1 <= int(given) <= len(candidates):
        return candidates[int(given) - 1]
    return given


def _write(out: Path, text: str) -> None:
    """Only what the gateway would accept is written."""
    import tempfile

    from orchestrator.errors import UsageError
    from orchestrator.gateway.config import load_config

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / out.name
        draft.write_text(text, encoding="utf-8")
        try:
            load_config(draft)
        except UsageError as error:
            reason = str(error).replace(str(draft), out.name)
            raise UsageError(f"these columns make no edgeward.toml that a gateway accepts: {reason}") from error
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"--out {out}: it exists, and is not overwritten") from error


def _refused_by_nodes(table: Path, out: Path) -> List[str]:
    """What a node would have against this file, as the draft describes it: what is read leniently here need not be there."""
    from orchestrator.data.dataset import load_dataset
    from orchestrator.errors import DataError
    from orchestrator.gateway.config import load_config

    try:
        load_dataset(table, load_config(out).task.schema)
    except DataError as error:
        return [f"a node would refuse this file: {error}"]
    return []


def _next(out: Path, name: str, found: Survey) -> List[str]:
    units = f"--patients {found.patients}" if found.patient else f"--rows {found.rows}"
    config = shlex.quote(str(out))
    return [
        f"edgeward privacy plan {config} {units}",
        f"edgeward doctor {config}",
        f"edgeward gateway run {config} --out federation",
        f"edgeward node run --broker mqtt://127.0.0.1:1883 --federation {name} --name site-1 --data site-1.csv --state site-1",
    ]


def _about(found: Survey, table: Table, warnings: List[str], steps: List[str]) -> Dict[str, Any]:
    return {
        "rows": found.rows,
        "complete_rows": found.complete,
        "assumed": table.assumed,
        "label": found.label,
        "classes": {name: value for name, value in found.classes},
        "patient": found.patient or None,
        "features": [
            {
                "name": column.name,
                "kind": column.kind,
                **({"categories": list(column.categories)} if column.categories else {}),
                **({} if column.categories else {"minimum": column.minimum, "maximum": column.maximum}),
                "missing": column.missing,
                **({"note": column.note} if column.note else {}),
            }
            for column in found.columns
        ],
        "left_out": [{"name": name, "why": why} for name, why in found.left_out],
        "missing_markers": found.markers,
        "warnings": warnings,
        "next": steps,
    }


def _left_out(found: Survey) -> List[str]:
    return [f"  left out {name!r}: {why}" for name, why in found.left_out]


def _show(table: Path, out: Path, found: Survey, about: Dict[str, Any]) -> None:
    from orchestrator.cli.tables import say

    say(f"{table}: {found.rows:,} rows; {'; '.join(about['assumed'])}")
    if found.complete < found.rows:
        say(f"  {found.rows - found.complete:,} of them lack a value that is used, and are dropped in training")
    values = ", ".join(name if name == value else f"{name} ({value})" for name, value in found.classes)
    say(f"learns {found.label!r}: {values}")
    if found.patient:
        say(f"protects patients: {found.patient!r} says whose record it is ({found.patients:,} patients)")
    for column in found.columns:
        what = ", ".join(column.categories) or f"{column.minimum:g} to {column.maximum:g}"
        missing = f"; {column.missing:,} missing" if column.missing else ""
        say(f"  {column.name}: {column.kind}, {what}{missing}" + (f"; {column.note}" if column.note else ""))
    for line in _left_out(found):
        say(line)
    for warning in about["warnings"]:
        say(f"warning: {warning}")
    say(f"wrote {out}. Next:")
    for step in about["next"]:
        say(f"  {step}")
