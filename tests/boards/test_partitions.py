"""The partition table: the documented layout, ESP-IDF's binary form, and the firmware's CSV say the same."""

import csv
import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.boards.partitions import (
    FLASH_BYTES,
    LAYOUT,
    SLOTS,
    TABLE_BYTES,
    PartitionError,
    build_table,
    parse_table,
)

CSV = Path(__file__).parents[2] / "firmware/hal/esp32/partitions.csv"
# Names of ESP-IDF's CSV for the numbers used here.
TYPES = {"app": 0, "data": 1}
SUBTYPES = {"ota": 0, "phy": 1, "nvs": 2, "ota_0": 0x10, "ota_1": 0x11}


def test_firmware_builds_from_the_same_layout() -> None:
    lines = [line for line in CSV.read_text().splitlines() if line and not line.startswith("#")]
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    assert [
        (name, TYPES[kind], SUBTYPES[sub] if sub in SUBTYPES else int(sub, 0), int(offset, 0), int(size, 0))
        for name, kind, sub, offset, size in rows
    ] == [(p.name, p.type, p.subtype, p.offset, p.size) for p in LAYOUT]


def test_slots_are_where_the_design_puts_them() -> None:
    assert (SLOTS["a"].offset, SLOTS["a"].size, SLOTS["a"].subtype) == (0x310000, 0x78000, 0x40)
    assert (SLOTS["b"].offset, SLOTS["b"].size, SLOTS["b"].subtype) == (0x388000, 0x78000, 0x41)
    assert SLOTS["b"].end == FLASH_BYTES


def test_table_has_the_documented_bytes() -> None:
    table = build_table()
    assert len(table) == TABLE_BYTES
    assert table[:32] == b"\xaa\x50\x01\x02" + struct.pack("<II", 0x9000, 0x6000) + b"nvs".ljust(16, b"\0") + bytes(4)
    md5_at = 32 * len(LAYOUT)
    assert table[md5_at : md5_at + 16] == b"\xeb\xeb" + b"\xff" * 14
    assert table[md5_at + 16 : md5_at + 32] == hashlib.md5(table[:md5_at]).digest()
    assert set(table[md5_at + 32 :]) == {0xFF}


def test_what_is_built_reads_back() -> None:
    assert parse_table(build_table()) == LAYOUT
    assert parse_table(build_table() + b"whatever lies behind it in flash") == LAYOUT


@given(st.integers(0, TABLE_BYTES - 1), st.integers(0, 7))
def test_no_flipped_bit_passes(at: int, bit: int) -> None:
    damaged = bytearray(build_table())
    damaged[at] ^= 1 << bit
    with pytest.raises(PartitionError):
        parse_table(bytes(damaged))


@given(st.binary(max_size=TABLE_BYTES))
def test_junk_is_refused(blob: bytes) -> None:
    with pytest.raises(PartitionError):
        parse_table(blob)


def test_truncated_table_is_refused() -> None:
    with pytest.raises(PartitionError, match="truncated"):
        parse_table(build_table()[: 32 * len(LAYOUT)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "model_a"}, "in use"),
        ({"name": "a name too long for it"}, "15 ASCII"),
        ({"offset": 0x387000}, "overlaps"),
        ({"offset": 0x388800}, "multiples"),
        ({"size": 0x79000}, "beyond"),
        ({"size": 0}, "multiples"),
    ],
)
def test_impossible_layouts_are_refused(change: Dict[str, Any], message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        build_table([*LAYOUT[:-1], replace(LAYOUT[-1], **change)])


def test_app_must_start_on_a_mapped_page() -> None:
    with pytest.raises(PartitionError, match="0x10000"):
        build_table([replace(LAYOUT[2], offset=0x18000)])
