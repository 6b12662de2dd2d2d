"""`edgeward board simulate`: a virtual board until Ctrl-C."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from orchestrator.cli.arguments import MOST, check_output, whole_within


def register(verbs: Any) -> None:
    simulate = verbs.add_parser(
        "simulate",
        help="run a virtual board until Ctrl-C; prints its port",
        description="run a virtual board until Ctrl-C; prints its port",
    )
    simulate.add_argument("--model", type=Path, metavar="PATH", help="bundle folder or model.bin for slot a")
    simulate.add_argument("--flash", type=Path, metavar="FILE", help="the flash, kept afterwards (default: a new one)")
    simulate.add_argument(
        "--arena", type=whole_within(1, MOST), metavar="BYTES", help="give the engine no more (default: 1 MiB)"
    )
    simulate.add_argument("--samples", type=Path, metavar="FILE", help="int16 values that its source `file` plays")
    simulate.add_argument(
        "--allow-recording", action="store_true", help="as of `edgeward flash`: it may send raw samples"
    )
    simulate.add_argument("--pins", type=Path, metavar="FILE", help="add each change of a pin that rules drive to it")
    simulate.add_argument("--hooks", type=Path, metavar="FILE.cpp", help="one's own sensor and action (docs/hooks.md)")
    simulate.add_argument(
        "--network", action="store_true", help="with firmware that has a network (needs libmosquitto-dev to build)"
    )
    simulate.add_argument(
        "--mlperf",
        type=Path,
        metavar="FOLDER",
        help="also simulate MLPerf Tiny's interface board, which plays the WAV files of FOLDER to it; prints its port, too",
    )
    simulate.add_argument("--json", action="store_true", help="print JSON instead of text")
    simulate.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import contextlib
    import tempfile
    import time

    from orchestrator.boards.mlperf_interface import MlperfInterface, give_pins, wav_files
    from orchestrator.boards.partitions import FLASH_BYTES
    from orchestrator.boards.virtual import VirtualBoard
    from orchestrator.cli.board_rule import check_pins
    from orchestrator.cli.model_files import read_file, read_model_bin
    from orchestrator.cli.stopping import Stopped, stop_on_sigterm
    from orchestrator.errors import EdgewardError, GivenError, UsageError

    model = read_model_bin(args.model) if args.model is not None else None
    if args.samples is not None and len(read_file(args.samples) or b"0") % 2:
        raise GivenError(f"--samples {args.samples}: empty, or no whole number of int16 values")
    if args.mlperf is not None and (args.samples is not None or args.pins is not None):
        raise UsageError(
            "--mlperf: the interface board plays sound and times pins by itself: leave --samples and --pins out"
        )
    if args.mlperf is not None and not (args.mlperf.is_dir() and wav_files(args.mlperf)):
        raise GivenError(f"--mlperf {args.mlperf}: no folder with a WAV file")
    check_output(args.flash, "--flash", size=FLASH_BYTES)
    check_pins(args.pins)
    try:
        with stop_on_sigterm(), contextlib.ExitStack() as stack:
            interface = None
            if args.mlperf is not None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeward-mlperf-"))
                interface = stack.enter_context(MlperfInterface(args.mlperf, Path(folder)))
            board = stack.enter_context(
                VirtualBoard(
                    model,
                    flash=args.flash,
                    arena_bytes=args.arena,
                    samples=args.samples if interface is None else interface.samples,
                    recording=args.allow_recording,
                    pins=args.pins if interface is None else interface.pins,
                    hooks=args.hooks,
                    network=args.network,
                )
            )
            if interface is not None:
                give_pins(board.port)
            if args.json:
                found = {"port": board.port, "simulated": True, "flash": str(board.flash)}
                both = found if interface is None else {**found, "mlperf_interface": interface.port}
                print(json.dumps(both), flush=True)
            else:
                print(f"a virtual board is at {board.port}; Ctrl-C ends it", flush=True)
                if interface is not None:
                    print(f"MLPerf Tiny's interface board, simulated, is at {interface.port}", flush=True)
            while board.running():
                time.sleep(0.2)
    except (KeyboardInterrupt, Stopped):
        return 0
    raise EdgewardError("the virtual board ended by itself")
