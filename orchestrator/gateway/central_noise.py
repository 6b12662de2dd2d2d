"""Noise at the gateway (DP-FedAvg, McMahan et al. 2018): one node's whole update is what is hidden in a round's mean.

The gateway clips every update again (a codec may have lengthened it, a node may not have clipped), adds them up on a grid, adds
discrete noise and divides by the expected number of nodes, never by how many came. It has seen the single updates: the claim
is towards those who get the model. Noise may be correlated over rounds (privacy/correlated.py), and the clip norm may follow
the updates (privacy/adaptive_clip.py); what both need to remember is stored with the round's result.
"""

from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from orchestrator.gateway.aggregation import Aggregation, Tensors
from orchestrator.privacy.adaptive_clip import next_clip, noisy_share, split_multiplier
from orchestrator.privacy.correlated import FRACTION_BITS, CorrelatedNoise
from orchestrator.privacy.lattice import Lattice, draw, make_lattice
from orchestrator.privacy.noisy_sum import WITHIN, NoisySum
from orchestrator.privacy.releases import work_of
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.rounds.events import Aggregate
from orchestrator.rounds.strategy import move_by_mean
from orchestrator.wire.announcing import ClipAnnounced

_ROWS, _CLIP = "noise.", "clip"
_HALF = 0.5
"""What a node's word on its norm counts for: + or - half, so that one node moves the sum by at most that (Andrew et al. 2021)."""


class CentralAggregation(Aggregation):
    """Rounds of one run with a node as the unit and noise at the gateway."""

    always_steps = True  # an empty sample gets noise like any other, or it would be seen to be empty

    def broadcast(self) -> Tuple[Dict[str, Any], Tensors]:
        fields, tensors = super().broadcast()
        if self._task.privacy.clip_quantile:
            fields = {**fields, **ClipAnnounced(self._clip_norm(self._strategy_state())).written()}
        return fields, tensors

    def _moved(
        self, action: Aggregate, known: float, sums: Dict[str, np.ndarray], shared: np.ndarray
    ) -> Tuple[np.ndarray, Tensors]:
        state = self._strategy_state()
        mean, kept = self._noised_mean(action, shared.size, state)
        moved, changed = move_by_mean(self._strategy, shared, mean, state)
        return moved, {**changed, **kept}

    def _noised_mean(self, action: Aggregate, size: int, state: Tensors) -> Tuple[np.ndarray, Tensors]:
        """(float64 (P,) mean of clipped updates with noise, what to remember)."""
        privacy, random = self._task.privacy, SecureRandom()
        clip_norm, expected = self._clip_norm(state), self._expected()
        multiplier, count_std = work_of(self._task).noise_multiplier, 0.0
        if privacy.clip_quantile:
            multiplier, count_std = split_multiplier(multiplier, expected)
        lattice = make_lattice(clip_norm, size, multiplier, 1)
        mechanism = NoisySum(lattice, multiplier, 1, privacy.mechanism)
        within: List[bool] = []
        total = mechanism.total(self._deltas(action, within), np.random.default_rng())
        kept: Tensors = {}
        if privacy.bands > 1:
            noise, kept = self._correlated(lattice, mechanism.std, random, state)
        else:
            noise = mechanism.noise(random)
        if privacy.clip_quantile:
            said = sum(_HALF if word else -_HALF for word in within) + _count_noise(random, count_std)
            share = noisy_share(said, expected)
            followed = next_clip(clip_norm, share, privacy.clip_quantile, privacy.clip_learning_rate)
            kept[_CLIP] = np.array([followed])
        return mechanism.to_float(total + noise) / expected, kept

    def _deltas(self, action: Aggregate, within: List[bool]) -> Iterator[np.ndarray]:
        """The round's updates one at a time; what each says of its norm goes into `within`."""
        for _, header, tensors in self._answers.of(action):
            within.append(header.get(WITHIN) is True)
            yield self._answers.vector(action.round, header, tensors)

    def _correlated(
        self, lattice: Lattice, std: int, random: SecureRandom, state: Tensors
    ) -> Tuple[np.ndarray, Tensors]:
        bands = self._task.privacy.bands
        names = [f"{_ROWS}{i}" for i in range(bands - 1)]
        correlated = CorrelatedNoise(bands, [np.rint(state[n]).astype(np.int64) for n in names if n in state])
        fresh = draw(random, self._task.privacy.mechanism, lattice.size, std << FRACTION_BITS)
        row = correlated.next(fresh)
        return row, {name: kept.astype(np.float64) for name, kept in zip(names, correlated.rows)}

    def _clip_norm(self, state: Tensors) -> float:
        return float(state[_CLIP][0]) if _CLIP in state else self._task.privacy.clip_norm

    def _expected(self) -> float:
        """Nodes a round is expected to have, whichever come: what sums are divided by must not depend on one of them."""
        selection, nodes = self._task.selection, self._task.rounds.nodes
        return float(selection.cohort or (selection.sampling_rate or 1.0) * nodes)


def _count_noise(random: SecureRandom, std: float) -> float:
    """Discrete Gaussian noise of at least `std` for a sum of halves, in steps of 1/2^12."""
    return float(draw(random, "discrete-gaussian", 1, max(1024, int(np.ceil(std * 4096))))[0]) / 4096
