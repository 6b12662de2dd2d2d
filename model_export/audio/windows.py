"""The windows that samples complete, a step apart, however they are cut into pieces."""

from __future__ import annotations

from typing import Iterator

import numpy as np

from model_export.audio.parameters import SoundParameters

_STEPS_AT_ONCE = 2048


class Windows:
    def __init__(self, asked: SoundParameters) -> None:
        self._window, self._step = asked.window_samples, asked.step_samples
        self.reset()

    def reset(self) -> None:
        self._kept = np.zeros(1, np.int16)

    def feed(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """int16 (n,) -> int16 (steps, 1 + window): of each window that these complete the sample before it, 0 of the first, and
        its own. TypeError for anything else than samples.
        """
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise TypeError(f"samples are int16 in a row, not {samples.dtype} of shape {samples.shape}")
        known = np.concatenate([self._kept, samples])
        steps = max(0, (len(known) - 1 - self._window) // self._step + 1)
        self._kept = known[steps * self._step :].copy()
        return self._cut(known, steps)

    def _cut(self, known: np.ndarray, steps: int) -> Iterator[np.ndarray]:
        for first in range(0, steps, _STEPS_AT_ONCE):
            begins = self._step * np.arange(first, min(first + _STEPS_AT_ONCE, steps))
            yield known[begins[:, None] + np.arange(1 + self._window)]
