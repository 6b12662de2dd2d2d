"""Mistakes in noise and in the bits it is made of: what each replaces of the product. Only broken.py uses this."""

from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple
from weakref import WeakKeyDictionary

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import orchestrator.privacy.noisy_sum as noisy_sum
from orchestrator.privacy import own_sum, secure_random
from orchestrator.privacy.lattice import Lattice, draw, make_lattice
from orchestrator.privacy.noisy_sum import NoisySum
from orchestrator.privacy.secure_random import SecureRandom

Patches = Tuple[Tuple[Any, str, Any], ...]
Draw = Callable[[NoisySum, SecureRandom], np.ndarray]
_noise = NoisySum.noise
_release = NoisySum.release
_tally = NoisySum.tally


def _noise_is(noise: Draw) -> Patches:
    return ((NoisySum, "noise", noise),)


def _scaled(mechanism: NoisySum, random: SecureRandom, factor: float) -> np.ndarray:
    return draw(random, mechanism.mechanism, mechanism.lattice.size, max(1, round(mechanism.std * factor)))


def off(units: int) -> Patches:
    return _noise_is(lambda self, random: np.zeros(self.lattice.size, np.int64))


def tally_off(units: int) -> Patches:
    def tally(self: NoisySum, units: int, random: SecureRandom, limit: Optional[int] = None) -> np.ndarray:
        return np.array([units * self.beside], np.int64)

    return ((NoisySum, "tally", tally),)


def tally_twice(units: int) -> Patches:
    def tally(self: NoisySum, units: int, random: SecureRandom, limit: Optional[int] = None) -> np.ndarray:
        return _tally(self, 2 * units, random, limit)

    return ((NoisySum, "tally", tally),)


def of_a_mean(units: int) -> Patches:
    return _noise_is(lambda self, random: _scaled(self, random, units**-0.5))


def less(units: int) -> Patches:
    return _noise_is(lambda self, random: _scaled(self, random, 0.9))


def tenth(units: int) -> Patches:
    return _noise_is(lambda self, random: _scaled(self, random, 0.1))


def cut(units: int) -> Patches:
    return _noise_is(lambda self, random: np.clip(_noise(self, random), -2 * self.std, 2 * self.std))


def uniform(units: int) -> Patches:
    def noise(self: NoisySum, random: SecureRandom) -> np.ndarray:
        return np.rint((2 * random.uniform(self.lattice.size) - 1) * self.std * 3**0.5).astype(np.int64)

    return _noise_is(noise)


def laplace(units: int) -> Patches:
    def noise(self: NoisySum, random: SecureRandom) -> np.ndarray:
        u = random.uniform(self.lattice.size) - 0.5
        return np.rint(-self.std / 2**0.5 * np.sign(u) * np.log1p(-2 * np.abs(u))).astype(np.int64)

    return _noise_is(noise)


def _kept(of: Callable[[NoisySum, SecureRandom], Any]) -> Draw:
    """The first noise that was drawn for a key, whenever it comes again."""
    drawn: Dict[Any, np.ndarray] = {}

    def noise(self: NoisySum, random: SecureRandom) -> np.ndarray:
        key = of(self, random)
        if key not in drawn:
            drawn[key] = _noise(self, random)
        return drawn[key]

    return noise


def reused(units: int) -> Patches:
    kept: WeakKeyDictionary[SecureRandom, Dict[Any, np.ndarray]] = WeakKeyDictionary()

    def noise(self: NoisySum, random: SecureRandom) -> np.ndarray:
        own = kept.setdefault(random, {})
        if self not in own:
            own[self] = _noise(self, random)
        return own[self]

    return _noise_is(noise)


def of_all_nodes(units: int) -> Patches:
    turns: WeakKeyDictionary[SecureRandom, int] = WeakKeyDictionary()

    def key(self: NoisySum, random: SecureRandom) -> Any:
        turns[random] = turns.get(random, 0) + 1
        return self, turns[random]

    return _noise_is(_kept(key))


def signs(units: int) -> Patches:
    same = _kept(lambda self, random: self)
    return _noise_is(lambda self, random: same(self, random) * np.where(random.uniform(self.lattice.size) < 0.5, -1, 1))


def broadcast(units: int) -> Patches:
    return _noise_is(lambda self, random: np.resize(_noise(self, random)[:1], self.lattice.size))


def in_pairs(units: int) -> Patches:
    return _noise_is(
        lambda self, random: np.resize(_noise(self, random)[: -(-self.lattice.size // 2)], self.lattice.size)
    )


def not_last(units: int) -> Patches:
    return _noise_is(lambda self, random: np.append(_noise(self, random)[:-1], 0))


def every_second(units: int) -> Patches:
    turns: List[int] = []

    def noise(self: NoisySum, random: SecureRandom) -> np.ndarray:
        turns.append(1)
        return _noise(self, random) * (len(turns) % 2)

    return _noise_is(noise)


def before_clipping(units: int) -> Patches:
    def release(
        self: NoisySum,
        vectors: Iterable[np.ndarray],
        random: SecureRandom,
        limit: Optional[int] = None,
        longer: Any = None,
    ) -> np.ndarray:
        noised = (row + self.to_float(_noise(self, random)) for vector in vectors for row in np.atleast_2d(vector))
        return self.total(noised, np.random.default_rng(), longer)

    return ((NoisySum, "release", release),)


def empty_silent(units: int) -> Patches:
    def release(
        self: NoisySum,
        vectors: Iterable[np.ndarray],
        random: SecureRandom,
        limit: Optional[int] = None,
        longer: Any = None,
    ) -> np.ndarray:
        some = [one for one in vectors if len(one)]
        return _release(self, some, random, limit, longer) if some else np.zeros(self.lattice.size, np.int64)

    return ((NoisySum, "release", release),)


def multiplier_ignored(units: int) -> Patches:
    return _noise_is(lambda self, random: _noise(replace(self, noise_multiplier=1.0), random))


def coarse_grid(units: int) -> Patches:
    def make(clip_norm: float, size: int, noise_multiplier: float, parties: int) -> Lattice:
        fine = make_lattice(clip_norm, size, noise_multiplier, parties)
        return replace(fine, levels=max(1, fine.levels >> 6))

    return ((noisy_sum, "make_lattice", make), (own_sum, "own_sum", lambda shared: shared))


def share(units: int) -> Patches:
    return _noise_is(lambda self, random: _scaled(self, random, self.parties**-0.5))


def fixed_key(units: int) -> Patches:
    return ((secure_random, "key_stream", lambda: Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()),)


def seeded(units: int) -> Patches:
    generator = np.random.default_rng(1)
    return (
        (
            SecureRandom,
            "words",
            lambda self, size: generator.integers(0, 2**64, size, dtype=np.uint64),
        ),
    )
