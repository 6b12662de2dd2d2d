"""The last stage of a front end: a natural logarithm in integers, in the bits of firmware/audio/log_scale.h."""

from __future__ import annotations

import numpy as np

from model_export.audio.tables import LOG_SEGMENTS, AudioTables

_BITS = 16
_ONE = 1 << _BITS
_LN2 = 45426
"""In 1/65536."""
_LARGEST = 0xFFFF


def log_scaled(signal: np.ndarray, tables: AudioTables) -> np.ndarray:
    """uint64 of 32 bits -> uint16; as they are, up to 65535, without a logarithm."""
    asked = tables.parameters
    value = signal.astype(np.int64)
    if asked.logarithm:
        bits = asked.correction_bits
        value = (value << bits if bits >= 0 else value >> -bits) & 0xFFFFFFFF
        value = np.where(value > 1, _log(np.maximum(value, 2), tables.log.astype(np.int64), asked.log_shift), 0)
    return np.minimum(value, _LARGEST).astype(np.uint16)


def _log(value: np.ndarray, excess: np.ndarray, shift: int) -> np.ndarray:
    whole = np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1
    part = value - (np.int64(1) << whole)
    part = np.where(whole < _BITS, part << np.maximum(_BITS - whole, 0), part >> np.maximum(whole - _BITS, 0))
    segment_bits = _BITS - (LOG_SEGMENTS.bit_length() - 1)
    segment = part >> segment_bits
    low, high = excess[segment], excess[segment + 1]
    between = ((high - low) * (part - (segment << segment_bits))) >> _BITS
    log2 = (whole << _BITS) + part + low + between
    natural = (_LN2 * log2 + _ONE // 2) >> _BITS
    return ((natural << shift) + _ONE // 2) >> _BITS
