"""A model.bin of the board tests, rows for it, and what TFLM makes of them."""

from typing import NamedTuple

import numpy as np


class Sample(NamedTuple):
    model_bin: bytes
    rows: np.ndarray
    outputs: np.ndarray
