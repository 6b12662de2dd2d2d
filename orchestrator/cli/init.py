"""`edgeward init`: the edgeward.toml of a table, its owner's policy.toml and ward.toml, as drafts to confirm."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, NamedTuple, Tuple

from orchestrator.cli.arguments import check_output, whole_within
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.init_questions import NODES, asked, label_of, nodes_of, owner_of
from orchestrator.wire.bounds import MAX_NODES
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.gateway.delimited import Table
    from orchestrator.gateway.survey import Survey
    from orchestrator.wire.schema import Schema

_EPILOG = """example:
  edgeward init records.csv --label outcome

It writes edgeward.toml for the gateway, and beside it, for a node with this table, policy.toml (what others may do with its data)
and ward.toml (how the table answers the task). On a terminal it asks what is not given; Enter stands for what is in brackets.

The ranges and levels it suggests are read off the rows and rounded outward; every node gets them, so they are public. Give it
public or synthetic rows, or replace what it suggests by what such a value can be at all."""

POLICY, WARD = "policy.toml", "ward.toml"
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
        "label, privacy for the number of rows; and policy and description for a node with it. It says what it assumed and what "
        "it left out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "table", type=Path, metavar="FILE", help="a table in any format a node reads, FILE#NAME for one of several"
    )
    parser.add_argument("--label", metavar="COLUMN", help="what is to be learned; asked for where it is left out")
    parser.add_argument("--patient", metavar="COLUMN", help="whose record it is, where patients have several")
    parser.add_argument("--name", help="of federation and task (default: the file's)")
    parser.add_argument(
        "--nodes", type=whole_within(1, MAX_NODES), metavar="N", help=f"nodes that are to take part (default: {NODES})"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("edgeward.toml"),
        metavar="FILE",
        help=f"{POLICY} and {WARD} are written beside it; none of them must exist (default: %(default)s)",
    )
    parser.add_argument(
        "--yes", action="store_true", help="ask nothing: what is not given is as suggested, but for --label"
    )
    parser.add_argument("--force", action="store_true", help="write the three files though there are some of that name")
    parser.add_argument("--json", action="store_true", help="say what was found as JSON")
    parser.set_defaults(run=_run)


class _Files(NamedTuple):
    """What is written, side by side."""

    config: Path
    policy: Path
    ward: Path


def _run(arguments: argparse.Namespace) -> int:
    from orchestrator.data.sources.registry import file_of
    from orchestrator.gateway.any_table import named, read_own
    from orchestrator.gateway.draft import NO_EVALUATION, Wanted, evaluation_every, name_from, write_draft
    from orchestrator.gateway.mapping_draft import BY_INIT, draft_mapping, name_in
    from orchestrator.gateway.owner_draft import write_policy
    from orchestrator.wire.topics import check_name

    files = _files(arguments.out, arguments.table, arguments.force)
    file = file_of(arguments.table)
    name = name_from(named(arguments.table)) if arguments.name is None else check_name(arguments.name, "--name")
    size = file.stat().st_size
    if size > LARGE:
        print(
            f"reading {arguments.table}: {size / 1e6:,.0f} MB, some seconds for each hundred",
            file=sys.stderr,
            flush=True,
        )
    asks = sys.stdin.isatty() and not arguments.yes
    table = read_own(arguments.table)
    found = _surveyed(arguments, table, asks)
    wanted = Wanted(name, nodes_of(arguments.nodes, asks))
    owner = owner_of(asks, POLICY)
    config = write_draft(found, wanted)
    schema = _accepted(files.config, config)
    ward = draft_mapping(table, name_in(files.ward, arguments.table), schema, BY_INIT).text
    _write(zip(files, (config, write_policy(found, wanted, owner), ward)), arguments.force)
    warnings = [_WARNING.format(out=files.config), *found.warnings]
    if not evaluation_every(found, wanted):
        warnings.append(f"no evaluation by the nodes: {NO_EVALUATION}")
    if size > LARGE:
        print("reading it again as a node does: all rows", file=sys.stderr, flush=True)
    warnings += _refused_by_nodes(files)
    if not table.plain:
        warnings.append(
            f"nodes read CSV with commas, points in decimals and UTF-8: this table through {files.ward}, others through a "
            "description of their own (edgeward data map)"
        )
    about = _about(found, table, warnings, _next(files, name, found))
    if arguments.json:
        written = {"config": str(files.config), "policy": str(files.policy), "description": str(files.ward)}
        print(json.dumps({**written, "name": name, **about}, indent=1))
    else:
        _show(arguments.table, files, found, about)
    return 0


def _files(out: Path, table: Path, force: bool) -> _Files:
    from orchestrator.errors import UsageError

    files = _Files(out, out.with_name(POLICY), out.with_name(WARD))
    if len(set(files)) < len(files):
        raise UsageError(
            f"--out {out}: the name of the file for a node's owner that is written beside it; name another one"
        )
    for path in files:
        option = "--out " if path == out else ""
        if path.exists() and not force:
            raise UsageError(
                f"{option}{path}: it exists, and is not overwritten; name another file (--out; {POLICY} and {WARD} are written "
                "beside it), remove it, or say --force"
            )
        check_output(path, option.strip() or str(path), {"the table": table})
    return files


def _surveyed(arguments: argparse.Namespace, table: Table, asks: bool) -> Survey:
    from orchestrator.errors import UsageError
    from orchestrator.gateway.survey import survey

    label = arguments.label or label_of(table, asks)
    found = survey(table, label, arguments.patient or "")
    if asks and not arguments.patient:
        whose = asked("which column says whose record a row is, where patients have several", found.patient or "none")
        if whose not in (found.patient, "none"):
            found = survey(table, label, whose)
    if not found.columns:
        raise UsageError(f"{arguments.table}: no column is left to learn from:\n" + "\n".join(_left_out(found)))
    if not found.complete:
        raise UsageError(
            f"{arguments.table}: no row has both a value of {found.label!r} and all that is used:\n"
            + "\n".join(_left_out(found))
        )
    return found


def _accepted(out: Path, text: str) -> Schema:
    """Its schema; UsageError for what a gateway would not accept, so that only what it would is written."""
    import tempfile

    from orchestrator.errors import UsageError
    from orchestrator.gateway.config import load_config

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / out.name
        draft.write_text(text, encoding="utf-8")
        try:
            schema = load_config(draft).task.schema
        except UsageError as error:
            reason = str(error).replace(str(draft), out.name)
            raise UsageError(f"these columns make no edgeward.toml that a gateway accepts: {reason}") from error
    return schema


def _write(files: Iterable[Tuple[Path, str]], force: bool) -> None:
    """All of them or none: what is left of a first try would be in the way of the next."""
    from orchestrator.errors import UsageError
    from orchestrator.files import new_file, replace_file

    if force:
        for path, text in files:
            replace_file(path, text.encode())
        return
    try:
        with ExitStack() as stack:
            for path, text in files:
                stack.enter_context(new_file(path)).write_text(text, encoding="utf-8")
    except FileExistsError as error:
        raise UsageError(f"{error.filename}: it exists, and is not overwritten") from error


def _refused_by_nodes(files: _Files) -> List[str]:
    """What a node would have against this table, as the drafts describe it: what is read leniently here need not be there."""
    from orchestrator.data.dataset import load_dataset
    from orchestrator.errors import DataError
    from orchestrator.gateway.config import load_config

    try:
        load_dataset(files.ward, load_config(files.config).task.schema)
    except DataError as error:
        return [f"a node would refuse this file: {error}"]
    return []


def _next(files: _Files, name: str, found: Survey) -> List[str]:
    units = f"--patients {found.patients}" if found.patient else f"--rows {found.rows}"
    config, policy, ward = (shlex.quote(str(path)) for path in files)
    return [
        f"edgeward privacy plan {config} {units}",
        f"edgeward doctor {config}",
        f"edgeward gateway run {config} --out federation",
        f"edgeward node run --broker mqtt://127.0.0.1:1883 --federation {name} --name site-1 --data {ward} --policy {policy} "
        "--state site-1",
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
    from orchestrator.data.cells import shown

    return [f"  left out {shown(name)}: {why}" for name, why in found.left_out]


def _show(table: Path, files: _Files, found: Survey, about: Dict[str, Any]) -> None:
    from orchestrator.cli.tables import say

    say("; ".join([f"{table}: {many(found.rows, 'row')}", *about["assumed"]]))
    if found.complete < found.rows:
        say(f"  {found.rows - found.complete:,} of them lack a value that is used, and are dropped in training")
    values = ", ".join(name if name == value else f"{name} ({value})" for name, value in found.classes)
    say(f"learns {found.label!r}: {values}")
    if found.patient:
        say(f"protects patients: {found.patient!r} says whose record it is ({many(found.patients, 'patient')})")
    for column in found.columns:
        what = ", ".join(column.categories) or f"{column.minimum:g} to {column.maximum:g}"
        missing = f"; {column.missing:,} missing" if column.missing else ""
        say(f"  {column.name}: {column.kind}, {what}{missing}" + (f"; {column.note}" if column.note else ""))
    for line in _left_out(found):
        say(line)
    for warning in about["warnings"]:
        say(f"warning: {warning}")
    say(f"wrote {files.config}, and for the owner of a node with this table {files.policy} and {files.ward}. Next:")
    for step in about["next"]:
        say(f"  {step}")
