"""The chips the firmware runs on, a row each. Beside its row a chip has an environment in platformio.ini, and its sdkconfig."""

from typing import Dict, NamedTuple, Sequence


class ChipMemory(NamedTuple):
    data_bytes: int
    """Internal memory that can hold data at all."""
    arena_bytes: int
    """What this firmware has for an arena: the largest free block at start, of several regions, less its reserve."""
    basis: str
    """Where that figure comes from."""


class Chip(NamedTuple):
    image_id: int
    """The chip id in an image's header."""
    bootloader: int
    """Where in flash its ROM looks for the bootloader."""
    memory: ChipMemory
    dense_by_eights: bool = False
    """esp-nn's kernel for it computes dense layers with a scale per channel wrong, but for multiples of 8 outputs (esp-nn#34)."""


MEASURED = "measured on an image of this firmware in QEMU, less 4,096 for what has been in RAM since"
"""The interrupt of the UART: 2.4 KB of code by the compiler, and what ESP-IDF puts there with it."""
_ESTIMATE = "an estimate: no image of this chip was ever started"
CHIPS: Dict[str, Chip] = {
    "esp32": Chip(0, 0x1000, ChipMemory(320 * 1024, 110_000, _ESTIMATE)),
    "esp32s3": Chip(9, 0x0, ChipMemory(512 * 1024, 280_000, _ESTIMATE), dense_by_eights=True),
    "esp32c3": Chip(5, 0x0, ChipMemory(400 * 1024, 118_752 - 4_096, MEASURED)),
}
HEAP_OF: Dict[str, int] = {"network": 104 * 1024, "mic": 40 * 1024}
"""What an image that has this gives it of the heap, beside the arena: kNetworkHeapBytes and kMicHeapBytes of the firmware."""


def memory_of(chip: str, parts: Sequence[str] = ()) -> ChipMemory:
    """Of a key of CHIPS, with an image that has these keys of HEAP_OF."""
    memory = CHIPS[chip].memory
    for part in sorted(set(parts)):
        memory = memory._replace(
            arena_bytes=max(0, memory.arena_bytes - HEAP_OF[part]),
            basis=f"{memory.basis}, less {HEAP_OF[part]:,} that a build with {part} keeps",
        )
    return memory
