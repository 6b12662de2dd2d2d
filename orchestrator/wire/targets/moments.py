"""How far predictions of a number are from the truth, of rows or of private sums: MAE, RMSE and R2.

Truth t and prediction p are shares of the target's range, from 0 to 1; e = p - t. Over records the sums needed are n, sum t,
sum t^2, sum |e| and sum e^2. The Bernstein polynomials of degree two, (1 - t)^2, 2 t (1 - t) and t^2, are 0 or more and add up
to 1; each times |e| and 1 - |e|, they are six cells of which a record adds 1 in all, and the first four sums can be read off them
exactly; the fifth is the seventh value. So private sums of a regression have the sensitivity of a histogram's (NoisyCounts),
sqrt(2).
"""

import math
from typing import Any, Dict, Optional, Tuple

import numpy as np

from orchestrator.wire.targets.shares import Z, around

SIZE = 7
NARROW = 1e-4
"""A standard deviation of labels below this share of the target's range says that the range is another's."""
SHOWN = 0.1
"""A figure that the noise of privacy alone moves by more (95 %), as a share of the range, or of 1 for R2, is not shown."""


def count(t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """float64 (7,): the sums over truths and predictions (n,), each from 0 to 1."""
    off = np.abs(p - t)
    basis = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])
    return np.array([*(basis @ (1 - off)), *(basis @ off), (off**2).sum()])


def of_rows(t: np.ndarray, p: np.ndarray, unit: float) -> Dict[str, Any]:
    """{records, loss, mae, rmse, r2, intervals, warning}; unit: length of the range, in units of the label.

    loss: the mean of (2 e)^2, which training minimizes. Intervals, of 95 %: of the central limit theorem, for R2 by the delta
    method (van der Vaart 1998, Asymptotic Statistics, chapter 3).
    """
    n = len(t)
    off, square, spread = np.abs(p - t), (p - t) ** 2, (t - t.mean()) ** 2
    said = _figures(n, float(off.mean()), float(square.mean()), float(spread.mean()), unit, exact=True)
    half = Z / math.sqrt(n)
    absolute, squared = half * float(off.std()), half * float(square.std())
    _note(said, unit, float(off.mean()), float(square.mean()), absolute, squared)
    wide = 0.0
    if said["r2"] is not None:
        wide = half * float(((square - said["r2_loss"] * spread) / spread.mean()).std())
    if wide > 1e-9:  # of predictions that are all right nothing says how far R2 may be below 1
        said["intervals"]["r2"] = [said["r2"] - wide, min(1.0, said["r2"] + wide)]
    del said["r2_loss"]
    return said


def of_sums(sums: np.ndarray, unit: float, noise: float) -> Dict[str, Any]:
    """As `of_rows`, of sums (7,) with noise of this standard deviation on each.

    With noise also noise, by how much it moves each figure (95 %), shares, the same with errors as shares of the range, and
    too_noisy. Intervals are of the noise, and but for R2 of sampling as far as sums tell.
    """
    near, far = sums[:3], sums[3:6]
    n = float(sums[:6].sum())
    if n < 1 or (noise and Z * noise * math.sqrt(6) > n / 2):
        hidden = ["records", *_NAMES] if noise else []
        return {**dict.fromkeys(("records", *_NAMES)), "intervals": {}, "warning": "", **_noisy(noise, {}, hidden)}
    both = near + far
    mean, square_of_t = (float(both[1]) / 2 + float(both[2])) / n, float(both[2]) / n
    off = min(1.0, max(0.0, float(far.sum()) / n))
    square = min(1.0, max(0.0, float(sums[6]) / n))
    variance = square_of_t - mean**2
    said = _figures(n, off, square, variance, unit, exact=not noise)
    moved, by_noise = _moved_by_noise(n, off, square, mean, variance, noise)
    half = Z / math.sqrt(n)
    sampling = half * math.sqrt(max(0.0, square - off**2)), half * square
    _note(said, unit, off, square, math.hypot(sampling[0], moved[0]), math.hypot(sampling[1], moved[1]))
    if said["r2"] is not None and noise:
        said["intervals"]["r2"] = [said["r2"] - by_noise["r2"], min(1.0, said["r2"] + by_noise["r2"])]
    del said["r2_loss"]
    if not noise:
        return said
    return _hidden({**said, "records": float(round(n))}, by_noise, unit, noise)


_NAMES = ("loss", "mae", "rmse", "r2")


def _figures(n: float, off: float, square: float, variance: float, unit: float, exact: bool) -> Dict[str, Any]:
    """r2_loss: 1 - R2, for intervals."""
    lost = square / variance if variance > 1e-12 else None
    return {
        "records": float(n),
        "loss": 4 * square,
        "mae": unit * off,
        "rmse": unit * math.sqrt(square),
        "r2": None if lost is None else 1 - lost,
        "r2_loss": lost,
        "intervals": {},
        "warning": _warning(lost, n, variance if exact else None),
    }


def _warning(lost: Optional[float], n: float, variance: Optional[float]) -> str:
    if n > 1 and variance is not None and variance < NARROW**2:
        return (
            f"the labels of these records differ by less than {NARROW:g} of the range from the target's minimum to its maximum, "
            "so errors look small whatever the model: narrow that range, or check the unit of the label"
        )
    if lost is None or lost < 1:
        return ""
    return f"R2 {1 - lost:.3f}: the model is no better than always answering the mean"


def _note(said: Dict[str, Any], unit: float, off: float, square: float, absolute: float, squared: float) -> None:
    """Intervals of figures that follow from mean |e| and mean e^2, each known within the last two."""
    of_off, of_square = (around(*each, said["records"]) for each in ((off, absolute), (square, squared)))
    if of_square is not None:
        said["intervals"]["loss"] = [4 * end for end in of_square]
    if of_off is not None:
        said["intervals"]["mae"] = [unit * end for end in of_off]
    if of_square is not None:
        said["intervals"]["rmse"] = [unit * math.sqrt(end) for end in of_square]


def _moved_by_noise(
    n: float, off: float, square: float, mean: float, variance: float, noise: float
) -> Tuple[Tuple[float, float], Dict[str, float]]:
    """By how much noise alone moves (mean |e|, mean e^2), and each figure as a share of the range, 95 %, to first order.

    Each figure is f of the seven sums; its noise is that of one sum times the length of its gradient.
    """
    in_off = np.array([-off] * 3 + [1 - off] * 3 + [0.0]) / n
    in_square = np.array([-square] * 6 + [1.0]) / n
    first, second = np.array([0, 0.5, 1] * 2 + [0.0]), np.array([0, 0, 1.0] * 2 + [0.0])
    ones = np.array([1.0] * 6 + [0.0])
    in_mean = (first - mean * ones) / n
    in_variance = (second - (variance + mean**2) * ones) / n - 2 * mean * in_mean
    of_off, of_square = (Z * noise * float(np.linalg.norm(each)) for each in (in_off, in_square))
    found = {
        "mae": of_off,
        "loss": 4 * of_square,
        "rmse": of_square / max(2 * math.sqrt(square), math.sqrt(of_square), 1e-9),
    }
    if variance > 1e-12:
        in_r2 = -in_square / variance + square / variance**2 * in_variance
        found["r2"] = Z * noise * float(np.linalg.norm(in_r2))
    return (of_off, of_square), found


def _hidden(said: Dict[str, Any], by_noise: Dict[str, float], unit: float, noise: float) -> Dict[str, Any]:
    """Without what noise moves too far."""
    hidden = [name for name, moved in by_noise.items() if moved > SHOWN]
    if by_noise["loss"] > said["loss"]:
        hidden += ["loss", "rmse"]
    if said["r2"] is None:
        hidden = [*hidden, "r2"]
    for name in hidden:
        said[name] = None
        said["intervals"].pop(name, None)
    moved = {name: each * (unit if name in ("mae", "rmse") else 1.0) for name, each in by_noise.items()}
    warning = "" if said["r2"] is None else said["warning"]
    return {**said, "warning": warning, "shares": by_noise, **_noisy(noise, moved, hidden)}


def _noisy(noise: float, moved: Dict[str, float], hidden: Any) -> Dict[str, Any]:
    return {"noise": moved, "too_noisy": list(dict.fromkeys(hidden))} if noise else {}
