"""`edgeward board`: everything that is done with one board on a serial port, or with a virtual one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from orchestrator.cli import (
    board_firmware,
    board_fleet,
    board_network,
    board_rule,
    board_simulate,
    board_stream,
    flash,
    monitor,
    record,
)
from orchestrator.cli.arguments import check_output, seconds, whole_within
from orchestrator.cli.commands import COMMANDS
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.boards.client import BoardClient

_EPILOG = """examples:
  edgeward board simulate --model out/demo/bundle      # prints a port to use in place of /dev/ttyUSB0
  edgeward board info /dev/ttyUSB0
  edgeward board verify /dev/ttyUSB0 out/demo/bundle

`edgeward flash` and `edgeward monitor` are short for `edgeward board flash` and `edgeward board monitor`."""

_TIMED_RUNS = 10
MOST_ROWS = 1_000_000
_SIMULATED = "simulated: these are times of this machine, not of a board"


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "board",
        help=COMMANDS["board"],
        description="List, ask, update, measure and simulate boards.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _verb(verbs, "list", run_list, "the serial ports of this machine", port=False)
    _verb(verbs, "info", run_info, "what a board and its model are")
    infer = _verb(
        verbs,
        "infer",
        run_infer,
        "run rows on a board; a model that keeps state begins at its initial one",
    )
    infer.add_argument("--inputs", required=True, type=Path, metavar="X.npy", help="int8, or floats to be quantized")
    infer.add_argument("--outputs", type=Path, metavar="Y.npy", help="write the outputs there, int8 (rows, outputs)")
    bench = _verb(verbs, "bench", run_bench, "measure inferences on a board")
    bench.add_argument(
        "--rows", type=whole_within(1, MOST_ROWS), default=100, metavar="N", help="random rows to run (default: 100)"
    )
    _verb(verbs, "selftest", run_selftest, "let a board run the known answers its model carries")
    verify = _verb(verbs, "verify", run_verify, "compare what a board runs with a bundle")
    verify.add_argument("model", type=Path, metavar="BUNDLE|model.bin", help="what the board should run")
    update = _verb(
        verbs, "update", run_update, "send a new model or program over serial; the board tests it before it takes it"
    )
    update.add_argument(
        "model", type=Path, metavar="BUNDLE|model.bin|FIRMWARE", help="the model or signed program to send"
    )
    key = _verb(verbs, "key", run_key, "the keys whose signature a model or program needs on a board")
    key.add_argument(
        "action", choices=("list", "set", "set-program", "remove", "lock"), help="what to do with the board's keys"
    )
    key.add_argument("file", nargs="?", type=Path, metavar="PUBLIC.pem", help="for set, set-program and remove")
    _verb(verbs, "rollback", run_rollback, "back to the model in the other slot")
    _verb(verbs, "reboot", run_reboot, "restart a board")
    flash.register(verbs)
    monitor.register(verbs)
    record.register(verbs)
    board_rule.register(verbs)
    board_stream.register(verbs)
    board_simulate.register(verbs)
    board_network.register(verbs)
    board_fleet.register(verbs)
    board_firmware.register(verbs)


def _verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], help_text: str, port: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help_text, description=help_text)
    if port:
        parser.add_argument("port", metavar="PORT", help="serial port, such as /dev/ttyUSB0")
        parser.add_argument(
            "--timeout",
            type=seconds,
            default=10.0,
            metavar="S",
            help="how long to wait for the board's answer (default: 10)",
        )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)
    return parser


def run_list(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from orchestrator.boards.ports import find_ports

    ports = find_ports()
    if args.json:
        print(json.dumps([asdict(port) for port in ports]))
    elif not ports:
        print("no serial port on this machine: connect a board, or start one with `edgeward board simulate`")
    for port in [] if args.json else ports:
        print(" ".join(part for part in (str(port), port.usb_id, port.serial_number) if part))
    return 0


def run_info(args: argparse.Namespace) -> int:
    with _board(args) as board:
        _print_fields(args, board.info())
    return 0


def run_reboot(args: argparse.Namespace) -> int:
    with _board(args) as board:
        _print_fields(args, board.reboot())
    return 0


def run_infer(args: argparse.Namespace) -> int:
    import numpy as np

    from orchestrator.cli.model_files import load_numbers, quantized_rows

    check_output(args.outputs, "--outputs", {"--inputs": args.inputs})
    given = load_numbers(args.inputs)
    with _board(args) as board:
        info = _ready(board)
        rows = quantized_rows(given, info, args.inputs)
        answer = board.infer(rows)
    if args.outputs is not None:
        _save(args.outputs, answer.outputs)
    real = (answer.outputs.astype(np.float64) - info["output_zero_point"]) * info["output_scale"]
    if args.json:
        report = {
            "port": args.port,
            "model": info["model"],
            "simulated": info["simulated"],
            "outputs": answer.outputs.tolist(),
            "values": real.tolist(),
            **({} if answer.scores is None else {"scores": answer.scores.tolist()}),
            **({} if answer.over is None else {"over": answer.over.tolist()}),
            "latency_us": answer.latency_us.tolist(),
        }
        print(json.dumps(report))
        return 0
    for row, values in enumerate(real):
        best = int(values.argmax())
        if answer.scores is not None and answer.over is not None:
            print(f"row {row}: score {answer.scores[row]:.6g}{', above the threshold' if answer.over[row] else ''}")
            continue
        if len(values) == 1:
            print(f"row {row}: {values[0]:.6g}")
            continue
        print(f"row {row}: output {best} of {len(values)} is largest, {values[best]:.4f}")
    if args.outputs is not None:
        print(f"{args.outputs}: {many(len(real), 'row')}, int8")
    return 0


def run_bench(args: argparse.Namespace) -> int:
    import time

    import numpy as np

    with _board(args) as board:
        info = _ready(board)
        rows = np.random.default_rng(0).integers(-128, 128, (args.rows, info["input_bytes"])).astype(np.int8)
        board.ask("metrics clear", "metrics")
        started = time.monotonic()
        latency_us = board.infer(rows).latency_us
        seconds = time.monotonic() - started
        metrics = board.metrics()
        stats = board.stats.as_dict()
        ops = _operators(board, min(args.rows, _TIMED_RUNS))
    report = {
        "port": args.port,
        "chip": info["chip"],
        "simulated": info["simulated"],
        "engine": info["engine"],
        "model": info["model"],
        "rows": args.rows,
        "latency_us": {f"p{p}": int(np.percentile(latency_us, p, method="higher")) for p in (50, 95, 99)},
        "rows_per_second_over_serial": round(args.rows / seconds, 1),
        "arena_used_bytes": metrics["arena_used_bytes"],
        "records": stats,
        "ops": ops,
    }
    if args.json:
        print(json.dumps(report))
        return 0
    times = ", ".join(f"{name} {value} us" for name, value in report["latency_us"].items())
    print(f"{args.port}: {info['chip']}, engine/{info['engine']}, model {info['model']}")
    print(f"  inference  {times}" + (f" ({_SIMULATED})" if info["simulated"] else ""))
    print(
        f"  serial     {report['rows_per_second_over_serial']} rows/s, {stats['lost']} lost, {stats['corrupt']} corrupt"
    )
    print(f"  arena      {metrics['arena_used_bytes']} of {metrics['arena_bytes']} bytes")
    whole = sum(op["total_us"] for op in ops)
    for op in ops:
        share = f", {100 * op['total_us'] / whole:.0f} %" if whole else ""
        print(f"  op {op['op']:<8}{op['name']:<14} {op['total_us'] / op['runs']:.1f} us{share}")
    return 0


def _operators(board: BoardClient, runs: int) -> List[Dict[str, Any]]:
    """Time by operator, measured on the model's first known answer; nothing for a model that carries none."""
    from orchestrator.boards.conversation import BoardError

    try:
        return list(board.bench(runs)["ops"])
    except BoardError as error:
        if "no_known_answers" in str(error):
            return []
        raise


def run_selftest(args: argparse.Namespace) -> int:
    with _board(args) as board:
        _ready(board)
        result = board.selftest()
    ok = result["mismatches"] == 0
    if args.json:
        print(json.dumps({"port": args.port, "ok": ok, **result}))
    else:
        print(f"{args.port}: {result['rows'] - result['mismatches']} of {result['rows']} known answers are right")
    return 0 if ok else 1


def run_verify(args: argparse.Namespace) -> int:
    from model_export.model_bin import parse_model_bin
    from orchestrator.cli.model_files import read_model_bin

    packed = parse_model_bin(read_model_bin(args.model))
    with _board(args) as board:
        info = board.info()
        same = info["model"] == packed.digest and info["state"] == "ready"
        can_test = same and packed.known_answers is not None
        result = board.selftest() if can_test else {"rows": 0, "mismatches": 0}
    ok = same and result["mismatches"] == 0
    report = {
        "port": args.port,
        "ok": ok,
        "state": info["state"],
        "board_digest": info["model"],
        "bundle_digest": packed.digest,
        "known_answer_rows": result["rows"],
        "mismatches": result["mismatches"],
    }
    if args.json:
        print(json.dumps(report))
    elif ok:
        print(f"{args.port} runs {packed.name}, digest {packed.digest}; {_right(result['rows'])}")
    elif not same:
        print(f"{args.port} has {info['model'] or 'no model'} ({info['state']}), {args.model} is {packed.digest}")
    else:
        print(f"{args.port}: {result['mismatches']} of {result['rows']} known answers are wrong")
    return 0 if ok else 1


def run_update(args: argparse.Namespace) -> int:
    from orchestrator.boards.firmware_file import read_firmware
    from orchestrator.cli.model_files import read_model_bin

    firmware = read_firmware(args.model)
    blob = b"" if firmware is not None else read_model_bin(args.model)
    with _board(args) as board, flash.ProgressBars(not args.json) as bars:
        if firmware is not None:
            info = board.update_firmware(firmware, lambda sent, total: bars.show("program", sent / total))
        else:
            info = board.update(blob, lambda sent, total: bars.show("model", sent / total))
        _print_fields(args, info)
    return 0


def run_key(args: argparse.Namespace) -> int:
    from model_export.signing import raw_public
    from orchestrator.errors import UsageError
    from orchestrator.wire.pem import model_public_key

    if (args.file is None) != (args.action in ("list", "lock")):
        raise UsageError(f"key {args.action} takes {'a file' if args.file is None else 'no file'}")
    key = b"" if args.file is None else raw_public(model_public_key(args.file))
    with _board(args) as board:
        if args.action == "set":
            found = board.set_key(key)
        elif args.action == "set-program":
            found = board.set_program_key(key)
        elif args.action == "remove":
            found = board.remove_key(key)
        else:
            found = board.lock_keys() if args.action == "lock" else board.keys()
    if args.json:
        print(json.dumps({"port": args.port, **found}))
        return 0
    if found["keys"]:
        print(f"{args.port}: models need a signature of {' or '.join(found['keys'])}")
    else:
        print(f"{args.port}: has no key, so it runs unsigned models")
    program = found.get("program")
    print(f"programs need one of {program}" if program else "no program is accepted over the air")
    print("the keys are locked: only flashing changes them" if found["locked"] else "the keys are not locked")
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    with _board(args) as board:
        _print_fields(args, board.rollback())
    return 0


def _board(args: argparse.Namespace) -> BoardClient:
    from orchestrator.boards.client import BoardClient

    return BoardClient(args.port, timeout_s=args.timeout)


def _ready(board: BoardClient) -> Dict[str, Any]:
    from orchestrator.boards.conversation import BoardError

    info = board.info()
    if info["state"] != "ready":
        raise BoardError(
            f"{board.port}: no model is loaded ({info['state']}); `edgeward flash` or `board update` brings one"
        )
    return info


def _save(path: Path, outputs: np.ndarray) -> None:
    import numpy as np

    from orchestrator.errors import GivenError
    from orchestrator.files import new_file

    try:
        with new_file(path, replaces=True) as fresh, fresh.open("wb") as stream:
            np.save(stream, outputs)
    except OSError as error:
        raise GivenError(f"cannot write {path}: {error.strerror}") from error


def _print_fields(args: argparse.Namespace, fields: Dict[str, Any]) -> None:
    if args.json:
        print(json.dumps({"port": args.port, **fields}))
        return
    model: Optional[str] = fields.get("model")
    print(f"{args.port}: {'simulated ' if fields.get('simulated') else ''}{fields['chip']}, model {model or 'none'}")
    for key, value in fields.items():
        if key not in ("model", "kind", "seq", "chip", "simulated"):
            print(f"  {key:<18} {value}")


def _right(answers: int) -> str:
    return f"{many(answers, 'known answer')} {'is' if answers == 1 else 'are'} right"
