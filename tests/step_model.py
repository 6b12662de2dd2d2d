"""A model of trees whose answers are known by heart: one channel, a window a sample, and its class by steps of the value."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from model_export.input_profile import InputProfile, make_profile
from model_export.model_bin import KnownAnswers, pack_model_bin
from model_export.trees import (
    AT_LEAST,
    CLASSES,
    PAIR,
    PROBABILITIES,
    Tree,
    Trees,
    numbered,
    pack_trees,
    run_trees,
)
from model_export.trees_bundle import write_trees_bundle
from model_export.trees_rows import telling_rows

QUIET, UNSURE, SURE = -5, 5, 15
"""Samples: class 0 with 246/256, class 1 with 151/256, class 1 with 241/256."""
LABELS = ("rest", "fall")
FEATURES: List[Dict[str, Any]] = [{"name": "x", "cuts": [0.0, 10.0]}]


def step_trees(
    mode: int = PAIR, scale: float = PROBABILITIES[0], zero_point: int = PROBABILITIES[1], heads: int = 1
) -> Trees:
    """VALUE: outputs 9, 150 and 240, less 128. CLASSES: so many pairs, each of which says the same."""
    nodes, leaves = numbered([(AT_LEAST << 12, 2, -1, 1), (AT_LEAST << 12, 3, -2, -3)], [0, 1, 2])
    scores = np.array([[9], [150], [240]], np.int32)
    if mode == CLASSES:
        scores = np.array([[240, 9] * heads, [100, 150] * heads, [9, 240] * heads], np.int32)
    cuts = np.arange(255, dtype=np.int32)
    tree = Tree(nodes, scores[leaves])
    base = np.zeros(scores.shape[1], np.int32)
    return Trees(mode, 1, (tree,), base, cuts, np.zeros((0, 32), np.uint8), scale, zero_point)


def step_model(
    name: str = "steps", model: Optional[Trees] = None, profile: Optional[InputProfile] = None, **more: Any
) -> bytes:
    """Its model.bin."""
    model = step_trees() if model is None else model
    rows = telling_rows(model)
    return pack_model_bin(
        name=name,
        tflite=pack_trees(model),
        arena_tflm_bytes=model.arena_bytes,
        arena_direct_bytes=model.arena_bytes,
        known_answers=KnownAnswers(rows, run_trees(model, rows)),
        input_profile=profile or make_profile((1, 1), FEATURES, None),
        **more,
    )


def step_bundle(folder: Path, labels: Sequence[str] = LABELS) -> Path:
    write_trees_bundle(folder, model=step_trees(), name="steps", of="boosted_trees", features=FEATURES, labels=labels)
    return folder
