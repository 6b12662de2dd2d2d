"""The flash sector with the public keys a board trusts, as firmware/core/keys.cpp reads it."""

from __future__ import annotations

import struct
import zlib
from typing import Sequence

from orchestrator.boards.partitions import KEYS
from orchestrator.errors import EdgewardError

MAX_KEYS = 4
_MAGIC = 0x594B5745  # "EWKY"
_ADD, _LOCK = 1, 3
_ENTRY = struct.Struct("<II32s20s")


def key_sector(keys: Sequence[bytes], locked: bool = False) -> bytes:
    """The whole sector: `keys` of 32 bytes each, and with `locked` no command over serial changes them.

    Raises EdgewardError for no key or more than MAX_KEYS.
    """
    if not 1 <= len(keys) <= MAX_KEYS:
        raise EdgewardError(f"{len(keys)} keys for a board; it holds 1 to {MAX_KEYS}")
    entries = b"".join(_entry(_ADD, key) for key in keys)
    if locked:
        entries += _entry(_LOCK, b"\xff" * 32)
    return entries.ljust(KEYS.size, b"\xff")


def _entry(action: int, key: bytes) -> bytes:
    content = _ENTRY.pack(_MAGIC, action, key, b"\xff" * 20)
    return content + struct.pack("<I", zlib.crc32(content))
