"""An operator whose kernel exists is one file of Python: ABS, which the product lacks, runs here and gives the bits of TFLM."""

import sys
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle")
from one_op_models import Edge, one_op
from tflm_oracle import answers

from model_export import operators as package
from model_export.operators import operators
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from orchestrator.boards.host_engine import run_direct

ABSOLUTE = """
import numpy as np

from model_export.operator_entry import Operator
from model_export.operators.lut import LUT
from model_export.plan_context import Context, zero_point
from model_export.plan_steps import Step


def absolute(c: Context) -> Step:
    source = c.input()
    c.same_scale(source)
    zero = zero_point(source)
    table = np.clip(np.abs(np.arange(-128, 128) - zero) + zero, -128, 127).astype(np.int8)
    shape = (1, 1, int(np.prod(source.shape)))
    return Step(LUT, c.op, (source.index,), c.output.index, shape, shape, table=table.tobytes(), lag=0)


OPERATORS = (Operator("ABS", kinds=(LUT,), plan=absolute),)
"""
EDGE = Edge(0.05, -7)


@pytest.fixture
def with_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "absolute.py").write_text(ABSOLUTE)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    operators.cache_clear()
    yield
    operators.cache_clear()
    sys.modules.pop(f"{package.__name__}.absolute", None)


def test_without_its_file_it_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match="operator 0 is ABS, which engine/direct lacks"):
        compile_plan(one_op("ABS", EDGE, EDGE))


@pytest.mark.usefixtures("with_absolute")
def test_with_its_file_it_has_the_bits_of_tflm() -> None:
    blob = one_op("ABS", EDGE, EDGE)
    rows = np.arange(-128, 128).astype(np.int8).reshape(1, 256)
    known = answers([(blob, rows)])[0].outputs
    assert known is not None
    assert compile_plan(blob).ops == ("lut",)
    np.testing.assert_array_equal(run_direct(blob, rows), known)
