"""How likely an honest build is to release what was released: one p-value for each way in which noise or samples can be wrong.

Each p-value already pays for everything it looked at (all pairs, all lags), so that an honest build falls below LEVEL about
once in a thousand million tests. Where the law has no closed form, what stands in for it errs towards the honest build.
"""

from typing import Dict, NamedTuple, Tuple

import numpy as np
from scipy import special, stats

LEVEL = 1e-9
"""Below it a test fails. An audit makes fewer than a thousand tests, so honest builds fail one with a probability below 1e-6."""

_BINS = 40
_TAILS = (2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 4.0)
_EXPECTED = 25
"""Fewest values expected in a bin of the chi-square test."""
_COLUMNS = 1200
"""Most coordinates that are compared two by two."""


class Result(NamedTuple):
    """p: of an honest build, at most. measured: what was found, in words."""

    p: float
    measured: str

    @property
    def holds(self) -> bool:
        return not self.p < LEVEL


def noise(vectors: np.ndarray, low: float, high: float) -> Dict[str, Result]:
    """Tests of float (n, P), n releases of noise alone in the order they were made, in any unit.

    Declared: independent normal numbers (on a grid too fine to show) of one standard deviation between `low` and `high`.
    """
    scaled = vectors.astype(np.float64) / ((low + high) / 2)
    slack = (low / ((low + high) / 2), high / ((low + high) / 2))
    found = {
        "size": _size(scaled, slack),
        "law": _law(scaled),
        "centre": _centre(scaled, slack[1]),
        "releases": _groups(scaled, slack, 1),
        "coordinates": _groups(scaled, slack, 0),
        "grid": _grid(scaled),
    }
    if scaled.any():
        scores = _magnitudes(scaled)
        found["repeats"] = _worse(alike(scaled, "releases"), alike(scores, "magnitudes of releases"))
        found["pairs"] = alike(_some_columns(scaled).T, "coordinates")
        found["lags"] = _worse(_lags(scaled.ravel(), "numbers"), _lags(scores.ravel(), "magnitudes"))
    return found


def _size(scaled: np.ndarray, slack: Tuple[float, float]) -> Result:
    squares, count = float(np.square(scaled).sum()), scaled.size
    return Result(_chi2(squares, count, slack), f"{np.sqrt(squares / count):.4f} times the declared")


def _groups(scaled: np.ndarray, slack: Tuple[float, float], axis: int) -> Result:
    """The size of each release (axis 1) or of each coordinate (0) by itself."""
    squares, count = np.square(scaled).sum(axis=axis), scaled.shape[axis]
    p = np.array([_chi2(float(s), count, slack) for s in (squares.min(), squares.max())])
    ends = np.sqrt(np.array([squares.min(), squares.max()]) / count)
    return Result(min(1.0, float(p.min()) * len(squares)), f"from {ends[0]:.3f} to {ends[1]:.3f} times the declared")


def _chi2(squares: float, count: int, slack: Tuple[float, float]) -> float:
    little = special.gammainc(count / 2, squares / slack[0] ** 2 / 2)
    much = special.gammaincc(count / 2, squares / slack[1] ** 2 / 2)
    return float(min(1.0, 2 * min(little, much)))


def _law(scaled: np.ndarray) -> Result:
    """Chi-square of the shape, whatever the size: bins of equal probability, and the tails."""
    values = scaled.ravel()
    quantum = _quantum(values)
    size = float(np.sqrt(np.square(values).mean()))
    if size == 0 or quantum > size / 8:
        return Result(0.0 if size == 0 or len(values) > 1000 else 1.0, "few values, far apart")
    values = values / size + np.random.default_rng().uniform(-0.5, 0.5, len(values)) * (quantum / size)
    inner = special.ndtri(np.arange(1, _BINS) / _BINS)
    tails = np.array([t for t in _TAILS if len(values) * special.ndtr(-t) >= _EXPECTED])
    edges = np.unique(np.concatenate([-tails, inner, tails]))
    expected = np.diff(np.concatenate([[0.0], special.ndtr(edges), [1.0]])) * len(values)
    keep = np.ones(len(edges), bool)
    for i in range(len(edges)):  # neighbours together where too few are expected
        if expected[i] < _EXPECTED and i + 1 < len(expected):
            expected[i + 1] += expected[i]
            keep[i] = False
    edges = edges[keep]
    expected = np.diff(np.concatenate([[0.0], special.ndtr(edges), [1.0]])) * len(values)
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(expected))
    distance = float((np.square(counts - expected) / expected).sum())
    kurtosis, reach = float(np.mean(values**4)), float(np.abs(values).max())
    several = [float(special.chdtrc(len(expected) - 1, distance)), _smooth(values)]
    if len(values) >= 5000:  # Anscombe and Glynn 1983, D'Agostino 1970
        several += [float(stats.kurtosistest(values).pvalue), float(stats.skewtest(values).pvalue)]
    p = len(several) * min(several)
    return Result(min(1.0, p), f"fourth moment {kurtosis:.2f} (normal: 3), farthest number {reach:.1f} deviations out")


def _smooth(values: np.ndarray) -> float:
    """Neyman's smooth test (1937): Legendre polynomials of the numbers' ranks in the normal law, which are bounded."""
    ranks = 2 * special.ndtr(values) - 1
    z = [special.eval_legendre(k, ranks).sum() * np.sqrt((2 * k + 1) / len(values)) for k in range(1, 9)]
    return min(1.0, _normal(float(np.abs(z).max())) * len(z))


def _quantum(values: np.ndarray) -> float:
    """The least distance of two values, beyond what float32 leaves of a number; 0 of values that are all alike."""
    distances = np.diff(np.unique(values))
    distances = distances[distances > float(np.abs(values).max(initial=0.0)) * 2.0**-21]
    return float(distances.min()) if len(distances) else 0.0


def _grid(scaled: np.ndarray) -> Result:
    """Whether noise has at least 1,024 steps a standard deviation (privacy/lattice.py). Certain, but for chance in the size."""
    values = scaled.ravel()
    quantum, size = _quantum(values), float(np.sqrt(np.square(values).mean()))
    if quantum == 0:
        return Result(1.0, "no two numbers differ")
    steps = size / quantum
    enough = len(values) ** 2 < 40 * steps or steps >= 1024 * (1 - 7 / np.sqrt(2 * len(values)))
    return Result(1.0 if enough else 0.0, f"{steps:.0f} steps a standard deviation")


def _centre(scaled: np.ndarray, most: float) -> Result:
    """The mean of all numbers, and of each coordinate."""
    whole = float(scaled.sum()) / (most * np.sqrt(scaled.size))
    each = float(np.abs(scaled.sum(axis=0)).max()) / (most * np.sqrt(len(scaled)))
    p = min(_normal(whole), _normal(each) * scaled.shape[1])
    return Result(min(1.0, 2 * p), f"mean {whole:.1f} standard errors from 0, that of one coordinate {each:.1f}")


def _normal(z: float) -> float:
    return float(2 * special.ndtr(-abs(z)))


def _magnitudes(scaled: np.ndarray) -> np.ndarray:
    """Normal scores of the magnitudes, so that noise used again with other signs shows too."""
    size = float(np.sqrt(np.square(scaled).mean()))
    chance = 1 - 2 * special.ndtr(-np.abs(scaled) / size)
    return np.asarray(special.ndtri(np.clip(chance, 1e-9, 1 - 1e-9)))


def alike(rows: np.ndarray, what: str) -> Result:
    """The two most alike of normal vectors, float (m, n): the square of their cosine is Beta(1/2, (n - 1)/2), exactly."""
    m, n = rows.shape
    if m < 2 or n < 2:
        return Result(1.0, "nothing to compare")
    lengths = np.linalg.norm(rows, axis=1)
    unit = rows / np.where(lengths > 0, lengths, 1.0)[:, None]
    cosines = unit @ unit.T
    cosines[np.tril_indices(m)] = 0.0
    worst = float(np.abs(cosines).max())
    p = float(special.betainc((n - 1) / 2, 0.5, max(0.0, 1 - worst**2))) * m * (m - 1) / 2
    return Result(min(1.0, p), f"two {what} have a correlation of {worst:.3f}")


def _some_columns(scaled: np.ndarray) -> np.ndarray:
    size = scaled.shape[1]
    chosen = np.unique(
        np.concatenate([np.linspace(0, size - 1, _COLUMNS).astype(int), np.arange(max(0, size - 64), size)])
    )
    return scaled[:, chosen]


def _lags(stream: np.ndarray, what: str) -> Result:
    """The strongest correlation of the stream of all numbers with itself, shifted by up to half of its length."""
    count = len(stream)
    normal = stream / np.sqrt(np.square(stream).mean())
    padded = np.fft.rfft(normal, 1 << (2 * count - 1).bit_length())
    products = np.fft.irfft(padded * padded.conj())[1 : count // 2 + 1]
    z = products / np.sqrt(count - np.arange(1, len(products) + 1))
    worst = int(np.abs(z).argmax())
    p = _normal(float(z[worst])) * len(z)
    return Result(
        min(1.0, p), f"{what} {worst + 1} places apart: correlation {z[worst] / np.sqrt(count - worst - 1):.3f}"
    )


def _worse(one: Result, other: Result) -> Result:
    best = min(one, other, key=lambda result: result.p)
    return best._replace(p=min(1.0, 2 * best.p))


def bits(words: np.ndarray) -> Result:
    """Whether each of the 64 bits of uint64 (n,) is set in half of the words, and each differs from the next in half of them."""
    each = np.unpackbits(words.view(np.uint8)).reshape(len(words), 64)
    counts = np.concatenate([each.sum(axis=0), (each[1:] != each[:-1]).sum(axis=0)])
    worst = float(np.abs(counts / len(words) - 0.5).max())
    # Hoeffding; the second kind has one word less.
    return Result(
        min(1.0, 2 * len(counts) * float(np.exp(-2 * (len(words) - 1) * max(0.0, worst - 1 / len(words)) ** 2))),
        f"a bit is set {0.5 + worst:.4f} of the time",
    )


def samples(taken: np.ndarray, rate: float) -> Dict[str, Result]:
    """Tests of bool (steps, units): who was in each step, in order. Declared: each by itself, with probability `rate`."""
    found = {"rate": rate_of(taken, rate)}
    if rate < 1:
        found["units"] = _counts(taken.sum(axis=0), len(taken), rate, "units are sampled")
        found["sizes"] = _counts(taken.sum(axis=1), taken.shape[1], rate, "samples vary in size")
        found["overlap"] = overlap(taken)
        found["steps"] = _shifted(taken, rate, "steps")
        found["neighbours"] = _shifted(taken.T, rate, "units")
    return found


def rate_of(taken: np.ndarray, rate: float) -> Result:
    count, of = int(taken.sum()), taken.size
    fewer, more = special.bdtr(count, of, rate), special.bdtrc(count - 1, of, rate) if count else 1.0
    if rate >= 1:
        fewer, more = float(count == of), 1.0
    return Result(float(min(1.0, 2 * min(fewer, more))), f"{count / (of * rate):.4f} times the declared")


def _counts(counts: np.ndarray, trials: int, rate: float, what: str) -> Result:
    """All binomial counts together, and the two at the ends by themselves."""
    low, high = int(counts.min()), int(counts.max())
    ends = min(special.bdtr(low, trials, rate), special.bdtrc(high - 1, trials, rate) if high else 1.0)
    alone = Result(
        float(min(1.0, 2 * ends * len(counts))),
        f"{what} from {low} to {high} times where {trials * rate:.0f} are expected",
    )
    return _worse(alone, dispersion(counts, trials, rate, what))


def dispersion(counts: np.ndarray, trials: int, rate: float, what: str) -> Result:
    """Sum of squares of binomial counts against a gamma law of the same mean and variance."""
    variance = trials * rate * (1 - rate)
    squares = float(np.square(counts - trials * rate).sum() / variance)
    spread = len(counts) * (2 + (1 - 6 * rate * (1 - rate)) / variance)
    shape, size = len(counts) ** 2 / spread, spread / len(counts)
    less, more = special.gammainc(shape, squares / size), special.gammaincc(shape, squares / size)
    return Result(
        float(min(1.0, 2 * min(less, more))),
        f"{what} {np.sqrt(squares / len(counts)):.3f} times as unevenly as by chance",
    )


def overlap(taken: np.ndarray) -> Result:
    """The two samples that have most, or least, in common: hypergeometric, given their sizes."""
    steps, units = taken.shape
    counts, sizes = (taken.astype(np.float32) @ taken.T.astype(np.float32)).astype(np.float64), taken.sum(axis=1)
    mean = np.outer(sizes, sizes) / units
    spread = np.sqrt(np.maximum(mean * np.outer(units - sizes, units - sizes) / (units * max(1, units - 1)), 1e-12))
    z = np.where(mean > 0, (counts - mean) / spread, 0.0)
    z[np.tril_indices(steps)] = 0.0
    suspects = np.argsort(np.abs(z), axis=None)[-30:]
    worst = Result(1.0, "any two samples overlap as by chance")
    for a, b in zip(*np.unravel_index(suspects, z.shape)):
        law, common = stats.hypergeom(units, sizes[a], sizes[b]), counts[a, b]
        p = float(2 * min(law.sf(common - 1), law.cdf(common))) * steps * (steps - 1) / 2
        if a != b and p < worst.p:
            worst = Result(
                p, f"two samples of {sizes[a]} and {sizes[b]} have {common:.0f} in common, {mean[a, b]:.0f} expected"
            )
    return worst


def _shifted(taken: np.ndarray, rate: float, what: str) -> Result:
    """Whether being in makes it likelier to be in again k rows later, over all rows together."""
    rows, columns = taken.shape
    centred = (taken - rate) / np.sqrt(rate * (1 - rate))
    spectrum = np.fft.rfft(centred, 2 * rows, axis=0)
    products = np.fft.irfft(np.square(np.abs(spectrum)).sum(axis=1))[1 : max(2, rows // 2)]
    z = products / np.sqrt(columns * (rows - np.arange(1, len(products) + 1)))
    worst = int(np.abs(z).argmax())
    deviation = z[worst] / np.sqrt(columns * (rows - worst - 1))
    return Result(
        min(1.0, _normal(float(z[worst])) * len(z)),
        f"{what} {worst + 1} apart: correlation {deviation:.3f} of being sampled",
    )


def shift(moved: np.ndarray, std: float, most: float) -> Result:
    """Whether a unit moved a sum by more than `most`: float (P,), its shift with normal noise of `std` on every number."""
    squares = float(np.square(moved).sum())
    length = np.sqrt(max(0.0, squares - moved.size * std**2))
    p = float(stats.ncx2.sf(squares / std**2, moved.size, most**2 / std**2)) if np.isfinite(squares) else 0.0
    return Result(p, f"{length / most:.3f} times the declared")
