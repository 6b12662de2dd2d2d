"""What a board measures about itself and its inputs: operators, answers, and drift against the training distribution."""

import dataclasses
import hashlib
import zlib
from pathlib import Path
from typing import Callable, List

import numpy as np
import pytest
from board_sample import Sample

from model_export.input_profile import InputProfile, histogram, make_profile, population_stability_index
from model_export.model_bin import pack_model_bin, parse_model_bin
from model_export.plan import compile_plan
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.protocol import Record
from orchestrator.boards.virtual import VirtualBoard


def with_profile(model_bin: bytes, profile: InputProfile) -> bytes:
    parsed = parse_model_bin(model_bin)
    return pack_model_bin(
        name=parsed.name,
        tflite=parsed.tflite,
        plan=parsed.plan,
        arena_tflm_bytes=parsed.arena_tflm_bytes,
        arena_direct_bytes=parsed.arena_direct_bytes,
        known_answers=parsed.known_answers,
        input_profile=profile,
    )


@pytest.fixture(scope="module")
def reference(sample: Sample) -> np.ndarray:
    """Normal noise, unlike the even spread of the extremes below."""
    return np.clip(np.random.default_rng(1).normal(10, 30, (300, 490)), -128, 127).astype(np.int8)


@pytest.fixture(scope="module", params=[490, 7])
def profile(request: pytest.FixtureRequest, reference: np.ndarray) -> InputProfile:
    """One group for many channels, one each for few."""
    return make_profile((1, 490 // request.param, request.param), (), reference)


def drift_records(model_bin: bytes, rows: np.ndarray, window: int) -> List[Record]:
    seen: List[Record] = []
    with VirtualBoard(model_bin) as board, BoardClient(board.port, on_record=seen.append) as client:
        client.info()
        client.ask(f"drift rows {window}", "ok")
        client.infer(rows)
        metrics = client.metrics()
    records = [record for record in seen if record.kind == "drift"]
    assert metrics["psi"] == records[-1].fields["psi"]
    return records


def test_the_index_is_the_hosts(sample: Sample, reference: np.ndarray, profile: InputProfile) -> None:
    rows = np.concatenate([reference[:40], reference[40:80] // 2 + 20])
    records = drift_records(with_profile(sample.model_bin, profile), rows, 40)
    assert [record.fields["rows"] for record in records] == [40, 40]
    groups = len(profile.edges)
    assert groups == (1 if profile.channels == 490 else 7)
    for record, part in zip(records, (rows[:40], rows[40:])):
        values = part.reshape(-1, groups)
        wanted = [
            population_stability_index(profile.shares[g], histogram(values[:, g], profile.edges[g]))
            for g in range(groups)
        ]
        assert record.fields["psi_of_groups"] == pytest.approx(wanted, abs=2e-4)
        assert record.fields["psi"] == max(record.fields["psi_of_groups"])
        assert record.fields["group"] == int(np.argmax(record.fields["psi_of_groups"]))
        assert record.fields["reference_rows"] == 300
    assert records[0].fields["psi"] < 0.1 < 0.25 < records[1].fields["psi"]


def test_one_shifted_channel_is_named(sample: Sample, reference: np.ndarray) -> None:
    profile = make_profile((1, 70, 7), (), reference)
    rows = reference[:50].reshape(50, 70, 7).copy()
    rows[:, :, 4] = np.clip(rows[:, :, 4].astype(int) + 40, -128, 127)
    (record,) = drift_records(with_profile(sample.model_bin, profile), rows.reshape(50, 490), 50)
    assert record.fields["group"] == 4
    others = np.delete(record.fields["psi_of_groups"], 4)
    assert others.max() < 0.1 < 0.25 < record.fields["psi"]


def test_without_a_reference_there_is_no_drift(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client:
        with pytest.raises(BoardError, match="no_reference"):
            client.ask("drift rows 10", "ok")
        client.infer(sample.rows[:20])
        assert "psi" not in client.metrics()


def test_a_damaged_profile_is_refused(sample: Sample, profile: InputProfile) -> None:
    model_bin = bytearray(with_profile(sample.model_bin, profile))
    at = int.from_bytes(model_bin[244:248], "little")
    for offset, value in ((0, 9), (4, 0), (12, 33), (16, 0), (16, 17), (16, 3)):
        damaged = bytearray(model_bin)
        damaged[at + offset : at + offset + 4] = value.to_bytes(4, "little")
        damaged[48:80] = hashlib.sha256(damaged[256:]).digest()  # as whole as a wrong writer would make it
        damaged[252:256] = zlib.crc32(damaged[:252]).to_bytes(4, "little")
        with VirtualBoard(bytes(damaged)) as board, BoardClient(board.port) as client:
            assert client.info()["state"] == "bad_input_profile"


def test_classes_and_confidence_are_counted(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client:
        client.info()  # what it said when it started is read: rows sent then would be sent again
        outputs = client.infer(sample.rows).outputs.astype(int)
        metrics = client.metrics()
        client.bench(3)
        client.selftest()
        assert client.metrics()["classes"] == metrics["classes"]
    assert metrics["classes"] == np.bincount(outputs.argmax(1), minlength=12).tolist()
    bins = np.minimum((outputs.max(1) + 128) * 10 // 256, 9)
    assert metrics["confidence"] == np.bincount(bins, minlength=10).tolist()


def test_scores_that_are_no_probabilities_are_not_counted(shared_data: Callable[[str], Path]) -> None:
    tflite = (shared_data("mlperf-tiny") / "ad_int8.tflite").read_bytes()
    plan = compile_plan(tflite)
    model_bin = pack_model_bin(
        name="ad", tflite=tflite, plan=plan.blob, arena_tflm_bytes=4000, arena_direct_bytes=plan.arena_bytes
    )
    with VirtualBoard(model_bin) as board, BoardClient(board.port) as client:
        client.infer(np.zeros((3, plan.input_bytes), np.int8))
        assert "classes" not in client.metrics()


def test_bench_times_every_operator(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client:
        result = client.bench(20)
        with pytest.raises(BoardError, match="bad_argument"):
            client.bench(0)
    assert [op["name"] for op in result["ops"]] == list(compile_plan(parse_model_bin(sample.model_bin).tflite).ops)
    assert all(op["runs"] == result["runs"] == 20 for op in result["ops"])
    spent = sum(op["total_us"] for op in result["ops"])
    assert 0 < result["latency_min_us"] <= result["latency_p50_us"] <= result["latency_max_us"]
    assert 0.05 * result["total_us"] < spent < 20 * result["total_us"]
    assert result["output_crc32"] == zlib.crc32(sample.outputs[0].tobytes())


def test_a_threshold_of_a_model_that_does_not_give_back_its_input_is_refused(
    sample: Sample, reference: np.ndarray
) -> None:
    profile = dataclasses.replace(make_profile((1, 490, 1), (), reference), threshold=1.0)
    with VirtualBoard(with_profile(sample.model_bin, profile)) as board, BoardClient(board.port) as client:
        assert client.info()["state"] == "bad_input_profile"
