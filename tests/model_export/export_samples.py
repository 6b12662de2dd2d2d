"""The small models these tests share, and data to calibrate them."""

from typing import Any, Dict

import numpy as np

SPECS: Dict[str, Any] = {
    "logistic": ({"kind": "mlp", "hidden": []}, (30,), 2),
    "mlp": ({"kind": "mlp", "hidden": [16]}, (13,), 3),
    "cnn1d": ({"kind": "cnn1d", "filters": [4, 8, 8], "kernel": 5}, (50, 2), 4),
}


def representative(name: str, rows: int = 80) -> "np.ndarray":
    """float32 rows of a fixed standard normal sample in the input shape of SPECS[name]."""
    return np.random.default_rng(11).standard_normal((rows, *SPECS[name][1])).astype(np.float32)
