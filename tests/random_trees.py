"""Models of trees that are drawn: every mode, kind of split and shape there can be."""

from typing import List, Tuple

import numpy as np

from model_export.trees import CLASSES, LEVELS, MISSING_RIGHT, PAIR, PROBABILITIES, SET, VALUE, Tree, Trees, numbered


def random_trees(seed: int, most_trees: int = 12, most_depth: int = 7) -> Trees:
    draw = np.random.default_rng(seed)
    mode = (VALUE, PAIR, CLASSES)[seed % 3]
    scores = int(draw.integers(2, 6)) if mode == CLASSES else 1
    channels, sets = int(draw.integers(1, 40)), int(draw.integers(1, 4))
    trees = []
    for _ in range(int(draw.integers(1, most_trees + 1))):
        nodes, leaves = numbered(*_splits(draw, channels, sets, int(draw.integers(0, most_depth + 1))))
        values = draw.integers(-100, 101, (len(leaves), scores)) * int(draw.choice([1, 1000, 100_000]))
        trees.append(Tree(nodes, values.astype(np.int32)))
    cuts = np.sort(draw.integers(-300_000, 300_000, 255)).astype(np.int32)
    scale, zero_point = (0.37, 11) if mode == VALUE else PROBABILITIES
    return Trees(
        mode,
        channels,
        tuple(trees),
        draw.integers(-1000, 1000, scores).astype(np.int32),
        cuts,
        draw.integers(0, 256, (sets, 32)).astype(np.uint8),
        float(np.float32(scale)),
        zero_point,
    )


def _splits(
    draw: np.random.Generator, channels: int, sets: int, depth: int
) -> Tuple[List[Tuple[int, int, int, int]], List[int]]:
    """As `numbered` takes them, the root first."""
    splits: List[Tuple[int, int, int, int]] = []
    leaves: List[int] = []

    def grow(level: int) -> int:
        if level == depth or draw.random() < 0.1 * level:
            leaves.append(len(leaves))
            return -len(leaves)
        place, kind = len(splits), int(draw.integers(0, 3))
        field = int(draw.integers(0, channels)) + (kind << 12) + MISSING_RIGHT * int(draw.integers(0, 2))
        test = int(draw.integers(0, 1 << 16)) if kind == LEVELS else int(draw.integers(1, 257))
        splits.append((field, int(draw.integers(0, sets)) if kind == SET else test, 0, 0))
        left = grow(level + 1)
        splits[place] = (*splits[place][:2], left, grow(level + 1))
        return place

    grow(0)
    return splits, leaves


def rows_for(model: Trees, count: int, seed: int = 0) -> np.ndarray:
    """int8 (count, channels): random ones, with many that are missing, after rows at the ends of the range."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(-128, 128, (count, model.channels)).astype(np.int8)
    rows[draw.random(rows.shape) < 0.1] = -128
    low = draw.random(rows.shape) < 0.3
    rows[low] = draw.integers(-127, -110, int(low.sum())).astype(np.int8)
    rows[0], rows[1], rows[2] = -128, 127, -127
    return rows
