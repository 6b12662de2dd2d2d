"""What models of one operator are drawn with: scales, edges, rows, and one thing about a tensor that is odd."""

from typing import Any, Optional, Sequence, Tuple

import numpy as np
from one_op_models import Operator, Part, model_of

EVERY = np.arange(-128, 128).astype(np.int8)
ENDS = (-128, -127, -1, 0, 1, 126, 127)
SIX = 6  # decades up and down: twelve in all
ROWS = 24
Options = Optional[Tuple[str, Any]]


class Draw:
    """Random parts of a case."""

    def __init__(self, rng: np.random.Generator, odd: bool = False) -> None:
        """With `odd`, one thing about the quantization of one tensor is what no converter writes."""
        self.rng, self.odd = rng, odd
        self.far = False
        """A scale was drawn far away from what goes with the others: sums leave 32 bits, whatever the engine."""

    def scale(self) -> float:
        kind = self.rng.integers(4)
        if kind == 0:
            return float(2.0 ** self.rng.integers(-19, 20))
        if kind == 1:
            return float(np.nextafter(np.float32(2.0 ** self.rng.integers(-19, 20)), np.float32(0)))
        return float(np.float32(10.0 ** self.rng.uniform(-SIX, SIX)))

    def near(self, scale: float, least: float = 0.05, most: float = 20.0) -> float:
        """A scale beside `scale`; sometimes it, sometimes far away."""
        kind = self.rng.integers(8)
        if kind == 0:
            return scale
        if kind == 1:
            self.far = True
            return self.scale()
        return float(np.float32(scale * np.exp(self.rng.uniform(np.log(least), np.log(most)))))

    def zero_point(self) -> int:
        return int(self.rng.choice(ENDS)) if self.rng.random() < 0.6 else int(self.rng.integers(-128, 128))

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def edge(self, shape: Sequence[int], scale: Optional[float] = None) -> Part:
        return Part(tuple(shape), self.scale() if scale is None else scale, self.zero_point())

    def int8(self, shape: Sequence[int]) -> np.ndarray:
        """Noise, or every value there is."""
        count = int(np.prod(shape))
        if self.rng.random() < 0.5:
            return self.rng.integers(-128, 128, shape).astype(np.int8)
        return self.rng.permutation(np.resize(EVERY, count)).reshape(tuple(shape)).astype(np.int8)

    def rows(self, width: int, count: int = ROWS) -> np.ndarray:
        """At the ends, noise, and every value in turn."""
        rows = self.rng.integers(-128, 128, (count, width)).astype(np.int8)
        rows[0], rows[1] = -128, 127
        rows[2:6] = np.resize(np.roll(EVERY, self.rng.integers(256)), (4, width))
        return rows

    def activation(self) -> int:
        return int(self.pick(0, 0, 1, 2, 3))


Case = Tuple[str, bytes, np.ndarray]


def case_of(d: Draw, parts: Sequence[Part], operators: Sequence[Operator], what: str = "") -> Case:
    parts = list(parts)
    if d.odd:
        place = int(d.rng.choice([n for n, part in enumerate(parts) if part.scales is not None]))
        parts[place], done = odd(d, parts[place])
        what += f"{done} of tensor {place}"
    width = int(np.prod(parts[0].shape))
    edges = ", ".join(f"{p.shape} {p.scales} {p.zero_points}" for p in parts if not isinstance(p.scales, np.ndarray))
    return f"{operators[0][0]} {what} {edges}"[:300], model_of(parts, operators), d.rows(width)


def odd(d: Draw, part: Part) -> Tuple[Part, str]:
    scales, zero_points = np.asarray(part.scales), np.asarray(part.zero_points)
    kind = d.pick(
        "scale", "slightly", "zero point", "axis", "no scale", "one scale", "strange scale", "two scales", "far"
    )
    if kind == "scale":
        return part._replace(scales=scales * d.pick(2, 0.5, 3)), kind
    if kind == "slightly":
        return part._replace(scales=scales * (1 + d.pick(1e-6, 1e-3, -1e-3, 0.01))), kind
    if kind == "zero point":
        return part._replace(zero_points=(zero_points + 5).clip(-128, 127)), kind
    if kind == "axis":
        return part._replace(axis=int(d.rng.integers(0, 5))), f"axis, {scales.size} scales"
    if kind == "no scale":
        return part._replace(scales=None), kind
    if kind == "one scale":
        return part._replace(scales=scales.reshape(-1)[:1]), f"{kind} for {scales.size}"
    if kind == "strange scale":
        strange = d.pick(0.0, -1.0, np.nan, np.inf, 1e-30, 1e30)
        return part._replace(scales=np.full(scales.shape if scales.size > 1 else (1,), strange)), f"{strange}"
    if kind == "two scales":
        return part._replace(scales=np.resize(scales.astype(float), scales.size + 1)), kind
    return part._replace(zero_points=d.pick(-129, 128, 300, -(2**31), 2**40)), kind
