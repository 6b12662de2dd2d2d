"""Where a board that has a radio belongs: what `edgeward board connect` writes, as firmware/core/settings.cpp reads it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Dict

from orchestrator.boards.partitions import SECTOR_BYTES
from orchestrator.errors import UsageError
from orchestrator.wire.bounds import host_name
from orchestrator.wire.topics import check_name

SETTINGS_BYTES = SECTOR_BYTES - 16
SECRET_BYTES = 32
MOST_METRICS_S = 3600

_MAGIC = 0x574E5745  # "EWNW"
_TAGS = {"ssid": 1, "password": 2, "host": 3, "port": 4, "federation": 5, "name": 6}
_PEM_TAGS = {"ca": 7, "certificate": 8, "key": 9}
_FILLING_TAG, _SECRET_TAG, _METRICS_TAG = 0, 10, 11
_MOST_BYTES = {"ssid": 32, "password": 64, "host": 253}


@dataclass(frozen=True)
class NetworkSettings:
    """One board's place in a federation."""

    name: str
    federation: str
    host: str
    """Of the broker."""
    port: int
    secret: bytes = field(repr=False)
    """32 bytes that only this board and its owner have: by them the board marks what it says."""
    ca: bytes = b""
    """PEM of the authority that the broker's certificate has to be of; empty: not encrypted, for a trial on one's own machine."""
    certificate: bytes = b""
    """PEM, of `board:NAME`."""
    key: bytes = field(default=b"", repr=False)
    ssid: str = ""
    password: str = field(default="", repr=False)
    metrics_s: int = 60
    """Seconds between two metrics records; 0: when asked."""

    def __post_init__(self) -> None:
        check_name(self.name, "board")
        check_name(self.federation, "federation")
        problems = host_name("the broker's host", self.host)
        if problems:
            raise UsageError(problems[0])
        if not 1 <= self.port <= 65535:
            raise UsageError(f"the broker's port {self.port}: 1 to 65535")
        if not 0 <= self.metrics_s <= MOST_METRICS_S:
            raise UsageError(f"metrics every {self.metrics_s} s: 0 (when asked) to {MOST_METRICS_S}")
        if len(self.secret) != SECRET_BYTES:
            raise UsageError(f"a board's secret of {len(self.secret)} bytes: it has {SECRET_BYTES}")
        if bool(self.certificate) != bool(self.key) or (self.certificate and not self.ca):
            raise UsageError("a board's certificate, its key and the authority's certificate go together")
        for what, most in _MOST_BYTES.items():
            text = str(getattr(self, what)).encode()
            if len(text) > most or b"\0" in text:
                raise UsageError(f"{what} of {len(text)} bytes: it has {most} at most, and no zero")

    def packed(self) -> bytes:
        """The entries as a board keeps them. UsageError where they do not fit its sector."""
        texts: Dict[int, bytes] = {tag: str(getattr(self, name)).encode() for name, tag in _TAGS.items()}
        texts.update({tag: getattr(self, name) for name, tag in _PEM_TAGS.items()})
        texts[_METRICS_TAG] = str(self.metrics_s * 1000).encode()
        entries = b"".join(_entry(tag, text + b"\0") for tag, text in texts.items() if text)
        entries += _entry(_SECRET_TAG, self.secret)
        if len(entries) % 4:  # flash is written in words
            entries += _entry(_FILLING_TAG, b"\0" * ((-len(entries) - 3) % 4))
        if len(entries) > SETTINGS_BYTES:
            raise UsageError(
                f"settings of {len(entries)} bytes: a board keeps {SETTINGS_BYTES}; certificates of EC keys are short enough"
            )
        return entries


def settings_sector(settings: NetworkSettings) -> bytes:
    """The first sector of the network partition as a flasher would write it."""
    entries = settings.packed()
    head = struct.pack("<4I", _MAGIC, len(entries), zlib.crc32(entries), 0xFFFFFFFF)
    return (head + entries).ljust(SECTOR_BYTES, b"\xff")


def _entry(tag: int, value: bytes) -> bytes:
    return struct.pack("<BH", tag, len(value)) + value
