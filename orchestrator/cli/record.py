"""`edgeward board record`: labelled samples of a board's own sensor, as a file that a node reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from orchestrator.cli.arguments import check_new_file, check_output, number, seconds, whole_within
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.boards.recording import Recording, Source
    from orchestrator.boards.recording_files import Purpose, Written
    from orchestrator.wire.schema import Schema

_EPILOG = """examples:
  edgeward board record /dev/ttyUSB0 --schema out/demo/bundle --source imu --rate 125 --seconds 60 --label walk \\
      --counts-per-unit 16384 --unit g --consent 'p7 agreed in writing, study X' --patient p7 --out walk.npz
  edgeward data validate walk.npz edgeward.toml

A board sends no raw samples unless it was flashed with --allow-recording. Ctrl-C ends a recording and keeps what came."""

_UART_VALUES = 2500
"""Values a second that 115200 baud carry, with what records have around them."""


def register(verbs: Any) -> None:
    parser = verbs.add_parser(
        "record",
        help="labelled raw samples of a board's sensor into a file for a node",
        description="Record raw samples of a board's own source, with a label, as windows in an .npz or as .wav files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("port", metavar="PORT", help="serial port, such as /dev/ttyUSB0")
    parser.add_argument(
        "--schema",
        required=True,
        type=Path,
        metavar="PATH",
        help="bundle folder, or edgeward.toml: whose records these are",
    )
    parser.add_argument(
        "--source", required=True, metavar="NAME", help="of the board: imu, adc, mic; file of a virtual one"
    )
    parser.add_argument(
        "--rate", required=True, type=whole_within(1, 10_000), metavar="HZ", help="samples a second, 1 to 10000"
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=seconds, metavar="S", help="how long")
    length.add_argument("--samples", type=whole_within(1, 2**31 - 1), metavar="N", help="how many, of every channel")
    parser.add_argument("--label", default="", metavar="NAME", help="what it is, a label or a class of the task")
    parser.add_argument("--patient", default="", metavar="ID", help="whose it is, where the task names patients")
    parser.add_argument("--consent", default="", metavar="TEXT", help="who agreed to what; kept in the file; needed")
    parser.add_argument(
        "--counts-per-unit",
        type=number,
        metavar="N",
        help="counts for 1 of what the model sees (default: the task's unit_scale)",
    )
    parser.add_argument("--unit", default="", metavar="TEXT", help="of a value, such as mV; kept in the file")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="FILE.npz, or FILE.wav with FILE.toml")
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="how long to wait for a sample (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from datetime import datetime, timezone

    from orchestrator.boards.client import BoardClient
    from orchestrator.boards.recording import Recording, record
    from orchestrator.boards.recording_files import WAV, check_wav, note_of, write
    from orchestrator.cli.flash import ProgressBars
    from orchestrator.cli.stopping import Stopped, stop_on_sigterm
    from orchestrator.errors import EdgewardError

    _check_files(args)
    purpose = _purpose(args)
    recording = Recording(_source(args, purpose.schema))
    if args.out.suffix == WAV:
        check_wav(args.out, recording.source)
    _say_of_the_line(args, recording.source)
    with BoardClient(args.port, timeout_s=args.timeout) as board:
        about = board.info()
        began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            with stop_on_sigterm(), ProgressBars(not args.json) as bars:
                record(board, recording.source, recording, lambda done, total: bars.show("samples", done / total))
        except (KeyboardInterrupt, Stopped):
            pass  # the ways to end it early; what came is kept
    try:
        written = write(recording, purpose, note_of(recording, purpose, about, began), args.out, args.force)
    except EdgewardError as error:
        raise EdgewardError("; ".join(part for part in (str(error), recording.problem) if part)) from error
    _report(args, recording, purpose, written, bool(about["simulated"]))
    return 1 if recording.problem else 0


def _check_files(args: argparse.Namespace) -> None:
    from orchestrator.boards.recording_files import DESCRIPTION, NPZ, WAV
    from orchestrator.errors import UsageError

    if args.out.suffix not in (NPZ, WAV):
        raise UsageError(f"--out {args.out}: a recording ends with {NPZ} or {WAV}")
    for path in [args.out, *([args.out.with_suffix(DESCRIPTION)] if args.out.suffix == WAV else [])]:
        if args.force:
            check_output(path, "--out")
        elif path.exists():
            raise UsageError(f"--out: {path} exists, and is not overwritten without --force")
        else:
            check_new_file(path, "--out")


def _purpose(args: argparse.Namespace) -> Purpose:
    from orchestrator.boards.recording_files import Purpose, label_of

    schema = _schema(args.schema)
    counts = schema.unit_scale if args.counts_per_unit is None else args.counts_per_unit
    return Purpose(schema, label_of(schema, args.label), args.patient, args.consent, counts, args.unit)


def _schema(path: Path) -> Schema:
    from orchestrator.gateway.config import load_config
    from orchestrator.gateway.described_bundle import read_described

    return read_described(path).schema if path.is_dir() else load_config(path).task.schema


def _source(args: argparse.Namespace, schema: Schema) -> Source:
    from math import ceil

    from orchestrator.boards.recording import Source
    from orchestrator.errors import UsageError

    samples = args.samples if args.samples is not None else ceil(args.seconds * args.rate)
    if samples < schema.samples:
        raise UsageError(f"{samples} samples are less than a window of the task, which has {schema.samples}")
    try:
        return Source(args.source, args.rate, schema.channels, samples)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _say_of_the_line(args: argparse.Namespace, source: Source) -> None:
    import sys

    values = source.rate_hz * source.channels
    if values > _UART_VALUES and not args.json:
        print(
            f"note: {values} values a second are more than 115200 baud carry, about {_UART_VALUES}: expect gaps, unless the "
            "port is the chip's own USB or a virtual board's",
            file=sys.stderr,
        )


def _report(
    args: argparse.Namespace, recording: Recording, purpose: Purpose, written: Written, simulated: bool
) -> None:
    from orchestrator.boards.recording_files import counts_of
    from orchestrator.cli.tables import report

    found: Dict[str, Any] = {
        "port": args.port,
        "simulated": simulated,
        "files": [str(path) for path in written.files],
        "windows": written.windows,
        "label": purpose.label,
        "rate_hz": recording.source.rate_hz,
        "measured_rate_hz": recording.measured_rate_hz,
        **counts_of(recording),
    }
    report(args.json, found, "\n".join(_lines(recording, purpose, written, simulated)))


def _lines(recording: Recording, purpose: Purpose, written: Written, simulated: bool) -> List[str]:
    asked, schema = recording.source.samples, purpose.schema
    gaps = f"{recording.lost_on_the_line} lost on the line, {recording.missed_by_the_board} missed by the board"
    label = f", label {purpose.label}" if purpose.label else ""
    lines = [f"{recording.problem}; what came before is kept"] if recording.problem else []
    lines += [
        f"{', '.join(map(str, written.files))}: {many(written.windows, 'window')} of {schema.samples} samples{label}"
        + (", simulated" if simulated else ""),
        f"  {recording.kept} of {asked} samples came, {gaps}; {recording.kept - written.used} are in no file",
    ]
    if len(recording.segments) > 1:
        lines.append(f"  {many(len(recording.segments), 'piece')} without a gap; no window spans two")
    if recording.clipped:
        lines.append(
            f"  {many(recording.clipped, 'value')} at the end of what 16 bits hold: is the signal too large for the converter?"
        )
    return [*lines, f"Next: edgeward data validate {written.files[0]} edgeward.toml"]
