"""Where the shared data and the old runtime are, and one small trained-enough model per kind."""

import os
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("EDGEWARD_SHARED", ROOT.parent / "shared"))

SPECS: Dict[str, Any] = {
    "logistic": ({"kind": "mlp", "hidden": []}, (30,), 2),
    "mlp": ({"kind": "mlp", "hidden": [16]}, (13,), 3),
    "cnn1d": ({"kind": "cnn1d", "filters": [4, 8, 8], "kernel": 5}, (50, 2), 4),
}


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    def find(relative: str) -> Path:
        path = SHARED / "data" / relative
        if not path.exists():
            pytest.skip(f"{path} is absent; set EDGEWARD_SHARED to the folder that holds data/{relative}")
        return path

    return find


@pytest.fixture(scope="session")
def python38() -> List[str]:
    """The command of a Python 3.8 with tflite-runtime, as nodes on JetPack 4.6 and 5 have it."""
    path = os.environ.get("EDGEWARD_PYTHON38", "")
    if not path:
        pytest.skip("EDGEWARD_PYTHON38 names no Python 3.8 with tflite-runtime")
    found = subprocess.run(
        [path, "-c", "import sys, tflite_runtime; print(sys.version_info[:2])"], capture_output=True, text=True
    )
    assert found.stdout.strip() == "(3, 8)", f"EDGEWARD_PYTHON38={path}: {found.stdout}{found.stderr}"
    return [path]


@pytest.fixture(scope="session")
def built() -> Callable[[str], Any]:
    """The Keras model of SPECS[name], made once; tests that change it make their own."""
    from model_export.models import build_model

    models: Dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in models:
            spec, shape, classes = SPECS[name]
            models[name] = build_model(spec, shape, classes, seed=7)
        return models[name]

    return get


@pytest.fixture(scope="session")
def int8_blob(built: Callable[[str], Any]) -> Callable[[str], bytes]:
    from model_export.quantize import quantize_int8

    blobs: Dict[str, bytes] = {}

    def get(name: str) -> bytes:
        if name not in blobs:
            blobs[name] = quantize_int8(built(name), representative(name))
        return blobs[name]

    return get


def representative(name: str, rows: int = 80) -> "np.ndarray":
    """float32 rows of a fixed standard normal sample in the input shape of SPECS[name]."""
    return np.random.default_rng(11).standard_normal((rows, *SPECS[name][1])).astype(np.float32)
