"""A bundle whose model has several heads: its numbers against numpy, what its manifest says, and what is refused."""

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from model_export.bundle import verify_bundle
from model_export.bundle_check import check_files
from model_export.client import run_worker
from model_export.errors import BundleError, ExportError
from model_export.gradient_check import run_graph
from model_export.heads import check_heads, mean_and_spread
from model_export.manifest import dump_manifest
from model_export.model_bin import parse_model_bin
from model_export.tflm import TflmModel

pytestmark = pytest.mark.slow

INPUTS, HIDDEN, CLASSES, HEADS = 5, 3, 2, 3
HEAD = HIDDEN * CLASSES + CLASSES
SIZE = INPUTS * HIDDEN + HIDDEN + HEAD


def softmax(values: np.ndarray) -> np.ndarray:
    e = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Any]:
    folder, rng = tmp_path_factory.mktemp("heads"), np.random.default_rng(0)
    weights, heads = (rng.normal(0, 1, size).astype(np.float32) for size in (SIZE, (HEADS, SIZE)))
    rows = rng.normal(0, 1, (200, INPUTS)).astype(np.float32)
    for name, array in (("weights", weights), ("heads", heads), ("rows", rows)):
        np.save(folder / f"{name}.npy", array)
    spec = {
        "model": {"kind": "mlp", "hidden": [HIDDEN], "activation": "relu"},
        "name": "heads",
        "input_shape": [INPUTS],
        "classes": CLASSES,
        "labels": ["no", "yes"],
        "heads_left_out": 1,
        **{
            key: str(folder / f"{name}.npy")
            for key, name in (("weights", "weights"), ("heads", "heads"), ("representative", "rows"))
        },
    }
    run_worker("bundle", spec, folder / "bundle")
    return {"folder": folder / "bundle", "weights": weights, "heads": heads, "rows": rows}


def expected(made: Dict[str, Any]) -> np.ndarray:
    """(n, heads, classes): every head over the hidden layer of the model's own weights."""
    weights, rows = made["weights"], made["rows"]
    kernel, bias = (
        weights[: INPUTS * HIDDEN].reshape(INPUTS, HIDDEN),
        weights[INPUTS * HIDDEN : INPUTS * HIDDEN + HIDDEN],
    )
    hidden = np.maximum(rows @ kernel + bias, 0)
    last = made["heads"][:, -HEAD:]
    each = [hidden @ one[:-CLASSES].reshape(HIDDEN, CLASSES) + one[-CLASSES:] for one in last]
    return softmax(np.stack(each, axis=1))


def test_every_head_sees_the_models_body_and_none_of_the_others(made: Dict[str, Any]) -> None:
    wanted = expected(made)
    found = run_graph((made["folder"] / "model_float.tflite").read_bytes(), {"rows": made["rows"]})["rows"]
    np.testing.assert_allclose(np.reshape(found, wanted.shape), wanted, atol=1e-5)
    tflm = TflmModel((made["folder"] / "model.tflite").read_bytes())
    int8 = tflm.output.dequantize(tflm.run(tflm.input.quantize(made["rows"])))
    mean, spread = mean_and_spread(wanted)
    board_mean, board_spread = mean_and_spread(np.reshape(int8, wanted.shape))
    assert np.abs(board_mean - mean).max() < 0.06
    assert np.abs(board_spread - spread).max() < 0.06


def test_a_bundle_says_how_many_there_are_and_that_is_so(made: Dict[str, Any], tmp_path: Path) -> None:
    manifest = verify_bundle(made["folder"])
    assert manifest["heads"] == {"count": HEADS, "left_out": 1}
    assert (manifest["output"]["shape"], manifest["labels"]) == ([1, HEADS, CLASSES], ["no", "yes"])
    packed = parse_model_bin((made["folder"] / "model.bin").read_bytes())
    assert packed.plan is not None
    assert packed.input_profile is not None
    assert packed.input_profile.heads == HEADS
    for path in made["folder"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lying = {**json.loads((tmp_path / "manifest.json").read_text()), "heads": {"count": 2, "left_out": 0}}
    (tmp_path / "manifest.json").write_bytes(dump_manifest(lying))
    with pytest.raises(BundleError, match="number of heads is 3, the manifest records 2"):
        check_files(tmp_path)


def test_the_spread_is_the_deviation_of_the_chosen_class() -> None:
    mean, spread = mean_and_spread(np.array([[[0.2, 0.8], [0.6, 0.4]], [[0.5, 0.5], [0.5, 0.5]]]))
    np.testing.assert_allclose(mean, [[0.4, 0.6], [0.5, 0.5]])
    np.testing.assert_allclose(spread, [0.2, 0.0])


@pytest.mark.parametrize(
    ("heads", "size", "reason"),
    [
        (np.zeros((1, 8)), 8, "accepted are 2 to 64"),
        (np.zeros((65, 8)), 8, "accepted are 2 to 64"),
        (np.zeros((3, 8)), 0, "last layer is Dense with a bias"),
        (np.zeros((3, 7)), 8, "expected at least 8 finite numbers"),
        (np.full((3, 8), np.nan), 8, "expected at least 8 finite numbers"),
    ],
)
def test_what_can_be_no_output_layers_is_refused(heads: np.ndarray, size: int, reason: str) -> None:
    with pytest.raises(ExportError, match=reason):
        check_heads(heads, size)
