"""Mistakes in who is sampled, in what one unit can do, and in the other sums. Only broken.py uses this."""

from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple
from weakref import WeakKeyDictionary

import numpy as np

import orchestrator.data.dataset as dataset_module
import orchestrator.node.contribution as contribution
import orchestrator.node.evaluation as evaluation
import orchestrator.node.opening as opening
import orchestrator.node.secure as node_secure
import orchestrator.privacy.noisy_sum as noisy_sum
from orchestrator.data.dataset import Dataset
from orchestrator.node.run import Run
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.lattice import Lattice, clip_l2
from orchestrator.privacy.noisy_sum import NoisyCounts, NoisySum, evaluation_counts, statistics_sum
from orchestrator.privacy.own_sum import FINER
from orchestrator.privacy.pair_keys import PairKeys
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.secure_sum import Party
from orchestrator.privacy.standardization import moments
from orchestrator.privacy.terms import unit_of
from orchestrator.privacy.vector_layout import Layout
from orchestrator.wire.evaluation import LOSS_BOUND, count
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Task

Patches = Tuple[Tuple[Any, str, Any], ...]
_sample = SecureRandom.poisson_sample
_units = Dataset.units
_evaluate = evaluation.evaluate
_hold_out = dataset_module.hold_out


def _sample_is(sample: Callable[[SecureRandom, int, float], np.ndarray]) -> Patches:
    return ((SecureRandom, "poisson_sample", sample),)


def same_sample(units: int) -> Patches:
    kept: WeakKeyDictionary[SecureRandom, np.ndarray] = WeakKeyDictionary()

    def sample(self: SecureRandom, size: int, rate: float) -> np.ndarray:
        return kept.setdefault(self, _sample(self, size, rate))

    return _sample_is(sample)


def fixed_size(units: int) -> Patches:
    return _sample_is(lambda self, size, rate: np.sort(np.argsort(self.words(size))[: round(rate * size)]))


def epochs(units: int) -> Patches:
    left: WeakKeyDictionary[SecureRandom, np.ndarray] = WeakKeyDictionary()

    def sample(self: SecureRandom, size: int, rate: float) -> np.ndarray:
        wanted, waiting = len(_sample(self, size, rate)), left.get(self, np.empty(0, np.int64))
        while len(waiting) < wanted:
            waiting = np.concatenate([waiting, np.argsort(self.words(size))])
        left[self] = waiting[wanted:]
        return np.unique(waiting[:wanted])

    return _sample_is(sample)


def rate_up(units: int) -> Patches:
    return _sample_is(lambda self, size, rate: _sample(self, size, min(1.0, 1.1 * rate)))


def rate_up_slightly(units: int) -> Patches:
    return _sample_is(lambda self, size, rate: _sample(self, size, min(1.0, 1.03 * rate)))


def rate_of_half(units: int) -> Patches:
    def sample(self: SecureRandom, size: int, rate: float) -> np.ndarray:
        rates = np.where(np.arange(size) < size / 2, 1.2, 0.8) * rate
        return np.flatnonzero(self.uniform(size) < rates)

    return _sample_is(sample)


def sample_twice(units: int) -> Patches:
    def sample(self: SecureRandom, size: int, rate: float) -> np.ndarray:
        return np.sort((self.uniform(len(_sample(self, size, rate))) * size).astype(np.int64))

    return _sample_is(sample)


def sample_in_pairs(units: int) -> Patches:
    def sample(self: SecureRandom, size: int, rate: float) -> np.ndarray:
        return np.flatnonzero(np.repeat(self.uniform(-(-size // 2)) < rate, 2)[:size])

    return _sample_is(sample)


def real_size(units: int) -> Patches:
    def private_gradient(self: Any, weights: np.ndarray) -> np.ndarray:
        mechanism, sampled = self._noisy_sum(weights), list(self._sampled_gradients(weights))
        released = mechanism.to_float(mechanism.release(sampled, self._random))
        return np.asarray(released / max(1, sum(len(some) for some in sampled)))

    return ((GradientTrainer, "_private_gradient", private_gradient),)


def clip_per_batch(units: int) -> Patches:
    def total(self: NoisySum, vectors: Iterable[np.ndarray], rounding: Any, longer: Any = None) -> np.ndarray:
        total, count = np.zeros(self.lattice.size, np.float64), 0
        for vector in vectors:
            some = np.atleast_2d(vector)
            total, count = total + some.sum(axis=0), count + len(some)
        mean = clip_l2(total[np.newaxis] / max(1, count), self.lattice.clip_norm)[0]
        return count * self.lattice.round(mean, rounding)

    return ((NoisySum, "total", total),)


def _whole(self: Lattice, scaled: np.ndarray, draws: Any) -> np.ndarray:
    """To the grid, however long."""
    return np.floor(np.clip(scaled, -(2.0**40), 2.0**40) + draws.first(len(scaled), self.size)[1])


def _clip_is(clip: Callable[[np.ndarray, float], np.ndarray]) -> Patches:
    """With a grid that takes vectors of any length, or the node would notice."""

    def clipped(
        vectors: np.ndarray, clip_norm: float, norms: Any = None, unit: float = 1.0, out: Any = None
    ) -> np.ndarray:
        return clip(vectors, clip_norm) / unit

    return ((noisy_sum, "clip_l2", clipped), (contribution, "clip_l2", clipped), (Lattice, "whole_steps", _whole))


def clip_off(units: int) -> Patches:
    return _clip_is(lambda vectors, clip_norm: np.where(np.isfinite(vectors), vectors, 0.0))


def _clip_parts(shares: List[float]) -> Patches:
    def clip(vectors: np.ndarray, clip_norm: float) -> np.ndarray:
        parts = np.split(vectors, [int(share * vectors.shape[1]) for share in shares], axis=1)
        return np.concatenate([clip_l2(part, clip_norm) for part in parts], axis=1)

    return _clip_is(clip)


def clip_halves(units: int) -> Patches:
    return _clip_parts([0.5])


def clip_layers(units: int) -> Patches:
    return _clip_parts([0.9, 0.94, 0.99])


def clip_numbers(units: int) -> Patches:
    return _clip_is(lambda vectors, clip_norm: np.clip(np.nan_to_num(vectors), -clip_norm, clip_norm))


def clip_loose(units: int) -> Patches:
    return _clip_is(lambda vectors, clip_norm: clip_l2(vectors, 1.1 * clip_norm))


def round_up(units: int) -> Patches:
    def whole_steps(self: Lattice, scaled: np.ndarray, draws: Any) -> np.ndarray:
        # Up to the grid that tasks name: what goes wrong within a fine step hardly shows.
        width = FINER if self.nearest else 1
        return np.asarray(np.ceil(scaled / width) * width)

    return ((Lattice, "whole_steps", whole_steps),)


def record_for_patient(units: int) -> Patches:
    return ((Dataset, "units", lambda self, unit: _units(self, "record" if unit == "patient" else unit)),)


def _statistics_is(release: Callable[[NoisySum, np.ndarray], np.ndarray]) -> Patches:
    def statistics(run: Run, layout: Optional[Layout]) -> np.ndarray:
        own = moments(run.dataset.x, run.task.schema, run.dataset.units(unit_of(run.task.privacy)))
        return release(statistics_sum(run.task), own)

    return ((contribution, "statistics_of", statistics),)


def statistics_noise_off(units: int) -> Patches:
    return _statistics_is(lambda mechanism, own: mechanism.total(own, np.random.default_rng()))


def statistics_unclipped(units: int) -> Patches:
    return _statistics_is(
        lambda mechanism, own: (
            np.rint(own.sum(axis=0) / mechanism.lattice.step).astype(np.int64) + mechanism.noise(SecureRandom())
        )
    )


def statistics_records(units: int) -> Patches:
    def every_record(x: np.ndarray, schema: Schema, patients: List[np.ndarray]) -> np.ndarray:
        return moments(x, schema, [np.array([i]) for i in range(len(x))])

    return ((contribution, "moments", every_record),)


def evaluation_noise_off(units: int) -> Patches:
    return ((NoisyCounts, "noise", lambda self, random: np.zeros(self.size, np.int64)),)


def _evaluate_is(evaluate: Callable[..., np.ndarray]) -> Patches:
    return ((evaluation, "evaluate", evaluate), (contribution, "evaluate", evaluate))


def evaluation_twice(units: int) -> Patches:
    def evaluate(task: Task, graph: Any, held_out: Dataset, *others: Any) -> np.ndarray:
        return _evaluate(task, graph, held_out.take(np.repeat(np.arange(held_out.records), 2)), *others)

    return _evaluate_is(evaluate)


def evaluation_loss(units: int) -> Patches:
    def evaluate(
        task: Task, graph: Any, held_out: Dataset, weights: np.ndarray, limit: Optional[int] = None
    ) -> np.ndarray:
        logits = graph.logits(weights, held_out.x).astype(np.float64)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        sums = count(held_out.y, chances, task.evaluation.bins)
        sums[-1] = -np.log(np.maximum(chances[np.arange(held_out.records), held_out.y], 1e-30)).sum() / LOSS_BOUND
        counts = evaluation_counts(task)
        return np.floor(counts.scale * sums).astype(np.int64) + counts.noise(SecureRandom())

    return _evaluate_is(evaluate)


def evaluation_records(units: int) -> Patches:
    def evaluate(task: Task, graph: Any, held_out: Dataset, *others: Any) -> np.ndarray:
        alone = np.arange(held_out.records, dtype=np.int32)
        return _evaluate(task, graph, held_out._replace(patients=alone), *others)

    return _evaluate_is(evaluate)


def _hold_out_is(hold_out: Callable[..., Tuple[Dataset, Dataset]]) -> Patches:
    return ((dataset_module, "hold_out", hold_out), (opening, "hold_out", hold_out))


def held_out_trained(units: int) -> Patches:
    return _hold_out_is(lambda dataset, share, key: (dataset, _hold_out(dataset, share, key)[1]))


def held_out_by_place(units: int) -> Patches:
    def hold_out(dataset: Dataset, share: float, key: bytes) -> Tuple[Dataset, Dataset]:
        chosen = np.random.default_rng(list(key)).random(dataset.records) < share
        return dataset.take(~chosen), dataset.take(chosen)

    return _hold_out_is(hold_out)


def mask_reuse(units: int) -> Patches:
    kept: Dict[str, Tuple[PairKeys, bytes]] = {}
    begin = Party.__init__

    def begin_with_old_keys(self: Any, session: Any, name: str, *others: Any, **more: Any) -> None:
        begin(self, session, name, *others, **more)
        fresh = (self._keys, self._own_seed)
        self._keys, self._own_seed = kept.setdefault(name, fresh)

    return (
        (node_secure, "session_id", lambda *names, **more: bytes(32)),
        (Party, "__init__", begin_with_old_keys),
    )
