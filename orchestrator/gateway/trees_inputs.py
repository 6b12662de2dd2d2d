"""Records as the trees of a bundle take them: each value as the number of cuts that are not above it."""

from typing import Any, Sequence

import numpy as np

from model_export.input_profile import cuts_of
from model_export.trees import MISSING
from orchestrator.data.dataset import Dataset
from orchestrator.wire.schema import Schema


def codes_of(data: Dataset, schema: Schema, features: Sequence[Any]) -> np.ndarray:
    """int8 (n, channels): records as the trees of a bundle take them, from data that are read with gaps."""
    places, column = {}, 0
    for feature in schema.features:
        places[feature.name] = column
        column += feature.width
    found = np.full((len(data.x), len(features)), MISSING, np.int8)
    for channel, described in enumerate(features):
        start, levels = places[described["name"]], len(described.get("categories", ()))
        if levels:
            each = data.x[:, start : start + levels]
            known, values = each.sum(axis=1) > 0.5, each.argmax(axis=1).astype(np.float32)
        else:
            values = data.x[:, start].astype(np.float32)
            known = ~np.isnan(values)
        counted = np.searchsorted(cuts_of(described), values[known], side="right")
        found[known, channel] = (counted - 127).astype(np.int8)
    return found
