"""Models fitted to all rows together in the textbook's way and in raw units, to hold analyses to."""

from typing import Any

import numpy as np


def newton(x: np.ndarray, y: np.ndarray, family: str) -> Any:
    """Textbook iteratively reweighted least squares in raw units: (coefficients, covariance, log-likelihood)."""
    from scipy.special import gammaln

    beta = np.zeros(x.shape[1])
    beta[0] = np.log(y.mean()) if family == "poisson" else 0.0
    for _ in range(60):
        mean = np.exp(x @ beta) if family == "poisson" else 1 / (1 + np.exp(-(x @ beta)))
        weight = mean if family == "poisson" else mean * (1 - mean)
        beta = beta + np.linalg.solve((x * weight[:, None]).T @ x, x.T @ (y - mean))
    mean = np.exp(x @ beta) if family == "poisson" else 1 / (1 + np.exp(-(x @ beta)))
    weight = mean if family == "poisson" else mean * (1 - mean)
    if family == "poisson":
        likelihood = float((y * np.log(mean) - mean - gammaln(y + 1)).sum())
    else:
        likelihood = float((y * np.log(mean) + (1 - y) * np.log(1 - mean)).sum())
    return beta, np.linalg.inv((x * weight[:, None]).T @ x), likelihood


def partial_likelihood(x: np.ndarray, times: np.ndarray, seen: np.ndarray, beta: np.ndarray, ties: str) -> Any:
    """Textbook sums over sets at risk, one event time after the other: (log-likelihood, gradient, information)."""
    value, gradient, information = 0.0, np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
    weight = np.exp(x @ beta)
    for at in np.unique(times[seen]):
        risk, own = times >= at, seen & (times == at)
        for number in range(int(own.sum())):
            share = number / own.sum() if ties == "efron" else 0.0
            w = weight * risk - share * weight * own
            mean = w @ x / w.sum()
            value -= np.log(w.sum())
            gradient -= mean
            information += (x * w[:, None]).T @ x / w.sum() - np.outer(mean, mean)
        value += float((x[own] @ beta).sum())
        gradient += x[own].sum(axis=0)
    return value, gradient, information
