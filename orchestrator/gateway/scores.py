"""How good a classifier is, from counts of its answers: the same figures of the gateway's own rows and of federated sums.

What is counted are cells: a true class, a predicted one, and the confidence in it. Rows are cells of one each; federated
evaluation (wire/evaluation.py) sends a histogram of them, under privacy with noise on every count. Of two classes the second is
the positive one.

Figures: accuracy; base_rate, the share of the most frequent class, which is the accuracy of always naming it; sensitivity and
specificity; recall, of each class; macro_f1; auc; pr_auc, the average precision; calibration_error (ECE, Guo et al. 2017);
calibration_slope, of a logistic regression of the truth on the predicted log-odds (Cox 1958, Biometrika 45:562); thresholds: by
Youden's index (1950, Cancer 3:32) and for a sensitivity of 0.9, chosen on these same records and so on the hopeful side.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses import intervals
from orchestrator.analyses.intervals import Interval
from orchestrator.gateway.counts import Counts
from orchestrator.wire.evaluation import LOSS_BOUND
from orchestrator.wire.targets.shares import Z

WANTED_SENSITIVITY = 0.9
SHOWN_WITHIN = {"loss": 0.2}
SHOWN = 0.1
"""A figure that the noise of privacy alone moves by more (95 %) is not shown."""

STEERS_WITHIN = 0.05
"""`best` and `patience` go by no figure that the noise alone moves by more (95 %)."""

MOST_NOISE = 0.1
"""Of the number of records: with more noise on it nothing is read off single cells."""


_DRAWS, _SEED = 200, 7
_ECE_BINS = 20


def figures(found: Counts, names: Sequence[str] = (), resample: bool = True) -> Dict[str, Any]:
    """{records, accuracy, base_rate, loss, ..., intervals, noise, too_noisy, warning}; what cannot be said is None.

    intervals: name -> (low, high), 95 %, of sampling and noise. noise: name -> by how much the noise alone moves it, where there
    is some. too_noisy: what is None for that. warning: "" unless always naming one class is as good. `resample` costs about a
    hundredth of a second; without it figures that need it have no interval.
    """
    said: Dict[str, Any] = {"intervals": {}, "noise": {}, "too_noisy": []}
    _count(found, said)
    _shares(found, said)
    _loss(found, said)
    if found.classes == 2:
        _area(found, said)
    _whole(found, said, resample)
    said["warning"] = _warning(found, said, names)
    if not found.noise:
        del said["noise"], said["too_noisy"]
    return said


def steers(said: Dict[str, Any], metric: str, private: bool) -> bool:
    """Whether `best` and `patience` may go by this figure: it is there, and noise moves it little."""
    if said.get(metric) is None:
        return False
    moved = said.get("shares", said.get("noise", {}))  # shares: of errors that are in the units of a label
    return not private or float(moved.get(metric, np.inf)) <= STEERS_WITHIN


def _note(
    said: Dict[str, Any], name: str, value: Optional[float], interval: Interval, noise: float, least: float = 0.0
) -> None:
    """A figure with its interval, which holds it; None where noise alone moves it too far."""
    said[name] = value
    if value is None:
        return
    if noise > SHOWN_WITHIN.get(name, SHOWN) or (noise and not np.isfinite(noise)):
        said[name] = None
        said["too_noisy"].append(name)
    else:
        said["intervals"][name] = [min(interval[0], value), max(interval[1], value)]
    if noise and np.isfinite(noise):
        said["noise"][name] = noise


def _count(found: Counts, said: Dict[str, Any]) -> None:
    half = Z * found.noise * np.sqrt(len(found.counts))
    total = max(0.0, found.total)
    said["records"] = total if not found.noise else float(round(total))
    if not found.noise:
        return
    said["intervals"]["records"] = [float(round(max(0.0, total - half))), float(round(total + half))]
    if half > total / 2:
        said["records"] = None
        said["too_noisy"].append("records")


def _share_of(found: Counts, part: np.ndarray, whole: np.ndarray) -> Tuple[Optional[float], Interval, float]:
    """(part / whole, its interval, by how much noise moves it), of cells that are chosen."""
    a, t = float(found.counts[part].sum()), float(found.counts[whole].sum())
    cells = (int(part.sum()), int(whole.sum())) if found.noise else (0, 0)
    interval = intervals.share(a, t, found.noise, *cells)
    noise = intervals.share_noise(a, t, found.noise, *cells) if found.noise else 0.0
    value = min(1.0, max(0.0, a / t)) if t >= 0.5 else None
    if value is None and found.noise:
        value, noise = 0.0, np.inf  # noise has eaten it all: noted as that
    return value, interval, noise


def _shares(found: Counts, said: Dict[str, Any]) -> None:
    everywhere = np.ones(len(found.counts), bool)
    right = found.truth == found.predicted
    _note(said, "accuracy", *_share_of(found, right, everywhere))
    _note(said, "base_rate", *_share_of(found, found.truth == _most_frequent(found), everywhere))
    recall = []
    for one in range(found.classes):
        of = found.truth == one
        _note(said, f"recall_{one}", *_share_of(found, of & right, of))
        recall.append(said.pop(f"recall_{one}"))
        said["intervals"].setdefault("recall", []).append(said["intervals"].pop(f"recall_{one}", None))
    said["recall"] = recall
    if found.classes == 2:
        said["specificity"], said["sensitivity"] = recall
        for name, interval in zip(("specificity", "sensitivity"), said["intervals"]["recall"]):
            if interval is not None:
                said["intervals"][name] = interval
            elif f"recall_{int(name == 'sensitivity')}" in said["too_noisy"]:
                said["too_noisy"].append(name)
    said["too_noisy"] = [name for name in said["too_noisy"] if not name.startswith("recall_")]


def _most_frequent(found: Counts) -> int:
    return int(np.bincount(found.truth, found.counts, found.classes).argmax())


def _loss(found: Counts, said: Dict[str, Any]) -> None:
    if found.losses is None:
        return
    total = found.total
    if total < 0.5:
        _note(said, "loss", 0.0 if found.noise else None, (0.0, LOSS_BOUND), np.inf if found.noise else 0.0)
        return
    noise = (found.loss_noise, found.noise * float(np.sqrt(len(found.counts))))
    value = min(LOSS_BOUND, max(0.0, found.losses / total))
    interval = intervals.mean(found.losses, total, _loss_deviation(found), LOSS_BOUND, noise)
    _note(said, "loss", value, interval, intervals.mean_noise(found.losses, total, noise) if found.noise else 0.0)


def _loss_deviation(found: Counts) -> float:
    """Of single records' losses, as far as cells tell: of those predicted wrongly, what is left goes to the others alike."""
    wrong = (1 - found.confidence) / max(1, found.classes - 1)
    p = np.clip(np.where(found.truth == found.predicted, found.confidence, wrong), np.exp(-LOSS_BOUND), 1.0)
    weights = np.maximum(found.counts, 0.0)
    losses, total = -np.log(p), max(float(weights.sum()), 1e-30)
    middle = float((weights * losses).sum() / total)
    return float(np.sqrt((weights * (losses - middle) ** 2).sum() / total))


def _area(found: Counts, said: Dict[str, Any]) -> None:
    """The area under the ROC curve is bilinear in the counts, so noise leaves its numerator right on average."""
    score, order = np.unique(found.score.round(12), return_inverse=True)
    p, n = (np.bincount(order, found.counts * (found.truth == one), len(score)) for one in (1, 0))
    positives, negatives = float(p.sum()), float(n.sum())
    if min(positives, negatives) < 0.5:
        none: Optional[float] = 0.0 if found.noise else None
        _note(said, "auc", none, (0.0, 1.0), np.inf if found.noise else 0.0)
        return
    below, above = np.cumsum(n) - n / 2, positives - np.cumsum(p) + p / 2
    value = float((p * below).sum() / (positives * negatives))
    spread = 0.0
    if found.noise:
        for_p, for_n = below / negatives - value, above / positives - value
        first = (for_p**2).sum() / positives**2 + (for_n**2).sum() / negatives**2
        second = found.noise**2 * len(score) ** 2 / 4 / (positives * negatives) ** 2
        spread = found.noise * float(np.sqrt(first + second))
    value = min(1.0, max(0.0, value))
    _note(said, "auc", value, intervals.area(value, positives, negatives, spread), Z * spread)


# Figures of whole distributions: intervals from resamples


def _whole(found: Counts, said: Dict[str, Any], resample: bool) -> None:
    """macro_f1, calibration and, of two classes, pr_auc, calibration_slope and thresholds."""
    names: Dict[str, Callable[[Counts, np.ndarray], np.ndarray]] = {"macro_f1": _macro_f1, "calibration_error": _ece}
    if found.classes == 2:
        names.update(pr_auc=_average_precision, calibration_slope=_slope)
    drowned = bool(found.noise) and Z * found.noise * np.sqrt(len(found.counts)) > MOST_NOISE * max(found.total, 0.0)
    if drowned or found.total < 0.5:
        said.update(dict.fromkeys(names), confusion=None, calibration=None)
        said["too_noisy"] += [*names, "confusion"] if drowned else []
        return
    if _classes_seen(found) < 2:  # as the area under the curve, they say nothing where there is nothing to tell apart
        said.update(dict.fromkeys(name for name in names if name != "calibration_error"))
        names = {"calibration_error": _ece}
    clean = _nearest(found.counts[np.newaxis], found.total) if found.noise else found.counts[np.newaxis]
    draws = _resampled(found, clean[0]) if resample else None
    for name, figure in names.items():
        value = float(figure(found, clean)[0])
        said[name] = value if np.isfinite(value) else None
        if draws is None or said[name] is None:
            continue
        drawn = figure(found, draws)
        if np.isfinite(drawn).mean() < 0.9:
            continue
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        if not high > low:  # all samples say the same, as of predictions that are all right: that is no interval
            continue
        if name == "calibration_error":  # a resample adds to it what the sample had added before
            low, high = max(0.0, 2 * value - high), 2 * value - low
            if not high > low:  # it is 0: a resample only adds to it
                low, high = 0.0, float(np.nanquantile(drawn, 0.975))
        most = np.inf if name == "calibration_slope" else 1.0
        low = low if name == "calibration_slope" else max(0.0, low)
        said["intervals"][name] = [float(min(low, value)), float(max(value, min(most, high)))]
    said["confusion"] = _confusion(found, clean)[0].tolist()
    said["calibration"] = _calibration(found, clean[0])
    if found.classes == 2:
        said["thresholds"] = _thresholds(found, clean[0])


def _classes_seen(found: Counts) -> int:
    return int((np.bincount(found.truth, found.counts, found.classes) >= 0.5).sum())


def _nearest(counts: np.ndarray, total: float) -> np.ndarray:
    """The counts (b, k) that are 0 or more and add up to `total`, nearest to those given (Duchi et al. 2008)."""
    descending = -np.sort(-counts, axis=1)
    excess = (np.cumsum(descending, axis=1) - total) / np.arange(1, counts.shape[1] + 1)
    last = (descending > excess).sum(axis=1) - 1
    return np.asarray(np.maximum(counts - excess[np.arange(len(counts)), last][:, np.newaxis], 0.0))


def _resampled(found: Counts, clean: np.ndarray) -> np.ndarray:
    """(draws, k): other samples of as many records, with other noise. The seed is fixed: the same counts, the same interval."""
    rng, total = np.random.default_rng(_SEED), max(1, round(float(clean.sum())))
    drawn = rng.multinomial(total, clean / clean.sum(), _DRAWS).astype(np.float64)
    if not found.noise:
        return drawn
    return _nearest(drawn + rng.normal(0.0, found.noise, drawn.shape), float(total))


def _confusion(found: Counts, counts: np.ndarray) -> np.ndarray:
    """(b, true class, predicted class) of counts (b, k)."""
    cell = found.truth * found.classes + found.predicted
    return (counts @ np.eye(found.classes**2)[cell]).reshape(len(counts), found.classes, found.classes)


def _macro_f1(found: Counts, counts: np.ndarray) -> np.ndarray:
    confusion = _confusion(found, counts)
    hit = np.einsum("bii->bi", confusion)
    either = confusion.sum(axis=1) + confusion.sum(axis=2)
    occurs = either > 0
    f1 = np.where(occurs, 2 * hit / np.where(occurs, either, 1.0), 0.0)
    return np.asarray(f1.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1))


def _ece(found: Counts, counts: np.ndarray) -> np.ndarray:
    place, _ = _bins(found)
    one = np.eye(_ECE_BINS)[place]
    gap = (counts * ((found.truth == found.predicted) - found.confidence)) @ one
    return np.asarray(np.abs(gap).sum(axis=1) / np.maximum(counts.sum(axis=1), 1e-30))


def _bins(found: Counts) -> Tuple[np.ndarray, int]:
    scaled = (found.confidence - 1 / found.classes) / (1 - 1 / found.classes)
    return np.clip((scaled * _ECE_BINS).astype(np.int64), 0, _ECE_BINS - 1), _ECE_BINS


def _calibration(found: Counts, counts: np.ndarray) -> List[Dict[str, float]]:
    """{confidence, accuracy, records} of each bin of confidence that has records."""
    place, bins = _bins(found)
    records, right, confidence = (
        np.bincount(place, counts * weight, bins) for weight in (1.0, found.truth == found.predicted, found.confidence)
    )
    return [
        {"confidence": float(c / n), "accuracy": float(r / n), "records": float(n)}
        for n, r, c in zip(records, right, confidence)
        if n > 0
    ]


def _curve(found: Counts, counts: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(where positive scores begin (m,), true and false positives (b, m) of who is at least there), falling."""
    score, order = np.unique(-found.floor.round(12), return_inverse=True)
    place = np.eye(len(score))[order] if len(score) < 200 else None
    found_of = []
    for one in (1, 0):
        chosen = counts * (found.truth == one)
        if place is not None:
            grouped = chosen @ place
        else:
            grouped = np.zeros((len(counts), len(score)))
            np.add.at(grouped.T, order, chosen.T)
        found_of.append(np.cumsum(grouped, axis=1))
    return -score, found_of[0], found_of[1]


def _average_precision(found: Counts, counts: np.ndarray) -> np.ndarray:
    _, true, false = _curve(found, counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(true + false > 0, true / (true + false), 0.0)
        gained = np.diff(true, axis=1, prepend=0.0) / true[:, -1:]
    return np.asarray((precision * gained).sum(axis=1))


def _slope(found: Counts, counts: np.ndarray) -> np.ndarray:
    """By Newton's method; NaN where the scores separate the classes, which leaves it without a bound."""
    p = np.clip(found.score, 1e-6, 1 - 1e-6)
    x = np.stack([np.ones(len(p)), np.log(p / (1 - p))])
    beta = np.zeros((len(counts), 2))
    beta[:, 1] = 1.0
    for _ in range(25):
        fitted = 1 / (1 + np.exp(-np.clip(beta @ x, -30, 30)))
        weight = counts * fitted * (1 - fitted)
        gradient = (counts * ((found.truth == 1) - fitted)) @ x.T
        a, b, d = (weight @ (x[i] * x[j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        determinant = a * d - b * b
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.stack([d * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]], axis=1)
            step = step / determinant[:, np.newaxis]
        beta = beta + np.clip(np.nan_to_num(step), -2, 2)
        if np.abs(np.nan_to_num(step, nan=1.0)).max() < 1e-7:
            break
    settled = (np.abs(step).max(axis=1) < 1e-3) & (determinant > 1e-9)
    return np.where(settled, beta[:, 1], np.nan)


def _thresholds(found: Counts, counts: np.ndarray) -> Dict[str, Dict[str, Any]]:
    """{youden, sensitivity}: from which score on a record counts as positive, and what that gives."""
    begins, true, false = _curve(found, counts[np.newaxis])
    true, false = true[0], false[0]
    positives, negatives = true[-1], false[-1]
    if min(positives, negatives) <= 0:
        return {}
    chosen = {
        "youden": int((true / positives - false / negatives).argmax()),
        "sensitivity": int(np.argmax(true >= WANTED_SENSITIVITY * positives - 1e-9)),
    }
    noise = found.noise
    said = {}
    for name, at in chosen.items():
        cells = found.floor >= begins[at] - 1e-9
        of = {one: found.truth == one for one in (0, 1)}
        number = {one: int((of[one] & cells).sum()) if noise else 0 for one in of}
        whole = {one: int(of[one].sum()) if noise else 0 for one in of}
        hit, spared = float(true[at]), float(negatives - false[at])
        said[name] = {
            "threshold": float(min(1.0, max(0.0, begins[at] - 1e-9))),
            "sensitivity": hit / float(positives),
            "specificity": spared / float(negatives),
            "intervals": {
                "sensitivity": list(intervals.share(hit, float(positives), noise, number[1], whole[1])),
                "specificity": list(intervals.share(spared, float(negatives), noise, whole[0] - number[0], whole[0])),
            },
        }
    return said


def _warning(found: Counts, said: Dict[str, Any], names: Sequence[str]) -> str:
    """Where the model is not shown to be right more often than always naming the most frequent class."""
    if said["accuracy"] is None or said["base_rate"] is None:
        return ""
    usual = _most_frequent(found)
    won = (found.truth == found.predicted) & (found.truth != usual)
    lost = (found.truth != found.predicted) & (found.truth == usual)
    cells = int(won.sum() + lost.sum())
    if intervals.difference_exceeds(
        float(found.counts[won].sum()), float(found.counts[lost].sum()), found.noise, cells
    ):
        return ""
    name = names[usual] if usual < len(names) else f"class {usual}"
    return (
        f"accuracy {said['accuracy']:.3f} is not better than always answering {name!r} ({said['base_rate']:.3f} of the records): "
        "go by sensitivity, specificity and the area under the curves, and choose a threshold"
    )
