"""A bundle of a model that hears: what is said of sound is in manifest and model.bin, and both agree."""

import argparse
import json
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from export_samples import representative

from model_export.audio.hearing import read_hearing
from model_export.bundle import verify_bundle, write_bundle
from model_export.errors import BundleError, ExportError
from model_export.manifest import MANIFEST, dump_manifest
from model_export.model_bin import parse_model_bin
from orchestrator.cli import model as model_cli
from orchestrator.errors import UsageError

pytestmark = pytest.mark.slow


TOML = "channels = 13\nstep_ms = 20\naveraged = 5\nunit = 0.1\n"
SAID: Dict[str, Any] = {"channels": 13, "step_ms": 20, "averaged": 5, "unit": 0.1}
"""The model mlp takes 13 values: one step."""


def export(*arguments: Any) -> int:
    parser = argparse.ArgumentParser()
    model_cli.register(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["model", "export", *(str(a) for a in arguments)])
    return int(parsed.run(parsed))


@pytest.fixture
def tflite(tmp_path: Path, int8_blob: Callable[[str], bytes]) -> Path:
    path = tmp_path / "levels.tflite"
    path.write_bytes(int8_blob("mlp"))
    return path


def test_a_file_says_what_the_model_hears(tmp_path: Path, tflite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sound.toml").write_text(TOML)
    export(tflite, "--out", tmp_path / "b", "--audio", tmp_path / "sound.toml")
    assert "16000 Hz, 13 features of 30 ms every 20 ms; answers averaged over 5 windows" in capsys.readouterr().out
    manifest = verify_bundle(tmp_path / "b")
    assert manifest["audio"] == {
        **{"sample_rate_hz": 16_000, "window_ms": 30, "step_ms": 20, "channels": 13, "lowest_hz": 125.0},
        **{"highest_hz": 7500.0, "smoothing_bits": 10, "even_smoothing": 0.025, "odd_smoothing": 0.06},
        **{"least_signal": 0.05, "gain_control": True, "gain_strength": 0.95, "gain_offset": 80.0, "gain_bits": 21},
        **{"logarithm": True, "log_shift": 6, "unit": float(np.float32(0.1)), "averaged": 5},
    }
    packed = parse_model_bin((tmp_path / "b" / "model.bin").read_bytes())
    assert packed.input_profile is not None
    assert packed.input_profile.hearing == read_hearing(SAID)


def test_a_keras_model_hears_too(
    tmp_path: Path, built: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    built("mlp").save(tmp_path / "levels.keras")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(0, 1, (40, 13)).astype(np.float32))
    (tmp_path / "sound.toml").write_text(TOML)
    rows = ("--representative", tmp_path / "x.npy", "--softmax", "--json")
    export(tmp_path / "levels.keras", "--out", tmp_path / "b", "--audio", tmp_path / "sound.toml", *rows)
    assert json.loads(capsys.readouterr().out)["audio"]["averaged"] == 5
    verify_bundle(tmp_path / "b")


def test_what_cannot_be_heard_is_refused_with_the_file_or_the_reason(tmp_path: Path, tflite: Path) -> None:
    (tmp_path / "sound.toml").write_text("window_ms = 100\n")
    with pytest.raises(UsageError, match=r"sound.toml: audio: window_ms 100 at 16000 Hz is 1600 samples"):
        export(tflite, "--out", tmp_path / "b", "--audio", tmp_path / "sound.toml")
    with pytest.raises(UsageError, match="none.toml: No such file"):
        export(tflite, "--out", tmp_path / "b", "--audio", tmp_path / "none.toml")
    with pytest.raises(Exception, match="40 channels do not divide the 13 values"):
        export(tflite, "--out", tmp_path / "b", "--audio", "micro-wake-word")
    features = [{"name": f"f{n}", "mean": 0.0, "std": 1.0} for n in range(13)]
    with pytest.raises(ExportError, match="neither standardized nor scored"):
        write_bundle(tmp_path / "b", tflite=tflite.read_bytes(), name="n", features=features, audio=SAID)
    assert not (tmp_path / "b").exists()


def test_only_probabilities_are_averaged(tmp_path: Path, built: Callable[[str], Any]) -> None:
    from model_export.quantize import quantize_int8

    blob = quantize_int8(built("mlp"), representative("mlp"), softmax=False)
    with pytest.raises(ExportError, match="averaged 5 is for probabilities"):
        write_bundle(tmp_path / "b", tflite=blob, name="n", audio=SAID)
    write_bundle(tmp_path / "b", tflite=blob, name="n", audio={**SAID, "averaged": 1})


@pytest.mark.parametrize(("key", "value"), [("averaged", 4), ("step_ms", 21), ("lowest_hz", 200.0), ("channels", 0)])
def test_a_manifest_that_says_otherwise_is_found(tmp_path: Path, tflite: Path, key: str, value: Any) -> None:
    write_bundle(tmp_path / "b", tflite=tflite.read_bytes(), name="n", audio=SAID)
    path = tmp_path / "b" / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["manifest_sha256"]
    manifest["audio"][key] = value
    path.write_bytes(dump_manifest(manifest))
    with pytest.raises(BundleError, match="audio front end|channels must be from 1"):
        verify_bundle(tmp_path / "b", run=False)
    del manifest["audio"]
    path.write_bytes(dump_manifest(manifest))
    with pytest.raises(BundleError, match="audio front end"):
        verify_bundle(tmp_path / "b", run=False)
