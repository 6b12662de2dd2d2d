"""Models that keep state: the same bits on every way there is, whenever they begin; and what does not fit together is refused."""

import random
import re
import struct
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle")
from state_models import BAD, WIDTH, streaming
from test_damaged import flash_with, talk

import model_export.known_answers as known_answers
from model_export.bundle import verify_bundle, write_bundle
from model_export.errors import ExportError, TfliteError, TflmError
from model_export.input_profile import make_profile
from model_export.model_bin import KnownAnswers, pack_model_bin, parse_model_bin
from model_export.plan import VERSION, VERSION_WITH_STATE, compile_plan
from model_export.plan_steps import PlanError
from model_export.preflight import preflight
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel
from model_export.variables import MOST_VARIABLES, keeps_state, kept_bytes, state_of
from orchestrator.boards.client import BoardClient
from orchestrator.boards.compare import compare_engines
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.host_engine import SANITIZE, HostBuildError, firmware_dir, run_direct, run_plans
from orchestrator.boards.protocol import FRAME_INFER, FRAME_SAMPLES, Record, encode_frame
from orchestrator.boards.virtual import VirtualBoard

ROWS = np.random.default_rng(2).integers(-128, 128, (40, WIDTH)).astype(np.int8)


@pytest.fixture(scope="module")
def model() -> bytes:
    return streaming()


@pytest.fixture(scope="module")
def known(model: bytes) -> np.ndarray:
    """What TFLM answers to ROWS, one after another from the initial state."""
    return TflmModel(model).run(ROWS).reshape(len(ROWS), -1)


def packed(model: bytes, answers: KnownAnswers) -> bytes:
    plan = compile_plan(model)
    return pack_model_bin(
        name="streaming",
        tflite=model,
        plan=plan.blob,
        arena_tflm_bytes=20000,
        arena_direct_bytes=plan.arena_bytes,
        known_answers=answers,
        input_profile=make_profile((1, 4, 2), (), ROWS),
    )


@pytest.fixture(scope="module")
def model_bin(model: bytes, known: np.ndarray) -> bytes:
    return packed(model, KnownAnswers(ROWS[:12], known[:12]))


def infer(rows: np.ndarray, first: int = 0) -> bytes:
    return b"".join(encode_frame(FRAME_INFER, first + n, row.tobytes()) for n, row in enumerate(rows))


def outputs(records: List[Record]) -> np.ndarray:
    return np.array([np.frombuffer(bytes.fromhex(r.fields["out"]), np.int8) for r in records if r.kind == "result"])


def test_a_row_has_another_answer_after_other_rows(model: bytes, known: np.ndarray) -> None:
    later = TflmModel(model).run(ROWS[1:]).reshape(len(ROWS) - 1, -1)
    assert (later[0] != known[1]).any()
    assert (later != known[1:]).any(axis=1).sum() > 10


def test_what_is_said_of_it(model: bytes) -> None:
    parsed, plan = read_tflite(model), compile_plan(model)
    state = state_of(parsed)
    assert [(v.name, v.bytes, v.initial is None) for v in state.variables] == [
        ("m/queue", 16, False),
        ("m/last", 8, True),
        ("m/level", 8, False),
    ]
    assert keeps_state(parsed)
    assert kept_bytes(parsed) == plan.state_bytes == TflmModel(model).state_bytes == 32
    assert plan.ops[:3] == ("load", "fill", "load")
    assert struct.unpack_from("<I", plan.blob, 4) == (VERSION_WITH_STATE,)


def test_models_without_state_are_planned_as_ever(small_models: Dict[str, bytes]) -> None:
    plan = compile_plan(small_models["dense"])
    assert struct.unpack_from("<I", plan.blob, 4) == (VERSION,)
    assert struct.unpack_from("<I", plan.blob, 28) == (0,)
    assert plan.state_bytes == 0
    assert TflmModel(small_models["dense"]).state_bytes == 0


def test_as_many_variables_here_as_in_the_firmware() -> None:
    source = (firmware_dir() / "engine/tflm/variables.h").read_text()
    assert int(re.findall(r"kMostVariables = (\d+);", source)[0]) == MOST_VARIABLES


def test_a_board_begins_at_the_initial_state_whenever_it_is_asked_to(
    tmp_path: Path, model_bin: bytes, known: np.ndarray
) -> None:
    """After loading (whose known answers left no trace), a reset, a self-test, a bench, the runner and a reload."""
    answers = talk(
        flash_with(tmp_path, model_bin),
        b"info\n" + infer(ROWS[:9])
        + b"reset\n" + infer(ROWS[:9])
        + b"selftest\n" + infer(ROWS[:9])
        + b"bench 3\n" + infer(ROWS[:9])
        + b"db load 8%db " + bytes(ROWS[3].tobytes()).hex().encode() + b"%infer 2 1%\n" + infer(ROWS[:9])
        + b"reload\n" + infer(ROWS),
    )  # fmt: skip
    assert next(r for r in answers if r.kind == "info").fields["state_bytes"] == 32
    assert [r.fields for r in answers if r.kind == "ok"] == [{"command": "reset", "state_bytes": 32}]
    tested = next(r for r in answers if r.kind == "selftest").fields
    assert (tested["rows"], tested["mismatches"]) == (12, 0)
    found = outputs(answers)
    for begun in range(0, 45, 9):
        np.testing.assert_array_equal(found[begun : begun + 9], known[:9], err_msg=str(begun))
    np.testing.assert_array_equal(found[45:], known)


def test_rows_go_on_from_where_the_last_one_left_it(tmp_path: Path, model_bin: bytes, known: np.ndarray) -> None:
    """What a board does by itself: a row is the next in time until a reset is asked for."""
    answers = talk(flash_with(tmp_path, model_bin), infer(ROWS[:5]) + b"info\nmetrics\n" + infer(ROWS[5:12], 5))
    np.testing.assert_array_equal(outputs(answers), known[:12])


def test_known_answers_in_another_order_are_not_its_answers(tmp_path: Path, model: bytes, known: np.ndarray) -> None:
    turned = packed(model, KnownAnswers(ROWS[[1, 0]], known[[1, 0]]))
    assert talk(flash_with(tmp_path, turned), b"")[1].fields["code"] == "known_answers_differ"


def test_a_stream_has_the_state_to_itself(tmp_path: Path, model_bin: bytes) -> None:
    """What would touch the state is refused while it runs, and its windows are as if nobody had asked."""
    samples = np.random.default_rng(8).integers(-300, 300, (40, 2)).astype("<i2")

    def fed(first: int, count: int, number: int) -> bytes:
        body = struct.pack("<I", first) + samples[first : first + count].tobytes()
        return encode_frame(FRAME_SAMPLES, number, body)

    def streamed(between: bytes) -> List[Record]:
        stdin = b"stream 1 0 1 0\n" + fed(0, 16, 1) + between + fed(16, 24, 2) + b"stream off\n" + infer(ROWS[:3], 50)
        return talk(flash_with(tmp_path, model_bin), infer(ROWS[:2]) + stdin)

    alone = streamed(b"")
    crowded = streamed(b"selftest\nbench 2\nreset\ndb load 8%db 0000000000000000%infer 1 0%\n" + infer(ROWS[:1], 90))
    refused = [r.fields for r in crowded if r.kind == "error"]
    assert [fields["code"] for fields in refused] == ["stream_on"] * 4
    assert refused[-1]["id"] == 90
    assert any(r.kind == "detect" for r in crowded)

    def said(records: List[Record]) -> List[object]:
        return [
            {k: v for k, v in r.fields.items() if k != "latency_us"} for r in records if r.kind in ("detect", "result")
        ]

    assert said(crowded) == said(alone)


def test_the_same_rows_give_the_same_answers_over_serial(model_bin: bytes, known: np.ndarray) -> None:
    with VirtualBoard(model_bin) as virtual, BoardClient(virtual.port) as board:
        for _ in range(2):
            np.testing.assert_array_equal(board.infer(ROWS).outputs, known)
        board.infer(ROWS[:7])
        np.testing.assert_array_equal(board.infer(ROWS[:7]).outputs, known[:7])


def test_a_stream_that_begins_by_itself_is_no_failure_of_an_update(
    tmp_path: Path, model_bin: bytes, known: np.ndarray
) -> None:
    """While it goes on the board answers no test, and a roll-out of the model it has already has nothing to send."""
    samples = tmp_path / "samples.i16"
    samples.write_bytes(np.zeros(40_000, "<i2").tobytes())
    with VirtualBoard(model_bin, samples=samples, recording=True) as virtual, BoardClient(virtual.port) as board:
        board.stream(source="file", rate_hz=100)
        board.keep_stream()
        with pytest.raises(BoardError, match="stream off first"):
            board.selftest()
        assert board.update(model_bin)["stream"]
        board.reboot()
        assert board.update(model_bin)["stream"]
        board.ask("record file 100 2 4", "ok")
        assert not board.info()["stream"]
        np.testing.assert_array_equal(board.infer(ROWS).outputs, known)


def test_bundle(tmp_path: Path, model: bytes) -> None:
    """The known answers of a bundle are rows in time; both engines give them, and the synthetic rows of `model verify`."""
    manifest = write_bundle(tmp_path / "b", tflite=model, name="streaming", engine="direct")
    packed = parse_model_bin((tmp_path / "b/model.bin").read_bytes())
    assert packed.known_answers is not None
    assert len(packed.known_answers.inputs) == manifest["known_answer_rows"] == known_answers.ROWS_OFFERED
    assert "one after another" in manifest["origin"]["known_answers"]
    verify_bundle(tmp_path / "b")
    direct = run_direct(model, packed.known_answers.inputs)
    np.testing.assert_array_equal(direct, packed.known_answers.outputs)
    assert compare_engines(packed.tflite, packed)["direct_skipped"] is None
    assert "AddVarHandle" in (tmp_path / "b/op_resolver.h").read_text()


def test_preflight_counts_what_is_kept(model: bytes) -> None:
    report = preflight(model, "esp32", 1 << 20)
    assert report.ok
    found = {finding.check: finding for finding in report.findings}
    assert "32 bytes" in found["state"].message
    assert report.direct_arena_bytes == compile_plan(model).arena_bytes >= 32
    assert report.prediction is not None
    assert report.prediction.total_bytes > 32


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_does_not_fit_together_is_refused(name: str) -> None:
    change, said = BAD[name]
    blob = streaming(change)
    with pytest.raises((PlanError, TfliteError), match=said):
        compile_plan(blob)
    with pytest.raises((TflmError, TfliteError), match=said):
        TflmModel(blob)


def test_a_preflight_of_what_does_not_fit_together_says_so() -> None:
    report = preflight(streaming(BAD["itself"][0]), "esp32", 1 << 20)
    assert not report.ok
    assert "calls the subgraph it stands in" in "".join(finding.message for finding in report.findings)


def test_damaged_files_are_refused_or_run_within_their_memory(model: bytes) -> None:
    """Bits of the file flipped at random; what is planned all the same runs under sanitizers."""
    rng = random.Random(5)
    rows = ROWS[:2]
    planned, refused = [], 0
    for _ in range(700):
        damaged = bytearray(model)
        for _ in range(rng.choice([1, 1, 2, 4])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            plan = compile_plan(bytes(damaged))
        except ExportError:
            refused += 1
            continue
        if plan.input_bytes == WIDTH:
            planned.append((bytes(damaged), plan.blob, rows))
    assert refused > 100
    assert len(planned) > 100
    assert len(run_plans(planned, SANITIZE)) >= len(planned)


def test_a_plan_with_more_initializations_than_operators_is_refused(model: bytes) -> None:
    plan = bytearray(compile_plan(model).blob)
    for count, said in (
        (len(compile_plan(model).ops) + 1, "more initializations than operators"),
        (0, "unknown version"),
    ):
        struct.pack_into("<I", plan, 28, count)
        with pytest.raises(HostBuildError, match=said):
            run_plans([(model, bytes(plan), ROWS[:1])])
