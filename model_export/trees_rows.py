"""Rows that tell models of trees apart: codes on both sides of every split, and for each class one that it wins."""

from __future__ import annotations

from typing import List

import numpy as np

from model_export.trees import AT_LEAST, CLASSES, CODES, FEW_LEVELS, LEVELS, PAIR, Trees, leaves_of, run_trees

KNOWN_ANSWER_ROWS = 16
_OFFERED = 512
_CLIMBS = 8
_MOST_WALKS = 20_000
"""Of rows through a tree, to look for rows of classes that hardly ever win; some seconds, however many trees there are."""


def synthetic_rows(model: Trees, count: int, seed: int = 0) -> np.ndarray:
    """int8 (count, channels) from a fixed seed: of each channel the codes beside its splits, and missing values."""
    draw = np.random.default_rng(seed)
    columns = [draw.choice(codes, count) for codes in codes_of(model)]
    return (np.stack(columns, axis=1) - 128).astype(np.int8)


def codes_of(model: Trees) -> List[np.ndarray]:
    """Of each channel the codes that can make a difference, 0 among them."""
    known = [{0, 1} for _ in range(model.channels)]
    sets = np.unpackbits(model.sets, axis=1, bitorder="little") if len(model.sets) else np.zeros((0, 256), np.uint8)
    for tree in model.trees:
        for field, test, _, _ in tree.nodes.tolist():
            kind, channel = field >> 12 & 3, field & 4095
            if kind == AT_LEAST:
                known[channel] |= {test - 1, min(test, CODES)}
            else:
                bits = [test >> level & 1 for level in range(FEW_LEVELS)] if kind == LEVELS else sets[test]
                known[channel] |= {1 + level for level in np.flatnonzero(bits).tolist() if level < CODES}
    return [np.array(sorted(codes)) for codes in known]


def telling_rows(model: Trees) -> np.ndarray:
    """int8 (n, channels): for each class a row it wins, if there is one to be found, then rows that reach most other leaves."""
    offered = synthetic_rows(model, _OFFERED)
    chosen = [
        row
        for place in range(model.outputs if model.mode in (PAIR, CLASSES) else 0)
        for row in _won_by(model, place, offered)
    ]
    rows = np.concatenate([np.array(chosen, np.int8).reshape(-1, model.channels), offered])
    codes, reached = rows.astype(np.int64) + 128, []
    for tree in model.trees:
        leaf = leaves_of(model, tree, codes)
        found = np.zeros((len(rows), len(tree.values)), bool)
        found[np.arange(len(rows)), leaf] = True
        reached.append(found)
    new = np.concatenate(reached, axis=1)
    order = list(range(len(chosen)))
    new &= ~new[order].any(axis=0)
    while len(order) < max(KNOWN_ANSWER_ROWS, len(chosen)):
        best = int(new.sum(axis=1).argmax())
        if not new[best].any():
            break
        order.append(best)
        new &= ~new[best]
    return rows[order] if order else rows[:1]


def _won_by(model: Trees, place: int, offered: np.ndarray) -> List[np.ndarray]:
    """A row whose largest output is this one, by changing one input after another of the nearest; none where that finds none."""
    outputs = run_trees(model, offered)
    won = np.flatnonzero(outputs.argmax(axis=1) == place)
    if len(won):
        return [offered[won[0]]]
    codes, left = codes_of(model), _MOST_WALKS // model.outputs
    for start in offered[np.argsort(-_lead(model, offered, place), kind="stable")[:_CLIMBS]]:
        row, best = start.copy(), float(_lead(model, start[np.newaxis], place)[0])
        for _ in range(2):
            for channel, choices in enumerate(codes):
                left -= len(model.trees)
                if left < 0:
                    return []
                tried = np.repeat(row[np.newaxis], len(choices), axis=0)
                tried[:, channel] = choices - 128
                leads = _lead(model, tried, place)
                if leads.max() > best:
                    best, row = float(leads.max()), tried[int(leads.argmax())]
        if run_trees(model, row[np.newaxis])[0].argmax() == place:
            return [row]
    return []


def _lead(model: Trees, rows: np.ndarray, place: int) -> np.ndarray:
    """By how much a class is ahead of all others, in units of the leaves."""
    codes = rows.astype(np.int64) + 128
    sums = np.tile(model.base.astype(np.int64), (len(rows), 1))
    for tree in model.trees:
        sums += tree.values.astype(np.int64)[leaves_of(model, tree, codes)]
    if model.mode == PAIR:
        return sums[:, 0] if place == 1 else -sums[:, 0]
    return sums[:, place] - np.delete(sums, place, axis=1).max(axis=1)
