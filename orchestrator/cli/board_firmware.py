"""`edgeward board firmware`: a program of one's own build, signed, so that boards take it over the air."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from orchestrator.cli.arguments import check_new_file, whole_within

_EPILOG = """examples:
  edgeward board firmware .pio/build/esp32-c3-devkitm-1 --key programs.key --out ward.ewfw
  edgeward board fleet update ward.ewfw --key models.key --fleet fleet --broker ... --identity operator

The board goes back to the program before by itself when the new one crashes, cannot run the model, or has had no order of the
fleet's owner for --trial seconds. docs/wireless.md says more."""


def register(verbs: Any) -> None:
    parser = verbs.add_parser(
        "firmware",
        help="sign a firmware build for updates over the air",
        description="Signs a firmware build, so that boards which trust the key with programs take it over the air.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "image", type=Path, metavar="BUILD|firmware.bin", help="build folder of PlatformIO or idf.py, or its image"
    )
    parser.add_argument(
        "--key",
        required=True,
        type=Path,
        metavar="PRIVATE.pem",
        help="its public half: `board key PORT set-program`",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="the signed file, for `board fleet update`"
    )
    parser.add_argument("--version", metavar="TEXT", help="named in answers (default: as the image says of itself)")
    parser.add_argument(
        "--trial",
        type=whole_within(10, 3600),
        default=300,
        metavar="S",
        help="seconds without an order after which a board goes back (default: 300)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from orchestrator.boards.firmware_file import read_image, sign_firmware
    from orchestrator.errors import UsageError
    from orchestrator.files import new_file
    from orchestrator.wire.pem import model_private_key

    check_new_file(args.out, "--out", {"the image": args.image, "--key": args.key})
    key = model_private_key(args.key)
    image = read_image(args.image)
    version = args.version or image.version
    if not version:
        raise UsageError(f"{args.image}: does not say which version it is: name one with --version")
    firmware = sign_firmware(image.data, image.chip, version, key, args.trial, str(args.image))
    with new_file(args.out) as fresh:
        fresh.write_bytes(firmware.content)
    report = {
        "file": str(args.out),
        "program": firmware.digest,
        "chip": firmware.chip,
        "version": firmware.version,
        "image_bytes": len(firmware.image),
        "trial_s": firmware.trial_s,
    }
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{args.out}: program {firmware.digest}, {version} for {firmware.chip}, {len(firmware.image):,} bytes")
    return 0
