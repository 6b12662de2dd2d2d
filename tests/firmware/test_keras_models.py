"""Models as people save them run on a board: from .keras to a bundle to the virtual board, every output as in TFLM."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Callable, Set

import numpy as np
import pytest

from model_export.model_bin import parse_model_bin
from model_export.tflite_file import read_tflite
from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import run_direct
from orchestrator.boards.virtual import VirtualBoard

pytestmark = pytest.mark.slow

NAMES = [
    "autoencoder",
    "gesture",
    "gru",
    "leaky_relu",
    "lstm",
    "mfcc",
    "mnist",
    "mobilenet_v2",
    "swish",
    "u_net",
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What keras_models.py made, in one process of TensorFlow."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow converts the models, and is not installed")
    folder = tmp_path_factory.mktemp("keras-models")
    script = Path(__file__).with_name("keras_models.py")
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_all_ten_are_exported(exported: Path) -> None:
    assert json.loads((exported / "reasons.json").read_text()) == {}
    assert sorted(path.parent.name for path in exported.glob("*/model.bin")) == NAMES
    assert sorted(path.stem for path in exported.glob("*.keras")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_virtual_board_gives_the_bits_of_tflm(
    exported: Path, tflm: Callable[[bytes, np.ndarray], np.ndarray], make_rows: Callable[..., np.ndarray], name: str
) -> None:
    packed = parse_model_bin((exported / name / "model.bin").read_bytes())
    assert packed.plan is not None, "the bundle is for engine/direct, too"
    entry = read_tflite(packed.tflite).tensors[read_tflite(packed.tflite).inputs[0]]
    shown = np.load(exported / f"{name}.npy")[:24] / entry.scales[0] + entry.zero_points[0]
    usual = np.clip(np.rint(shown), -128, 127).astype(np.int8).reshape(len(shown), -1)
    rows = np.concatenate([usual, make_rows(packed.tflite, 24)])
    want = tflm(packed.tflite, rows)
    assert len(np.unique(want, axis=0)) > len(rows) // 2, "the outputs hardly vary: this would prove little"
    np.testing.assert_array_equal(run_direct(packed.tflite, rows), want)
    some = np.r_[0:4, 24:28]
    with VirtualBoard(exported / name / "model.bin") as board, BoardClient(board.port) as client:
        np.testing.assert_array_equal(client.infer(rows[some]).outputs, want[some])


def test_the_operators_that_keep_models_from_boards_are_among_them(exported: Path) -> None:
    def operators(name: str) -> Set[str]:
        return {op.code for op in read_tflite((exported / name / "model.tflite").read_bytes()).ops}

    assert {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE_CONV", "CONCATENATION"} <= operators("u_net")
    assert {"PRELU", "LEAKY_RELU"} <= operators("leaky_relu")
    assert {"PACK", "UNPACK", "SPLIT"} <= operators("gru"), "layers over time, unrolled"
    assert {"MUL", "ADD", "DEPTHWISE_CONV_2D"} <= operators("mobilenet_v2")
