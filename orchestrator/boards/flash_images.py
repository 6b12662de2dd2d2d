"""What goes into a board's flash, checked before a port is opened: a model for a slot, and a firmware build.

Image format: ESP-IDF API guide, "App Image Format".
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from model_export.chips import CHIPS
from orchestrator.boards.partitions import (
    APP,
    MODEL_CAPACITY,
    OTA_DATA,
    SECTOR_BYTES,
    SLOTS,
    TABLE_OFFSET,
    PartitionError,
    build_table,
    parse_table,
)
from orchestrator.errors import GivenError
from orchestrator.wire.board_records import parse_object
from orchestrator.wire.plain import plain

_NAMES = {chip.image_id: name for name, chip in CHIPS.items()}

_HEADER_BYTES = 24
_CHECKSUM_SEED = 0xEF


class ImageError(GivenError):
    """A file that must not be flashed: truncated, damaged, too large, or for something else."""


@dataclass(frozen=True)
class ModelInfo:
    name: str
    digest: str
    """The model digest serial records carry: 16 hex digits."""
    signed: bool


@dataclass(frozen=True)
class Region:
    """Bytes for one place in flash."""

    name: str
    address: int
    data: bytes
    chip: Optional[str] = None
    """The only chip these bytes work on; None when any will do."""
    model: Optional[ModelInfo] = None

    @property
    def end(self) -> int:
        """Up to here flash is erased."""
        return self.address + -(-len(self.data) // SECTOR_BYTES) * SECTOR_BYTES


def model_region(path: Path, slot: str = "a") -> Region:
    """The model.bin at `path` (a file, or a bundle's folder) for slot "a" or "b".

    Raises ImageError when it is missing, too large for the slot, or not exactly what was exported.
    """
    from model_export.errors import ExportError
    from model_export.model_bin import model_bin_of, parse_model_bin

    try:
        path = model_bin_of(path)
    except ExportError as error:
        raise ImageError(str(error)) from error
    blob = _read(path)
    if len(blob) > MODEL_CAPACITY:
        raise ImageError(
            f"{path}: {len(blob):,} bytes do not fit slot {slot}, which holds {MODEL_CAPACITY:,}; "
            "use a smaller model, or export it without the plan or with fewer known answers"
        )
    try:
        model = parse_model_bin(blob)
    except ExportError as error:
        raise ImageError(f"{path}: {error}; nothing was flashed") from error
    info = ModelInfo(model.name, model.digest, model.signature is not None)
    return Region(f"model slot {slot}", SLOTS[slot].offset, blob, model=info)


def log_region(slot: str = "a") -> Region:
    """The erased log of a slot, to be written before its model: what was noted there is about the model before.

    A model without an entry in the log is one a flasher brought, and the board tries it first (docs/serial.md).
    """
    return Region(f"log of slot {slot}", SLOTS[slot].offset + MODEL_CAPACITY, b"\xff" * SECTOR_BYTES)


def firmware_regions(folder: Path) -> List[Region]:
    """App, partition table and bootloader from a build folder of PlatformIO (`.pio/build/ENV`) or idf.py (`build`), as they go.

    The bootloader comes last: until then, a new board whose flash was interrupted waits in its ROM.
    Raises ImageError for a missing, damaged or mixed-up file, and for a build with another flash layout.
    """
    if not folder.is_dir():
        raise ImageError(
            f"{folder}: no such folder; build the firmware with `pio run -e ENV` and pass .pio/build/ENV, or with `idf.py build` "
            "and pass build"
        )
    files = _built(folder)
    app = _image(files.app, APP.size)
    bootloader = _image(files.bootloader, TABLE_OFFSET)
    if app.chip != bootloader.chip:
        raise ImageError(f"{folder}: {files.app.name} is for {app.chip}, {files.bootloader.name} for {bootloader.chip}")
    if app.chip not in CHIPS:
        raise ImageError(f"{folder}: built for {app.chip}; Edgeward runs on {', '.join(CHIPS)}")
    start = CHIPS[app.chip].bootloader
    if start + len(bootloader.data) > TABLE_OFFSET:
        raise ImageError(f"{files.bootloader}: runs into the partition table at {TABLE_OFFSET:#x}")
    return [
        Region("app", APP.offset, app.data, app.chip),
        Region("partition table", TABLE_OFFSET, _table(files.table), app.chip),
        Region("choice of program", OTA_DATA.offset, b"\xff" * OTA_DATA.size),
        Region("bootloader", start, bootloader.data, app.chip),
    ]


def app_image(path: Path) -> Tuple[bytes, str]:
    """The program of a build folder, or of its image file, and the chip it is for. Raises ImageError."""
    image = _image(_built(path).app if path.is_dir() else path, APP.size)
    if image.chip not in CHIPS:
        raise ImageError(f"{path}: built for {image.chip}; Edgeward runs on {', '.join(CHIPS)}")
    return image.data, image.chip


class _Built(NamedTuple):
    app: Path
    bootloader: Path
    table: Path


_FLASHER_ARGS = "flasher_args.json"
"""What idf.py leaves in its build folder: which file goes where."""
_MOST_ARGS_BYTES = 1 << 16


def _built(folder: Path) -> _Built:
    """The three files of a build folder, as PlatformIO names them, or as idf.py says in flasher_args.json."""
    listed = folder / _FLASHER_ARGS
    if (folder / "firmware.bin").exists() or not listed.exists():
        return _Built(folder / "firmware.bin", folder / "bootloader.bin", folder / "partitions.bin")
    content = parse_object(_read(listed), _MOST_ARGS_BYTES)
    if content is None:
        raise ImageError(f"{listed}: is no JSON object; build again with `idf.py build`")
    found = []
    for part, address in (("app", APP.offset), ("bootloader", None), ("partition-table", TABLE_OFFSET)):
        said = content.get(part)
        entry: Dict[str, Any] = said if isinstance(said, dict) else {}
        name = entry.get("file")
        if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ImageError(f"{listed}: names no file for {part}; build again with `idf.py build`")
        if address is not None and entry.get("offset") not in (hex(address), str(address)):
            raise ImageError(
                f"{listed}: puts {part} at {plain(entry.get('offset'))}, Edgeward's layout has it at {address:#x}: build with "
                "firmware/hal/esp32/sdkconfig.defaults"
            )
        found.append(folder / name)
    return _Built(*found)


@dataclass(frozen=True)
class _Image:
    data: bytes
    chip: str


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error


def _table(path: Path) -> bytes:
    blob = _read(path)
    try:
        same = parse_table(blob) == parse_table(build_table())
    except PartitionError as error:
        raise ImageError(f"{path}: {error}") from error
    if not same:
        raise ImageError(
            f"{path}: another layout than docs/design.md section 9; build with the project's platformio.ini"
        )
    return build_table()


def _image(path: Path, room: int) -> _Image:
    """Walk an ESP image as the bootloader does: header, segments, checksum, SHA-256."""
    blob = _read(path)
    if len(blob) > room:
        raise ImageError(f"{path}: {len(blob):,} bytes, there is room for {room:,}")
    if len(blob) < _HEADER_BYTES or blob[0] != 0xE9:
        raise ImageError(f"{path}: not an ESP image (it must start with the byte 0xe9)")
    segments, chip_id, hashed = blob[1], struct.unpack_from("<H", blob, 12)[0], blob[23]
    at = _HEADER_BYTES
    checksum = _CHECKSUM_SEED
    for number in range(segments):
        if at + 8 > len(blob):
            raise ImageError(f"{path}: truncated, {len(blob):,} bytes end before segment {number}")
        length = struct.unpack_from("<I", blob, at + 4)[0]
        at += 8
        if at + length > len(blob):
            raise ImageError(f"{path}: truncated, {len(blob):,} bytes end inside segment {number}")
        checksum ^= int(np.bitwise_xor.reduce(np.frombuffer(blob, np.uint8, length, at)))
        at += length
    at += 16 - at % 16
    end = at + (32 if hashed else 0)
    if end > len(blob):
        raise ImageError(f"{path}: truncated, {len(blob):,} bytes end before the checksum")
    if blob[at - 1] != checksum:
        raise ImageError(f"{path}: checksum {checksum:#04x} instead of {blob[at - 1]:#04x}: damaged")
    if hashed not in (0, 1) or (hashed and hashlib.sha256(blob[:at]).digest() != blob[at:end]):
        raise ImageError(f"{path}: its SHA-256 does not match the content: damaged")
    if not hashed and len(blob) != end:
        raise ImageError(f"{path}: says it carries no SHA-256, but goes on after the checksum: damaged")
    return _Image(blob, _NAMES.get(chip_id, f"chip id {chip_id}"))
