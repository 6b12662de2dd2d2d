"""A number with a public range: regression by least squares."""

import math
import struct
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from orchestrator.wire.bounds import one_of, within
from orchestrator.wire.logarithm import logarithm
from orchestrator.wire.targets import moments
from orchestrator.wire.targets.base import LOSS, Declared, Figures, Quoted

CODES = 1 << 20
"""A number's code is its place in the range, from 0 to so many: float32 holds them all, and the range ends a millionth apart."""

LEAST_OF_LOG = 1e-30
LEAST_RANGE = 1e-30
"""Half of the least numbers there are is 0, which nothing can be divided by."""

MOST_UNIT = 40


@dataclass(frozen=True)
class NumberOptions:
    """Of kind "number"."""

    minimum: (
        float  # least value there can be, whatever the data; public; less counts as it [-1e30 to 1e30, below maximum]
    )
    maximum: float  # largest value there can be, likewise [-1e30 to 1e30, above minimum]
    # "log": the model learns the natural logarithm, and errors are of that; the minimum is above 0 ["log", or empty]
    transform: str = ""
    unit: str = ""  # of the values, for people [text]


class Number(Declared):
    """The label, a number; the model has one output, its place in the range from -1 to 1."""

    kind = "number"
    Options = NumberOptions
    metrics = (LOSS, "mae", "rmse", "r2")

    def objections(self) -> Iterator[str]:
        chosen = self.options
        yield from within("minimum", chosen.minimum, -1e30, 1e30)
        yield from within("maximum", chosen.maximum, -1e30, 1e30)
        yield from one_of("transform", chosen.transform, ("", "log"))
        if not chosen.minimum < chosen.maximum:
            yield f"minimum: {chosen.minimum:g}, not below maximum {chosen.maximum:g}"
        elif not chosen.maximum - chosen.minimum > max(
            LEAST_RANGE, 1e-12 * max(abs(chosen.minimum), abs(chosen.maximum))
        ):
            yield f"minimum: {chosen.minimum:g} and maximum {chosen.maximum:g} are too near to each other"
        if len(chosen.unit) > MOST_UNIT:
            yield f"unit: {len(chosen.unit)} characters, at most {MOST_UNIT}"
        if not self.schema.label:
            yield "kind: 'number' needs schema.label, the column the number is in"
        if chosen.transform == "log" and not chosen.minimum >= LEAST_OF_LOG:
            yield (
                f"transform: 'log' needs a minimum above 0 ({LEAST_OF_LOG:g} or more): values below it, zero included, count as "
                "the minimum"
            )

    @property
    def range(self) -> Tuple[float, float]:
        """Least and largest value, of logarithms where those are learned."""
        low, high = self.options.minimum, self.options.maximum
        return (math.log(low), math.log(high)) if self.options.transform else (low, high)

    @property
    def limits(self) -> Tuple[float, float]:
        return self.options.minimum, self.options.maximum

    @property
    def outputs(self) -> int:
        return 1

    @property
    def loss(self) -> Dict[str, Any]:
        """(output - y)^2 with y from -1 to 1."""
        return {"kind": "squared", "codes": CODES}

    @property
    def base(self) -> float:
        """What a board's output is counted from: 0, or the middle of a range that does not hold 0.

        Ranges of int8 hold 0, so a temperature of 35 to 42 degrees would have a sixth of the 256 steps.
        """
        low, high = self.range
        return 0.0 if low <= 0 <= high else (high + low) / 2

    @property
    def exported(self) -> Dict[str, Any]:
        """The board's output is in units of the value, or of its logarithm, and counted from `base`."""
        low, high = self.range
        return {"ending": "linear", "scale": (high - low) / 2, "offset": (high + low) / 2 - self.base}

    @property
    def exported_words(self) -> str:
        what = "the natural logarithm of a number" if self.options.transform else "a number"
        unit = f" in {self.options.unit}" if self.options.unit else ""
        base = f"{self.base:g} + " if self.base else ""
        return f"{what}{unit}: {base}scale * (int8 - zero_point)"

    @property
    def steepness(self) -> float:
        """2 |output - y|, of outputs that are 0 and values anywhere in the range."""
        return 2 / math.sqrt(3)

    def code(self, values: Sequence[float]) -> int:
        return int(self.codes(np.array([self.read(values)]))[0])

    def read(self, values: Sequence[float]) -> int:
        """Of logarithms, which are computed of all records together, the bits of the value as a float32."""
        low, high = self.limits
        inside = min(high, max(low, values[0]))
        if self.options.transform:
            return int(struct.unpack("<i", struct.pack("<f", inside))[0])
        return round((inside / 2 - low / 2) / (high / 2 - low / 2) * CODES)

    def codes(self, read: np.ndarray) -> np.ndarray:
        if not self.options.transform:
            return read
        low, high = self.range
        bits = np.where(read < 0, np.float32(1).view(np.int32), read).astype(np.int32)
        places = np.clip((logarithm(bits.view(np.float32)) - low) / (high - low), 0.0, 1.0)
        return np.where(read < 0, read, np.rint(places.astype(np.float64) * CODES).astype(np.int64))

    def invented(self, draw: np.random.Generator) -> List[str]:
        return [f"{self.label(int(draw.integers(CODES + 1))):.12g}"]

    def words(self, quoted: Quoted) -> str:
        chosen = self.options
        unit = f" {quoted(chosen.unit)}" if chosen.unit else ""
        what = "the logarithm of a number" if chosen.transform else "a number"
        return f"{quoted(self.schema.label)} ({what} from {chosen.minimum:g} to {chosen.maximum:g}{unit})"

    def answers(self, outputs: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float64 (n,): predicted places, from 0 to 1."""
        return bounded((outputs[:, 0] + 1) / 2, shares(y))

    def exported_answers(self, values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        low, high = self.range
        return bounded((values[:, 0] + self.base - low) / (high - low), shares(y))

    def size(self, bins: int) -> int:
        return moments.SIZE

    def count(self, y: np.ndarray, answers: np.ndarray, bins: int) -> np.ndarray:
        return moments.count(shares(y), answers)

    def of_rows(self, y: np.ndarray, answers: np.ndarray) -> Figures:
        low, high = self.range
        return moments.of_rows(shares(y), answers, high - low)

    def of_sums(self, sums: np.ndarray, bins: int, noise: float) -> Figures:
        low, high = self.range
        return moments.of_sums(sums, high - low, noise)

    def said(self, values: np.ndarray) -> Dict[str, Any]:
        return {"predicted": float(f"{self._raw(self.base + float(values[0])):.6g}")}

    def summary(self, values: np.ndarray) -> Dict[str, Any]:
        middle = sorted(values[:, 0].tolist())[(len(values) - 1) // 2]
        ends = {"least": values.min(), "median": middle, "largest": values.max()}
        return {name: float(f"{self._raw(self.base + float(value)):.6g}") for name, value in ends.items()}

    def label(self, code: int) -> Any:
        """Of a number as far as its code tells: the last digit is of the step between two codes."""
        low, high = self.range
        value = low + (high - low) * code / CODES
        if self.options.transform:
            return float(f"{self._raw(value):.5g}")
        return round(value, -1 - math.floor(math.log10((high - low) / CODES)))

    def _raw(self, value: float) -> float:
        if not self.options.transform:
            return value
        low, high = self.range
        return math.exp(min(high, max(low, value)))


def shares(y: np.ndarray) -> np.ndarray:
    """float64 (n,): codes as shares of the range."""
    return np.asarray(y, np.float64) / CODES


def bounded(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Predictions in [0, 1]; what is not finite becomes the end that is further from the truth."""
    return np.where(np.isfinite(p), np.clip(p, 0.0, 1.0), np.where(t < 0.5, 1.0, 0.0))
