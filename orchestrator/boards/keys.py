"""The flash sector of the keys a board trusts with models and programs, and whether it may record: firmware/core/keys.cpp."""

from __future__ import annotations

import struct
import zlib
from typing import Optional, Sequence

from orchestrator.boards.partitions import KEYS
from orchestrator.errors import GivenError

MAX_KEYS = 4
_MAGIC = 0x594B5745  # "EWKY"
_ADD, _LOCK, _ALLOW_RECORDING, _OPEN_RULES, _PROGRAM = 1, 3, 4, 6, 7
_NO_KEY = b"\xff" * 32
_ENTRY = struct.Struct("<II32s20s")


def key_sector(
    keys: Sequence[bytes],
    locked: bool = False,
    recording: bool = False,
    rules: bool = False,
    program: Optional[bytes] = None,
) -> bytes:
    """The whole sector: `keys` of 32 bytes each, and with `locked` no command over serial changes them.

    recording: the board may send raw samples; then there may be no key. rules: they change over serial although locked.
    program: the key that may sign programs.
    Raises EdgewardError for another number of keys than it can hold, and for a lock without a key.
    """
    least = 0 if recording and not locked else 1
    if not least <= len(keys) <= MAX_KEYS:
        raise GivenError(f"{len(keys)} keys for a board; it holds 1 to {MAX_KEYS}")
    entries = b"".join(_entry(_ADD, key) for key in keys)
    if program is not None:
        entries += _entry(_PROGRAM, program)
    if locked:
        entries += _entry(_LOCK, _NO_KEY)
    if recording:
        entries += _entry(_ALLOW_RECORDING, _NO_KEY)
    if rules:
        entries += _entry(_OPEN_RULES, _NO_KEY)
    return entries.ljust(KEYS.size, b"\xff")


def _entry(action: int, key: bytes) -> bytes:
    content = _ENTRY.pack(_MAGIC, action, key, b"\xff" * 20)
    return content + struct.pack("<I", zlib.crc32(content))
