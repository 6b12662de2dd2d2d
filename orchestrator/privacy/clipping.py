"""L2 clipping: no record may move a sum by more than the clip norm."""

import numpy as np


def clip_l2(vectors: np.ndarray, clip_norm: float) -> np.ndarray:
    """Scales each row of float (n, d) down to L2 norm `clip_norm` where it is longer. Rows that are not finite become 0.

    A gradient that overflowed says nothing, and letting it through would break the bound the noise is matched to.
    """
    clean = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0)
    norms = np.linalg.norm(clean, axis=1, keepdims=True)
    # Float rounding may leave a norm a hair above the bound: shrink by one part in a million.
    return clean * np.minimum(1.0, clip_norm * (1 - 1e-6) / np.maximum(norms, 1e-30))
