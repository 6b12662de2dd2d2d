"""Noise at the gateway that is correlated over rounds, for cohorts that take turns and cannot be sampled.

Each round's sum x_t is released as x_t + w_t. The w are chosen such that C w = z, with z independent over rounds and C a banded
lower triangular Toeplitz matrix: what w_t adds to the model, later rows partly take away again, so that the sum of all rounds
(the model) is less noisy than with independent noise of the same privacy. Releasing x + w = C^-1 (C x + z) is
post-processing of C x + z, one Gaussian mechanism over all rounds. Strategy: the first `bands` coefficients of the square root
of the prefix sum, c_j = binom(2j, j) / 4^j (Fichtenberger, Henzinger, Upadhyay 2023; banded: Kalinin, Lampert 2024).

Everything is whole numbers. Coefficients are multiples of 2^-8: c_j = m_j / 2^8. Sums x are whole numbers of the lattice,
fresh noise Z is discrete Gaussian on a grid 2^8 times finer, and the mechanism is D_t = sum_j m_j x_(t-j) + Z_t. From it,
y_t = floor((D_t - sum_(j>0) m_j y_(t-j) + 2^7) / 2^8) is computed of released values alone. 2^8 x_t is a multiple of 2^8, so
y_t = x_t + w_t with w_t = floor((Z_t - sum_(j>0) m_j w_(t-j) + 2^7) / 2^8): rounding the noise is rounding the release. So
the gateway may add w_t, and nothing that was rounded off tells of Z or x.
"""

import math
from typing import List, Sequence

import numpy as np

FRACTION_BITS = 8
"""Coefficients are multiples of 2^-FRACTION_BITS; fresh noise comes on a grid finer by as much."""


def coefficients(bands: int) -> np.ndarray:
    """float64 (bands,): c_0 = 1 >= c_1 >= ... > 0, whole multiples of 2^-8."""
    return _whole_coefficients(bands) / float(1 << FRACTION_BITS)


def most_participations(rounds: int, min_separation: int) -> int:
    """How often a node can be in `rounds` rounds when it sits out at least min_separation - 1 rounds after each."""
    return -(-rounds // min_separation)


def sensitivity(bands: int, rounds: int, participations: int, min_separation: int) -> float:
    """How far one node can move C x (Frobenius norm), in clip norms, over `rounds` rounds.

    The norm of the sum of the columns 0, s, 2s, ... (Kalinin, Lampert 2024, theorem 2: for decreasing, non-negative
    coefficients early and close rounds are the worst). With s >= bands the columns do not overlap: at most
    sqrt(participations) times the norm of the coefficients, the last column being cut off at the end. Then it takes no
    longer for more rounds, which a node's gateway chooses.
    """
    if min(bands, rounds, participations, min_separation) < 1:
        raise ValueError("bands, rounds, participations and min_separation must be at least 1")
    if min_separation >= bands:
        squares = coefficients(bands) ** 2
        times = min(participations, -(-rounds // min_separation))
        left = min(bands, rounds - (times - 1) * min_separation)
        return math.sqrt((times - 1) * float(squares.sum()) + float(squares[:left].sum()))
    column = np.zeros(rounds)
    c = coefficients(bands)[:rounds]
    column[: len(c)] = c
    moved = np.zeros(rounds)
    for start in range(0, rounds, min_separation)[:participations]:
        moved[start:] += column[: rounds - start]
    return float(np.linalg.norm(moved))


def expected_error(bands: int, rounds: int, participations: int) -> float:
    """Root mean square over rounds of the noise on the sum of all rounds so far, in clip norms, with multiplier 1 overall.

    A node takes part at most `participations` times, at least `bands` rounds apart. bands 1 is independent noise: compare
    with it at the same participations. (The rounding to whole numbers, at most 1/2 of a lattice step a round, is left out.)
    """
    variance = np.cumsum(_summed(bands, rounds) ** 2)
    return sensitivity(bands, rounds, participations, bands) * math.sqrt(float(variance.mean()))


def summed_deviation(bands: int, rounds: int) -> float:
    """Standard deviation of the noise on the sum of all `rounds` rounds, in units of one fresh row's (bands 1: sqrt(rounds))."""
    return float(np.linalg.norm(_summed(bands, rounds)))


class CorrelatedNoise:
    """Rows of w, one for each released round. To go on after a restart, give it the `rows` it had.

    `rows` (newest first, at most bands - 1) must be stored in the transaction that releases the round: a row used for two
    different sums, or rows lost, break the guarantee. They are as secret as noise: anyone who has them can remove it.
    """

    def __init__(self, bands: int, rows: Sequence[np.ndarray] = ()) -> None:
        self._whole = _whole_coefficients(bands)
        if len(rows) > bands - 1:
            raise ValueError(f"{len(rows)} rows kept, {bands} bands need at most {bands - 1}")
        self.rows: List[np.ndarray] = [_whole(row) for row in rows]

    def next(self, fresh: np.ndarray) -> np.ndarray:
        """int64 (d,) to add to this round's sum, from `fresh` int64 (d,): independent noise on the grid 2^8 times finer."""
        total = _whole(fresh)
        for m, row in zip(self._whole[1:], self.rows):
            if row.shape != total.shape:
                raise ValueError(f"fresh noise of shape {total.shape}, earlier rows have {row.shape}")
            total = total - m * row
        w = (total + (1 << FRACTION_BITS - 1)) >> FRACTION_BITS
        self.rows = [w, *self.rows][: len(self._whole) - 1]
        return w


def _summed(bands: int, rounds: int) -> np.ndarray:
    """float64 (rounds,): first column of A C^-1, A the lower triangle of ones; it is Toeplitz, and C applied to it gives ones."""
    c = coefficients(bands)[:rounds]
    column = np.zeros(rounds)
    for t in range(rounds):
        earlier = column[max(0, t - len(c) + 1) : t][::-1]
        column[t] = 1.0 - float(c[1 : len(earlier) + 1] @ earlier)
    return column


def _whole_coefficients(bands: int) -> np.ndarray:
    """int64 (bands,): c_j 2^8, rounded, at least 1."""
    if bands < 1:
        raise ValueError(f"bands: {bands}, at least 1")
    c = np.cumprod([1.0] + [(2 * j - 1) / (2 * j) for j in range(1, bands)])
    return np.maximum(1, np.rint(c * (1 << FRACTION_BITS))).astype(np.int64)


def _whole(row: np.ndarray) -> np.ndarray:
    row = np.asarray(row)
    if row.dtype.kind not in "iu":
        raise ValueError(f"noise of {row.dtype}: whole numbers are needed")
    return row.astype(np.int64)
