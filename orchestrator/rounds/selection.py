"""Which of the nodes that are here take part in a round.

A rule is a pure function of the round and of what the coordinator knows, so that a replayed journal selects again what
it selected before. Chance comes from a secret key of the run: anyone who lacks it can neither predict nor verify a draw, as
amplification by sampling requires.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Iterable, Mapping, Tuple


@dataclass(frozen=True)
class Rule:
    """`cohort` nodes a round, those longest not selected first; or each node by itself with `sampling_rate`; or all.

    cohort: 0 for no limit. sampling_rate: 0 for no sampling, otherwise each eligible node is in a round with that
    probability, independently of all others (Poisson sampling); the number of them is then random and may be 0.
    key: secret bytes of the run.
    """

    cohort: int = 0
    sampling_rate: float = 0.0
    key: bytes = b""

    @property
    def takes_all(self) -> bool:
        return not self.cohort and not self.sampling_rate

    @property
    def samples(self) -> bool:
        return self.sampling_rate > 0

    def choose(self, round_number: int, candidates: Iterable[str], last_selected: Mapping[str, int]) -> Tuple[str, ...]:
        """The round's cohort, ascending by name. `last_selected`: node -> the last round it was selected for."""
        names = sorted(candidates)
        if self.samples:
            return tuple(n for n in names if self._draw(round_number, n) < self.sampling_rate)
        if not self.cohort or len(names) <= self.cohort:
            return tuple(names)
        names.sort(key=lambda n: (last_selected.get(n, -1), self._draw(round_number, n)))
        return tuple(sorted(names[: self.cohort]))

    def admits(self, round_number: int, node: str, cohort_size: int) -> bool:
        """Whether a node that comes while the round is open belongs to it."""
        if self.samples:
            return self._draw(round_number, node) < self.sampling_rate
        return not self.cohort or cohort_size < self.cohort

    def _draw(self, round_number: int, node: str) -> float:
        """Uniform in [0, 1), the same for the same key, round and node: HMAC-SHA256 as a keyed random function."""
        digest = hmac.new(self.key, f"{round_number}/{node}".encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:7], "big") / float(1 << 56)
