"""The input profile section of model.bin: what a board must know of the training data to quantize samples by itself and to see
its inputs drift. Read by firmware/core/input_profile.h.

Little-endian:

    u32 version (1, or 2 with logarithms; 256 more with a threshold, 512 more with cuts, 1024 more with heads, 2048 more with
                      sound)
                      u32 channels: the input's last axis    u32 standardized (0 or 1)
    u32 groups        u32 bins (1 to 16)                     u32 rows of the reference
    if standardized: float32 mean[channels], float32 std[channels]: x = (raw - mean) / std
    in version 2: float32 least[channels], float32 most[channels]: where least is not 0, raw stands for the logarithm of the
        value clamped to that range (orchestrator/wire/logarithm.py, firmware/core/logarithm.h); both are 0 elsewhere
    with a threshold: float32, the largest score that is not unusual: the model gives back its input, and its score is how far it
        is off (reconstruction.py, firmware/core/score.h)
    with cuts, of a model of trees: u16 number[channels], zero bytes up to a multiple of 4, float32 cuts[sum of them], ascending
        in each channel: the input is -127 + how many of its cuts are not above the value. -128 is a value that is missing
    with heads: u32, how many: the output is (heads, classes), and the model's answer their mean (heads.py, firmware/core/heads.h)
    with sound, and then without any of the parts above: how samples become features (audio/hearing.py, firmware/audio/)
    int8 edges[groups][bins - 1], ascending; bin k of a group holds values above edge k - 1 and not above edge k
    zero bytes up to a multiple of 4
    u16 shares[groups][bins]: the reference's, in 1/65535

Value i of an input belongs to group i % groups: a group for each channel up to MAX_GROUPS channels, else one for all.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from model_export.audio.hearing import Hearing, parse_hearing
from model_export.errors import ExportError
from model_export.manifest import CUTS, LEAST, MOST_HEADS, RANGE

PLAIN, LOGARITHMS = 1, 2
"""Versions: the second only where there is a logarithm, so that older firmware reads all others."""
SCORED = 0x100
"""Added to the version where there is a threshold, likewise."""
CUT = 0x200
"""And where there are cuts."""
MOST_CUTS = 254
"""Of a channel."""
HEADS = 0x400
"""And where the model has several heads."""
HEARS = 0x800
"""And where its inputs are features of sound."""
BINS = 10
MAX_BINS = 16
MAX_GROUPS = 32
_HEAD = struct.Struct("<6I")


@dataclass(frozen=True)
class InputProfile:
    channels: int
    mean: Optional[np.ndarray]
    """float32 (channels,), or None where inputs are not standardized; std likewise."""
    std: Optional[np.ndarray]
    edges: np.ndarray
    """int8 (groups, bins - 1); no groups where there is no reference."""
    shares: np.ndarray
    """uint16 (groups, bins)"""
    rows: int
    ranges: Optional[np.ndarray] = None
    """float32 (2, channels): least and most value of each channel with a logarithm, 0 for others; None without any."""
    threshold: Optional[float] = None
    """The largest score that is not unusual, a float32; None where the model has no score."""
    cuts: Optional[Tuple[np.ndarray, ...]] = None
    """float32 of each channel, ascending; None where inputs are not counted in cuts."""
    heads: int = 0
    """How many output layers the model has over one body; 0 where it is a plain one."""
    hearing: Optional[Hearing] = None
    """How sound becomes inputs; None where they are something else."""


def make_profile(
    input_shape: Sequence[int], features: Sequence[Mapping[str, Any]], reference: Optional[np.ndarray]
) -> InputProfile:
    """`features` as check_features gives them, `reference` int8 (rows, *input shape) from the training distribution.

    Bins are the reference's deciles, so each holds about a tenth of it; where a value takes more than that, some are empty.
    """
    channels = int(input_shape[-1])
    counted = tuple(cuts_of(f) for f in features) if any(CUTS & set(f) for f in features) else None
    standardized = bool(features) and counted is None
    mean = np.array([f["mean"] for f in features], np.float32) if standardized else None
    std = np.array([f["std"] for f in features], np.float32) if standardized else None
    ranges = np.array([[f.get(key, 0.0) if f.get("transform") else 0.0 for f in features] for key in RANGE], np.float32)
    logarithms = ranges if ranges.any() else None
    groups = channels if channels <= MAX_GROUPS else 1
    if reference is None or not len(reference):
        none = np.zeros((0, BINS - 1), np.int8), np.zeros((0, BINS), np.uint16)
        return InputProfile(channels, mean, std, *none, 0, logarithms, cuts=counted)
    if reference.dtype != np.int8:
        raise ExportError(f"the reference rows are {reference.dtype}; accepted is int8, as the model takes them")
    values = reference.reshape(-1, groups)
    cuts = np.arange(1, BINS) / BINS
    edges = np.quantile(values, cuts, axis=0, method="inverted_cdf").T.astype(np.int8)
    counts = np.stack([histogram(values[:, g], edges[g]) for g in range(groups)])
    shares = np.rint(counts / len(values) * 65535).astype(np.uint16)
    return InputProfile(channels, mean, std, edges, shares, len(reference), logarithms, cuts=counted)


def cuts_of(feature: Mapping[str, Any]) -> np.ndarray:
    """float32, ascending: what values of a feature of trees are counted in; a category's value is the number of its level."""
    found = feature["cuts"] if "cuts" in feature else range(1, len(feature["categories"]))
    return np.array(found, np.float32)


def histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """int64 (bins,): how many values fall into each bin."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)


def population_stability_index(expected: np.ndarray, counts: np.ndarray) -> float:
    """sum((a - e) * ln(a / e)) over bins, shares below 0.0001 counted as that (Siddiqi, Credit Risk Scorecards, 2006)."""
    e = np.maximum(expected / expected.sum(), 1e-4)
    a = np.maximum(counts / counts.sum(), 1e-4)
    return float(np.sum((a - e) * np.log(a / e)))


def pack_profile(profile: InputProfile) -> bytes:
    groups, bins = profile.shares.shape
    standardized = profile.mean is not None
    version = (PLAIN if profile.ranges is None else LOGARITHMS) + (0 if profile.threshold is None else SCORED)
    version += (0 if profile.cuts is None else CUT) + (HEADS if profile.heads else 0)
    version += 0 if profile.hearing is None else HEARS
    head = _HEAD.pack(version, profile.channels, int(standardized), groups, bins, profile.rows)
    if profile.mean is not None and profile.std is not None:
        head += profile.mean.astype("<f4").tobytes() + profile.std.astype("<f4").tobytes()
    if profile.ranges is not None:
        head += profile.ranges.astype("<f4").tobytes()
    if profile.threshold is not None:
        head += struct.pack("<f", profile.threshold)
    if profile.cuts is not None:
        counts = np.array([len(cuts) for cuts in profile.cuts], "<u2").tobytes()
        head += counts + bytes(-len(counts) % 4) + np.concatenate(profile.cuts).astype("<f4").tobytes()
    if profile.heads:
        head += struct.pack("<I", profile.heads)
    if profile.hearing is not None:
        head += profile.hearing.packed()
    edges = profile.edges.astype(np.int8).tobytes()
    return head + edges + bytes(-len(edges) % 4) + profile.shares.astype("<u2").tobytes()


def parse_profile(section: bytes) -> InputProfile:
    """Raises ExportError for a section that is not whole."""
    if len(section) < _HEAD.size:
        raise ExportError(f"input profile of {len(section)} bytes has no head")
    version, channels, standardized, groups, bins, rows = _HEAD.unpack_from(section)
    cut, score_bytes, heads_bytes = bool(version & CUT), 4 if version & SCORED else 0, 4 if version & HEADS else 0
    hears = bool(version & HEARS)
    version &= ~(SCORED | CUT | HEADS | HEARS)
    if hears and (version != PLAIN or standardized or cut or score_bytes or heads_bytes):
        raise ExportError(
            "input profile: features of sound are neither standardized nor cut, nor scored, nor for heads"
        )
    if version not in (PLAIN, LOGARITHMS):
        raise ExportError(f"input profile of version {version}, this reader knows {PLAIN} and {LOGARITHMS}")
    if not 1 <= bins <= MAX_BINS or groups > MAX_GROUPS or standardized > 1 or not 1 <= channels <= 1 << 20:
        raise ExportError(f"input profile: {channels} channels, {groups} groups of {bins} bins")
    at = _HEAD.size
    scale_bytes = 4 * channels * standardized
    edge_bytes = groups * (bins - 1)
    range_bytes = 8 * channels if version == LOGARITHMS else 0
    before_cuts = at + 2 * scale_bytes + range_bytes + score_bytes
    cuts = _cuts(section, before_cuts, channels) if cut else None
    cut_bytes = 0 if cuts is None else -(-2 * channels // 4) * 4 + 4 * sum(map(len, cuts))
    hearing, hearing_bytes = parse_hearing(section, at) if hears else (None, 0)
    wanted = before_cuts + cut_bytes + heads_bytes + hearing_bytes + -(-edge_bytes // 4) * 4 + 2 * groups * bins
    if len(section) != wanted:
        raise ExportError(f"input profile of {len(section)} bytes does not hold {groups} groups of {bins} bins")
    mean = np.frombuffer(section, "<f4", channels, at) if standardized else None
    std = np.frombuffer(section, "<f4", channels, at + scale_bytes) if standardized else None
    at += 2 * scale_bytes
    ranges = _ranges(np.frombuffer(section, "<f4", 2 * channels, at)) if range_bytes else None
    at += range_bytes
    threshold = _threshold(section, at) if score_bytes else None
    at += score_bytes + cut_bytes
    heads = _heads(section, at) if heads_bytes else 0
    at += heads_bytes + hearing_bytes
    edges = np.frombuffer(section, np.int8, edge_bytes, at).reshape(groups, bins - 1)
    if groups and np.any(np.diff(edges.astype(int), axis=1) < 0):
        raise ExportError("input profile: edges of a group do not ascend")
    at += -(-edge_bytes // 4) * 4
    shares = np.frombuffer(section, "<u2", groups * bins, at).reshape(groups, bins)
    if mean is not None and std is not None and not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ExportError("input profile: a mean or a standard deviation is not finite")
    if std is not None and np.any(std <= 0):
        raise ExportError("input profile: a standard deviation is not above 0")
    return InputProfile(channels, mean, std, edges, shares, rows, ranges, threshold, cuts, heads, hearing)


def _cuts(section: bytes, at: int, channels: int) -> Tuple[np.ndarray, ...]:
    counts_bytes = -(-2 * channels // 4) * 4
    if len(section) < at + counts_bytes or any(section[at + 2 * channels : at + counts_bytes]):
        raise ExportError("input profile: no whole list of how many cuts each channel has")
    counts = np.frombuffer(section, "<u2", channels, at).astype(np.int64)
    at += counts_bytes
    if counts.max() > MOST_CUTS or len(section) < at + 4 * int(counts.sum()):
        raise ExportError("input profile: a channel has too many cuts")
    found = np.split(np.frombuffer(section, "<f4", int(counts.sum()), at), counts.cumsum()[:-1])
    if not all(np.isfinite(cuts).all() and (cuts[1:] > cuts[:-1]).all() for cuts in found):
        raise ExportError("input profile: cuts of a channel do not ascend")
    return tuple(found)


def _heads(section: bytes, at: int) -> int:
    heads = int(struct.unpack_from("<I", section, at)[0])
    if not 2 <= heads <= MOST_HEADS:
        raise ExportError(f"input profile: {heads} heads, expected 2 to {MOST_HEADS}")
    return heads


def _threshold(section: bytes, at: int) -> float:
    value = float(struct.unpack_from("<f", section, at)[0])
    if not (np.isfinite(value) and value >= 0):
        raise ExportError("input profile: the threshold of scores is not a number of 0 or more")
    return value


def _ranges(values: np.ndarray) -> np.ndarray:
    """float32 (2, channels). ExportError where a channel has neither a range that has logarithms nor two zeros."""
    least, most = ranges = values.reshape(2, -1)
    none = (least.view("<u4") == 0) & (most.view("<u4") == 0)  # as firmware asks it: -0.0 is no end of a range
    if not (np.isfinite(ranges).all() and np.all(none | ((least >= LEAST) & (most >= least)))):
        raise ExportError("input profile: the range of a logarithm is not one of positive numbers")
    return ranges
