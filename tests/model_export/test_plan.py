"""The plan compiler: what it refuses and how it says so, its arithmetic against exact numbers, its arena."""

import math
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_export.errors import TfliteError
from model_export.operators.lut import logistic_table
from model_export.operators.softmax import softmax_table
from model_export.plan import HEADER_WORDS, RECORD_WORDS, compile_plan, kinds
from model_export.plan_arena import Buffer, place, window_lag
from model_export.plan_math import (
    activation_range,
    exp_on_negative,
    high_multiply,
    multiply_by_quantized,
    one_over_one_plus,
    quantize_multiplier,
    rounding_shift,
)
from model_export.plan_steps import PlanError

INT32 = st.integers(-(2**31), 2**31 - 1)


@pytest.fixture(scope="module")
def kws(shared_data: Callable[[str], Path]) -> bytes:
    return (shared_data("mlperf-tiny") / "kws_int8.tflite").read_bytes()


def changed(model: bytes, change: Callable[[Any], None]) -> bytes:
    """The model with its schema objects changed, through the generated schema and flatbuffers."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    change(content)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def set_code(model: Any, old: int, new: int) -> None:
    code = next(c for c in model.operatorCodes if old in (c.builtinCode, c.deprecatedBuiltinCode))
    code.builtinCode = code.deprecatedBuiltinCode = new


def refusal(model: bytes, change: Callable[[Any], None]) -> str:
    with pytest.raises(PlanError) as caught:
        compile_plan(changed(model, change))
    return str(caught.value)


def test_layout_of_the_blob(kws: bytes) -> None:
    plan = compile_plan(kws)
    words = struct.unpack_from("<8I", plan.blob)
    assert plan.blob[:4] == b"EWPL"
    assert words[1:7] == (1, len(plan.blob), plan.arena_bytes, len(kws), len(plan.ops), 64)
    assert (plan.input_bytes, plan.output_bytes) == (490, 12)
    assert plan.ops[:2] == ("conv", "depthwise")
    numbers = [
        struct.unpack_from("<I", plan.blob, 4 * (HEADER_WORDS + RECORD_WORDS * i))[0] for i in range(len(plan.ops))
    ]
    assert numbers == [kinds()[kind] for kind in plan.ops]
    assert compile_plan(kws).blob == plan.blob, "compiling is reproducible"


def test_unsupported_operator_is_named_with_what_is_supported(kws: bytes) -> None:
    def to_floor(model: Any) -> None:
        set_code(model, 25, 8)
        model.subgraphs[0].operators[-1].builtinOptionsType = 0
        model.subgraphs[0].operators[-1].builtinOptions = None

    message = refusal(kws, to_floor)
    assert message.startswith("operator 12 is FLOOR")
    assert "CONV_2D" in message
    assert "RESHAPE" in message


def test_a_free_batch_size_is_explained(kws: bytes) -> None:
    def to_shape(model: Any) -> None:
        set_code(model, 22, 77)

    assert "batch size 1" in refusal(kws, to_shape)


def test_float_input_is_explained(kws: bytes) -> None:
    def to_float(model: Any) -> None:
        model.subgraphs[0].tensors[0].type = 0

    assert "model input" in refusal(kws, to_float)
    assert "float32" in refusal(kws, to_float)


def test_asymmetric_weights_are_refused(kws: bytes) -> None:
    def shift(model: Any) -> None:
        weights = model.subgraphs[0].operators[0].inputs[1]
        quantization = model.subgraphs[0].tensors[weights].quantization
        quantization.zeroPoint = [0, 1] + [0] * (len(quantization.zeroPoint) - 2)

    assert "operator 0 (CONV_2D)" in refusal(kws, shift)
    assert "zero point" in refusal(kws, shift)


def test_shapes_that_do_not_follow_are_refused(kws: bytes) -> None:
    def stretch(model: Any) -> None:
        model.subgraphs[0].operators[0].builtinOptions.strideH = 3

    assert "does not follow" in refusal(kws, stretch)


def test_softmax_of_another_scale_is_refused(kws: bytes) -> None:
    def rescale(model: Any) -> None:
        model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]].quantization.scale = [0.5]

    assert "1/256" in refusal(kws, rescale)


def test_not_a_model_is_a_tflite_error() -> None:
    with pytest.raises(TfliteError):
        compile_plan(b"nothing")


@given(st.floats(1e-9, 1e6))
def test_multiplier_is_the_real_to_31_bits(real: float) -> None:
    q, shift = quantize_multiplier(real)
    assert 2**30 <= q < 2**31
    assert abs(q / 2**31 * 2.0**shift - real) <= real * 2**-30


def test_tiny_multipliers_are_zero() -> None:
    assert quantize_multiplier(0.0) == quantize_multiplier(2.0**-40) == (0, 0)
    assert quantize_multiplier(1.0 - 2**-40) == (2**30, 1)


@given(INT32, st.integers(0, 2**31 - 1))
@example(2**30, 1)
@example(-(2**30), 1)
@example(-(2**30), 3)
def test_high_multiply_rounds_half_up(a: int, b: int) -> None:
    assert high_multiply(a, b) == math.floor(Fraction(a * b, 2**31) + Fraction(1, 2))


@given(INT32, st.integers(0, 31))
@example(-6, 2)
@example(6, 2)
def test_rounding_shift_rounds_half_away_from_zero(x: int, exponent: int) -> None:
    exact = Fraction(abs(x), 2**exponent)
    rounded = math.floor(exact + Fraction(1, 2))
    assert rounding_shift(x, exponent) == (rounded if x >= 0 else -rounded)


@given(st.integers(-(2**24), 2**24), st.floats(1e-6, 0.999))
def test_both_roundings_stay_within_one(x: int, real: float) -> None:
    assert abs(multiply_by_quantized(x, *quantize_multiplier(real)) - x * real) <= 1.01


@given(st.integers(-(2**31), 0), st.integers(3, 5))
def test_exp_is_exp(a: int, integer_bits: int) -> None:
    assert exp_on_negative(a, integer_bits) / 2**31 == pytest.approx(math.exp(a / 2 ** (31 - integer_bits)), abs=3e-7)


@given(st.integers(0, 2**31 - 1))
def test_reciprocal_is_one(a: int) -> None:
    assert one_over_one_plus(a) / 2**31 == pytest.approx(1 / (1 + a / 2**31), abs=1e-8)


@pytest.mark.parametrize("scale", [0.001, 0.03, 0.2, 0.7])
def test_tables_are_the_functions(scale: float) -> None:
    exps = np.array(softmax_table(1.0, scale)) / 2**31
    np.testing.assert_allclose(exps, np.exp(-scale * np.arange(len(exps))), atol=1e-6)
    assert len(exps) == 256 or exps[-1] < 1e-8, "only what is zero anyway is left out"
    x = (np.arange(-128, 128) - 5) * scale
    np.testing.assert_allclose((logistic_table(scale, 5).astype(int) + 128) / 256, 1 / (1 + np.exp(-x)), atol=1 / 256)


def test_activation_ranges() -> None:
    assert activation_range("none", np.float32(0.1), 3) == (-128, 127)
    assert activation_range("relu", np.float32(0.1), 3) == (3, 127)
    assert activation_range("relu6", np.float32(0.1), 3) == (3, 63)
    assert activation_range("relu_n1_to_1", np.float32(0.1), 3) == (-7, 13)
    with pytest.raises(ValueError, match="tanh"):
        activation_range("tanh", np.float32(0.1), 3)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=9))
def test_live_buffers_never_share_a_byte(specs: List[Any]) -> None:
    buffers = [Buffer(size, first, first + length) for size, first, length in specs]
    offsets, total = place(buffers, {})
    for i, (a, at) in enumerate(zip(buffers, offsets)):
        assert 0 <= at <= at + a.size <= total
        for b, bt in list(zip(buffers, offsets))[i + 1 :]:
            if a.first <= b.last and b.first <= a.last:
                assert at + a.size <= bt or bt + b.size <= at
    assert total >= max(sum(b.size for b in buffers if b.first <= t <= b.last) for t in range(10))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.data())
def test_a_lag_never_lets_an_output_overwrite_what_is_still_to_be_read(
    h: int, w: int, c: int, oc: int, data: Any
) -> None:
    """The layout the planner chooses, replayed byte by byte for a windowed operator."""
    kernel = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    out = -(-h // stride[0]), -(-w // stride[1])
    pads = tuple(max((o - 1) * s + k - n, 0) // 2 for o, s, k, n in zip(out, stride, kernel, (h, w)))
    lag = window_lag((h, w, c), (*out, oc), stride, (pads[0], pads[1]))
    (source, target), total = place(
        [Buffer(h * w * c, -1, 0), Buffer(out[0] * out[1] * oc, 0, 1)], {(0, 1): lag}
    )  # fmt: skip
    assert total <= h * w * c + out[0] * out[1] * oc
    overwritten = np.zeros(total, bool)
    for y in range(out[0]):
        for x in range(out[1]):
            rows = range(max(y * stride[0] - pads[0], 0), min(y * stride[0] - pads[0] + kernel[0], h))
            columns = range(max(x * stride[1] - pads[1], 0), min(x * stride[1] - pads[1] + kernel[1], w))
            cells = [source + (row * w + column) * c for row in rows for column in columns]
            begin = target + (y * out[1] + x) * oc
            overwritten[begin : begin + oc] = True  # part of it may be written before the last of the window is read
            assert not any(overwritten[cell : cell + c].any() for cell in cells)
