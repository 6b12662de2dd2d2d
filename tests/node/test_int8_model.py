"""Int8 models on a node: the bits of TensorFlow Lite Micro, and files that are refused before anything is computed."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "predict"))

from graph_samples import mutants
from hypothesis import given
from hypothesis import strategies as st
from int8_samples import Made, Operator, classifier, int8_file

from model_export import plan_math
from model_export.operators import lut
from model_export.operators.softmax import softmax_table
from orchestrator.errors import GraphError
from orchestrator.node import fixed_point
from orchestrator.node.int8_layers import Edge
from orchestrator.node.int8_model import MOST_WEIGHTS, is_int8, read_int8

pytestmark = pytest.mark.slow

SCALES = st.floats(2.0**-26, 2.0**20).map(np.float32).map(float)
ZEROS = st.integers(-128, 127)
ROWS = np.random.default_rng(1).normal(0, 3, (400, 3)).astype("f4")


@given(scale=SCALES, zero=ZEROS)
def test_tables_are_those_of_the_exporter(scale: float, zero: int) -> None:
    np.testing.assert_array_equal(fixed_point.logistic_table(scale, zero), lut.logistic_table(scale, zero))
    np.testing.assert_array_equal(fixed_point.tanh_table(scale, zero), lut.tanh_table(scale, zero))


@given(real=st.floats(0, 1e9), x=st.integers(-(2**20), 2**20))
def test_products_are_rounded_as_the_exporter_does(real: float, x: int) -> None:
    multiplier, shift = plan_math.quantize_multiplier(real)
    assert fixed_point.multiplier_of(real) == (multiplier, shift)
    if abs(x) << max(shift, 0) < 2**31:
        found = fixed_point.rescaled(np.array([x]), np.array([multiplier]), np.array([shift]))
        assert found[0] == plan_math.multiply_by_quantized(x, multiplier, shift)


@given(
    values=st.lists(st.integers(-128, 127), min_size=1, max_size=40),
    scale=st.floats(2.0**-24, 50),
    seed=st.integers(0, 9),
)
def test_a_softmax_is_a_sum_over_the_exporters_table(values: List[int], scale: float, seed: int) -> None:
    """One value after the other, in Python's integers (firmware/engine/direct/softmax.cpp)."""
    beta = (0.5, 1.0, 2.0)[seed % 3]
    exps = softmax_table(beta, scale)
    below = [max(values) - value for value in values]
    whole = sum(plan_math.rounding_shift(exps[d], 12) for d in below if d < len(exps))
    leading = 32 - whole.bit_length()
    reciprocal = plan_math.one_over_one_plus((whole << leading) - 2**31)
    expected = []
    for d in below:
        product = plan_math.high_multiply(exps[d], reciprocal) if d < len(exps) else 0
        expected.append(min(127, plan_math.rounding_shift(product, 35 - leading) - 128) if d < len(exps) else -128)
    assert fixed_point.softmax(np.array([values]), scale, beta)[0].tolist() == expected


@pytest.mark.parametrize(
    ("hidden", "activation"), [((), "relu"), ((7,), "relu"), ((6, 5), "relu6"), ((8, 4), "tanh"), ((5,), "sigmoid")]
)
def test_outputs_are_those_of_tflm_bit_for_bit(hidden: Tuple[int, ...], activation: str, tmp_path: Path) -> None:
    """What `edgeward predict --model int8` gives, by both of its engines."""
    if find_spec("tensorflow") is None:
        pytest.skip("TensorFlow makes bundles, at gateways")
    import known_bundles

    from orchestrator.gateway.described_bundle import read_described
    from orchestrator.predict.engines import ENGINES, outputs_of

    bundle = read_described(known_bundles.layered_bundle(tmp_path, hidden, activation, 4))
    inputs = np.random.default_rng(5).normal(0, 2, (3000, 5)).astype("f4")
    inputs[0], inputs[1] = 1e30, -1e30
    found = read_int8((bundle.folder / "model.tflite").read_bytes()).run(inputs)
    for engine in ENGINES:
        np.testing.assert_array_equal(found, outputs_of(bundle, inputs, "int8", engine))


def test_what_is_no_number_has_no_output_and_changes_no_other() -> None:
    model, rows = read_int8(int8_file(*classifier())), ROWS.copy()
    whole = model.run(rows)
    rows[3, 1], rows[7] = np.nan, np.inf
    found = model.run(rows)
    assert np.isnan(found[[3, 7]]).all()
    kept = np.setdiff1d(np.arange(len(rows)), [3, 7])
    np.testing.assert_array_equal(found[kept], whole[kept])
    for at in (0, 100):
        np.testing.assert_array_equal(model.run(rows[at : at + 1])[0], whole[at])


def _x(**change: Any) -> Dict[str, Any]:
    return {"x": change}


BAD: Dict[str, Tuple[Dict[str, Any], str]] = {
    "a scale of 0": (_x(scales=(0.0,)), "a scale that is not a number from"),
    "a scale below 0": (_x(scales=(-1.0,)), "a scale that is not a number from"),
    "no number as scale": (_x(scales=(np.nan,)), "a scale that is not a number from"),
    "an infinite scale": ({"logits": {"scales": (np.inf,)}}, "a scale that is not a number from"),
    "a subnormal scale": ({"kernel": {"scales": (1e-44,)}}, "a scale that is not a number from"),
    "a zero point beyond int8": (_x(zero_points=(128,)), "a zero point beyond int8"),
    "a zero point of 64 bits": (_x(zero_points=(-(2**62),)), "a zero point beyond int8"),
    "a kernel's zero point": ({"kernel": {"zero_points": (1,)}}, "with a zero point"),
    "several scales of an input": (_x(scales=(0.1, 0.2), zero_points=(0, 0)), "2 scales and shape"),
    "scales without zero points": (_x(zero_points=()), "1 scales and 0 zero points"),
    "too few scales of a kernel": ({"kernel": {"scales": (0.1, 0.2), "zero_points": (0, 0)}}, "a kernel with 2 scales"),
    "another axis": (
        {"kernel": {"scales": (0.1,) * 4, "zero_points": (0,) * 4, "axis": 1}},
        "a kernel with 4 scales along axis 1",
    ),
    "sums beyond 32 bits": ({"bias": {"data": np.full(4, 2**31 - 1, "<i4")}}, "sums may be beyond 32 bits"),
    "an output scale next to 0": ({"logits": {"scales": (1e-29,)}}, "sums may be beyond 32 bits|too small"),
    "a softmax of another scale": (
        {"shares": {"scales": (0.5,)}},
        "another scale or zero point than this operator gives",
    ),
    "float inputs": (_x(kind="float32"), "float32; an int8 model has int8"),
    "dynamic range": ({"logits": {"kind": "float32"}, "x": {"kind": "float32"}}, "float32; an int8 model has int8"),
    "int16": ({"logits": {"kind": "int16"}}, "int16; an int8 model has int8"),
    "two records": ({"x": {"shape": (2, 3)}}, "a batch of 1"),
    "a shape of 0": ({"x": {"shape": (1, 0)}}, "dimensions of 1 or more"),
    "gigabytes": ({"x": {"shape": (1, 2**30)}}, "dimensions of 1 or more"),
    "a shape below 0": ({"logits": {"shape": (1, -4)}}, "dimensions of 1 or more"),
    "another width": ({"x": {"shape": (1, 5)}}, "a kernel of"),
    "a kernel that is too short": ({"kernel": {"data": np.zeros(5, "i1")}}, "a constant of 5 bytes"),
    "a computed kernel": ({"kernel": {"data": None}}, "a constant int8 kernel"),
    "a variable": ({"logits": {"more": {5: ("<?", True)}}}, "variables are not accepted"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_no_kernel_should_be_given_is_refused(what: str) -> None:
    changes, said = BAD[what]
    with pytest.raises(GraphError, match=said):
        read_int8(int8_file(*classifier(**changes)))


def test_operators_that_are_not_on_the_list_are_refused_by_name() -> None:
    tensors, (dense, softmax) = classifier()
    for name in ("CONV_2D", "WHILE", "VAR_HANDLE", "GATHER", "CUSTOM"):
        with pytest.raises(GraphError, match=f"operator {name} is not accepted in an int8 model: FULLY_CONNECTED"):
            read_int8(int8_file(tensors, [dense, softmax._replace(name=name)]))
    with pytest.raises(GraphError, match="SOFTMAX of version 1"):
        read_int8(int8_file(tensors, [dense, softmax._replace(version=1)]))


def test_operators_are_one_chain() -> None:
    """No branch, no loop, and nothing that an operator before did not give."""
    tensors, (dense, softmax) = classifier()
    chains: List[List[Operator]] = [
        [softmax, dense],
        [dense],
        [dense, softmax._replace(inputs=(0,))],
        [dense, softmax._replace(outputs=(3, 4))],
        [dense, softmax._replace(outputs=(-1,))],
        [dense._replace(inputs=(0, 1, 2, 2)), softmax],
        [dense._replace(inputs=(0, -1, 2)), softmax],
        [],
    ]
    for operators in chains:
        with pytest.raises(GraphError):
            read_int8(int8_file(tensors, operators))
    with pytest.raises(GraphError):
        read_int8(int8_file(tensors, [dense, softmax._replace(options=(9, {0: ("<f", float("nan"))}))]))
    with pytest.raises(GraphError, match="beyond its 5"):
        read_int8(int8_file(tensors, [dense, softmax._replace(inputs=(7,))]))


def test_what_would_take_a_node_hours_is_refused() -> None:
    """Each record takes as many products as there are weights; an operator may name the same kernel again and again."""
    side = 1100
    square = Made((side, side), scales=(0.01,), zero_points=(0,), data=np.ones((side, side), "i1"))
    tensors = [Made((1, side)), square, Made((1, side))]
    dense = Operator("FULLY_CONNECTED", 4, (0, 1), (2,), (8, {}))
    assert side * side > MOST_WEIGHTS
    with pytest.raises(GraphError, match="weights, which no int8 model here may have"):
        read_int8(int8_file(tensors, [dense]))
    small = square._replace(shape=(600, 600), data=np.ones((600, 600), "i1"))
    many = [Made((1, 600)), small, *[Made((1, 600))] * 4]
    again = [
        Operator("FULLY_CONNECTED", 4, (0, 1), (2,), (8, {})),
        Operator("FULLY_CONNECTED", 4, (2, 1), (3,), (8, {})),
        Operator("FULLY_CONNECTED", 4, (3, 1), (4,), (8, {})),
    ]
    with pytest.raises(GraphError, match="weights, which no int8 model here may have"):
        read_int8(int8_file(many, again, leave=4))


def unit(*shape: int) -> Made:
    return Made(shape, scales=(1 / 256,), zero_points=(-128,))


def wide(units: int) -> Made:
    return Made((units, 3), scales=(0.02,), zero_points=(0,), data=np.ones((units, 3), "i1"))


DENSE = Operator("FULLY_CONNECTED", 4, (0, 1), (2,), (8, {}))


def test_layers_without_weights_take_their_time_too() -> None:
    """A megabyte of softmaxes, one after the other over the same numbers, took a node seconds for each record."""
    tensors = [Made((1, 3)), wide(20_000), unit(1, 20_000), *[unit(1, 20, 1000)] * 4]
    softmaxes = [Operator("SOFTMAX", 2, (at,), (at + 1,), (9, {0: ("<f", 1.0)})) for at in (3, 4, 5)]
    with pytest.raises(GraphError, match=r"\(SOFTMAX\): more than \d+ steps of work for a record"):
        read_int8(int8_file(tensors, [DENSE, Operator("RESHAPE", 1, (2,), (3,)), *softmaxes]))


def test_no_operator_is_run_over_its_own_output() -> None:
    tensors, again = [Made((1, 3)), unit(1, 3)], Operator("LOGISTIC", 2, (1,), (1,))
    assert read_int8(int8_file(tensors, [again._replace(inputs=(0,))])).classes == 3
    with pytest.raises(GraphError, match="a tensor that there is already"):
        read_int8(int8_file(tensors, [again._replace(inputs=(0,)), again]))


def test_a_model_of_very_many_outputs_is_refused() -> None:
    """Its answers took 1.4 MB for each record."""
    with pytest.raises(GraphError, match="steps of work for a record"):
        read_int8(int8_file([Made((1, 3)), wide(340_000), Made((1, 340_000))], [DENSE]))


def test_how_many_rows_are_computed_does_not_follow_from_what_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway chooses by mean and std for which values they are infinite, and sees how long a node takes."""
    counted: List[int] = []
    quantized = Edge.quantized

    def counting(edge: Edge, values: np.ndarray) -> np.ndarray:
        counted.append(len(values))
        return quantized(edge, values)

    monkeypatch.setattr(Edge, "quantized", counting)
    model, rows = read_int8(int8_file(*classifier())), np.zeros((40, 3), "f4")
    for odd in (0.0, np.inf, -np.inf, np.nan):
        rows[5:25, 1] = odd
        found = model.run(rows)
        assert np.isnan(found).all(axis=1).sum() == (0 if odd == 0.0 else 20)
        assert np.isfinite(found[25:]).all()
    assert counted == [40] * 4


def test_a_damaged_file_is_read_or_refused_and_gives_int8() -> None:
    """Whatever the damage does, outputs are finite and of 256 values a model, and a record's are its own."""
    accepted = 0
    for mutant in mutants(int8_file(*classifier()), 3000, 7):
        try:
            model = read_int8(mutant)
        except GraphError:
            continue
        accepted += 1
        rows = np.zeros((4, model.width), np.float32)
        rows[:3] = np.random.default_rng(0).normal(0, 3, (3, model.width))
        found = model.run(rows)
        assert found.shape == (4, model.classes)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(model.run(rows[::-1])[::-1], found)
    assert accepted, "some damage is of names and weights only"


def test_the_kind_of_a_file_is_seen() -> None:
    content = int8_file(*classifier())
    assert is_int8(content)
    assert not is_int8(content[:40])
    assert not is_int8(int8_file(*classifier(x={"kind": "float32"})))


@given(
    scale=st.floats(1e-30, 1e30).map(np.float32),
    zero=ZEROS,
    value=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
def test_numbers_are_quantized_as_predict_does(scale: np.float32, zero: int, value: float) -> None:
    from model_export.tflm import Quantized

    values = np.array([[value]], np.float32)
    whole = Edge(float(scale), zero).quantized(values)
    other = Quantized((1, 1), "int8", float(scale), zero)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(whole, other.quantize(values))
    np.testing.assert_array_equal(Edge(float(scale), zero).real(whole), other.dequantize(whole.astype(np.int8)))
