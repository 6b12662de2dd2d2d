"""The flash layout of a board, and ESP-IDF's binary partition table: write it, read it back.

Layout: docs/design.md, section 9; the firmware builds from the same one, firmware/hal/esp32/partitions.csv. Format:
ESP-IDF API guide, "Partition Tables": 32-byte entries, one with the MD5 of those before it, 0xFF up to 0xC00 bytes.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from orchestrator.errors import GivenError

TABLE_OFFSET = 0x8000
TABLE_BYTES = 0xC00
FLASH_BYTES = 4 * 1024 * 1024
SECTOR_BYTES = 0x1000

TYPE_APP = 0x00
TYPE_DATA = 0x01
SUBTYPE_FACTORY = 0x00
SUBTYPE_OTA_0 = 0x10
SUBTYPE_OTA_1 = 0x11
SUBTYPE_OTA_DATA = 0x00
SUBTYPE_PHY = 0x01
SUBTYPE_NVS = 0x02
SUBTYPE_MODEL_A = 0x40
SUBTYPE_MODEL_B = 0x41
SUBTYPE_KEYS = 0x42
SUBTYPE_NETWORK = 0x43

_ENTRY = struct.Struct("<2sBBII16sI")
_ENTRY_MAGIC = b"\xaa\x50"
_MD5_MAGIC = b"\xeb\xeb" + b"\xff" * 14


class PartitionError(GivenError):
    """Not a partition table, or not one a board can use. The message names the entry."""


@dataclass(frozen=True)
class Partition:
    name: str
    """1 to 15 ASCII characters."""
    type: int
    subtype: int
    offset: int
    size: int
    """Offset and size in bytes, whole sectors."""
    flags: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.size


_BEFORE = (
    Partition("nvs", TYPE_DATA, SUBTYPE_NVS, 0x9000, 0x6000),
    Partition("phy_init", TYPE_DATA, SUBTYPE_PHY, 0xF000, 0x1000),
)
APP = Partition("app_a", TYPE_APP, SUBTYPE_OTA_0, 0x10000, 0x170000)
"""Where a flasher puts the program; app_b is for one that comes over the air."""
APP_B = Partition("app_b", TYPE_APP, SUBTYPE_OTA_1, 0x180000, 0x170000)
OTA_DATA = Partition("otadata", TYPE_DATA, SUBTYPE_OTA_DATA, 0x2F0000, 0x2000)
"""Which of the two the boot loader starts; erased: the first."""
NETWORK = Partition("network", TYPE_DATA, SUBTYPE_NETWORK, 0x30C000, 0x3000)
KEYS = Partition("keys", TYPE_DATA, SUBTYPE_KEYS, 0x30F000, 0x1000)
SLOTS: Dict[str, Partition] = {
    "a": Partition("model_a", TYPE_DATA, SUBTYPE_MODEL_A, 0x310000, 0x78000),
    "b": Partition("model_b", TYPE_DATA, SUBTYPE_MODEL_B, 0x388000, 0x78000),
}
LAYOUT: Tuple[Partition, ...] = (*_BEFORE, APP, APP_B, OTA_DATA, NETWORK, KEYS, *SLOTS.values())

MODEL_CAPACITY = SLOTS["a"].size - SECTOR_BYTES
"""Bytes a model.bin may have: the last sector of a slot is the board's log about it."""
PROGRAM_CAPACITY = APP_B.size - SECTOR_BYTES
"""Bytes a program from the air may have: the last sector of its place says what it is."""

EARLIER_LAYOUTS: Tuple[Tuple[Partition, ...], ...] = (
    (
        *_BEFORE,
        Partition("factory", TYPE_APP, SUBTYPE_FACTORY, 0x10000, 0x2FF000),
        *(KEYS, *SLOTS.values()),
    ),
)
"""Of boards that were flashed before: everything but the program is where it is now."""


def build_table(layout: Sequence[Partition] = LAYOUT) -> bytes:
    """The TABLE_BYTES to write at TABLE_OFFSET. Raises PartitionError for a layout no board accepts."""
    check_layout(layout)
    entries = b"".join(
        _ENTRY.pack(_ENTRY_MAGIC, p.type, p.subtype, p.offset, p.size, p.name.encode("ascii"), p.flags) for p in layout
    )
    table = entries + _MD5_MAGIC + hashlib.md5(entries).digest()
    return table.ljust(TABLE_BYTES, b"\xff")


def parse_table(blob: bytes) -> Tuple[Partition, ...]:
    """Read a binary table. Raises PartitionError when it is truncated, damaged, or describes an impossible layout."""
    found: List[Partition] = []
    for at in range(0, min(len(blob), TABLE_BYTES) - _ENTRY.size + 1, _ENTRY.size):
        raw = blob[at : at + _ENTRY.size]
        if raw.startswith(_MD5_MAGIC):
            if hashlib.md5(blob[:at]).digest() != raw[len(_MD5_MAGIC) :]:
                raise PartitionError(f"partition table: its MD5 at {at:#x} does not match the entries: damaged")
            if any(byte != 0xFF for byte in blob[at + _ENTRY.size : TABLE_BYTES]):
                raise PartitionError(f"partition table: data after its end at {at:#x}: damaged")
            check_layout(found)
            return tuple(found)
        found.append(_parse_entry(raw, at))
    raise PartitionError(f"partition table: no MD5 entry in {len(blob)} bytes: truncated, or not a partition table")


def _parse_entry(raw: bytes, at: int) -> Partition:
    magic, kind, subtype, offset, size, name, flags = _ENTRY.unpack(raw)
    if magic != _ENTRY_MAGIC:
        raise PartitionError(f"partition table: bytes {magic.hex()} at {at:#x} do not start an entry")
    text = name.rstrip(b"\0")
    if b"\0" in text or not text.isascii():
        raise PartitionError(f"partition table: name {name!r} at {at:#x} is not ASCII text")
    return Partition(text.decode("ascii"), kind, subtype, offset, size, flags)


def check_layout(layout: Sequence[Partition]) -> None:
    """Raises PartitionError for what the bootloader would reject, or what does not fit 4 MB of flash."""
    names = set()
    end = TABLE_OFFSET + SECTOR_BYTES
    for p in layout:
        where = f"partition {p.name!r} at {p.offset:#x}"
        if not p.name or len(p.name) > 15 or not p.name.isascii():
            raise PartitionError(f"{where}: a name has 1 to 15 ASCII characters")
        if p.name in names:
            raise PartitionError(f"{where}: the name is in use")
        alignment = 0x10000 if p.type == TYPE_APP else SECTOR_BYTES
        if p.offset % alignment or p.size % SECTOR_BYTES or p.size == 0:
            raise PartitionError(f"{where}: offset and size must be multiples of {alignment:#x} and {SECTOR_BYTES:#x}")
        if p.offset < end:
            raise PartitionError(f"{where}: overlaps what ends at {end:#x}")
        if p.end > FLASH_BYTES:
            raise PartitionError(f"{where}: ends at {p.end:#x}, beyond {FLASH_BYTES:#x} bytes of flash")
        names.add(p.name)
        end = p.end
