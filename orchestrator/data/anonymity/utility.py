"""What a model can still learn from a table: how well a logistic regression ranks rows it has not seen, before and after."""

from typing import Optional, Sequence

import numpy as np

from model_export.evaluation import area_under_roc

FOLDS, RIDGE, STEPS = 5, 1e-2, 30
MOST_VALUES = 20


def area(columns: np.ndarray, label: Sequence[str], seed: int = 0) -> Optional[float]:
    """Area under the ROC curve over five folds, of float64 (rows, columns): of more than two values the mean of each against the
    others. None where a fold lacks a value, or there are not 2 to MOST_VALUES."""
    values = sorted(set(label))
    if not 2 <= len(values) <= MOST_VALUES:
        return None
    fold = np.random.default_rng(seed).permutation(len(label)) % FOLDS
    found = [
        _of_one(columns, np.array([cell == value for cell in label]), fold) for value in values[len(values) == 2 :]
    ]
    return None if None in found else float(np.mean([each for each in found if each is not None]))


def _of_one(columns: np.ndarray, y: np.ndarray, fold: np.ndarray) -> Optional[float]:
    areas = []
    for number in range(FOLDS):
        seen = fold != number
        if y[seen].all() or not y[seen].any() or y[~seen].all() or not y[~seen].any():
            return None
        areas.append(area_under_roc(_scores(columns[seen], y[seen], columns[~seen]), y[~seen]))
    return float(np.mean(areas))


def _scores(x: np.ndarray, y: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    one, other = (np.column_stack([np.ones(len(each)), (each - mean) / deviation]) for each in (x, unseen))
    beta = np.zeros(one.shape[1])
    for _ in range(STEPS):  # Newton's method on the penalized likelihood
        p = 1 / (1 + np.exp(-np.clip(one @ beta, -30, 30)))
        weighted = one * (p * (1 - p))[:, np.newaxis]
        step = np.linalg.solve(one.T @ weighted + RIDGE * np.eye(len(beta)), one.T @ (y - p) - RIDGE * beta)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray(other @ beta)
