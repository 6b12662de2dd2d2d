"""Input profiles of every form, damaged at every byte: Python and the firmware judge them alike, under AddressSanitizer."""

import dataclasses
import itertools
import struct
import subprocess
from typing import Iterator, List

import numpy as np
import pytest

from model_export.audio.hearing import Hearing
from model_export.errors import ExportError
from model_export.input_profile import InputProfile, pack_profile, parse_profile
from orchestrator.boards.host_engine import SANITIZE, build

BINS = 4
WORDS = [
    0x80000000,
    0x7FC00000,
    0x7F800000,
    0xFFFFFFFF,
    0x7F7FFFFF,
    0x00800000,
    1,
    2,
    64,
    65,
    0x200,
    0x601,
    0x702,
    0x801,
    0xA01,
]
"""-0.0, what is not finite, the ends of a float32, and forms of a profile."""


def profile_of(
    channels: int, scored: bool, cut: bool, heads: bool, logarithm: bool, scaled: bool, compared: bool
) -> InputProfile:
    groups = channels if compared else 0
    ranges = np.zeros((2, channels), np.float32)
    ranges[:, 0] = 1, 100
    return InputProfile(
        channels,
        np.arange(channels).astype(np.float32) if scaled else None,
        np.ones(channels, np.float32) if scaled else None,
        np.tile(np.array([-5, 0, 9], np.int8), (groups, 1)),
        np.full((groups, BINS), 65535 // BINS, np.uint16),
        50,
        ranges if logarithm else None,
        0.375 if scored else None,
        tuple(np.arange(channel % 4, dtype=np.float32) - 1 for channel in range(channels)) if cut else None,
        4 if heads else 0,
    )


def hearing_profile(channels: int, compared: bool) -> InputProfile:
    plain = profile_of(channels, *(False,) * 5, compared)
    return dataclasses.replace(plain, hearing=Hearing(bytes(range(20)), 0.0390625, 3))


def damaged(section: bytes) -> Iterator[bytes]:
    yield section
    for at, byte in enumerate(section):
        for value in sorted({0, 1, 0x7F, 0x80, 0xFF, byte ^ 1, (byte + 1) % 256} - {byte}):
            yield section[:at] + bytes([value]) + section[at + 1 :]
        if at:
            yield section[:at]
    for at in range(0, len(section) - 3, 4):
        for word in WORDS:
            yield section[:at] + struct.pack("<I", word) + section[at + 4 :]
    yield section + bytes(2)
    yield section + bytes(4)


def passes(section: bytes) -> bool:
    try:
        parse_profile(section)
    except ExportError:
        return False
    return True


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_python_and_firmware_judge_profiles_alike(channels: int) -> None:
    whole = [pack_profile(profile_of(channels, *form)) for form in itertools.product((False, True), repeat=6)]
    whole += [pack_profile(hearing_profile(channels, compared)) for compared in (False, True)]
    assert all(map(passes, whole))
    sections: List[bytes] = [each for section in whole for each in damaged(section)]
    stdin = b"".join(struct.pack("<I", len(section)) + section for section in sections)
    done = subprocess.run([str(build("judge-profiles", SANITIZE))], input=stdin, capture_output=True, check=False)
    assert (done.returncode, len(done.stdout)) == (0, len(sections)), done.stderr.decode()[-2000:]
    differ = [
        section.hex() for section, judged in zip(sections, done.stdout) if passes(section) != (judged == ord("1"))
    ]
    assert not differ, f"{len(differ)} of {len(sections)}, such as {differ[0]}"
    assert 0.1 < done.stdout.count(b"1") / len(sections) < 0.9
