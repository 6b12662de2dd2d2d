"""Bundles: complete, compilable, written whole or not at all, and no bit of them changes unseen."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from export_samples import representative

from model_export import bundle as bundle_module
from model_export.arena32 import predict_arena
from model_export.bundle import arena_with_margin, verify_bundle, verify_known_answers, write_bundle
from model_export.errors import BundleError, ExportError
from model_export.manifest import FILES, FLOAT_FILES, MANIFEST, PRIVACY_PAGE, SIGNATURE, dump_manifest
from model_export.model_bin import KnownAnswers, pack_model_bin, parse_model_bin
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.preflight import preflight
from model_export.signing import SignatureError, sign_bundle, verify_model_bin
from model_export.sources import RESOLVER_METHODS, op_resolver_header, resolver_method
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel
from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import run_direct
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli.main import main
from orchestrator.wire.logarithm import logarithm_within

LABELS = ["low", "middle", "high"]
FEATURES = [{"name": f"f{i}", "mean": 1.5 * i, "std": 2.0} for i in range(13)]
PRIVACY = {"unit": "record", "epsilon": 7.9, "delta": 1e-5, "accountant": "dp-accounting PLD"}
PAGE = "# Privacy of this model\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, int8_blob: Callable[[str], bytes]) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "mlp"
    write_bundle(
        folder,
        tflite=int8_blob("mlp"),
        name="three levels",
        labels=LABELS,
        features=FEATURES,
        accuracy={"float": {"accuracy": 0.9}, "int8": {"accuracy": 0.89}},
        privacy=PRIVACY,
        privacy_page=PAGE,
        float_model={name: name.encode() for name in FLOAT_FILES},
        data_schema={"kind": "table"},
    )
    return folder


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "bundle"))


def test_the_manifest_says_what_the_files_hold(written: Path, int8_blob: Callable[[str], bytes]) -> None:
    blob = int8_blob("mlp")
    manifest = json.loads((written / MANIFEST).read_text())
    assert sorted(p.name for p in written.iterdir()) == sorted([*FILES, *FLOAT_FILES, MANIFEST, PRIVACY_PAGE])
    assert (written / "model.tflite").read_bytes() == blob
    tflm = TflmModel(blob)
    assert manifest["input"] == {
        "shape": [1, 13],
        "dtype": "int8",
        "scale": tflm.input.scale,
        "zero_point": tflm.input.zero_point,
    }
    assert manifest["labels"] == LABELS
    assert manifest["features"] == FEATURES
    assert manifest["privacy"] == {**PRIVACY, "page_sha256": hashlib.sha256(PAGE.encode()).hexdigest()}
    assert (written / PRIVACY_PAGE).read_text() == PAGE
    assert manifest["float_model"]["input"].startswith("float32, standardized")
    assert manifest["data_schema"] == {"kind": "table"}
    assert manifest["accuracy"]["int8"] == {"accuracy": 0.89}
    assert {op["name"]: op["count"] for op in manifest["operators"]} == {"FULLY_CONNECTED": 2, "SOFTMAX": 1}
    arena = manifest["arena"]
    assert arena["tflm_measured_bytes"] == tflm.arena.total
    assert arena["tflm_bytes"] == arena_with_margin(tflm.arena.total) > tflm.arena.total
    assert arena["direct_bytes"] == compile_plan(blob).arena_bytes
    packed = parse_model_bin((written / "model.bin").read_bytes())
    assert packed.digest == manifest["model_digest"]
    assert (packed.arena_tflm_bytes, packed.arena_direct_bytes) == (arena["tflm_bytes"], arena["direct_bytes"])
    assert packed.plan == compile_plan(blob).blob
    assert packed.known_answers is not None
    np.testing.assert_array_equal(tflm.run(packed.known_answers.inputs), packed.known_answers.outputs)


def test_every_flipped_bit_is_found(bundle: Path) -> None:
    """Every file, its first and last byte and 120 bytes between, one random bit each; the error names the file."""
    verify_bundle(bundle)
    rng = np.random.default_rng(0)
    for file in (*FILES, *FLOAT_FILES, PRIVACY_PAGE, MANIFEST):
        path = bundle / file
        good = path.read_bytes()
        for position in {0, len(good) - 1, *rng.integers(0, len(good), 120).tolist()}:
            bad = bytearray(good)
            bad[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(bad)
            with pytest.raises(BundleError) as raised:
                verify_bundle(bundle, run=False)
            message = str(raised.value)
            assert message.startswith(f"{file}: SHA-256 is "), message
            digests = re.findall(r"\b[0-9a-f]{64}\b", message)
            if file != MANIFEST:
                assert len(digests) == 2, message
                assert digests[0] != digests[1]
            else:
                assert len(digests) == 2 or "recorded is none" in message, message
        path.write_bytes(good)
    verify_bundle(bundle, run=False)


@pytest.mark.parametrize("file", [*FILES, *FLOAT_FILES, PRIVACY_PAGE, MANIFEST])
def test_a_missing_or_cut_file_is_named(bundle: Path, file: str) -> None:
    path = bundle / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=re.escape(file)):
        verify_bundle(bundle, run=False)
    path.unlink()
    with pytest.raises(BundleError, match=re.escape(file)):
        verify_bundle(bundle, run=False)


def rewrite_manifest(folder: Path, change: Callable[[Dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_bytes(dump_manifest(manifest))


def test_files_must_agree_with_each_other(bundle: Path) -> None:
    rewrite_manifest(bundle, lambda m: m["arena"].update(tflm_bytes=99))
    with pytest.raises(BundleError, match=r"model.bin: its arena for TFLM is \d+, the manifest records 99"):
        verify_bundle(bundle, run=False)
    rewrite_manifest(bundle, lambda m: m.update(name="other"))
    with pytest.raises(BundleError, match="its name is 'three levels', the manifest records 'other'"):
        verify_bundle(bundle, run=False)


def test_wrong_known_answers_are_found(int8_blob: Callable[[str], bytes]) -> None:
    blob = int8_blob("mlp")
    inputs = np.zeros((2, 13), np.int8)
    right = TflmModel(blob).run(inputs)
    wrong = right.copy()
    wrong[1, 2] ^= 1
    for outputs, fails in ((right, False), (wrong, True)):
        packed = parse_model_bin(
            pack_model_bin(name="m", tflite=blob, arena_tflm_bytes=4096, known_answers=KnownAnswers(inputs, outputs))
        )
        if fails:
            with pytest.raises(BundleError, match="known answer 1 is"):
                verify_known_answers(packed)
        else:
            assert verify_known_answers(packed) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("labels"), "key 'labels' is missing"),
        (lambda m: m.update(extra=1), "key 'extra' is unknown"),
        (lambda m: m["input"].update(scale="0.1"), "manifest.json: input: key 'scale' is '0.1', of the wrong type"),
        (lambda m: m.update(schema=2), "schema version is 2, this version reads 1"),
        (lambda m: m["files"].pop("model.bin"), "manifest.json: files: key 'model.bin' is missing"),
    ],
)
def test_the_manifests_schema_is_checked(bundle: Path, change: Callable[[Any], None], message: str) -> None:
    with pytest.raises(BundleError, match=re.escape(message)):
        rewrite_manifest(bundle, change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["a", "b"]}, "2 labels for 3 classes"),
        ({"labels": ["a", "b", "a"]}, "label 'a' is empty, not text, or given twice"),
        ({"features": FEATURES[:5]}, r"5 features for an input of shape \(1, 13\)"),
        ({"features": [{"name": "f", "std": 0.0}] * 13}, "std is 0.0, must be above 0"),
        ({"features": [{"name": "f", "mean": float("nan")}] * 13}, "mean is nan, not a finite number"),
        ({"features": [{"title": "f"}] * 13}, "accepted are name, mean, std and unit"),
        ({"name": "n" * 33}, "needs 1 to 32 bytes"),
        ({"privacy": {"epsilon": float("inf")}}, "cannot be written as JSON"),
        ({"known_rows": np.zeros((1, 13), np.float32)}, "the rows are float32"),
    ],
)
def test_bad_descriptions_are_refused_and_leave_nothing(
    arguments: Dict[str, Any], message: str, tmp_path: Path, int8_blob: Callable[[str], bytes]
) -> None:
    with pytest.raises(ExportError, match=message):
        write_bundle(tmp_path / "out", **{"tflite": int8_blob("mlp"), "name": "m", **arguments})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_replaced_whole(
    bundle: Path, int8_blob: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}

    def fail(*_: Any, **__: Any) -> None:
        raise BundleError("the disk is full")

    monkeypatch.setattr(bundle_module, "verify_bundle", fail)
    with pytest.raises(BundleError, match="disk is full"):
        write_bundle(bundle, tflite=int8_blob("cnn1d"), name="new")
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]

    rows = TflmModel(int8_blob("cnn1d")).input.quantize(representative("cnn1d", 2))
    write_bundle(bundle, tflite=int8_blob("cnn1d"), name="new", known_rows=rows)
    assert verify_bundle(bundle)["name"] == "new"
    assert verify_bundle(bundle)["known_answer_rows"] == 2
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]


def test_other_peoples_folders_are_left_alone(tmp_path: Path, int8_blob: Callable[[str], bytes]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match="is a folder with other files in it"):
        write_bundle(tmp_path, tflite=int8_blob("mlp"), name="m")
    with pytest.raises(ExportError, match="is a file; name a folder"):
        write_bundle(tmp_path / "thesis.tex", tflite=int8_blob("mlp"), name="m")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_signature_goes_into_the_header(tmp_path: Path, int8_blob: Callable[[str], bytes]) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    write_bundle(tmp_path / "b", tflite=int8_blob("mlp"), name="m", sign=key.sign)
    packed = (tmp_path / "b" / "model.bin").read_bytes()
    signature = parse_model_bin(packed).signature
    assert signature is not None
    key.public_key().verify(signature, packed[:80])


# A stand-in for TFLM's header: the real one is no package, and only the names and types we call matter here.
RESOLVER_STUB = """
#pragma once
enum TfLiteStatus { kTfLiteOk = 0 };
namespace tflite {
template <unsigned N> struct MicroMutableOpResolver {
  unsigned count = 0;
  TfLiteStatus add() { return ++count <= N ? kTfLiteOk : TfLiteStatus(1); }
  %s
};
}
"""
PROGRAM = """
#include <cstdint>
#include <cstdio>
#include "model_data.h"
#include "op_resolver.h"
int main() {
  edgeward::OpResolver resolver;
  if (!edgeward::register_operators(&resolver)) return 1;
  if (reinterpret_cast<std::uintptr_t>(edgeward::kModelData) % 16 != 0) return 2;
  std::fwrite(edgeward::kModelData, 1, edgeward::kModelDataBytes, stdout);
  return 0;
}
"""


def test_the_sources_compile_and_hold_the_model(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    header = tmp_path / "include/tensorflow/lite/micro/micro_mutable_op_resolver.h"
    header.parent.mkdir(parents=True)
    methods = ["AddFullyConnected", "AddSoftmax"]
    header.write_text(RESOLVER_STUB % " ".join(f"TfLiteStatus {m}() {{ return add(); }}" for m in methods))
    (tmp_path / "main.cc").write_text(PROGRAM)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{bundle}", f"-I{tmp_path / 'include'}"]
    program = tmp_path / "program"
    built = subprocess.run(
        ["g++", *flags, str(tmp_path / "main.cc"), str(bundle / "model_data.cc"), "-o", str(program)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([str(program)], capture_output=True)
    assert ran.returncode == 0
    assert ran.stdout == (bundle / "model.tflite").read_bytes()


def test_the_resolver_holds_exactly_the_operators(shared_data: Callable[[str], Path]) -> None:
    blob = shared_data("mlperf-tiny/kws_int8.tflite").read_bytes()
    text = op_resolver_header(op.code for op in read_tflite(blob).ops)
    assert re.findall(r"->(\w+)\(\)", text) == [
        "AddAveragePool2D",
        "AddConv2D",
        "AddDepthwiseConv2D",
        "AddFullyConnected",
        "AddReshape",
        "AddSoftmax",
    ]
    assert "MicroMutableOpResolver<6>" in text


def test_operator_names_become_resolver_methods() -> None:
    pairs = {"PADV2": "AddPadV2", "CUMSUM": "AddCumSum", "BATCH_MATMUL": "AddBatchMatMul", "L2_POOL_2D": "AddL2Pool2D"}
    assert {name: resolver_method(name) for name in pairs} == pairs
    assert len(set(RESOLVER_METHODS.split())) == len(RESOLVER_METHODS.split())
    with pytest.raises(ExportError, match="registers GELU"):
        resolver_method("GELU")


def test_a_signed_bundle_is_whole(bundle: Path) -> None:
    key = Ed25519PrivateKey.generate()
    before = verify_bundle(bundle, run=False)
    manifest = sign_bundle(bundle, key)
    assert verify_bundle(bundle, run=False) == manifest
    assert manifest["model_digest"] == before["model_digest"]
    changed = {file for file in FILES if manifest["files"][file] != before["files"][file]}
    assert changed == {"model.bin"}
    verify_model_bin((bundle / "model.bin").read_bytes(), key.public_key())


def rewritten(bundle: Path, change: Callable[[Dict[str, Any]], Any]) -> None:
    """The manifest changed, and its own digest made again, as anybody can."""
    content = json.loads((bundle / MANIFEST).read_text())
    change(content)
    del content["manifest_sha256"]
    (bundle / MANIFEST).write_bytes(dump_manifest(content))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m["labels"].reverse(), "did not sign this manifest.json"),
        (lambda m: m.update(labels=["a", "b", "c"]), "did not sign this manifest.json"),
        (lambda m: m["accuracy"].update(float={"accuracy": 1.0}), "did not sign this manifest.json"),
        (lambda m: m["features"].reverse(), "means and deviations|did not sign"),
        (lambda m: m["input"].update(scale=9.0), "its input is"),
        (lambda m: m["output"].update(zero_point=5), "its output is"),
        (lambda m: m["input"].update(shape=[1, 7]), "its input is"),
        (lambda m: m["operators"].clear(), "its operators is"),
        (lambda m: m.update(known_answer_rows=9), "number of known answers"),
        (lambda m: m["labels"].pop(), "2 labels for 3 classes"),
        (lambda m: m["features"][0].update(mean=99.0), "means and deviations"),
    ],
)
def test_nothing_a_signed_bundle_says_can_change(
    bundle: Path, change: Callable[[Dict[str, Any]], Any], reason: str
) -> None:
    key = Ed25519PrivateKey.generate()
    sign_bundle(bundle, key)
    rewritten(bundle, change)
    for public_key in (None, key.public_key()):
        with pytest.raises(ExportError, match=reason):
            verify_bundle(bundle, run=False, public_key=public_key)


def test_a_bundle_is_signed_whole_or_not_at_all(bundle: Path) -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    with pytest.raises(SignatureError, match="not signed"):
        verify_bundle(bundle, run=False, public_key=key.public_key())
    sign_bundle(bundle, key)
    verify_bundle(bundle, run=False, public_key=key.public_key())
    with pytest.raises(SignatureError, match="did not sign"):
        verify_bundle(bundle, run=False, public_key=other.public_key())
    # Another's model under our manifest's signature, and the other way round.
    ours = {name: (bundle / name).read_bytes() for name in (MANIFEST, SIGNATURE)}
    sign_bundle(bundle, other)
    (bundle / SIGNATURE).write_bytes(ours[SIGNATURE])
    with pytest.raises(SignatureError):
        verify_bundle(bundle, run=False)
    for damage in (b"", b"{}", b"[1]", b"x" * 5000, b'{"public_key": "00", "signature": "zz"}'):
        (bundle / SIGNATURE).write_bytes(damage)
        with pytest.raises(BundleError, match="is no signature"):
            verify_bundle(bundle, run=False)
    (bundle / SIGNATURE).unlink()
    with pytest.raises(BundleError, match="without manifest.sig"):
        verify_bundle(bundle, run=False)
    sign_bundle(bundle, key)  # what was signed in part can be signed again
    verify_bundle(bundle, run=False, public_key=key.public_key())


def test_a_bundle_for_one_engine(int8_blob: Callable[[str], bytes], tmp_path: Path) -> None:
    blob = int8_blob("mlp")
    write_bundle(tmp_path / "direct", tflite=blob, name="m", engine="direct")
    manifest = write_bundle(tmp_path / "tflm", tflite=blob, name="m", engine="tflm")
    plans = {f: parse_model_bin((tmp_path / f / "model.bin").read_bytes()).plan for f in ("direct", "tflm")}
    assert plans["direct"] == compile_plan(blob).blob
    assert plans["tflm"] is None
    assert manifest["arena"]["direct_bytes"] == 0
    findings = preflight((tmp_path / "tflm" / "model.bin").read_bytes(), "esp32", 0x77000).findings
    assert any(f.check == "engine/direct" and "no plan" in f.message for f in findings)
    with pytest.raises(ExportError, match="accepted are direct and tflm"):
        write_bundle(tmp_path / "other", tflite=blob, name="m", engine="other")


def test_engine_direct_refuses_what_it_cannot_run(
    int8_blob: Callable[[str], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: bytes) -> None:
        raise PlanError("operator 1 is TANH, which engine/direct lacks")

    monkeypatch.setattr(bundle_module, "compile_plan", refuse)
    with pytest.raises(PlanError, match="TANH"):
        write_bundle(tmp_path / "direct", tflite=int8_blob("mlp"), name="m", engine="direct")
    assert not (tmp_path / "direct").exists()
    manifest = write_bundle(tmp_path / "both", tflite=int8_blob("mlp"), name="m")
    assert "TANH" in manifest["arena"]["direct_refused"]


def test_the_estimate_for_32_bit_is_the_computed_one(written: Path) -> None:
    tflite = (written / "model.tflite").read_bytes()
    estimate = verify_bundle(written, run=False)["arena"]["tflm_estimate_32bit_bytes"]
    assert estimate == predict_arena(tflite, TflmModel(tflite)).total_bytes


def test_a_board_takes_the_logarithms_a_bundle_declares(
    tmp_path: Path, int8_blob: Callable[[str], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Raw samples, some of zero, through a board's stream: it decides as the model does on inputs made here."""
    features: List[Dict[str, Any]] = [dict(feature) for feature in FEATURES]
    for at in (0, 7):
        features[at].update(mean=2.0, std=1.5, transform="log", minimum=1e-3, maximum=1e6)
    folder, blob = tmp_path / "logs", int8_blob("mlp")
    write_bundle(folder, tflite=blob, name="logs", labels=LABELS, features=features)
    assert main(["model", "verify", str(folder)]) == 0
    rewritten(folder, lambda m: m["features"][0].update(maximum=1e5))
    assert main(["model", "verify", str(folder)]) == 2
    assert "ranges of logarithms" in capsys.readouterr().err

    counts = np.random.default_rng(2).integers(0, 2000, (400, 13)).astype("<i2")
    counts[:40, :8] = 0
    raw = counts.astype(np.float32) / np.float32(20)
    for at in (0, 7):
        raw[:, at] = logarithm_within(raw[:, at], 1e-3, 1e6)
    mean, std = (np.array([f[key] for f in features], np.float32) for key in ("mean", "std"))
    outputs = run_direct(blob, TflmModel(blob).input.quantize((raw - mean) / std)).astype(int)
    chosen = outputs.argmax(1)
    changes = [i + 1 for i in range(len(chosen)) if i == 0 or chosen[i] != chosen[i - 1]]
    assert len(changes) > 20
    with VirtualBoard((folder / "model.bin").read_bytes()) as board, BoardClient(board.port) as client:
        client.stream(counts_per_unit=20)
        found = [r.fields for r in client.feed(counts) if r.kind == "detect"]
    assert [(f["window"], f["label"]) for f in found] == [(i, chosen[i - 1]) for i in changes]
    assert [round(f["confidence"] * 256) for f in found] == [outputs[i - 1].max() + 128 for i in changes]
