"""Rows that quantize a model: the gateway's calibration rows, or rows that are nobody's; and what of them a bundle may show."""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.errors import UsageError
from orchestrator.privacy.standardization import standardize
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Task

CALIBRATION_ROWS = 256


class Calibration(NamedTuple):
    """Rows the gateway was given: x float32 (n, *input_shape), raw; public: anyone who has a bundle may know them."""

    x: np.ndarray
    public: bool = False


def quantization_rows(
    task: Task, mean: np.ndarray, std: np.ndarray, calibration: Optional[Calibration]
) -> Tuple[np.ndarray, Optional[np.ndarray], Dict[str, str]]:
    """Rows that set the int8 ranges, rows whose deciles a board measures drift against, and in words where both come from.

    Both float32, standardized. Deciles of few rows are these rows' values, so they are of calibration rows only where those
    are public; else of rows drawn from the released statistics, and of none for signals, which have no public ranges.
    """
    schema, synthetic, drawn = task.schema, None, "left out: a signal has no public ranges to draw rows from"
    if schema.kind == "table":
        synthetic = synthetic_inputs(schema, mean, std, task.seed)
        noise = "noised" if task.privacy.on else "not noised, as the task has no privacy"
        released = f"the federation's released means and deviations ({noise}) and public ranges"
        drawn = f"rows drawn from {released if task.standardizes else 'public ranges'}"
    if calibration is None:
        if synthetic is None:
            raise UsageError(f"task {task.name!r}: a model of signals needs calibration rows: they set its int8 ranges")
        return synthetic, synthetic, {"int8_ranges": drawn, "input_profile": drawn}
    rows, public = calibration
    given = standardize(rows[:: max(1, len(rows) // CALIBRATION_ROWS)], mean, std)
    origin = {
        "int8_ranges": f"extremes over {len(given)} calibration rows of the gateway's, which no claim covers",
        "input_profile": f"deciles of {len(given)} calibration rows, declared public" if public else drawn,
    }
    return given, (given if public else synthetic), origin


def synthetic_inputs(schema: Schema, mean: np.ndarray, std: np.ndarray, seed: int) -> np.ndarray:
    """float32 (256, d) standardized rows drawn from the federated statistics: nobody's record, for calibration.

    Numbers are normal with the federation's mean and std, clamped to their public ranges; categories are uniform.
    """
    random = np.random.default_rng(seed)
    columns: List[np.ndarray] = []
    for feature in schema.features:
        i = len(columns)
        if feature.categories:
            chosen = random.integers(0, len(feature.categories), CALIBRATION_ROWS)
            columns.extend((chosen == c).astype(np.float32) for c in range(len(feature.categories)))
        else:
            raw = random.normal(float(mean[i]), float(std[i]), CALIBRATION_ROWS)
            columns.append(np.clip(raw, *feature.scaled_range))
    return standardize(np.stack(columns, axis=1), mean, std)
