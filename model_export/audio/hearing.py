"""What a model that hears is given: the features of a front end, in the units of its input, and how its answers are smoothed.

In an input profile (model_export/input_profile.py), little-endian: u32 averaged, float32 unit, u32 bytes of the tables, and these
(model_export/audio/tables.py).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

import numpy as np

from model_export.audio.kinds import KIND, MICRO, as_declared, kind_of, packed_tables, read_parameters
from model_export.errors import AudioError, ExportError

MOST_AVERAGED = 16
"""Windows whose answers a board keeps (firmware/core/running_mean.h)."""
_LEAST_UNIT, _MOST_UNIT = float(np.float32(1e-30)), float(np.float32(1e30))
_HEAD = struct.Struct("<IfI")
HEAD_BYTES = _HEAD.size


@dataclass(frozen=True)
class Hearing:
    tables: bytes
    unit: float
    """A value of the model's input is a feature times this, quantized with the input's scale; a float32."""
    averaged: int = 1
    """The model's answer is the mean of the probabilities of so many windows, the newest among them."""

    def __post_init__(self) -> None:
        if not 1 <= self.averaged <= MOST_AVERAGED:
            raise AudioError(f"audio: averaged must be from 1 to {MOST_AVERAGED}, not {self.averaged}")
        if not _LEAST_UNIT <= self.unit <= _MOST_UNIT:
            raise AudioError(f"audio: unit must be a positive number, not {self.unit}")

    def packed(self) -> bytes:
        return _HEAD.pack(self.averaged, self.unit, len(self.tables)) + self.tables


def read_hearing(declared: Mapping[str, Any]) -> Hearing:
    """`declared` has parameters of a front end (kinds.py), `unit` and `averaged`, each of which may be left out.

    Raises AudioError.
    """
    rest = dict(declared)
    unit, averaged = rest.pop("unit", kind_of(rest.get(KIND, MICRO)).unit), rest.pop("averaged", 1)
    if isinstance(unit, bool) or not isinstance(unit, (int, float)) or type(averaged) is not int:
        raise AudioError(f"audio: unit is a number and averaged a whole number, not {unit!r} and {averaged!r}")
    tables = packed_tables(read_parameters(rest))
    if not 0 < unit < _MOST_UNIT:
        raise AudioError(f"audio: unit must be a positive number below {_MOST_UNIT:g}, not {str(unit)[:40]}")
    return Hearing(tables, float(np.float32(unit)), averaged)


def said_of(declared: Mapping[str, Any]) -> Dict[str, Any]:
    """What a manifest has of it: all numbers, also those that were left out."""
    hearing = read_hearing(declared)
    asked = {name: value for name, value in declared.items() if name not in ("unit", "averaged")}
    return {**as_declared(read_parameters(asked)), "unit": hearing.unit, "averaged": hearing.averaged}


def parse_hearing(section: bytes, at: int) -> Tuple[Hearing, int]:
    """What lies at `at` of an input profile, and its bytes. Raises ExportError."""
    if len(section) < at + HEAD_BYTES:
        raise ExportError("input profile: what it says of sound is cut off")
    averaged, unit, size = _HEAD.unpack_from(section, at)
    at += HEAD_BYTES
    if size % 4 or len(section) < at + size:
        raise ExportError(f"input profile: tables of an audio front end of {size} bytes are not whole")
    try:
        return Hearing(section[at : at + size], unit, averaged), HEAD_BYTES + size
    except AudioError as error:
        raise ExportError(f"input profile: {error}") from error
