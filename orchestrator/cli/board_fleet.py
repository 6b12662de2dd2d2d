"""`edgeward board fleet`: boards on a network, which has which model, orders to them, and new models and programs in stages."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

from orchestrator.cli.arguments import broker_url, number, seconds
from orchestrator.cli.board_fleet_link import linked
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from orchestrator.boards.fleet_file import Fleet
    from orchestrator.boards.fleet_link import FleetLink, Presence
    from orchestrator.boards.rollout import BoardResult, Cargo

_EPILOG = """examples:
  edgeward board fleet list --fleet fleet --broker mqtts://gateway:8883 --identity operator
  edgeward board fleet update out/demo/bundle --key models.key --stages 5,25,100 --fleet fleet --broker ...
  edgeward board fleet order ward-1 rollback --key models.key --fleet fleet --broker ...

--identity is the gateway's, or one that `edgeward node enroll` makes of the token of `edgeward gateway invite fleet:NAME`.
Ctrl-C ends a roll-out: boards whose update has begun finish it, no other begins, and the same command goes on later."""

_HEADS = (
    "board",
    "presence",
    "model",
    "name",
    "state",
    "signature",
    "chip",
    "simulated",
    "firmware",
    "program",
    "foreign",
)

_ANSWERS = {
    "info": "info",
    "metrics": "metrics",
    "metrics clear": "metrics",
    "metrics rate MS": "ok",
    "drift rows N": "ok",
    "selftest": "selftest",
    "reload": "model",
    "rollback": "ok",
    "reboot": "reboot",
}
"""Kind of the record that answers an order, of every one there is."""


def register(verbs: Any) -> None:
    fleet = verbs.add_parser(
        "fleet",
        help="boards on a network: list, order, update in stages, forget",
        description="Boards that are on a network themselves (`edgeward board connect`).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = fleet.add_subparsers(title="commands", metavar="COMMAND", required=True)
    shown = _verb(inner, "list", run_list, "which board is there, and what it runs")
    shown.add_argument("--wait", type=seconds, default=2.0, metavar="S", help="for the broker to say (default: 2)")
    order = _verb(inner, "order", run_order, "send one board a signed order and show its answer")
    order.add_argument("board", metavar="NAME", help="whose order it is")
    order.add_argument(
        "command",
        nargs="+",
        metavar="COMMAND",
        help=", ".join(_ANSWERS),
    )
    update = _verb(inner, "update", run_update, "a new model or program to all boards, or some, in stages")
    update.add_argument(
        "model", type=Path, metavar="BUNDLE|model.bin|FIRMWARE", help="what they get; a model signed by --key"
    )
    update.add_argument("--boards", metavar="A,B", help="only these (default: all of the fleet)")
    update.add_argument(
        "--stages",
        type=_stages,
        default=(5.0, 25.0, 100.0),
        metavar="P,P,100",
        help="percent of the boards at the end of each (default: 5,25,100)",
    )
    update.add_argument(
        "--failures", type=int, default=0, metavar="N", help="it ends when more than N boards failed (default: 0)"
    )
    update.add_argument(
        "--watch",
        type=number,
        default=10.0,
        metavar="S",
        help="seconds between stages, then all are asked (default: 10)",
    )
    update.add_argument(
        "--retry", type=seconds, default=120.0, metavar="S", help="wait for a board lost on the way (default: 120)"
    )
    forget = inner.add_parser(
        "forget",
        help="take a board that is lost or broken out of the fleet",
        description="Remove a board's secret from the fleet's file, without the board and without a broker: orders and updates "
        "leave it out. The board is not asked, and keeps its place and its certificate: at the gateway, in the folder of its "
        "identity, `edgeward gateway revoke board:NAME --identity .` ends its connection. Only `edgeward board connect`, by "
        "cable, makes it one of the fleet again.",
    )
    forget.add_argument("board", metavar="NAME", help="whose secret is removed")
    forget.add_argument("--fleet", required=True, type=Path, metavar="DIR", help="of `edgeward board connect`")
    forget.add_argument("--json", action="store_true", help="print JSON instead of text")
    forget.set_defaults(run=run_forget)
    for parser in (order, update):
        parser.add_argument(
            "--key", required=True, type=Path, metavar="PRIVATE.pem", help="that signs orders and models"
        )
        parser.add_argument(
            "--timeout", type=seconds, default=20.0, metavar="S", help="for each answer of a board (default: 20)"
        )


def _verb(inner: Any, name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = inner.add_parser(name, help=help_text, description=help_text)
    parser.add_argument("--fleet", required=True, type=Path, metavar="DIR", help="of `edgeward board connect`")
    parser.add_argument("--broker", required=True, type=broker_url, metavar="mqtts://HOST", help="where the boards are")
    parser.add_argument(
        "--identity", type=Path, metavar="DIR", help="of `edgeward node enroll` as fleet:NAME, or a gateway's"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)
    return parser


def _stages(text: str) -> Sequence[float]:
    try:
        return tuple(number(part) for part in text.split(","))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text}: percentages with commas between: {error}") from error


def run_list(args: argparse.Namespace) -> int:
    from orchestrator.boards.fleet_journal import Rollouts
    from orchestrator.boards.fleet_link import MOST_STRANGERS

    with linked(args) as link:
        time.sleep(args.wait)
        rows = [_row(link, name) for name in sorted(link.fleet.secrets)]
        strangers = sorted(link.strangers)
    rollouts = Rollouts(args.fleet).read(time.time())
    if args.json:
        said = {"federation": link.fleet.federation, "boards": rows, "strangers": strangers, "rollouts": rollouts}
        print(json.dumps(said))
        return 0
    from orchestrator.cli.tables import table

    print(table([_HEADS, *([_cell(row[name]) for name in _HEADS] for row in rows)]))
    if strangers:
        more = " or more" if len(strangers) >= MOST_STRANGERS else ""
        print(f"{many(len(strangers), 'board')}{more} there, but not in {args.fleet}: {', '.join(strangers[:10])}")
    if rollouts:
        print(_in_words(rollouts[0]))
    return 0


def _in_words(rollout: Dict[str, Any]) -> str:
    """The newest roll-out on a line."""
    if "problem" in rollout:
        return f"last roll-out: {rollout['problem']}"
    state = "no word from it any more" if rollout["state"] == "lost" else rollout["state"]
    counts = ", ".join(f"{count} {name}" for name, count in rollout["counts"].items() if count)
    why = f" ({rollout['why']})" if rollout["why"] else ""
    return f"last roll-out, of {rollout['kind']} {rollout['digest']}: {state}{why}: {counts}"


def _presence(seen: Presence) -> str:
    """As the broker has it: nobody but a board itself can prove that it is there."""
    return "here" if seen.here else "gone" if seen.gone else "unheard"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _row(link: FleetLink, name: str) -> Dict[str, Any]:
    seen = link.presence(name)
    fields = {} if seen.info is None else seen.info.fields
    return {
        "board": name,
        "connected": seen.here,
        "presence": _presence(seen),
        "model": None if seen.info is None else seen.info.model,
        "name": fields.get("name"),
        "state": fields.get("state"),
        "signature": fields.get("signature"),
        "chip": fields.get("chip"),
        "simulated": fields.get("simulated"),
        "firmware": fields.get("firmware"),
        "program": fields.get("program"),
        "foreign": link.foreign[name],
    }


def run_forget(args: argparse.Namespace) -> int:
    from orchestrator.boards.fleet_file import Fleet
    from orchestrator.wire.topics import BOARD

    left = Fleet.forget(args.fleet, args.board)
    revoke = f"edgeward gateway revoke {BOARD}{args.board} --identity ."
    if args.json:
        print(
            json.dumps(
                {"board": args.board, "federation": left.federation, "boards": len(left.secrets), "next": revoke}
            )
        )
        return 0
    print(
        f"{args.board} is out of {args.fleet}, which has {many(len(left.secrets), 'board')} now: it gets no orders and no updates"
    )
    print("  it still has its place and its certificate; at the gateway, in the folder of its identity,")
    print(f"  `{revoke}` ends its connection")
    print(
        "  what the broker keeps of it is listed as of a board that is not in the fleet; `edgeward board connect` puts it in"
    )
    return 0


def run_order(args: argparse.Namespace) -> int:
    from orchestrator.boards.network_board import NetworkBoard
    from orchestrator.boards.orders import Numbers
    from orchestrator.errors import UsageError

    key = _key(args.key)
    command = " ".join(" ".join(args.command).split())
    answered_by = _answer_to(command)
    with linked(args) as link:
        if args.board not in link.fleet.secrets:
            raise UsageError(
                f"{args.board}: {args.fleet} has no such board; it has {', '.join(sorted(link.fleet.secrets)[:10]) or 'none'}"
            )
        board = NetworkBoard(link, args.board, key, Numbers(), timeout_s=args.timeout)
        answer = board.reboot() if command == "reboot" else board.ask(command, answered_by, attempts=1).as_dict()
    answer.pop("mac", None)
    if args.json:
        print(json.dumps({"board": args.board, **answer}))
        return 0
    for name, value in answer.items():
        print(f"{name + ':':<24}{value}")
    return 0


def _answer_to(command: str) -> str:
    """Kind of the record that answers it. UsageError for what is no order, before anybody is asked."""
    from orchestrator.errors import UsageError
    from orchestrator.wire.bounds import near

    for order, answer in _ANSWERS.items():
        words = re.escape(order).replace("MS", "[0-9]+").replace("N", "[0-9]+")
        if re.fullmatch(words, command):
            return answer
    raise UsageError(
        f"{command!r} is no order{near(command, _ANSWERS)}; orders are {', '.join(_ANSWERS)}. A model is sent by `edgeward board "
        "fleet update`, and everything else takes a cable"
    )


def run_update(args: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack

    from orchestrator.boards.fleet_journal import Journal
    from orchestrator.boards.network_board import NetworkBoard
    from orchestrator.boards.orders import Numbers
    from orchestrator.boards.rollout import Outcome, Rollout, Updater
    from orchestrator.cli.stopping import Stopped, stop_on_sigterm

    key = _key(args.key)
    cargo = _cargo(args.model, key)
    rollout = Rollout(cargo.digest, args.stages, args.failures, args.watch, args.retry)
    with ExitStack() as stack:
        link = stack.enter_context(linked(args))
        names = _chosen(args, link.fleet)
        numbers = Numbers()
        time.sleep(1.0)  # for the broker to say who is there

        def board_of(name: str) -> NetworkBoard:
            return NetworkBoard(link, name, key, numbers, timeout_s=args.timeout)

        updater = Updater(link, board_of, cargo, args.retry)
        journal = stack.enter_context(Journal(args.fleet, link.fleet.federation, cargo.kind, rollout, names, _warn))

        def report(result: BoardResult) -> None:
            journal.note(result)
            if not args.json:
                _show(result)

        asked = False
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(rollout.run, names, journal.noting(updater.update), updater.still_well, report)
            try:
                with stop_on_sigterm():
                    results = under_way.result()
            except (KeyboardInterrupt, Stopped):
                asked = True
                rollout.halted.set()
                print("no further board begins; those whose update has begun finish it", file=sys.stderr)
                results = under_way.result()
        journal.end(results, asked)
    counts = {outcome.value: sum(result.outcome is outcome for result in results) for outcome in Outcome}
    well = counts["updated"] + counts["unchanged"] == len(results)
    if args.json:
        rows = [{"board": r.board, "outcome": r.outcome.value, "why": r.why, "stage": r.stage} for r in results]
        print(json.dumps({cargo.kind: cargo.digest, "ok": well, "counts": counts, "boards": rows}))
    else:
        print(", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no board")
    return 0 if well else 1


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _show(result: BoardResult) -> None:
    print(
        f"stage {result.stage}: {result.board} {result.outcome.value}{': ' if result.why else ''}{result.why}",
        flush=True,
    )


def _chosen(args: argparse.Namespace, fleet: Fleet) -> List[str]:
    from orchestrator.errors import UsageError
    from orchestrator.wire.bounds import near

    if not fleet.secrets:
        raise UsageError(f"{args.fleet} has no board: `edgeward board connect --fleet {args.fleet}` puts one in")
    if args.boards is None:
        return sorted(fleet.secrets)
    names = [name.strip() for name in args.boards.split(",")]
    unknown = [name for name in names if name not in fleet.secrets]
    if unknown:
        raise UsageError(f"--boards: {args.fleet} has no {unknown[0]!r}{near(unknown[0], fleet.secrets)}")
    return sorted(set(names))


def _key(path: Path) -> Ed25519PrivateKey:
    from model_export.errors import ExportError
    from model_export.signing import read_private_key
    from orchestrator.errors import UsageError

    try:
        return read_private_key(path)
    except ExportError as error:
        raise UsageError(str(error)) from error


def _cargo(path: Path, key: Ed25519PrivateKey) -> Cargo:
    """A model or a program. UsageError for a model that `key` did not sign: no board would take it. Boards check a program."""
    from model_export.model_bin import ModelBinError
    from model_export.signing import verify_model_bin
    from orchestrator.boards.firmware_file import read_firmware
    from orchestrator.boards.rollout import firmware_cargo, model_cargo
    from orchestrator.cli.model_files import read_model_bin
    from orchestrator.errors import UsageError

    firmware = read_firmware(path)
    if firmware is not None:
        return firmware_cargo(firmware)
    blob = read_model_bin(path)
    try:
        return model_cargo(blob, verify_model_bin(blob, key.public_key()).digest)
    except ModelBinError as error:
        raise UsageError(f"{path}: {error}; `edgeward model sign` signs it") from error
