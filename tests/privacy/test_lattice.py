"""The grid: what is rounded onto it is never longer than the bound, unbiased, and noised as declared."""

import math
from typing import Dict, Tuple

import numpy as np
import pytest

from orchestrator.errors import PrivacyError
from orchestrator.privacy.lattice import MECHANISMS, Draws, Lattice, clamp, clip_l2, draw, make_lattice
from orchestrator.privacy.secure_random import SecureRandom


def adversaries(size: int, levels: int) -> Dict[str, np.ndarray]:
    """Vectors of norm 1 or less on which rounding could go wrong."""
    one, halves, sparse = np.zeros(size), np.zeros(size), np.zeros(size)
    one[0] = 1.0
    count = min(size, 4 * levels * levels)  # so many coordinates of half a step still have norm 1 or less
    halves[:count] = 0.5 / levels
    sparse[: size // 2 + 1] = 1 / math.sqrt(size // 2 + 1)
    rng = np.random.default_rng(1)
    normal = rng.standard_normal(size)
    return {
        "one": one,
        "minus one": -one,
        "constant": np.full(size, 1 / math.sqrt(size)),
        "halves": halves,
        "minus halves": -halves,
        "sparse": sparse,
        "normal": normal / np.linalg.norm(normal),
        "zero": np.zeros(size),
    }


@pytest.mark.parametrize("size", [1, 7, 1000, 20_000])
@pytest.mark.parametrize("levels", [1, 3, 32, 1024])
def test_no_vector_becomes_longer_than_the_bound(size: int, levels: int) -> None:
    lattice = Lattice(2.5, size, levels)
    random = SecureRandom()
    for name, vector in adversaries(size, levels).items():
        rows = np.repeat(2.5 * vector[np.newaxis], 20, axis=0)
        rounded = lattice.round(rows, random)
        assert rounded.dtype == np.int64
        assert ((rounded**2).sum(axis=1) <= lattice.squared_bound).all(), name
        # Each coordinate is one of its two neighbours.
        assert (np.abs(rounded - rows / lattice.step) < 1 + 1e-6).all(), name


class Upwards(Draws):
    """The worst rounding: always up."""

    def first(self, rows: int, size: int) -> Tuple[int, np.ndarray]:
        return 0, np.zeros((rows, size))

    def again(self, rows: np.ndarray, attempt: int, size: int) -> np.ndarray:
        return np.zeros((len(rows), size))


def test_the_bound_holds_even_when_every_draw_is_the_worst() -> None:
    lattice = Lattice(1.0, 10_000, 16)
    vector = adversaries(10_000, 16)["constant"]
    assert np.square(np.floor(vector / lattice.step) + 1).sum() > lattice.squared_bound  # rounded up, it is too long
    rounded = lattice.round(np.stack([vector, adversaries(10_000, 16)["one"]]), Upwards(SecureRandom()))
    assert not rounded[0].any()  # cut toward zero
    assert (rounded[1] == 16 * (np.arange(10_000) == 0)).all()


def test_the_bound_is_the_published_one() -> None:
    # Theorem 1 of Kairouz, Liu and Steinke with beta = exp(-1/2), worked out by hand.
    assert Lattice(1.0, 10_000, 16).squared_bound == math.floor(min(256 + 2500 + (16 + 50), (16 + 100) ** 2))
    assert Lattice(1.0, 1, 16).squared_bound == math.floor(min(256 + 0.25 + 16.5, 17**2))
    assert Lattice(3.0, 4, 1).squared_bound == 4  # 1 + 1 + (1 + 1) against (1 + 2)^2
    assert Lattice(1.0, 4, 1).bound == 2.0


@pytest.mark.parametrize("name", ["normal", "halves", "constant", "minus one", "sparse"])
def test_rounding_is_unbiased(name: str) -> None:
    size, repeats = 500, 4000
    lattice = make_lattice(2.5, size, 1.0, 1)
    vector = 2.5 * 0.8 * adversaries(size, lattice.levels)[name]  # inside, where no attempt fails
    mean = lattice.to_float(lattice.round(np.repeat(vector[np.newaxis], repeats, axis=0), SecureRandom())).mean(axis=0)
    # Hoeffding: beyond this with probability 2 exp(-2 * 3.6^2) = 1e-11 for each coordinate.
    assert np.abs(mean - vector).max() <= 3.6 * lattice.step / math.sqrt(repeats)


def test_few_attempts_fail_on_a_grid_that_was_made_to_measure() -> None:
    lattice = make_lattice(1.0, 10_000, 1.0, 1)
    constant = adversaries(10_000, lattice.levels)["constant"]

    class Counting(SecureRandom):
        draws = 0

        def uniform(self, size: int) -> np.ndarray:
            self.draws += size
            return super().uniform(size)

    random = Counting()
    lattice.round(np.repeat(constant[np.newaxis], 100, axis=0), random)
    assert random.draws <= 3 * 100 * 10_000  # 1 / (1 - beta) = 2.5 on average at worst


def test_a_generator_of_numpy_will_do_for_rounding() -> None:
    lattice = Lattice(1.0, 3, 10)
    assert lattice.round(np.array([0.1, -0.2, 0.55]), np.random.default_rng(0)).tolist() in ([1, -2, 5], [1, -2, 6])


@pytest.mark.parametrize("size", [3, 1000])
def test_what_clipping_gives_is_accepted_and_what_is_longer_refused(size: int) -> None:
    lattice = make_lattice(0.3, size, 1.0, 4)
    rng = np.random.default_rng(2)
    lattice.round(clip_l2(rng.standard_normal((50, size)) * 1e3, 0.3), SecureRandom())
    exact = adversaries(size, 4)["normal"] * 0.3
    lattice.round(exact / np.linalg.norm(exact) * 0.3, SecureRandom())  # a hair above 0.3 at most
    for bad in (exact * (1 + 1e-7), exact * np.nan, np.full(size, np.inf), np.full(size, -1e200)):
        with pytest.raises(PrivacyError, match="clip it first"), np.errstate(over="ignore"):
            lattice.round(np.stack([exact, bad]), SecureRandom())
    with pytest.raises(ValueError, match="numbers on a grid"):
        lattice.round(np.zeros(size + 1), SecureRandom())


@pytest.mark.parametrize("size", [1, 14, 1000, 100_000])
@pytest.mark.parametrize("noise", [0.3, 1.0, 12.5])
@pytest.mark.parametrize("parties", [1, 4, 30])
def test_a_grid_made_to_measure_costs_one_percent_and_has_fine_noise(size: int, noise: float, parties: int) -> None:
    lattice = make_lattice(1.7, size, noise, parties)

    def costs(grid: Lattice) -> bool:
        return grid.bound <= 1.01 * grid.levels and grid.noise_std(noise, parties) >= 1024

    assert costs(lattice)
    assert lattice.levels == 1 or not costs(Lattice(1.7, size, lattice.levels // 2))
    assert make_lattice(1.7, size, noise, parties) == lattice
    std = lattice.noise_std(noise, parties)
    # As a continuous Gaussian the sum has the noise that was asked for, and one step less would not do.
    assert parties * std**2 - 1 / 12 >= (noise * lattice.bound) ** 2
    assert parties * (std - 1) ** 2 - 1 / 12 < (noise * lattice.bound) ** 2


def test_noise_has_room_for_the_variance_of_rounding() -> None:
    assert Lattice(3.0, 4, 1).bound == 2
    # 1024^2 is more than (noise * bound)^2, but by less than a twelfth in the first case.
    assert Lattice(3.0, 4, 1).noise_std(math.sqrt(1024**2 - 0.05) / 2, 1) == 1025
    assert Lattice(3.0, 4, 1).noise_std(math.sqrt(1024**2 - 0.15) / 2, 1) == 1024


def test_grids_that_cannot_be_are_refused() -> None:
    for clip_norm, size in ((0.0, 3), (math.nan, 3), (1.0, 0)):
        with pytest.raises(PrivacyError, match="positive"):
            Lattice(clip_norm, size, 8)
    with pytest.raises(PrivacyError, match="levels"):
        Lattice(1.0, 3, 0)
    for noise, parties in ((0.0, 1), (math.inf, 1), (1.0, 0)):
        with pytest.raises(PrivacyError, match="positive"):
            make_lattice(1.0, 3, noise, parties)
    with pytest.raises(PrivacyError, match="no grid fits"):
        make_lattice(1.0, 10, 1e-6, 1)
    with pytest.raises(PrivacyError, match="no grid fits"):
        make_lattice(1.0, 10**6, 1e6, 1)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_noise_of_all_parties_has_the_declared_std(mechanism: str) -> None:
    size, parties, noise = 40_000, 5, 3.0
    lattice = make_lattice(1.0, size, noise, parties)
    std = lattice.noise_std(noise, parties)
    total = sum(draw(SecureRandom(), mechanism, size, std) for _ in range(parties))
    declared = noise * lattice.bound
    # A sample's std has a relative deviation of 1 / sqrt(2 n).
    assert abs(np.std(total) / declared - 1) < 0.001 + 5.5 / math.sqrt(2 * size)
    assert abs(np.mean(total)) < 5.5 * declared / math.sqrt(size)


def test_skellam_noise_of_an_odd_std_has_the_next_even_variance() -> None:
    assert abs(np.var(draw(SecureRandom(), "skellam", 200_000, 1)) - 2) < 5.5 * 2 * math.sqrt(2.5 / 200_000)


def test_noise_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(PrivacyError, match="unknown; there are discrete-gaussian, skellam"):
        draw(SecureRandom(), "laplace", 1, 10)
    for mechanism in MECHANISMS:
        with pytest.raises(PrivacyError, match="cannot be drawn"):
            draw(SecureRandom(), mechanism, 1, 1 << 25)


def test_clamping_moves_no_two_vectors_apart() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-50, 50, (2, 1000))
    assert np.abs(clamp(a, 20)).max() == 20
    assert (np.abs(clamp(a, 20) - clamp(b, 20)) <= np.abs(a - b)).all()
    assert (clamp(a, 50) == a).all()
    with pytest.raises(ValueError, match="leaves nothing"):
        clamp(a, 0)


def test_steps_and_units() -> None:
    lattice = Lattice(0.5, 2, 8)
    assert lattice.step == 0.0625
    assert lattice.to_float(np.array([8, -3])).tolist() == [0.5, -0.1875]


@pytest.mark.parametrize("clip_norm", [1e-320, 7e-317, 1e-300, 1e-31, 1e31, 1e300])
def test_there_is_no_grid_where_it_would_depend_on_the_data_whether_they_can_be_rounded(clip_norm: float) -> None:
    """Among subnormal numbers, rounding failed for a gradient that is not zero: no noise covers such an answer."""
    with pytest.raises(PrivacyError, match="are supported"):
        make_lattice(clip_norm, 10, 50.0, 1)


@pytest.mark.parametrize("clip_norm", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_whatever_is_clipped_can_be_rounded(clip_norm: float) -> None:
    lattice, rng = make_lattice(clip_norm, 10, 50.0, 1), np.random.default_rng(0)
    for exponent in (-45, -30, -12, 0, 12, 38):
        vectors = rng.standard_normal((200, 10)) * 10.0**exponent
        lattice.round(clip_l2(vectors, clip_norm), rng)
