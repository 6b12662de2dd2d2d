"""An operator of a model with its tensors, as the files of operators/ read it: checked, with errors that name it."""

from __future__ import annotations

import contextlib
import math
from typing import Iterable, Iterator, List, Optional, Tuple

from model_export.plan_math import activation_range
from model_export.plan_steps import PlanError, check_int8
from model_export.tflite_model import Op, Tensor, TfliteModel

Hwc = Tuple[int, int, int]


def beyond(numbers: Iterable[int], shape: Tuple[int, ...]) -> Optional[str]:
    """Of an operator with an axis that `shape` does not have: what TFLM, which does not look, cannot compute."""
    wrong = [number for number in numbers if not -len(shape) <= number < len(shape)]
    return f"has axis {wrong[0]} of {shape}, which TFLM takes as it is" if wrong else None


class Context:
    def __init__(self, model: TfliteModel, op: Op, several_outputs: bool = False) -> None:
        self.model, self.op = model, op
        if not op.inputs or not op.outputs or (len(op.outputs) > 1 and not several_outputs):
            raise self.error(f"{len(op.inputs)} inputs and {len(op.outputs)} outputs")
        self.outputs = [self.activation(model.tensors[index], "output") for index in op.outputs]
        self.output = self.outputs[0]

    def error(self, what: str) -> PlanError:
        return PlanError(f"operator {self.op.index} ({self.op.code}): {what}")

    def input(self, position: int = 0) -> Tensor:
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise self.error(f"input {position} is missing")
        return self.activation(self.model.tensors[self.op.inputs[position]], f"input {position}")

    def operand(self, position: int) -> Tensor:
        """An input that may also be an int8 constant."""
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise self.error(f"input {position} is missing")
        tensor = self.model.tensors[self.op.inputs[position]]
        if tensor.data is None:
            return self.activation(tensor, f"input {position}")
        constant = self.constant(position, "int8")
        check_int8(constant, f"operator {self.op.index} ({self.op.code}): input {position}")
        return constant

    def activation(self, tensor: Tensor, what: str) -> Tensor:
        check_int8(tensor, f"operator {self.op.index} ({self.op.code}): {what}")
        if tensor.data is not None:
            raise self.error(f"{what} ({tensor.name}) is a constant; supported are activations")
        if 0 in tensor.shape:
            raise self.error(f"{what} ({tensor.name}) has the empty shape {tensor.shape}")
        return tensor

    def constant(self, position: int, dtype: str, rank: Optional[int] = None) -> Tensor:
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise self.error(f"input {position} is missing")
        tensor = self.model.tensors[self.op.inputs[position]]
        if tensor.data is None or tensor.dtype != dtype or tensor.is_sparse or tensor.buffer_offset is None:
            raise self.error(f"input {position} ({tensor.name}) must be a dense {dtype} constant, it is {tensor.dtype}")
        if rank is not None and len(tensor.shape) != rank:
            raise self.error(f"input {position} ({tensor.name}) must have {rank} dimensions, it has {tensor.shape}")
        return tensor

    def state(self, position: int, dtype: str) -> Tensor:
        """A tensor that TFLM keeps for this operator: a variable of this type, with one scale, that nothing else uses."""
        index = self.op.inputs[position] if position < len(self.op.inputs) else -1
        if index < 0:
            raise self.error(f"input {position} is missing")
        tensor = self.model.tensors[index]
        if tensor.dtype != dtype or not tensor.is_variable or tensor.data is not None or len(tensor.scales) != 1:
            raise self.error(f"input {position} ({tensor.name}) must be a variable of type {dtype} with one scale")
        scale, zero = float(tensor.scales[0]), int(tensor.zero_points[0])
        if not 0 < scale < math.inf or not -128 <= zero <= 127:
            raise self.error(f"input {position} ({tensor.name}) has scale {scale:g} and zero point {zero}")
        places = [*self.model.inputs, *self.model.outputs, *(place for op in self.model.ops for place in op.inputs)]
        if places.count(index) > 1:
            raise self.error(
                f"input {position} ({tensor.name}) is also used elsewhere; supported are states of one operator"
            )
        return tensor

    def axis(self, number: int, shape: Tuple[int, ...]) -> int:
        """One of `shape`, counted from the last where negative."""
        if not -len(shape) <= number < len(shape):
            raise self.error(f"axis {number} of {shape}")
        return number % len(shape)

    def numbers(self, position: int) -> List[int]:
        """A constant of whole numbers, in one line."""
        data = self.constant(position, "int32").data
        assert data is not None
        return [int(value) for value in data.reshape(-1)]

    def hwc(self, tensor: Tensor) -> Hwc:
        shape = tensor.shape
        if len(shape) not in (3, 4) or shape[0] != 1:
            raise self.error(f"shape {shape} ({tensor.name}); supported is (1, height, width, channels)")
        return (1, shape[1], shape[2]) if len(shape) == 3 else (shape[1], shape[2], shape[3])

    def same_scale(self, source: Tensor, output: Optional[Tensor] = None) -> None:
        """PlanError where the output has another scale or zero point than `source`: nothing converts between them."""
        output = self.output if output is None else output
        if source.scales[0] != output.scales[0] or zero_point(source) != zero_point(output):
            raise self.error(f"{source.name} has another scale than the output; supported are equal ones")

    def unit_output(self) -> None:
        """PlanError unless the output is what TFLM gives values between 0 and 1 in."""
        if float(self.output.scales[0]) != 1 / 256 or zero_point(self.output) != -128:
            raise self.error("the output must have scale 1/256 and zero point -128")

    def clamp(self) -> Tuple[int, int]:
        activation = self.op.options["activation"]
        with self.named_errors():
            return activation_range(activation, self.output.scales[0], zero_point(self.output))

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turns plan_math's ValueError into one that names the operator."""
        try:
            yield
        except ValueError as error:
            raise self.error(str(error)) from None

    def window(
        self, in_hwc: Hwc, out_hwc: Hwc, kernel: Tuple[int, int], dilation: Tuple[int, int]
    ) -> Tuple[Tuple[int, int], Tuple[int, int]]:
        """(strides, pads) after checking that the output shape follows from them."""
        options = self.op.options
        strides = options["stride_h"], options["stride_w"]
        pads, expected = [], []
        for size, k, stride, dilate in zip(in_hwc, kernel, strides, dilation):
            if k < 1 or stride < 1 or dilate < 1:
                raise self.error(f"kernel {kernel}, stride {strides} and dilation {dilation} must be 1 or more")
            span = (k - 1) * dilate + 1
            if options["padding"] == "same":
                expected.append(-(-size // stride))
                pads.append(max((expected[-1] - 1) * stride + span - size, 0) // 2)
            else:
                expected.append((size - span) // stride + 1)
                pads.append(0)
        if tuple(expected) != out_hwc[:2] or min(expected) < 1:
            raise self.error(f"{out_hwc} does not follow from {in_hwc} by kernel {kernel} and stride {strides}")
        return strides, (pads[0], pads[1])


def zero_point(tensor: Tensor) -> int:
    return int(tensor.zero_points[0])
