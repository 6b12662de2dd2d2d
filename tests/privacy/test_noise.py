"""The sampler on the node. The Kolmogorov-Smirnov bound is written out: SciPy is not on a node."""

import math

import numpy as np

from orchestrator.privacy.lattice import clip_l2
from orchestrator.privacy.secure_random import SecureRandom

N = 200_000
KS_BOUND = 2.2 / math.sqrt(N)  # exceeded with probability 2 exp(-2 * 2.2^2) = 1.3e-4


def ks_distance(samples: np.ndarray, cdf: np.ndarray) -> float:
    n = len(samples)
    return float(max(np.abs(cdf - np.arange(n) / n).max(), np.abs(cdf - np.arange(1, n + 1) / n).max()))


def test_words_are_the_key_stream_whatever_their_number() -> None:
    for size in (0, 1, 8191, 8192, 8193, 20_000):
        words = SecureRandom().words(size)
        assert words.dtype == np.uint64
        assert words.shape == (size,)
        assert len(np.unique(words)) == size
    # Each of the 64 bits is set in half of the words, and in half of the words of every piece of the stream.
    bits = np.unpackbits(SecureRandom().words(64_000).view(np.uint8)).reshape(8, 8000, 64)
    assert np.abs(bits.mean(axis=1) - 0.5).max() < 7 / (2 * math.sqrt(8000))


def test_uniform_numbers_are_uniform() -> None:
    samples = np.sort(SecureRandom().uniform(N))
    assert samples[0] >= 0
    assert samples[-1] < 1
    assert ks_distance(samples, samples) < KS_BOUND


def test_gaussian_numbers_are_gaussian_with_the_stated_sigma() -> None:
    samples = np.sort(SecureRandom().gaussian(N, 2.5))
    cdf = np.array([0.5 * (1 + math.erf(v / 2.5 / math.sqrt(2))) for v in samples])
    assert ks_distance(samples, cdf) < KS_BOUND


def test_odd_sizes_and_nothing() -> None:
    random = SecureRandom()
    assert random.uniform(0).shape == (0,)
    assert random.gaussian(7, 1.0).shape == (7,)
    assert random.gaussian(0, 1.0).shape == (0,)


def test_two_sources_never_agree() -> None:
    assert not np.intersect1d(SecureRandom().uniform(1000), SecureRandom().uniform(1000)).size


def test_poisson_samples_have_the_rate_and_vary_in_size() -> None:
    random = SecureRandom()
    sizes = np.array([len(random.poisson_sample(1000, 0.25)) for _ in range(400)])
    assert abs(sizes.mean() - 250) < 5 * math.sqrt(1000 * 0.25 * 0.75 / 400)
    assert 0.7 < sizes.std() / math.sqrt(1000 * 0.25 * 0.75) < 1.3
    assert random.poisson_sample(50, 1.0).tolist() == list(range(50))


def test_clipping_bounds_every_row_and_leaves_short_ones() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((100, 20)) * rng.uniform(0, 3, (100, 1))
    rows[3], rows[4, 5], rows[5, 0] = 0, np.nan, np.inf
    clipped = clip_l2(rows, 1.5)
    norms = np.linalg.norm(clipped, axis=1)
    assert norms.max() <= 1.5
    assert not clipped[[3, 4, 5]].any()
    short = np.linalg.norm(np.nan_to_num(rows, posinf=9e9), axis=1) < 1.4
    short[4] = False
    np.testing.assert_allclose(clipped[short], rows[short])
