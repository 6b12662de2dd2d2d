"""A signed program for boards: a header of 256 bytes, then the image. firmware/core/firmware_file.h is the other side.

A program is signed by a key for programs only: who signs models and orders cannot replace what keeps raw samples on a board. The
signature has a context of its own, also where somebody uses one key for both.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.boards.flash_images import app_image
from orchestrator.boards.partitions import PROGRAM_CAPACITY
from orchestrator.errors import GivenError
from orchestrator.wire.special_files import read_file

HEADER_BYTES = 256
TRIAL_S = 300
LEAST_TRIAL_S, MOST_TRIAL_S = 10, 3600
HOST = "host"
"""The chip of virtual boards, whose programs are executables of this machine."""
_MAGIC = b"EWFW"
_CONTEXT = b"edgeward firmware 1\n"
_SIGNED = struct.Struct("<4sHHII32s16s32s96x")
_ELF = b"\x7fELF"
_ELF_KIND = slice(4, 6), slice(18, 20)
"""Of how many bits, in which order of bytes, and for which processor."""
_DESCRIPTION_AT = 32  # of the application, after the header of the image and of its first segment
_DESCRIPTION = struct.Struct("<I12x32s")
_DESCRIPTION_MAGIC = 0xABCD5432


class FirmwareError(GivenError):
    """Not a program for boards. The message names the file."""


@dataclass(frozen=True)
class Firmware:
    """A whole file, as it goes to boards."""

    content: bytes = field(repr=False)
    chip: str
    version: str
    """Text for people; nothing depends on it."""
    trial_s: int
    """A board goes back when nobody gave the new program an order for so many seconds."""

    @property
    def image(self) -> bytes:
        return self.content[HEADER_BYTES:]

    @property
    def digest(self) -> str:
        """The first 8 bytes of the SHA-256 of the image, as boards name it."""
        return hashlib.sha256(self.image).hexdigest()[:16]


def sign_firmware(
    image: bytes, chip: str, version: str, key: Ed25519PrivateKey, trial_s: int = TRIAL_S, name: str = "the image"
) -> Firmware:
    """Raises FirmwareError for what no board would take."""
    image += b"\xff" * (-len(image) % 4)
    _check(len(image), trial_s, chip, version, name)
    texts = [text.encode("ascii") for text in (chip, version)]
    head = _SIGNED.pack(_MAGIC, 1, HEADER_BYTES, len(image), trial_s, hashlib.sha256(image).digest(), *texts)
    return Firmware(head + key.sign(_CONTEXT + head) + image, chip, version, trial_s)


def _check(image_bytes: int, trial_s: int, chip: str, version: str, name: str) -> None:
    """As a board does. Raises FirmwareError."""
    if not 0 < image_bytes <= PROGRAM_CAPACITY or image_bytes % 4:
        raise FirmwareError(
            f"{name}: {image_bytes:,} bytes; a program of 1 to {PROGRAM_CAPACITY:,} fits its place in flash"
        )
    if not LEAST_TRIAL_S <= trial_s <= MOST_TRIAL_S:
        raise FirmwareError(f"a trial of {trial_s} s: {LEAST_TRIAL_S} to {MOST_TRIAL_S} seconds")
    for what, text, most in (("chip", chip, 16), ("version", version, 31)):
        if not 1 <= len(text) <= most or not all("!" <= letter <= "~" and letter not in '"\\' for letter in text):
            raise FirmwareError(
                f"{what} {text[:40]!r}: 1 to {most} letters of ASCII without spaces, quotes and backslashes"
            )


def read_firmware(path: Path) -> Optional[Firmware]:
    """The signed program in a file; None where the file is something else. Raises FirmwareError for a damaged one."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            return parse_firmware(_MAGIC + file.read(), str(path))
    except OSError as error:
        raise FirmwareError(f"{path}: {error.strerror}") from error


def parse_firmware(content: bytes, name: str) -> Firmware:
    """Says nothing about its signature. Raises FirmwareError where the file is damaged."""
    if len(content) < HEADER_BYTES or not content.startswith(_MAGIC):
        raise FirmwareError(
            f"{name}: is no signed program for boards, or truncated; `edgeward board firmware` makes one"
        )
    head, image = content[: _SIGNED.size], content[HEADER_BYTES:]
    _, version, header_bytes, image_bytes, trial_s, digest, chip, text = _SIGNED.unpack(head)
    if (version, header_bytes) != (1, HEADER_BYTES):
        raise FirmwareError(f"{name}: version {version} of the file, this edgeward knows 1")
    if image_bytes != len(image) or hashlib.sha256(image).digest() != digest:
        raise FirmwareError(
            f"{name}: {len(image):,} bytes of image are not what the header announces: truncated or damaged"
        )
    texts = [each.rstrip(b"\0").decode("ascii", "replace") for each in (chip, text)]
    _check(len(image), trial_s, texts[0], texts[1], name)
    return Firmware(content, texts[0], texts[1], trial_s)


@dataclass(frozen=True)
class Image:
    """What a build left: bytes for the place of a program, and for which chip."""

    data: bytes
    chip: str
    version: str
    """As the image says of itself; empty where it does not."""


def read_image(path: Path) -> Image:
    """From a build folder of PlatformIO or idf.py, from its firmware.bin, or an executable of a virtual board.

    Raises ImageError, FirmwareError.
    """
    if not path.is_dir():
        try:
            content = read_file(path)
        except OSError as error:
            raise FirmwareError(f"{path}: {error.strerror}") from error
        if content.startswith(_ELF):
            here = Path("/proc/self/exe").read_bytes()[:20]
            if any(content[each] != here[each] for each in _ELF_KIND):
                raise FirmwareError(
                    f"{path}: an executable of another processor; of a build for a chip name its firmware.bin"
                )
            return Image(content, HOST, "")
    data, chip = app_image(path)
    magic, version = _DESCRIPTION.unpack_from(data.ljust(_DESCRIPTION_AT + _DESCRIPTION.size, b"\0"), _DESCRIPTION_AT)
    known = version.partition(b"\0")[0] if magic == _DESCRIPTION_MAGIC else b""
    return Image(data, chip, known.decode("ascii", "replace"))
