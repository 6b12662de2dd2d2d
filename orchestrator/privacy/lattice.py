"""The grid noise lives on: clipped vectors written in whole steps, with a bound on their length that no rounding can break.

A vector of L2 norm at most C becomes whole numbers of steps C / levels. Rounding every coordinate up or down at random keeps
its mean but may lengthen the vector; so it is rounded again until it is at most D steps long. D is what noise is matched to:

    D^2 = min(levels^2 + size / 4 + sqrt(2 ln(1 / beta)) (levels + sqrt(size) / 2), (levels + sqrt(size))^2)

with beta = exp(-1/2) (Kairouz, Liu, Steinke, "The distributed discrete Gaussian mechanism", 2021, theorem 1). One attempt
succeeds with probability at least 1 - beta = 0.39. After 32 that failed (1e-7 at worst) the vector is cut toward zero, which
never makes it longer. So D holds always, whatever the rounding draws, and those draws need not be secret. They must be
independent of one another, though: when a record is left out, the others must be rounded as likely as before. A generator
seeded alike for each release would not do, since everything after the missing record would be rounded otherwise.

A finer grid can do without draws (`nearest`): each coordinate goes to its nearest step, which moves it by half a step at most,
so that no vector is longer than D = levels + sqrt(size) / 2 steps (`own_sum.py` says where that is used).

Node, gateway and accountant derive the same grid from the same task: nothing here depends on data, time or machine.
"""

import math
from dataclasses import dataclass
from typing import List, Optional, Protocol, Tuple, Union

import numpy as np

from orchestrator.errors import PrivacyError
from orchestrator.privacy.discrete import MAX_SIGMA, discrete_gaussian, skellam
from orchestrator.privacy.secure_random import SecureRandom

MECHANISMS = ("discrete-gaussian", "skellam")
MIN_NOISE_STD = 1024
"""Least noise of one party, in steps: so coarse a grid that discreteness shows is of no use (`closeness.py`)."""
MAX_INFLATION = 1.01
MAX_LEVELS = 1 << 26
MAX_NEAREST_LEVELS = 1 << 32
"""Of a grid whose vectors are rounded to the nearest step: sums of two million of them are exact."""
_ATTEMPTS = 32

_CLIP_NORMS = (1e-30, 1e30)
"""Steps, products and squares are then normal floats. Where a step is not, a vector of the right length would be found too long,
and a node that refuses to round it says of its data what no noise covers.
"""


_ODD, _MIXED = np.uint64(0x9E3779B97F4A7C15), ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""Of SplitMix64."""


class Uniform(Protocol):
    """Where uniform numbers of [0, 1) come from."""

    def uniform(self, *, size: int) -> np.ndarray:
        """float64 (size,), independent."""
        ...


class Draws:
    """What the vectors of one sum are rounded by: each by numbers of its own, however many are rounded at a time.

    First attempts take the source's numbers in order. Later ones, which few vectors need, take theirs by the number of vector,
    attempt and coordinate, so that none moves those of the vectors behind it. So they may be rounded again whenever it suits:
    `together` of their numbers or more at a time, or at once where that is 0.
    """

    def __init__(self, source: Uniform, together: int = 0) -> None:
        self._source, self._rows, self._key = source, 0, np.uint64(0)
        self._keyed = False
        self.together = together
        self.waiting: List[Tuple[np.ndarray, np.ndarray]] = []
        """(numbers of vectors, float64 (n, size) in steps) that were too long when they were first rounded."""

    @property
    def full(self) -> bool:
        return sum(scaled.size for _, scaled in self.waiting) >= max(1, self.together)

    def first(self, rows: int, size: int) -> Tuple[int, np.ndarray]:
        """(number of the first of these vectors, float64 (rows, size))."""
        if not self._keyed:  # before the numbers of the first vector
            digits = (self._source.uniform(size=2) * 2.0**32).astype(np.uint64)
            self._key, self._keyed = digits[0] << np.uint64(32) | digits[1], True
        begin = self._rows
        self._rows += rows
        return begin, self._source.uniform(size=rows * size).reshape(rows, size)

    def again(self, rows: np.ndarray, attempt: int, size: int) -> np.ndarray:
        """float64 (len(rows), size) for these vectors, by number: SplitMix64 (Steele, Lea, Flood 2014) of a counter."""
        place = (rows.astype(np.uint64) * np.uint64(_ATTEMPTS) + np.uint64(attempt)) * np.uint64(size)
        # (place + coordinate) times the odd number, plus the key: in place, since memory costs more than arithmetic.
        mixed = np.add.outer(place * _ODD + self._key, np.arange(1, size + 1, dtype=np.uint64) * _ODD)
        shifted = np.empty_like(mixed)
        for shift, factor in _MIXED:
            np.right_shift(mixed, np.uint64(shift), out=shifted)
            np.bitwise_xor(mixed, shifted, out=mixed)
            np.multiply(mixed, np.uint64(factor), out=mixed)
        np.right_shift(mixed, np.uint64(31), out=shifted)
        np.bitwise_xor(mixed, shifted, out=mixed)
        # As the fraction of a float of [1, 2), as in SecureRandom.uniform.
        mixed >>= np.uint64(12)
        mixed |= np.uint64(0x3FF << 52)
        found = mixed.view(np.float64)
        found -= 1.0
        return found


@dataclass(frozen=True)
class Lattice:
    """Vectors of `size` numbers and L2 norm at most `clip_norm`, in steps of clip_norm / levels.

    nearest: coordinates go to the nearest step, not up or down at random.
    """

    clip_norm: float
    size: int
    levels: int
    nearest: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0 and self.size >= 1):
            raise PrivacyError(f"no grid for {self.size} numbers of clip norm {self.clip_norm}: both must be positive")
        if not _CLIP_NORMS[0] <= self.clip_norm <= _CLIP_NORMS[1]:
            raise PrivacyError(
                f"no grid for clip norm {self.clip_norm:g}: {_CLIP_NORMS[0]:g} to {_CLIP_NORMS[1]:g} are supported"
            )
        most = MAX_NEAREST_LEVELS if self.nearest else MAX_LEVELS
        if not 1 <= self.levels <= most:
            raise PrivacyError(f"a grid of {self.levels} levels: 1 to {most} are supported")

    @property
    def step(self) -> float:
        """Length of a step, in the units of the vectors."""
        return self.clip_norm / self.levels

    @property
    def squared_bound(self) -> int:
        """D^2, in steps squared, rounded down: squared lengths are whole numbers, so nothing is lost."""
        root = math.sqrt(self.size)
        if self.nearest:  # with the part in 1e9 that float rounding may add to a clipped vector
            return math.floor((self.levels * (1 + 1e-9) + root / 2) ** 2)
        often = self.levels**2 + self.size / 4 + self.levels + root / 2
        return math.floor(min(often, (self.levels + root) ** 2))

    @property
    def bound(self) -> float:
        """D, in steps: no vector that `round` returns is longer."""
        return math.sqrt(self.squared_bound)

    def round(self, vectors: np.ndarray, random: "Union[Uniform, Draws]") -> np.ndarray:
        """int64 of the same shape, in steps, each at most `bound` long, from clipped float vectors (size,) or (n, size).

        Raises PrivacyError when a vector is longer than the clip norm (beyond float rounding) or not finite.
        """
        whole = self.whole(vectors, random)
        return (whole.astype(np.int64) if self.nearest else _to_int(whole)).reshape(np.shape(vectors))

    def whole(self, vectors: np.ndarray, random: "Union[Uniform, Draws]") -> np.ndarray:
        """What `round` gives, as float64 (n, size): whole numbers below 2^27, so that sums of 2^26 of them are exact."""
        rows = np.atleast_2d(np.asarray(vectors, np.float64))
        if rows.shape[1] != self.size:
            raise ValueError(f"vectors of {rows.shape[1]} numbers on a grid for {self.size}")
        return self.whole_steps(rows * (1.0 / self.step), random if isinstance(random, Draws) else Draws(random))

    def whole_steps(self, scaled: np.ndarray, draws: Draws) -> np.ndarray:
        """Like `whole`, of float64 (n, size) that are in steps already.

        With draws that have some wait, those are zeros here, and come with `put_off`.
        """
        lengths = np.sqrt(squared_lengths(scaled))
        # Written so that NaN fails. A part in 1e9 is float rounding; it stays far inside D^2 >= levels^2 + levels.
        if not (lengths <= self.levels * (1 + 1e-9)).all():
            raise PrivacyError(
                f"a vector of norm {float(np.max(lengths)) * self.step:g} was to be rounded on a grid for norms up to "
                f"{self.clip_norm:g}: clip it first"
            )
        if self.nearest:
            return self._checked(np.rint(scaled))
        begin, uniform = draws.first(len(scaled), self.size)
        # Up with the probability of the fraction. Whole floats: their squares, and sums of these, are exact below 2^53.
        np.subtract(scaled, uniform, out=uniform)
        rounded = np.ceil(uniform, out=uniform)
        long = np.flatnonzero(~self._short(rounded))
        if long.size and draws.together:
            draws.waiting.append((begin + long, scaled[long]))
            rounded[long] = 0.0
        elif long.size:
            rounded[long] = self._again(scaled[long], begin + long, draws)
        return rounded

    def put_off(self, draws: Draws) -> np.ndarray:
        """float64 (size,): the sum of the vectors that wait to be rounded again, which wait no more."""
        waiting, draws.waiting = draws.waiting, []
        if not waiting:
            return np.zeros(self.size)
        numbers, scaled = waiting[0] if len(waiting) == 1 else map(np.concatenate, zip(*waiting))
        return np.asarray(self._again(scaled, numbers, draws).sum(axis=0))

    def _again(self, scaled: np.ndarray, numbers: np.ndarray, draws: "Draws") -> np.ndarray:
        """Whole float64 (n, size): vectors whose first attempt was too long; `numbers` of the sum's vectors they are."""
        return self._checked(self._attempted(scaled, numbers, draws))

    def _checked(self, rounded: np.ndarray) -> np.ndarray:
        if not self._short(rounded).all():
            raise PrivacyError("a rounded vector is longer than its bound: this is a bug, nothing was released")
        return rounded

    def _attempted(self, scaled: np.ndarray, numbers: np.ndarray, draws: "Draws") -> np.ndarray:
        rounded = np.ceil(scaled - draws.again(numbers, 1, self.size))
        pending = np.flatnonzero(~self._short(rounded))
        for attempt in range(2, _ATTEMPTS):
            if not pending.size:
                return rounded
            trial = np.ceil(scaled[pending] - draws.again(numbers[pending], attempt, self.size))
            short = self._short(trial)
            rounded[pending[short]] = trial[short]
            pending = pending[~short]
        rounded[pending] = np.trunc(scaled[pending])
        return rounded

    def _short(self, rows: np.ndarray) -> np.ndarray:
        """bool (n,): whether rows of whole numbers are within the bound."""
        return np.asarray(squared_lengths(rows) <= self.squared_bound)

    def to_float(self, steps: np.ndarray) -> np.ndarray:
        """float64 of the same shape, in the units of the vectors."""
        return np.asarray(steps, np.int64) * self.step

    def noise_std(self, noise_multiplier: float, parties: int, beside: int = 0) -> int:
        """What each of `parties` adds, in steps: their sum's std is at least `noise_multiplier` times the bound.

        `beside`: steps by which a unit may move another number that is released with the same noise.
        A twelfth more variance is asked for. It is that of rounding, which the comparison with a continuous Gaussian of
        exactly noise_multiplier * bound needs (`closeness.py`).
        """
        if not (math.isfinite(noise_multiplier) and noise_multiplier > 0 and parties >= 1):
            raise PrivacyError(f"noise multiplier {noise_multiplier} of {parties} parties: both must be positive")
        variance = (noise_multiplier**2 * (self.squared_bound + beside**2) + 1 / 12) / parties
        return math.ceil(math.sqrt(variance) * (1 + 1e-12))


def squared_lengths(rows: np.ndarray) -> np.ndarray:
    """float64 (n,): of the rows of float64 (n, d), each by itself.

    By BLAS, in half the time, where they are so short that it starts no threads: on a busy machine those wait for each other.
    """
    if rows.shape[1] > _ONE_THREAD:
        return np.asarray(np.einsum("ij,ij->i", rows, rows))
    with np.errstate(all="ignore"):  # of rows that are not finite
        return np.asarray(np.matmul(rows[:, np.newaxis], rows[:, :, np.newaxis])[:, 0, 0])


_ONE_THREAD = 10_000
"""OpenBLAS takes one thread for products of up to 10,000 numbers."""


def make_lattice(clip_norm: float, size: int, noise_multiplier: float, parties: int) -> Lattice:
    """The coarsest grid, with a power of two as levels, that costs little: D at most 1 % above the clip norm, and each party's
    noise at least 1,024 steps.

    Raises PrivacyError when there is none with at most 2^26 levels and noise of at most 2^24 steps.
    """
    levels = 1
    while levels <= MAX_LEVELS:
        lattice = Lattice(clip_norm, size, levels)
        std = lattice.noise_std(noise_multiplier, parties)
        if std > MAX_SIGMA:
            break
        if lattice.bound <= MAX_INFLATION * levels and std >= MIN_NOISE_STD:
            return lattice
        levels *= 2
    raise PrivacyError(
        f"no grid fits {size} numbers with noise multiplier {noise_multiplier:g} from {parties} parties: it would take noise "
        f"above {MAX_SIGMA} steps, or more than {MAX_LEVELS} levels"
    )


def party_variance(mechanism: str, std: int) -> int:
    """Of one party's noise, in steps squared: std^2; for Skellam noise, whose variance is even, the next even number."""
    return std * std + (std % 2 if mechanism == "skellam" else 0)


def draw(random: SecureRandom, mechanism: str, size: int, std: int) -> np.ndarray:
    """int64 (size,): noise of one party, in steps, of variance `party_variance`.

    Raises PrivacyError for a mechanism that is not one of `MECHANISMS`, and for a std it is not made for.
    """
    try:
        if mechanism == "discrete-gaussian":
            return random.drawn_ahead((mechanism, std), size, lambda count: discrete_gaussian(random, count, std))
        if mechanism == "skellam":
            variance = party_variance(mechanism, std)
            return random.drawn_ahead((mechanism, std), size, lambda count: skellam(random, count, variance))
    except ValueError as error:
        raise PrivacyError(f"{mechanism} noise of std {std} cannot be drawn: {error}") from error
    raise PrivacyError(f"noise mechanism {mechanism!r} is unknown; there are {', '.join(MECHANISMS)}")


def clamp(steps: np.ndarray, limit: int) -> np.ndarray:
    """int64 of the same shape, each coordinate moved into [-limit, limit].

    Two vectors never get farther apart by this, so a sum that is clamped before noise keeps its sensitivity.
    """
    if limit < 1:
        raise ValueError(f"a limit of {limit} steps leaves nothing")
    return np.clip(np.asarray(steps, np.int64), -limit, limit)


def _to_int(whole: np.ndarray) -> np.ndarray:
    """int64 from whole floats below 2^31. By way of int32, which machines convert to many times faster."""
    return whole.astype(np.int32).astype(np.int64)


def clip_l2(
    vectors: np.ndarray,
    clip_norm: float,
    norms: Optional[np.ndarray] = None,
    unit: float = 1.0,
    out: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Scales each row of float (n, d) down to L2 norm `clip_norm` where it is longer. Rows that are not finite become 0.

    A gradient that overflowed says nothing, and letting it through would break the bound the noise is matched to. norms: those of
    the rows, where they are known. unit: what the result is in, such as the steps of a grid. out: where it may go.
    """
    norms = row_norms(vectors) if norms is None else norms
    # Float rounding may leave a norm a hair above the bound: shrink by one part in a million.
    factors = np.minimum(1.0, clip_norm * (1 - 1e-6) / np.maximum(norms, 1e-30)) * (1.0 / unit)
    whole = np.isfinite(norms)
    if whole.all():
        return np.asarray(np.multiply(vectors, factors[:, np.newaxis], out=out))
    return np.where(whole[:, np.newaxis], vectors, 0.0) * np.where(whole, factors, 0.0)[:, np.newaxis]


def row_norms(vectors: np.ndarray) -> np.ndarray:
    """float64 (n,): L2 norms of float (n, d)."""
    return np.asarray(np.sqrt(squared_lengths(np.asarray(vectors, np.float64))))
