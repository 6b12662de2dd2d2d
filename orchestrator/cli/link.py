"""`edgeward link`: how many persons two hospitals both have, without either showing the other who they are."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.arguments import check_new_file
from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.data.identifiers import Identifiers

_EPILOG = """example, of hospitals A and B:
  A: edgeward link ask a.csv --columns insurance_no --study icu --key link.key --out question.json
  B: edgeward link answer b.csv --columns insurance_no --study icu --question question.json --show which --out answer.json
  A: edgeward link compare a.csv --columns insurance_no --study icu --key link.key --question question.json \\
       --answer answer.json --out shared.csv

question.json goes to B, answer.json back to A; link.key stays. With --show count A learns the number alone. B learns how many
identifiers A has. What this does not promise: docs/data.md."""

NEWS = 20_000


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "link", help=COMMANDS["link"], epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    ask = verbs.add_parser("ask", help="write the question for the other side, and the key that stays here")
    answer = verbs.add_parser("answer", help="answer the other side's question")
    compare = verbs.add_parser("compare", help="count what is shared, from the answer to one's own question")
    for verb in (ask, answer, compare):
        verb.add_argument(
            "data", type=Path, metavar="FILE", help="a table in any format a node reads, or its description"
        )
        verb.add_argument(
            "--columns",
            nargs="+",
            required=True,
            metavar="COLUMN",
            help="that say who it is, in the same order on both sides",
        )
        verb.add_argument("--study", required=True, metavar="NAME", help="the same on both sides")
        verb.add_argument("--json", action="store_true", help="as JSON")
    for verb in (ask, compare):
        verb.add_argument("--key", type=Path, required=True, metavar="FILE", help="of this exchange; it stays here")
    ask.add_argument("--out", type=Path, required=True, metavar="FILE", help="the question; must not exist")
    ask.set_defaults(run=_ask)
    answer.add_argument("--question", type=Path, required=True, metavar="FILE", help="of the other side")
    answer.add_argument(
        "--show",
        choices=("count", "which"),
        required=True,
        help="what the other side learns: how many are shared, or which of its own",
    )
    answer.add_argument("--out", type=Path, required=True, metavar="FILE", help="the answer; must not exist")
    answer.set_defaults(run=_answer)
    compare.add_argument("--question", type=Path, required=True, metavar="FILE", help="one's own")
    compare.add_argument("--answer", type=Path, required=True, metavar="FILE", help="of the other side")
    compare.add_argument(
        "--out",
        type=Path,
        metavar="FILE.csv",
        help="those of this table that are shared, where the other side shows them",
    )
    compare.set_defaults(run=_compare)


def _ask(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.files import replace_file
    from orchestrator.privacy import linkage

    check_new_file(arguments.out, "--out")
    check_new_file(arguments.key, "--key", {"--out": arguments.out})
    found, key = _read(arguments), linkage.new_key()
    said = linkage.question(found.values, key, arguments.study, _progress)
    replace_file(arguments.key, key.hex().encode() + b"\n", 0o600)
    replace_file(arguments.out, linkage.written(said))
    made = {"file": str(arguments.out), "key": str(arguments.key), "identifiers": len(found.values)}
    report(
        arguments.json,
        made,
        f"{arguments.out}: {len(found.values):,} identifiers, for the other side; {arguments.key} stays here",
    )
    return 0


def _answer(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.files import replace_file
    from orchestrator.privacy import linkage

    check_new_file(arguments.out, "--out")
    asked = linkage.read(arguments.question)
    found = _read(arguments)
    said = linkage.answer(asked, found.values, arguments.study, arguments.show == "which", _progress)
    replace_file(arguments.out, linkage.written(said))
    shown = "which of its own are shared" if arguments.show == "which" else "how many are shared, and not which"
    counts = {"file": str(arguments.out), "asked_for": len(asked["points"]), "identifiers": len(found.values)}
    text = f"{arguments.out}: the other side has {many(len(asked['points']), 'identifier')}; with this file it learns {shown}"
    report(arguments.json, {**counts, "show": arguments.show}, text)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    import csv

    from orchestrator.cli.tables import report
    from orchestrator.errors import UsageError
    from orchestrator.files import new_file
    from orchestrator.privacy import linkage

    if arguments.out is not None:
        check_new_file(arguments.out, "--out")
    key = _key(arguments.key)
    asked, answered = linkage.read(arguments.question), linkage.read(arguments.answer)
    found = _read(arguments)
    order = linkage.order_of(found.values, key, arguments.study, _progress)
    if len(order) != len(asked["points"]):
        raise UsageError(
            f"{arguments.question}: of {len(asked['points'])} identifiers, and the table has {len(order)}: it changed"
        )
    shared = linkage.compared(asked, answered, key, _progress)
    if arguments.out is not None:
        if not answered["which"]:
            raise UsageError(f"--out: the other side shows how many are shared, and not which ({arguments.answer})")
        with new_file(arguments.out) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(arguments.columns)
            for place in shared.places:
                writer.writerow(found.cells[order[place]])
    counts = {"here": shared.asking, "there": shared.asked, "shared": shared.both}
    text = (
        f"{shared.both:,} of {many(shared.asking, 'identifier')} here are among the {shared.asked:,} of the other side"
    )
    wrote = f"\nwrote {arguments.out}" if arguments.out is not None else ""
    report(arguments.json, {**counts, "which": answered["which"]}, text + wrote)
    return 0


def _key(path: Path) -> bytes:
    from orchestrator.errors import UsageError
    from orchestrator.wire.special_files import read_file

    try:
        key = bytes.fromhex(read_file(path).decode("ascii").strip())
    except OSError as error:
        raise UsageError(f"--key {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--key {path}: no key of `edgeward link ask`") from error
    if len(key) != 32:
        raise UsageError(f"--key {path}: no key of `edgeward link ask`")
    return key


def _read(arguments: argparse.Namespace) -> "Identifiers":
    from orchestrator.data.identifiers import identifiers_of
    from orchestrator.data.table import every_row
    from orchestrator.wire.topics import check_name

    check_name(arguments.study, "--study")
    return identifiers_of(arguments.data, every_row(arguments.data), arguments.columns)


def _progress(done: int, of: int) -> None:
    if done % NEWS == 0:
        print(f"{done:,} of {of:,} identifiers", file=sys.stderr, flush=True)
