"""Small models, built and quantized once for all tests of this folder."""

from typing import Any, Callable, Dict

import pytest
from export_samples import SPECS, representative


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
