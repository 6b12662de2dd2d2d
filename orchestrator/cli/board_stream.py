"""`edgeward board stream`: the model of a board on samples of the board's own source."""

from __future__ import annotations

import argparse
import re
from typing import Any, Dict

from orchestrator.cli.arguments import number, seconds, whole_within

_EPILOG = """examples:
  edgeward board stream /dev/ttyUSB0 begin --source mic --rate 16000 --hop 1 --agree 3 --least 0.9 --keep
  edgeward board stream /dev/ttyUSB0 off

`edgeward board monitor` shows the detections; rules (`edgeward board rule`) act on the windows. docs/serial.md, "Streams", says
what a window and a detection are."""

_OF_BEGIN = ("source", "rate", "counts_per_unit", "hop", "agree", "least", "keep")


def register(verbs: Any) -> None:
    parser = verbs.add_parser(
        "stream",
        help="run the model of a board on samples of its own sensor or microphone, also after each restart",
        description="Run the model of a board on samples of a source of its own, until it is ended or restarts; kept, it begins "
        "again by itself with the model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("port", metavar="PORT", help="serial port, such as /dev/ttyUSB0")
    parser.add_argument(
        "action",
        choices=("begin", "off", "forget"),
        help="begin a stream; end it until the next restart; or end it and let none begin by itself",
    )
    how = parser.add_argument_group("how, for begin")
    how.add_argument("--source", metavar="NAME", help="imu, adc, mic or user; file where the board is virtual")
    how.add_argument("--rate", type=whole_within(1, 48_000), metavar="HZ", help="samples a second")
    how.add_argument(
        "--counts-per-unit",
        type=whole_within(1, 1_000_000),
        metavar="N",
        help="of the model's training data (default: 1)",
    )
    how.add_argument(
        "--hop",
        type=whole_within(0, 1_000_000),
        metavar="N",
        help="samples, or steps of sound, from one window to the next (default: 0, as many as a window has)",
    )
    how.add_argument(
        "--agree", type=whole_within(1, 1000), metavar="N", help="windows in a row for a detection (default: 1)"
    )
    how.add_argument("--least", type=number, metavar="P", help="least probability of each, 0 to 1 (default: 0)")
    how.add_argument(
        "--keep",
        action="store_true",
        default=None,
        help="begin it again by itself, with this model, after every restart",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="how long to wait for an answer (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from orchestrator.boards.client import BoardClient
    from orchestrator.cli.tables import report
    from orchestrator.errors import EdgewardError

    _check(args)
    found: Dict[str, Any] = {"port": args.port, "action": args.action}
    with BoardClient(args.port, timeout_s=args.timeout) as board:
        before = board.info()
        if before["model"] and "stream_kept" not in before and (args.keep or args.action == "forget"):
            raise EdgewardError(
                f"{args.port}: its firmware keeps no streams: `edgeward flash --everything` brings this version's"
            )
        if args.action == "begin":
            found.update(
                board.stream(
                    counts_per_unit=args.counts_per_unit or 1,
                    hop=args.hop or 0,
                    agree=args.agree or 1,
                    least_confidence=args.least or 0.0,
                    source=args.source,
                    rate_hz=args.rate,
                )
            )
            found.pop("command", None)
            if args.keep:
                board.keep_stream()
        else:
            if args.action == "forget":
                board.forget_stream()
            board.stream_off()
        info = board.info()
    if args.keep and not info.get("stream_kept"):
        raise EdgewardError(f"{args.port}: the stream runs, and was not kept: try again")
    found["kept_is_this"] = bool(args.keep) if args.action == "begin" else None
    found.update(model=info["model"], stream=info.get("stream"), kept=info.get("stream_kept"))
    report(args.json, found, _as_text(args.port, found))
    return 0


def _check(args: argparse.Namespace) -> None:
    from orchestrator.errors import UsageError

    given = [name for name in _OF_BEGIN if getattr(args, name) is not None]
    if args.action != "begin" and given:
        raise UsageError(f"stream {args.action} takes no --{given[0].replace('_', '-')}")
    if args.action == "begin" and (args.source is None or args.rate is None):
        raise UsageError("stream begin takes --source, of the board, and --rate, in samples a second")
    if args.source is not None and not re.fullmatch("[a-z0-9_]{1,16}", args.source):
        raise UsageError(f"--source {args.source!r}: a source is imu, adc, mic, user or file")
    if args.least is not None and not 0 <= args.least <= 1:
        raise UsageError(f"--least {args.least:g}: a probability is 0 to 1")


def _as_text(port: str, found: Dict[str, Any]) -> str:
    kept = "kept: it begins by itself with this model" if found["kept"] else "none begins by itself with this model"
    if found["kept"] is None:
        kept = "its firmware keeps none"
    elif found["kept"] and found["kept_is_this"] is False:
        kept = "one was kept before, and that one begins by itself with this model"
    if found["stream"] is False:
        return f"{port}: no stream runs; {kept}"
    if found["action"] != "begin":
        return f"{port}: a stream runs; {kept}"
    window, channels, hop = (found[name] for name in ("window_samples", "channels", "hop_samples"))
    return f"{port}: windows of {window} samples ({channels} channels), every {hop}; {kept}"
