"""`edgeward flash`: a model, or everything, onto a board."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from model_export.chips import CHIPS
from orchestrator.cli.commands import COMMANDS

if TYPE_CHECKING:
    from orchestrator.boards.flash import FlashResult
    from orchestrator.boards.flash_images import Region

_EPILOG = """examples:
  edgeward flash --port /dev/ttyUSB0 --model out/demo/bundle
  edgeward flash --port /dev/ttyUSB0 --model out/demo/bundle --everything --firmware .pio/build/esp32dev

A model alone takes seconds and leaves the firmware as it is. The board restarts afterwards."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "flash",
        help=COMMANDS["flash"],
        description="Write a model, or firmware and model, to an ESP32 over its serial port.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", required=True, help="serial port, such as /dev/ttyUSB0, or socket://host:port")
    parser.add_argument("--model", type=Path, metavar="PATH", help="bundle folder, or model.bin")
    parser.add_argument("--slot", choices=("a", "b"), default="a", help="model slot (default: a)")
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        metavar="PUBLIC.pem",
        help="the board takes only models this key signed (several: one of them); replaces the keys it has",
    )
    parser.add_argument(
        "--program-key",
        type=Path,
        metavar="PUBLIC.pem",
        help="with --key: programs this key signed are accepted over the air (left out: none is)",
    )
    parser.add_argument("--lock-keys", action="store_true", help="with --key: only flashing changes the keys again")
    parser.add_argument(
        "--allow-rules",
        action="store_true",
        help="with --lock-keys: `edgeward board rule` still changes what the board does by itself",
    )
    parser.add_argument(
        "--allow-recording",
        action="store_true",
        help="the board may send raw samples to `edgeward board record`; left out with --key: it may not",
    )
    parser.add_argument(
        "--without-keys",
        action="store_true",
        help="with --allow-recording: the board has no keys, or loses them; its sector holds both",
    )
    parser.add_argument("--everything", action="store_true", help="also bootloader, partition table and app")
    parser.add_argument("--firmware", type=Path, metavar="DIR", help="build folder, such as .pio/build/esp32dev")
    parser.add_argument(
        "--chip",
        choices=("auto", *CHIPS),
        default="auto",
        help="the chip to expect (default: detect it)",
    )
    parser.add_argument("--baud", type=int, help="speed while flashing (default: 460800)")
    parser.add_argument("--no-stub", action="store_true", help="use the chip's ROM loader only: slower, for simulators")
    parser.add_argument(
        "--no-verify", action="store_true", help="leave out the last comparison of all that was written"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from orchestrator.boards.flash import DEFAULT_BAUD, flash

    regions = regions_of(args)
    show = not args.json
    with ProgressBars(show) as bars:
        result = flash(
            args.port,
            regions,
            chip=args.chip,
            baud=args.baud or DEFAULT_BAUD,
            stub=not args.no_stub,
            verify=not args.no_verify,
            progress=bars.update,
        )
    if args.json:
        import json

        print(json.dumps(_report(result, args.slot)))
    else:
        _print(result)
    return 0


def regions_of(args: argparse.Namespace) -> List[Region]:
    from orchestrator.boards.flash_images import firmware_regions, log_region, model_region
    from orchestrator.errors import UsageError

    if args.everything and args.firmware is None:
        raise UsageError("--everything needs --firmware DIR, the build folder with firmware.bin")
    if args.firmware is not None and not args.everything:
        raise UsageError("--firmware is only used with --everything; without it the model alone is written")
    if args.lock_keys and not args.key:
        raise UsageError("--lock-keys is only used with --key")
    if args.program_key is not None and not args.key:
        raise UsageError(
            "--program-key is only used with --key: an update over the air takes orders, which --key signs"
        )
    if args.allow_rules and not args.lock_keys:
        raise UsageError("--allow-rules is only used with --lock-keys: without, rules can be changed anyway")
    if args.allow_recording and not args.key and not args.without_keys:
        raise UsageError(
            "--allow-recording: the sector it is in holds the board's keys too, and is written whole: name them with --key FILE, "
            "or give --without-keys for a board that takes models without a signature"
        )
    if args.without_keys and (args.key or not args.allow_recording):
        raise UsageError("--without-keys is used with --allow-recording, in place of --key")
    if args.model is None and not args.everything and not args.key and not args.without_keys:
        raise UsageError(
            "nothing to flash: give --model PATH, --key FILE, --allow-recording, or --everything --firmware DIR"
        )
    if args.baud is not None and args.baud <= 0:
        raise UsageError(f"--baud {args.baud}: must be positive")
    regions = firmware_regions(args.firmware) if args.everything else []
    if args.model is not None:
        model = model_region(args.model, args.slot)
        regions += [log_region(args.slot), model]
    if args.key or args.without_keys:
        regions.append(_key_region(args))
    return regions


def _key_region(args: argparse.Namespace) -> Region:
    """The keys, after the model that goes with them was found to be signed by one."""
    from model_export.signing import SignatureError, raw_public, verify_model_bin
    from orchestrator.boards.flash_images import Region
    from orchestrator.boards.keys import key_sector
    from orchestrator.boards.partitions import KEYS
    from orchestrator.errors import GivenError
    from orchestrator.wire.pem import model_public_key

    keys = [model_public_key(path) for path in args.key or ()]
    if args.model is not None and keys:
        blob = (args.model / "model.bin" if args.model.is_dir() else args.model).read_bytes()
        refusals = []
        for key in keys:
            try:
                verify_model_bin(blob, key)
            except SignatureError as error:
                refusals.append(str(error))
        if len(refusals) == len(keys):
            raise GivenError(f"{args.model}: the board would refuse it: {refusals[0]}; nothing was written")
    return Region(
        "keys",
        KEYS.offset,
        key_sector(
            [raw_public(key) for key in keys],
            args.lock_keys,
            args.allow_recording,
            args.allow_rules,
            None if args.program_key is None else raw_public(model_public_key(args.program_key)),
        ),
    )


def _report(result: FlashResult, slot: str) -> Dict[str, Any]:
    models = [w.region.model for w in result.written if w.region.model is not None]
    return {
        "port": result.port,
        "chip": result.chip,
        "model": {"name": models[0].name, "digest": models[0].digest, "signed": models[0].signed, "slot": slot}
        if models
        else None,
        "regions": [
            {
                "name": w.region.name,
                "address": w.region.address,
                "bytes": len(w.region.data),
                "skipped": w.skipped,
            }
            for w in result.written
        ],
        "verified": result.verified,
        "seconds": round(result.seconds, 3),
        "warnings": list(result.warnings),
    }


def _print(result: FlashResult) -> None:
    for written in result.written:
        region = written.region
        what = "was there already" if written.skipped else "written"
        about = f" ({region.model.name}, digest {region.model.digest})" if region.model else ""
        print(f"{region.name}{about}: {len(region.data):,} bytes at {region.address:#x} {what}")
    for warning in result.warnings:
        print(f"note: {warning}")
    checked = "verified" if result.verified else "not compared again"
    print(f"{result.chip} on {result.port}: done in {result.seconds:.1f} s, {checked}")


class ProgressBars:
    """One bar per region on a terminal; nothing elsewhere."""

    def __init__(self, show: bool) -> None:
        from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

        from orchestrator.cli.screen import console

        screen = console(stderr=True)
        self._tasks: Dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=screen,
            disable=not (show and screen.is_terminal),
        )

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def update(self, region: Region, part: float) -> None:
        self.show(region.name, part)

    def show(self, name: str, part: float) -> None:
        """`part` of `name` is done, 0 to 1."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=1.0)
        self._progress.update(self._tasks[name], completed=part)
