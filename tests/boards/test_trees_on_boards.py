"""Models of trees on a board beside those of layers: slots, self-test, signatures, rollback, answers, drift and streams."""

import hashlib
import struct
import subprocess
import zlib
from typing import Any, Dict, List

import numpy as np
import pytest
from board_sample import Sample
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from random_trees import random_trees, rows_for

from model_export.errors import ExportError
from model_export.input_profile import InputProfile, make_profile, pack_profile, parse_profile
from model_export.model_bin import HEADER_BYTES, KnownAnswers, ModelBinError, pack_model_bin, parse_model_bin
from model_export.preflight import preflight
from model_export.trees import PAIR, Trees, pack_trees, run_trees
from model_export.trees_rows import telling_rows
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.host_engine import SANITIZE, build
from orchestrator.boards.partitions import MODEL_CAPACITY
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.wire.logarithm import logarithm_within

MODEL = random_trees(1)
assert MODEL.mode == PAIR


def features(model: Trees) -> List[Dict[str, Any]]:
    return [{"name": f"x{i}", "cuts": [float(cut) for cut in range(254)]} for i in range(model.channels)]


def packed(model: Trees = MODEL, name: str = "trees", right: bool = True, **more: Any) -> bytes:
    rows = telling_rows(model)
    outputs = run_trees(model, rows)
    profile = make_profile((1, model.channels), features(model), rows_for(model, 400))
    return pack_model_bin(
        name=name,
        tflite=pack_trees(model),
        arena_tflm_bytes=model.arena_bytes,
        arena_direct_bytes=model.arena_bytes,
        known_answers=KnownAnswers(rows, outputs if right else outputs[::-1]),
        input_profile=profile,
        **more,
    )


def with_model(model_bin: bytes, model: bytes) -> bytes:
    """The same file with another model of the same size, and digests that fit."""
    body = model_bin[HEADER_BYTES:].replace(parse_model_bin(model_bin).tflite, model)
    head = model_bin[:48] + hashlib.sha256(body).digest() + model_bin[80:252]
    return head + struct.pack("<I", zlib.crc32(head)) + body


def test_one_board_runs_layers_and_trees_in_turn(sample: Sample) -> None:
    rows = rows_for(MODEL, 80)
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client:
        layers = parse_model_bin(sample.model_bin).digest
        info = client.update(packed())
        assert (info["slot"], info["name"], info["state"], info["engine"]) == ("b", "trees", "ready", "direct")
        assert (info["input_bytes"], info["input_scale"], info["input_zero_point"]) == (MODEL.channels, 1.0, 0)
        assert (info["output_bytes"], info["output_scale"], info["output_zero_point"]) == (2, 1 / 256, -128)
        answers = client.infer(rows).outputs
        np.testing.assert_array_equal(answers, run_trees(MODEL, rows))
        tested = client.selftest()
        assert (tested["rows"], tested["mismatches"]) == (len(telling_rows(MODEL)), 0)
        metrics = client.metrics()
        counted = np.bincount(answers.argmax(axis=1), minlength=2)
        assert (metrics["inferences"], metrics["arena_used_bytes"]) == (80, MODEL.arena_bytes)
        assert metrics["classes"][:2] == counted.tolist()
        (operator,) = client.bench(2000)["ops"]  # of so small a model: three take less than a microsecond
        assert (operator["name"], operator["op"]) == ("TREES", 0)
        assert client.reboot()["name"] == "trees"
        assert client.rollback()["model"] == layers
        np.testing.assert_array_equal(client.infer(sample.rows[:9]).outputs, sample.outputs[:9])
        assert client.rollback()["name"] == "trees"
        np.testing.assert_array_equal(client.infer(rows[:9]).outputs, run_trees(MODEL, rows[:9]))
        other = random_trees(4)
        client.update(packed(other, "others"))
        np.testing.assert_array_equal(client.infer(rows_for(other, 9)).outputs, run_trees(other, rows_for(other, 9)))


def test_drift_of_trees_is_measured() -> None:
    rows = rows_for(MODEL, 400)
    away = np.full_like(rows, 90)
    seen: List[Any] = []
    with VirtualBoard(packed()) as board, BoardClient(board.port, on_record=seen.append) as client:
        client.ask("drift rows 400", "ok")
        client.infer(np.concatenate([rows, away]))
        client.metrics()  # the second record follows the last answer
    drift = [record.fields["psi"] for record in seen if record.kind == "drift"]
    assert len(drift) == 2
    assert drift[0] < 0.1 < 1 < drift[1]


def test_trees_that_a_board_should_not_run_are_rolled_back(sample: Sample) -> None:
    model = pack_trees(MODEL)
    first = 64 + 4 + 4 * 255 + 4 * len(MODEL.trees)
    loop = model[: first + 4] + struct.pack("<H", 0) + model[first + 6 :]
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client:
        with pytest.raises(BoardError, match="rolled_back: known_answers_differ"):
            client.update(packed(right=False))
        with pytest.raises(BoardError, match="rolled_back: bad_model.*a node leads elsewhere"):
            client.update(with_model(packed(), loop))
        with pytest.raises(BoardError, match="rolled_back: unsupported.*version is not 1"):
            client.update(with_model(packed(), model[:4] + b"\x02" + model[5:]))
        np.testing.assert_array_equal(client.infer(sample.rows[:3]).outputs, sample.outputs[:3])


def test_a_board_with_keys_takes_signed_trees_only(sample: Sample) -> None:
    key = Ed25519PrivateKey.generate()
    with VirtualBoard() as board, BoardClient(board.port) as client:
        client.set_key(key.public_key().public_bytes_raw())
        with pytest.raises(BoardError, match="trees is not signed"):
            client.update(packed())
        with pytest.raises(BoardError, match="bad_signature|not signed by"):
            client.update(packed(sign=Ed25519PrivateKey.generate().sign))
        assert client.update(packed(sign=key.sign))["signature"] == "verified"


def test_a_model_of_trees_has_one_arena_and_no_plan() -> None:
    for plan, tflm, direct in ((b"x", 48, 48), (None, 48, 64), (None, 4096, 4096)):
        with pytest.raises(ModelBinError, match="no plan, and one arena"):
            pack_model_bin(
                name="t", tflite=pack_trees(MODEL), plan=plan, arena_tflm_bytes=tflm, arena_direct_bytes=direct
            )


def test_preflight_knows_trees() -> None:
    report = preflight(packed(), "esp32c3", MODEL_CAPACITY)
    said = {finding.check: (finding.level, finding.message) for finding in report.findings}
    assert report.ok
    assert said["arena"][0] == "ok"
    assert f"needs {MODEL.arena_bytes} bytes (exact)" in said["arena"][1]
    assert said["trees"][1].startswith(f"{len(MODEL.trees)} trees of {MODEL.nodes} nodes")
    assert [f.check for f in preflight(packed(), "esp32c3", 1000).findings if f.level == "error"] == ["flash"]


NAMED = {"transform": "log", "minimum": 0.5, "maximum": 1e5}
CUTS = [float(np.float32(cut)) for cut in (-0.4, 0.0, 1.5, 7.25, 9.75)]
COUNTED: List[Dict[str, Any]] = [
    {"name": "crp", "cuts": CUTS, **NAMED},
    {"name": "sex", "categories": ["f", "m", "x"]},
    {"name": "age", "cuts": []},
]


def samples_as(profile: bytes, counts: np.ndarray) -> "subprocess.CompletedProcess[bytes]":
    head = struct.pack("<fiII", 1.0, 0, 10, counts.size)
    sent = struct.pack("<I", len(profile)) + profile + head + counts.astype("<i2").tobytes()
    return subprocess.run([str(build("stream-stdio", SANITIZE))], input=sent, capture_output=True, check=False)


def test_samples_are_counted_in_the_cuts_of_a_model() -> None:
    """A board makes of raw samples what a reader of data makes of them: level 1 of a category is a sample of 1."""
    counts = np.stack(
        [
            np.append(np.arange(-30, 70), np.linspace(70, 32767, 800).astype(int)),
            np.arange(900) % 5 * 10 - 10,
            np.arange(900),
        ],
        axis=1,
    )
    done = samples_as(pack_profile(make_profile((1, 3), COUNTED, None)), counts)
    assert done.returncode == 0, done.stderr
    found = np.frombuffer(done.stdout, np.int8).reshape(-1, 3)
    raw = counts.astype(np.float32) / np.float32(10)
    for column, cuts, values in (
        (0, CUTS, logarithm_within(raw[:, 0], 0.5, 1e5)),
        (1, [1, 2], raw[:, 1]),
        (2, [], raw[:, 2]),
    ):
        expected = np.searchsorted(np.array(cuts, np.float32), values, side="right") - 127
        np.testing.assert_array_equal(found[:, column], expected)
    assert len(np.unique(found[:, 0])) == 5


def changed(profile: InputProfile, at: int, content: bytes) -> bytes:
    section = pack_profile(profile)
    return section[:at] + content + section[at + len(content) :]


def test_invalid_cuts_are_refused_by_reader_and_board() -> None:
    profile = make_profile((1, 3), COUNTED, None)
    assert pack_profile(parse_profile(pack_profile(profile))) == pack_profile(profile)
    start = 24 + 8 * 3
    wrong = {
        "too many": changed(profile, start, struct.pack("<H", 255)),
        "another sum": changed(profile, start, struct.pack("<H", 4)),
        "padding": changed(profile, start + 6, b"\x01"),
        "not ascending": changed(profile, start + 8 + 4, struct.pack("<f", -3.0)),
        "twice": changed(profile, start + 8 + 4, struct.pack("<f", float(np.float32(-0.4)))),
        "not a number": changed(profile, start + 8, struct.pack("<f", float("nan"))),
        "infinite": changed(profile, start + 8 + 16, struct.pack("<f", float("inf"))),
        "truncated": pack_profile(profile)[:-4],
        "no list": pack_profile(profile)[: start + 4],
        "longer": pack_profile(profile) + bytes(4),
    }
    counts = np.zeros((1, 3), np.int16)
    assert samples_as(pack_profile(profile), counts).returncode == 0
    for name, section in wrong.items():
        with pytest.raises(ExportError):
            parse_profile(section)
        done = samples_as(section, counts)
        assert (done.returncode, done.stderr) == (1, b""), name
