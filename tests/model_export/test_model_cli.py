"""`edgeward model` as a user types it."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from export_samples import representative

from model_export.bundle import write_bundle
from model_export.keras_file import outputs_of
from model_export.model_bin import pack_model_bin, parse_model_bin
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.preflight import preflight
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel
from orchestrator.cli import model as model_cli
from orchestrator.errors import EdgewardError, GivenError, UsageError


def edgeward(*arguments: Any) -> int:
    """The model command in this process, with its errors as exceptions."""
    import argparse

    parser = argparse.ArgumentParser()
    model_cli.register(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["model", *(str(a) for a in arguments)])
    return int(parsed.run(parsed))


@pytest.fixture
def tflite(tmp_path: Path, int8_blob: Callable[[str], bytes]) -> Path:
    path = tmp_path / "levels.tflite"
    path.write_bytes(int8_blob("mlp"))
    return path


def test_export_verify_and_run_a_keras_model(
    tmp_path: Path, built: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    built("cnn1d").save(tmp_path / "beats.keras")
    np.save(tmp_path / "x.npy", representative("cnn1d"))
    out = tmp_path / "bundle"
    edgeward(
        "export",
        tmp_path / "beats.keras",
        "--out",
        out,
        "--representative",
        tmp_path / "x.npy",
        "--labels",
        "N,S,V,F",
        "--json",
    )
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["name"] == "beats"
    assert manifest["labels"] == ["N", "S", "V", "F"]
    assert edgeward("verify", out) == 0
    assert "every digest agrees; TFLM gives all 4 known answers" in capsys.readouterr().out
    tflm = TflmModel((out / "model.tflite").read_bytes())
    rows = tflm.input.quantize(representative("cnn1d", 3))
    np.save(tmp_path / "rows.npy", rows.reshape(3, -1))
    edgeward(
        "run", out / "model.tflite", "--engine", "tflm", "--inputs", tmp_path / "rows.npy", "--outputs", tmp_path / "y"
    )
    np.testing.assert_array_equal(np.load(tmp_path / "y"), tflm.run(rows))


def test_export_a_tflite_model(tmp_path: Path, tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = representative("mlp", 2)
    np.save(tmp_path / "x.npy", x)
    edgeward("export", tflite, "--out", tmp_path / "b", "--name", "n", "--representative", tmp_path / "x.npy")
    assert "operators  FULLY_CONNECTED x2, SOFTMAX x1" in capsys.readouterr().out
    edgeward("verify", tmp_path / "b" / "model.bin", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert (report["kind"], report["name"], report["known_answer_rows"]) == ("model.bin", "n", 4)
    edgeward("verify", tflite, "--json")
    assert json.loads(capsys.readouterr().out)["operators"] == ["FULLY_CONNECTED", "SOFTMAX"]


def test_no_row_that_was_given_gets_into_a_bundle(
    tmp_path: Path, tflite: Path, built: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    x = representative("mlp")
    np.save(tmp_path / "x.npy", x)
    built("mlp").save(tmp_path / "levels.keras")
    for model in (tflite, tmp_path / "levels.keras"):
        edgeward("export", model, "--out", tmp_path / "b", "--representative", tmp_path / "x.npy", "--json")
        origin = json.loads(capsys.readouterr().out)["origin"]
        assert origin["known_answers"].startswith("synthetic")
        assert origin["input_profile"] == "deciles of 80 reference rows the caller gave"
        content = (tmp_path / "b" / "model.bin").read_bytes()
        rows = TflmModel((tmp_path / "b" / "model.tflite").read_bytes()).input.quantize(x)
        assert not [n for n, row in enumerate(rows) if row.tobytes() in content]


def with_edges(blob: bytes, inputs: int, outputs: int) -> bytes:
    """The same model with its first tensors as further inputs and outputs."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(blob, 0))
    graph = model.subgraphs[0]
    graph.inputs = np.array([*graph.inputs, *range(inputs)], np.int32)
    graph.outputs = np.array([*graph.outputs, *range(outputs)], np.int32)
    builder = flatbuffers.Builder(len(blob))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("inputs", "outputs", "found"), [(1, 0, "2 inputs .* 1 output "), (0, 2, "1 input .* 3 outputs ")]
)
def test_a_second_input_or_output_is_refused_by_name(
    tmp_path: Path, int8_blob: Callable[[str], bytes], inputs: int, outputs: int, found: str
) -> None:
    path = tmp_path / "two.tflite"
    path.write_bytes(with_edges(int8_blob("mlp"), inputs, outputs))
    name = read_tflite(path.read_bytes()).tensors[0].name
    np.save(tmp_path / "x.npy", np.zeros((1, 13), np.int8))
    commands: List[List[Any]] = [["verify", path], ["export", path, "--out", tmp_path / "b"]]
    for engine in ("direct", "tflm"):
        commands.append(
            ["run", path, "--engine", engine, "--inputs", tmp_path / "x.npy", "--outputs", tmp_path / "y.npy"]
        )
    for command in commands:
        with pytest.raises(EdgewardError, match=rf"the model has {found}.*accepted is one each") as raised:
            edgeward(*command)
        assert name in str(raised.value)
    with pytest.raises(PlanError, match=found):
        compile_plan(path.read_bytes())
    report = preflight(path.read_bytes(), "esp32", 0x77000)
    assert any(f.level == "error" and "accepted is one each" in f.message for f in report.findings)


def test_verify_runs_many_rows_in_both_engines(
    tmp_path: Path, tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan whose numbers are wrong is found, though model.bin has no known answers that could show it."""
    write_bundle(tmp_path / "b", tflite=tflite.read_bytes(), name="m")
    edgeward("verify", tmp_path / "b", "--json")
    assert json.loads(capsys.readouterr().out)["engines"] == {"rows": 256, "direct_skipped": None}
    good = parse_model_bin((tmp_path / "b" / "model.bin").read_bytes())
    assert good.plan is not None
    bad = bytearray(good.plan)
    for at in range(len(bad) - 4 * 64, len(bad), 4):  # the last 64 exponentials of the softmax
        bad[at + 3] ^= 0x10
    arenas: Dict[str, Any] = {"arena_tflm_bytes": good.arena_tflm_bytes, "arena_direct_bytes": good.arena_direct_bytes}
    path = tmp_path / "model.bin"
    path.write_bytes(pack_model_bin(name="m", tflite=good.tflite, plan=bytes(bad), **arenas))
    with pytest.raises(EdgewardError, match=r"engine/direct differs from TFLM in \d+ of 256 synthetic rows"):
        edgeward("verify", path)


def test_what_belongs_to_no_bundle_is_named(tmp_path: Path, tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "b", tflite=tflite.read_bytes(), name="m")
    (tmp_path / "b" / "evaluation").mkdir()
    edgeward("verify", tmp_path / "b")
    assert "evaluation belongs to no bundle" in capsys.readouterr().err


def test_direct_equals_tflm(tmp_path: Path, tflite: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(-128, 128, (50, 13)).astype(np.int8))
    for engine in ("direct", "tflm"):
        edgeward(
            "run", tflite, "--engine", engine, "--inputs", tmp_path / "x.npy", "--outputs", tmp_path / f"{engine}.npy"
        )
    np.testing.assert_array_equal(np.load(tmp_path / "direct.npy"), np.load(tmp_path / "tflm.npy"))


@pytest.mark.parametrize(("name", "width", "rows"), [("ad", 640, 40), ("kws", 490, 8)])
def test_direct_equals_tflm_on_published_models(
    tmp_path: Path, shared_data: Callable[[str], Path], name: str, width: int, rows: int
) -> None:
    model = shared_data(f"mlperf-tiny/{name}_int8.tflite")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(-128, 128, (rows, width)).astype(np.int8))
    for engine in ("direct", "tflm"):
        outputs = tmp_path / f"{engine}.npy"
        edgeward("run", model, "--engine", engine, "--inputs", tmp_path / "x.npy", "--outputs", outputs)
    direct, tflm = np.load(tmp_path / "direct.npy"), np.load(tmp_path / "tflm.npy")
    assert direct.shape == tflm.shape
    assert len(np.unique(tflm)) > 2
    np.testing.assert_array_equal(direct, tflm)


@pytest.mark.parametrize("engine", ["direct", "tflm"])
def test_bad_input_is_explained_before_anything_runs(tmp_path: Path, tflite: Path, engine: str) -> None:
    def run(inputs: Any, model: Path = tflite, outputs: str = "y.npy") -> None:
        np.save(tmp_path / "x.npy", inputs)
        edgeward("run", model, "--engine", engine, "--inputs", tmp_path / "x.npy", "--outputs", tmp_path / outputs)

    with pytest.raises(EdgewardError, match=r"x.npy: the rows are float32; the model takes int8"):
        run(np.zeros((2, 13), np.float32))
    with pytest.raises(EdgewardError, match=r"x.npy: the rows have shape \(2, 14\); the model takes \(rows, 13\)"):
        run(np.zeros((2, 14), np.int8))
    with pytest.raises(EdgewardError, match=r"absent.tflite: there is no such file"):
        run(np.zeros((2, 13), np.int8), model=tmp_path / "absent.tflite")
    with pytest.raises(EdgewardError, match="--outputs .*: there is no folder"):
        run(np.zeros((2, 13), np.int8), outputs="absent/y.npy")
    (tmp_path / "bad.tflite").write_bytes(b"these are not the bytes of a model")
    with pytest.raises(EdgewardError, match=r"bad.tflite: not a .tflite file"):
        run(np.zeros((2, 13), np.int8), model=tmp_path / "bad.tflite")
    for content in (b"", b"not numpy at all"):
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises(EdgewardError, match=r"bad.npy: is no .npy file"):
            edgeward(
                "run", tflite, "--engine", engine, "--inputs", tmp_path / "bad.npy", "--outputs", tmp_path / "y.npy"
            )
    assert not (tmp_path / "y.npy").exists()
    with pytest.raises(UsageError, match="a folder; name a file"):
        run(np.zeros((2, 13), np.int8), outputs=".")
    with pytest.raises(UsageError, match="--outputs .*x.npy: is --inputs itself"):
        run(np.zeros((2, 13), np.int8), outputs="x.npy")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.full((4, 13), np.nan, np.float32), "x.npy: the rows hold NaN or infinity, first in row 0"),
        (np.zeros((4, 26), np.float32), r"x.npy: the rows have shape \(4, 26\); the model takes \(rows, 13\)"),
        (np.zeros((0, 13), np.float32), "no representative rows"),
        (np.zeros((0, 13), np.int8), "no representative rows"),
    ],
)
def test_rows_that_drift_cannot_be_measured_against_are_refused(
    tmp_path: Path, tflite: Path, rows: np.ndarray, reason: str
) -> None:
    np.save(tmp_path / "x.npy", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EdgewardError, match=reason):
            edgeward("export", tflite, "--out", tmp_path / "out", "--representative", tmp_path / "x.npy")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (
            np.full((4, 13), 1e300),
            r"x.npy: the rows hold 1e\+300, first in row 0; float32, in which models compute, ends at",
        ),
        (np.append(np.zeros((3, 13)), -np.full((1, 13), 1e39), 0), r"x.npy: the rows hold -1e\+39, first in row 3"),
        (np.full((4, 13), np.inf), "x.npy: the rows hold NaN or infinity, first in row 0"),
        (np.zeros((4, 26)), r"x.npy: the rows have shape \(4, 26\)"),
        (np.zeros(13), r"x.npy: the rows have shape \(13,\)"),
        (np.array(0.5), r"x.npy: the rows have shape \(\)"),
        (np.zeros((0, 13)), "x.npy: no representative rows"),
        (np.zeros((4, 13), np.int16), "x.npy: the rows are int16"),
        (np.array([["a"] * 13]), "x.npy: the rows are <U1"),
    ],
)
def test_rows_are_checked_before_any_work_and_are_a_usage_error(
    tmp_path: Path, tflite: Path, rows: np.ndarray, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_export.tflm.TflmModel.__init__", lambda *_: pytest.fail("the model was prepared"))
    np.save(tmp_path / "x.npy", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(GivenError, match=reason):
            edgeward("export", tflite, "--out", tmp_path / "out", "--representative", tmp_path / "x.npy")


def test_a_bundle_is_not_replaced_by_one_of_its_own_model(tmp_path: Path, tflite: Path) -> None:
    edgeward("export", tflite, "--out", tmp_path / "out")
    before = (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="holds model.tflite itself"):
        edgeward("export", tmp_path / "out" / "model.tflite", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("keyword_spotting_on_and_off_in_the_kitchen", "keyword_spotting_on_and_off_in_t"),
        ("erkennung_der_geräusche_von_geräten", "erkennung_der_geräusche_von_ger"),
        ('a "quoted" model', "a quoted model"),
    ],
)
def test_a_long_name_of_a_file_is_cut_and_not_refused(tmp_path: Path, tflite: Path, stem: str, name: str) -> None:
    file = tflite.rename(tmp_path / f"{stem}.tflite")
    edgeward("export", file, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["name"] == name
    with pytest.raises(EdgewardError, match="needs 1 to 32 bytes"):
        edgeward("export", file, "--out", tmp_path / "out", "--name", "n" * 33)


def test_an_operator_tflm_lacks_is_named(tmp_path: Path) -> None:
    from model_export.quantize import quantize_int8
    from model_export.quiet import tensorflow

    tensorflow()
    import keras

    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, activation="gelu"), keras.layers.Dense(2)])
    rows = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    path = tmp_path / "gelu.tflite"
    path.write_bytes(quantize_int8(model, rows))
    np.save(tmp_path / "x.npy", np.zeros((1, 6), np.int8))
    commands: List[List[Any]] = [
        ["verify", path],
        ["export", path, "--out", tmp_path / "b"],
        ["run", path, "--engine", "tflm", "--inputs", tmp_path / "x.npy", "--outputs", tmp_path / "y.npy"],
    ]
    for command in commands:
        with pytest.raises(EdgewardError, match=r"gelu.tflite: .* no kernel for GELU \(operator 1\)"):
            edgeward(*command)
    assert not (tmp_path / "b").exists()


def test_a_damaged_bundle_is_refused(tmp_path: Path, tflite: Path) -> None:
    write_bundle(tmp_path / "b", tflite=tflite.read_bytes(), name="m")
    for file in ("model.bin", "model.tflite"):
        path = tmp_path / "b" / file
        good = path.read_bytes()
        path.write_bytes(good[:300] + bytes([good[300] ^ 4]) + good[301:])
        with pytest.raises(EdgewardError, match=rf"b: {file}: SHA-256 is .* the manifest records "):
            edgeward("verify", tmp_path / "b")
        if file == "model.bin":
            with pytest.raises(EdgewardError, match="does not match the content"):
                edgeward("verify", path)
        path.write_bytes(good)


def test_who_signed_a_bundle_is_said_and_asked_for(
    tmp_path: Path, tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    write_bundle(out, tflite=tflite.read_bytes(), name="m", labels=["a", "b", "c"])
    for name in ("ours", "theirs"):
        edgeward("keygen", tmp_path / name)
    check = ("preflight", out, "--chip", "esp32", "--key")
    assert edgeward(*check, tmp_path / "ours.pub") == 1
    edgeward("sign", out, "--key", tmp_path / "ours")
    assert edgeward("verify", out, "--key", tmp_path / "ours.pub") == 0
    assert "are signed by key" in capsys.readouterr().out
    assert edgeward(*check, tmp_path / "ours.pub") == 0
    assert edgeward(*check, tmp_path / "theirs.pub") == 1
    assert "did not sign this manifest.json" in capsys.readouterr().out
    with pytest.raises(EdgewardError, match="did not sign"):
        edgeward("verify", out, "--key", tmp_path / "theirs.pub")
    with pytest.raises(UsageError, match="nobody signs"):
        edgeward("verify", tflite, "--key", tmp_path / "ours.pub")


def test_export_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"")
    with pytest.raises(UsageError, match="needs --representative"):
        edgeward("export", tmp_path / "m.keras", "--out", tmp_path / "b")
    with pytest.raises(UsageError, match=r"accepted are a \.keras and a \.tflite file"):
        edgeward("export", tmp_path / "m.h5", "--out", tmp_path / "b")
    with pytest.raises(EdgewardError, match="there is no such file"):
        edgeward("export", tmp_path / "absent.tflite", "--out", tmp_path / "b")
    (tmp_path / "m.tflite").write_bytes(b"")
    with pytest.raises(UsageError, match="--softmax and --no-softmax are for .keras"):
        edgeward("export", tmp_path / "m.tflite", "--out", tmp_path / "b", "--no-softmax")


def test_help_and_registration_import_nothing_heavy() -> None:
    code = (
        "import argparse, sys; from orchestrator.cli import model; "
        "model.register(argparse.ArgumentParser().add_subparsers()); "
        "heavy = ('numpy', 'tensorflow', 'keras', 'model_export'); light = ('model_export', 'model_export.chips'); "
        "print([m for m in sys.modules if m.split('.')[0] in heavy and m not in light])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("a,a,b,c", "label 'a' is empty, not text, or given twice"),
        ("a,,b,c", "label '' is empty"),
        ("a", "1 labels for 4 classes"),
        ("a,b,c,d,e", "5 labels for 4 classes"),
    ],
)
def test_labels_are_checked_before_tensorflow_starts(
    tmp_path: Path, built: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, labels: str, said: str
) -> None:
    monkeypatch.setattr("model_export.client.run_worker", lambda *_: pytest.fail("the worker started"))
    built("cnn1d").save(tmp_path / "beats.keras")
    np.save(tmp_path / "x.npy", representative("cnn1d"))
    words = ["export", tmp_path / "beats.keras", "--out", tmp_path / "b", "--representative", tmp_path / "x.npy"]
    with pytest.raises(UsageError, match=f"--labels {labels}: {said}") as caught:
        edgeward(*words, "--labels", labels)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("labels", ["a", "a,a", ",".join("abcdefghij")])
def test_labels_of_a_tflite_are_refused_by_their_option(tmp_path: Path, tflite: Path, labels: str) -> None:
    with pytest.raises(UsageError, match=f"--labels {labels}: "):
        edgeward("export", tflite, "--out", tmp_path / "b", "--labels", labels)
    assert not (tmp_path / "b").exists()


def test_outputs_of_a_keras_file_are_those_of_its_last_layer() -> None:
    dense = {"class_name": "Dense", "name": "d", "config": {"units": 5}}
    other = {"class_name": "Activation", "name": "a", "config": {"activation": "softmax"}}
    for config, outputs in (
        ({"class_name": "Sequential", "config": {"layers": [other, dense]}}, 5),
        ({"class_name": "Sequential", "config": {"layers": [dense, other]}}, None),
        ({"class_name": "Functional", "config": {"layers": [dense, other], "output_layers": ["d", 0, 0]}}, 5),
        ({"class_name": "Functional", "config": {"layers": [dense, other], "output_layers": [["d", 0, 0]]}}, 5),
        (
            {"class_name": "Functional", "config": {"layers": [dense], "output_layers": [["d", 0, 0], ["d", 0, 0]]}},
            None,
        ),
        ({"class_name": "Sequential", "config": {"layers": [7]}}, None),
        ({"class_name": "Own"}, None),
    ):
        assert outputs_of(config) == outputs
