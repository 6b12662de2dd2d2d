"""RELU6 that changes the scale: TFLM computes it wrongly, so an export writes RELU where that gives the same values."""

from typing import List, Tuple

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle")
from one_op_models import Edge, Operator, Part, model_of, one_op, options_of
from tflm_oracle import answers

from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.preflight import preflight
from model_export.relu6 import relu6_as_relu, rescaling_relu6
from model_export.tflite_file import read_tflite
from orchestrator.boards.host_engine import run_direct

EVERY = np.arange(-128, 128).astype(np.int8).reshape(1, 256)
WIDE = Edge(0.1, -20)
TO_SIX = Edge(6 / 255, -128)


def codes(tflite: bytes) -> List[str]:
    return [op.code for op in read_tflite(tflite).ops]


def test_the_values_are_those_of_the_function() -> None:
    blob = one_op("RELU6", WIDE, TO_SIX)
    exported = relu6_as_relu(blob)
    assert codes(exported) == ["RELU"]
    exact = np.clip((EVERY.astype(float) - WIDE.zero_point) * WIDE.scale, 0, 6)
    as_it_was, found = (answers([(model, EVERY)])[0].outputs for model in (blob, exported))
    assert as_it_was is not None
    assert found is not None
    assert np.abs((found.astype(float) + 128) * TO_SIX.scale - exact).max() <= TO_SIX.scale
    assert np.abs((as_it_was.astype(float) + 128) * TO_SIX.scale - exact).max() > 1, "TFLM's RELU6 rescales by now"
    np.testing.assert_array_equal(run_direct(exported, EVERY), found)


def test_a_scale_that_does_not_end_at_six_is_left_and_refused() -> None:
    blob = one_op("RELU6", WIDE, Edge(0.05, -128))
    assert relu6_as_relu(blob) == blob
    with pytest.raises(PlanError, match=r"operator 0 \(RELU6\): t0 has another scale than the output, which TFLM"):
        compile_plan(blob)
    (found,) = (f for f in preflight(blob, "esp32c3", 491_520).findings if f.check == "RELU6")
    assert "operators 0" in found.message


@pytest.mark.parametrize("scales", [(0.1, 6 / 255), (0.1, 0.1), (0.02, 0.02)])
def test_others_stay_as_they_are(scales: Tuple[float, float]) -> None:
    """One that cuts values at 6 in an unchanged scale is still RELU6, beside one that became RELU."""
    parts = [Part((1, 256), *WIDE), Part((1, 256), 0.2, 0), *(Part((1, 256), scale, -128) for scale in (*scales, 0.1))]
    before: List[Operator] = [
        ("RELU", [0], [2], None),
        ("RELU6", [2], [3], None),
        ("RELU6", [0], [4], None),
        ("ADD", [3, 4], [1], options_of("AddOptions")),
    ]
    parts[4] = Part((1, 256), *TO_SIX)
    blob = model_of(parts, before)
    exported = relu6_as_relu(blob)
    changes, cut = scales[0] != scales[1], 6 / scales[1] - 128 < 127
    assert codes(exported)[1:3] == ["RELU" if changes or not cut else "RELU6", "RELU"]
    assert rescaling_relu6(read_tflite(exported)) == []
    rows = np.random.default_rng(1).permuted(np.repeat(EVERY, 4, axis=0), axis=1)
    np.testing.assert_array_equal(run_direct(exported, rows), answers([(exported, rows)])[0].outputs)


def test_nothing_to_do_is_the_same_file() -> None:
    for blob in (one_op("RELU6", WIDE, WIDE), one_op("RELU", WIDE, TO_SIX)):
        assert relu6_as_relu(blob) is blob
