"""Filters over time: what is kept of the inputs before, on every way a model is run."""

import struct
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle")
from plan_damage import every_word_damaged
from svdf_layers import STEPS, UNITS, WIDTH, svdf_layer
from tflm_oracle import answers

from model_export.arena32 import predict_arena
from model_export.bundle import verify_bundle, write_bundle
from model_export.errors import TflmError
from model_export.operators.svdf import agreement, svdf
from model_export.plan import compile_plan
from model_export.plan_context import Context
from model_export.plan_steps import PlanError
from model_export.roundings import quotient_in_float
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel
from model_export.variables import kept_bytes
from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import SANITIZE, HostBuildError, run_direct, run_plan, run_plans
from orchestrator.boards.virtual import VirtualBoard


@pytest.mark.parametrize("kind", ["int16", "int8"])
def test_it_goes_on_with_what_it_keeps_in_the_bits_of_tflm(
    make_rows: Callable[..., np.ndarray], tmp_path: Path, kind: str
) -> None:
    model = svdf_layer(kind)
    rows = make_rows(model, 40)
    want = TflmModel(model).run(rows).reshape(len(rows), -1)
    later = TflmModel(model).run(rows[5:]).reshape(len(rows) - 5, -1)
    assert len(np.unique(want)) > 20
    assert (later[: STEPS - 1] != want[5 : 5 + STEPS - 1]).any(), "nothing is kept"
    np.testing.assert_array_equal(later[STEPS:], want[5 + STEPS :], "what is older than its steps is forgotten")
    np.testing.assert_array_equal(run_direct(model, rows, SANITIZE), want)
    assert compile_plan(model).state_bytes == TflmModel(model).state_bytes == kept_bytes(read_tflite(model)) > 0
    assert predict_arena(model, TflmModel(model)).confirmed
    write_bundle(tmp_path / "bundle", tflite=model, name="filters", engine="direct")
    verify_bundle(tmp_path / "bundle")
    with VirtualBoard(tmp_path / "bundle" / "model.bin") as board, BoardClient(board.port) as client:
        for _ in range(2):
            np.testing.assert_array_equal(client.infer(rows).outputs, want)
        assert client.selftest()["mismatches"] == 0
        np.testing.assert_array_equal(client.infer(rows[5:]).outputs, later)


@pytest.mark.parametrize("kind", ["int16", "int8"])
def test_every_word_of_its_plan_damaged(kind: str) -> None:
    refused, ran = every_word_damaged(svdf_layer(kind))
    assert refused > 300
    assert ran > 200, "hardly anything ran: nothing was proven about the kernel"


@pytest.mark.parametrize(
    ("word", "value", "reason"),
    [
        (3, 1 << 24, "bad place of what is kept"),
        (3, 1, "bad place of what is kept"),
        (3, "input", "bad place of what is kept"),
        (3, "output", "bad place of what is kept"),
        (4, "input", "input and output overlap"),
        (6, (3, 3), "bad shape"),
        (9, (UNITS, 1), "bad shape"),
        (19, 1 << 20, "weights outside the .tflite section"),
        (20, 1 << 20, "table outside the plan"),
        *((27, value, "bad parameter") for value in (0, -1, (1 << 24) + 1)),
        (27, 1 << 20, "bad place of what is kept"),
        *((28, value, "bad parameter") for value in (0, -1, 1 << 24, 1 << 30)),
        *((29, value, "bad parameter") for value in (-1, 2)),
        *((30, value, "zero point out of range") for value in (-129, 128)),
    ],
)
def test_a_damaged_record_is_refused(word: int, value: Any, reason: str) -> None:
    model = svdf_layer()
    plan = bytearray(compile_plan(model).blob)
    count, first = (struct.unpack_from("<I", plan, place)[0] for place in (20, 28))
    assert (count, first) == (2, 1)
    record = 64 + 128
    if value == "input":  # from an even address on
        value = (struct.unpack_from("<I", plan, record + 8)[0] + WIDTH - 1) & ~1
    elif value == "output":
        value = struct.unpack_from("<I", plan, record + 16)[0] & ~1
    for place, number in enumerate(value if isinstance(value, tuple) else (value,), word):
        struct.pack_into("<I", plan, record + 4 * place, number & 0xFFFFFFFF)
    with pytest.raises(HostBuildError, match=reason):
        run_plan(model, bytes(plan), np.zeros((1, WIDTH), np.int8))


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        *((word, -1, "bad multiplier") for word in (0, 2)),
        *((word, value, "bad multiplier") for word in (1, 3) for value in (31, -32)),
        (4, 1 << 20, "weights outside the .tflite section"),
        (4, -1, "weights outside the .tflite section"),
    ],
)
def test_a_damaged_table_is_refused(place: int, value: int, reason: str) -> None:
    model = svdf_layer()
    parsed, plan = read_tflite(model), compile_plan(model).blob
    at = plan.index(svdf(Context(parsed, parsed.ops[0])).table) + 4 * place
    damaged = plan[:at] + struct.pack("<I", value & 0xFFFFFFFF) + plan[at + 4 :]
    with pytest.raises(HostBuildError, match=reason):
        run_plan(model, damaged, np.zeros((1, WIDTH), np.int8))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (svdf_layer(rank=3), r"rank 3 do not fit"),
        (svdf_layer(rank=0), "rank 0 do not fit"),
        (svdf_layer(rank=-2), "rank -2 do not fit"),
        (svdf_layer(bias=False), "input 3 is missing"),
        (svdf_layer(state="int8"), "input 4 .* must be a variable of type int16"),
        (svdf_layer("int8", state="int16"), "input 4 .* must be a variable of type int8"),
        (svdf_layer(slip=2e-5), "scale of the bias"),
    ],
    ids=["rank", "rank 0", "negative rank", "no bias", "narrow state", "wide state", "scale of the bias"],
)
def test_what_does_not_fit_is_refused_in_both_engines(model: bytes, said: str) -> None:
    """By TFLM's own checks, and where it has none by ours: it would end by a signal, or read beyond its tensors."""
    with pytest.raises(PlanError, match=rf"operator 0 \(SVDF\): .*{said}"):
        compile_plan(model)
    with pytest.raises(TflmError, match="SVDF") as caught:
        TflmModel(model)
    assert "signal" not in str(caught.value)


def test_a_slip_that_tflm_lets_pass_does_too(make_rows: Callable[..., np.ndarray]) -> None:
    model = svdf_layer(slip=9e-6)
    rows = make_rows(model, 20)
    np.testing.assert_array_equal(run_direct(model, rows), answers([(model, rows)])[0].outputs)


def test_rows_are_fair_where_versions_of_tflm_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel multiplies scales in double, what boards have in float: here that is another value in a row out of thousands."""
    model = svdf_layer(output=0.0279)
    rows = np.random.default_rng(12).integers(-128, 128, (4000, WIDTH)).astype(np.int8)
    parsed = read_tflite(model)
    agree = agreement(parsed, parsed.ops[0])
    assert agree is not None
    agreed = agree(rows)
    want = answers([(model, rows)])[0].outputs
    assert want is not None
    monkeypatch.setattr("model_export.operators.svdf.product_in_double", quotient_in_float)
    as_on_boards = run_plans([(model, compile_plan(model).blob, rows)])
    fair = (as_on_boards.reshape(len(rows), -1) == want.reshape(len(rows), -1)).all(1)
    assert 0 < (~fair).sum() < 100
    np.testing.assert_array_equal(agreed, fair)
