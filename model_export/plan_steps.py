"""What an operator's `plan` makes of it (operators/), before the arena is laid out."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

from model_export.errors import ExportError
from model_export.tflite_model import Op, Tensor


class PlanError(ExportError):
    """engine/direct cannot run this model. The message names the operator, its index and what is supported."""


class Kind(NamedTuple):
    """Of a record: which kernel runs it, as in EDGEWARD_KINDS of firmware/engine/direct/plan.h."""

    name: str
    number: int


class KeptTensors(NamedTuple):
    """What one step keeps from inference to inference, one part behind the other from an even address on."""

    tensor: int
    """The first of them; the place of all goes by it."""
    parts: Tuple[Tuple[int, int], ...]
    """Bytes of each, and the value every byte of it has in the beginning."""

    @property
    def bytes(self) -> int:
        return sum(count for count, _ in self.parts)


@dataclass
class Step:
    """One record before the arena is laid out: tensors instead of offsets."""

    kind: Kind
    op: Op
    inputs: Tuple[int, ...]
    output: int
    in_hwc: Tuple[int, int, int]
    out_hwc: Tuple[int, int, int]
    kernel: Tuple[int, int] = (1, 1)
    stride: Tuple[int, int] = (1, 1)
    dilation: Tuple[int, int] = (1, 1)
    padding: Tuple[int, int] = (0, 0)
    weights_offset: int = 0
    table: bytes = b""
    scratch_bytes: int = 0
    in_zero_point: int = 0
    out_zero_point: int = 0
    clamp: Tuple[int, int] = (-128, 127)
    per_channel: bool = False
    parameters: Tuple[int, ...] = ()
    output_at: int = 0
    """Bytes from the begin of the output's place to what is written."""
    keeps: Optional[KeptTensors] = None
    """Its place is among the inputs."""
    lag: Optional[int] = None
    """Bytes the output must stay behind an input it overlaps (plan_arena); None where it must not overlap."""


def check_int8(tensor: Tensor, what: str) -> None:
    if tensor.dtype != "int8" or len(tensor.scales) != 1:
        raise PlanError(
            f"{what} ({tensor.name}) is {tensor.dtype} with {len(tensor.scales)} scales; supported is int8 with one"
        )
    scale, zero_point = float(tensor.scales[0]), int(tensor.zero_points[0])
    if not 0 < scale < math.inf or not -128 <= zero_point <= 127:
        raise PlanError(
            f"{what} ({tensor.name}) has scale {scale:g} and zero point {zero_point}, which no int8 value has"
        )
