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
    simulate.add_argument("--json", action="store_true", help="print JSON instead of text")
    simulate.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import time

    from orchestrator.boards.partitions import FLASH_BYTES
    from orchestrator.boards.virtual import VirtualBoard
    from orchestrator.cli.board_rule import check_pins
    from orchestrator.cli.model_files import read_file, read_model_bin
    from orchestrator.cli.stopping import Stopped, stop_on_sigterm
    from orchestrator.errors import EdgewardError, GivenError

    model = read_model_bin(args.model) if args.model is not None else None
    if args.samples is not None and len(read_file(args.samples) or b"0") % 2:
        raise GivenError(f"--samples {args.samples}: empty, or no whole number of int16 values")
    check_output(args.flash, "--flash", size=FLASH_BYTES)
    check_pins(args.pins)
    with VirtualBoard(
        model,
        flash=args.flash,
        arena_bytes=args.arena,
        samples=args.samples,
        recording=args.allow_recording,
        pins=args.pins,
        hooks=args.hooks,
        network=args.network,
    ) as board:
        if args.json:
            print(json.dumps({"port": board.port, "simulated": True, "flash": str(board.flash)}), flush=True)
        else:
            print(f"a virtual board is at {board.port}; Ctrl-C ends it", flush=True)
        try:
            with stop_on_sigterm():
                while board.running():
                    time.sleep(0.2)
        except (KeyboardInterrupt, Stopped):
            return 0
    raise EdgewardError("the virtual board ended by itself")
