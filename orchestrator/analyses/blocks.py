"""What the values of an analysis's vector are, so that an owner's rules on disclosure (node/guard.py) know what to hold them to.

Every value is in one block, and every block names its rule: a node refuses sums with a value that is in none.
"""

from typing import Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

CELLS = "cells"
"""Counts: a record adds 1 to one of them at most."""

SUMS = "sums"
"""Sums of a number over [-1, 1], the last of `columns`."""

PRODUCTS = "products"
"""Sums of what a model is computed from: products, gradients, weights, squares."""

UPTO = "up to"
"""Counts of the values of `columns[0]` that are at or below announced points."""

MARGINS = "margins"
"""Cells of other blocks, which add up over all axes of `at` but the last. The one rule that covers no value."""

ASIDE = "aside"
"""Counts of records that are left out, kept apart or lack a value: they say nothing of what a record is."""

UNUSED = "unused"
"""Zero in this round, whatever the records."""

RULES = (CELLS, SUMS, PRODUCTS, UPTO, MARGINS, ASIDE, UNUSED)

BY_ITSELF = ""
"""`Block.out` of cells that can be 0 by themselves."""

LEFT_OUT, ROUNDED = "left_out", "rounded"
"""Fields of a node's answer: how many parts its owner's rules left out of it, and to multiples of what its tables are rounded."""

EVERYBODY = ("", "")

MISSING = "missing"
"""`Block.what` of counts, by level of the first column, of those who lack the second."""


class Block(NamedTuple):
    """Values that are held to one rule. `at`: int64, their places in the vector, in the shape of their table."""

    name: str  # for the owner
    rule: str
    at: np.ndarray
    columns: Tuple[str, ...] = ()  # of the schema, whose levels and values these are of
    among: Tuple[str, str] = EVERYBODY  # (column, level): of its records only; level "": of those that have none
    ordered: bool = (
        False  # whether cells along the last axis follow each other, as bins do: then sums of them say something
    )
    parameters: int = 0  # of the model that comes of it
    split: Tuple[str, ...] = ()  # columns whose levels can be separated in each value
    out: Optional[str] = None  # how a node leaves it out: as if that column were missing, or BY_ITSELF; None: it cannot
    shown: bool = False  # whether its cells are a table of the result
    summed: bool = False  # whether sums of numbers are of the records of each of its cells, too
    what: str = ""  # of what records besides: cells of the same columns are compared where this is the same


def places(first: int, *shape: int) -> np.ndarray:
    """int64 `shape`: places that follow each other from `first`."""
    return np.arange(first, first + int(np.prod(shape, dtype=np.int64))).reshape(shape)


def aside(name: str, *at: int) -> Block:
    """Of counts that are no cells."""
    return Block(name, ASIDE, np.array(at, np.int64))


def unused(first: int, end: int) -> Iterator[Block]:
    """Of the values from `first` to before `end`, if there are any."""
    if end > first:
        yield Block("unused", UNUSED, np.arange(first, end))


def incomplete(blocks: Sequence[Block], size: int) -> str:
    """Why these do not hold every value of a vector to one rule; "" where they do."""
    covered = np.zeros(size, np.int64)
    for block in blocks:
        if block.rule not in RULES:
            return f"{block.name}: no rule {block.rule!r}"
        if block.at.size and not 0 <= block.at.min() <= block.at.max() < size:
            return f"{block.name}: beyond the vector"
        if block.rule != MARGINS:
            np.add.at(covered, block.at.ravel(), 1)
    wrong = np.flatnonzero(covered != 1)
    return f"value {wrong[0]} is in {covered[wrong[0]]} blocks, expected one" if wrong.size else ""


def parts_of(blocks: Iterable[Block]) -> int:
    """How many parts of an answer these are, of those that a node may leave out."""
    return len({block.out or block.name for block in blocks if block.out is not None})


def impossible(blocks: Sequence[Block], sums: np.ndarray, records: float, rounded: bool = False) -> str:
    """Why no so many records add up to these exact sums; "" where some may. rounded: whether tables are, to whatever multiple."""
    for block in blocks:
        values = sums[block.at.ravel()]
        if block.rule == UNUSED and values.any():
            return f"{block.name}: values that are 0 whatever the records"
        if block.rule in (CELLS, UPTO, ASIDE) and values.min(initial=0.0) < 0:
            return f"{block.name}: a count of {values.min():.3g}"
        if block.rule == CELLS and not (rounded and block.shown) and values.sum() > records * (1 + 1e-9):
            return f"{block.name}: {values.sum():.6g} records in all, of {records:.6g}"
    return ""
