"""Rows that somebody gives a model: whether they fit, and are numbers that float32 holds, before anything is done with them."""

from typing import Optional, Sequence

import numpy as np

from model_export.errors import RowsError

LARGEST = float(np.finfo(np.float32).max)


def check_numbers(rows: "np.ndarray", what: str, accepted: str = "float32") -> "np.ndarray":
    """The rows as float32. Raises RowsError for other than numbers, and for the first row with one that float32 does not hold."""
    if rows.dtype.kind not in "fiu":
        raise RowsError(f"{what} {rows.dtype}; accepted is {accepted}")
    if rows.dtype.kind == "f":
        finite = np.isfinite(rows)
        if not finite.all():
            bad = int(np.argwhere(~finite)[0][0])
            raise RowsError(f"{what} NaN or infinity, first in row {bad}; every value must be a finite number")
        beyond = np.argwhere(np.abs(rows) > LARGEST)
        if len(beyond):
            value = float(rows[tuple(beyond[0])])
            raise RowsError(
                f"{what} {value:g}, first in row {int(beyond[0][0])}; float32, in which models compute, ends at {LARGEST:g}: "
                "give the rows in the model's units"
            )
    return rows.astype(np.float32)


def check_shape(rows: "np.ndarray", shape: Sequence[Optional[int]], what: str) -> None:
    """Raises RowsError unless there are rows, each of a shape of which None leaves a dimension free."""
    given = rows.shape[1:]
    fits = len(given) == len(shape) and all(wanted in (None, size) for wanted, size in zip(shape, given))
    if rows.ndim < 1 or not fits or not len(rows):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise RowsError(f"{what} has shape {rows.shape}; accepted is (rows, {wanted}), with one row or more")
