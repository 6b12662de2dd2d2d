"""What the vectors of a node's records show before they are summed: how many people are behind each value, and which records are.

A person is a patient, where the schema names them, else a record.
"""

from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis
from orchestrator.analyses.blocks import ASIDE, BY_ITSELF, CELLS, EVERYBODY, MARGINS, SUMS, UPTO, Block
from orchestrator.data.cells import canonical
from orchestrator.data.dataset import Dataset
from orchestrator.node.analysed import unit_vectors
from orchestrator.node.answered import Cells, Subject
from orchestrator.wire.schema import Feature, Schema

_PIECE = 1 << 19
"""Values of vectors that are in memory at a time."""


class Level(NamedTuple):
    """Records (n,) that a column says one thing of, as far as its sums tell it apart."""

    name: str  # for the owner
    has_it: np.ndarray
    with_others: bool = True  # whether sums of products tell who has it and a level of another column


class Largest(NamedTuple):
    """Of sums of a number, each (values,): the whole, and the two largest parts people have of it."""

    whole: np.ndarray
    first: np.ndarray
    second: np.ndarray


class Division(NamedTuple):
    """How a block divides records."""

    block: Block
    cells: Cells


class Seen:
    """Of all vectors of one answer. people, counted: float64 (size,), people behind each value: by weight, and one by one."""

    def __init__(
        self, analysis: Analysis, blocks: Sequence[Block], asked: np.ndarray, data: Dataset, of_cells: bool = True
    ) -> None:
        """of_cells: whether it is to be known in which cells records are, also where no sums are of them."""
        self.data, self.schema, self.blocks = data, analysis.schema, list(blocks)
        self.whose = people_of(data)
        self.used = np.zeros(data.records, bool)
        size = analysis.sums.size
        self._aside = np.zeros(size, bool)
        for block in self.blocks:
            self._aside[block.at.ravel()] |= block.rule == ASIDE
        self._sums = np.zeros((3, size))  # of what a person adds, of its square, and of 1 where it adds anything
        self._split = {at: self._levels_within(block) for at, block in enumerate(self.blocks) if block.split}
        self._split_sums = {
            at: np.zeros((2, len(levels), self.blocks[at].at.size)) for at, levels in self._split.items()
        }
        self._parts = {at: np.zeros((3, block.at.size)) for at, block in enumerate(self.blocks) if block.rule == SUMS}
        named = [at for at, block in enumerate(self.blocks) if divides(block) and (of_cells or block.summed)]
        self._cells = {at: np.full(data.records, -1, np.int32) for at in named}
        for vectors, rows in _pieces(analysis, asked, data, self.whose):
            self._take(vectors, rows)
        first, second, self.counted = self._sums
        self.people = _effective(first, second)

    def _levels_within(self, block: Block) -> List[Level]:
        levels = (level for name in block.split for level in levels_of(self.data, self.schema, name))
        return [level for level in levels if level.with_others]

    def _take(self, vectors: np.ndarray, rows: np.ndarray) -> None:
        """vectors (k, size): of the records `rows` (k,), those of a person one after the other; or (1, size) of all of them."""
        added = np.abs(vectors)
        self.used[rows] |= np.asarray((added[:, ~self._aside] > 0).any(axis=1))
        starts = np.append(0, np.flatnonzero(np.diff(self.whose[rows])) + 1)[: len(vectors)]
        whole = _together(added, starts)
        self._sums += whole.sum(axis=0), (whole**2).sum(axis=0), (whole > 0).sum(axis=0)
        for at, levels in self._split.items():
            some = added[:, self.blocks[at].at.ravel()]
            for place, level in enumerate(levels):
                within = _together(some * level.has_it[rows[: len(some)], np.newaxis], starts)
                self._split_sums[at][:, place] += within.sum(axis=0), (within**2).sum(axis=0)
        for at, parts in self._parts.items():
            block = self.blocks[at]
            amounts = _together(_amounts(vectors[:, block.at.ravel()], self._feature(block.columns[-1])), starts)
            parts[0] += amounts.sum(axis=0)
            parts[1:] = np.sort(np.concatenate([parts[1:], amounts]), axis=0)[-2:][::-1]
        for at in self._cells:
            self._cells[at][rows] = self._cell(self.blocks[at], added, rows)

    def _cell(self, block: Block, added: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """int32 (k,): the cell each record is in, -1 for none. Up to points: how many of them are below it."""
        if block.rule == UPTO:
            below = (added[:, block.at.ravel()] == 0).sum(axis=1)
            return np.where(known(self.data, self.schema, block)[rows], below, -1).astype(np.int32)
        there = added[:, block.at.reshape(-1, block.at.shape[-1]) if block.rule == MARGINS else block.at.ravel()] > 0
        there = np.asarray(there.any(axis=1)) if block.rule == MARGINS else there
        return np.where(there.any(axis=1), there.argmax(axis=1), -1).astype(np.int32)

    def _feature(self, name: str) -> Feature:
        return next(feature for feature in self.schema.features if feature.name == name)

    def within(self, at: int) -> Iterator[Tuple[str, np.ndarray]]:
        """(level, people (values,) that have it) of the columns block `at` is split by."""
        for place, level in enumerate(self._split.get(at, [])):
            yield level.name, _effective(*self._split_sums[at][:, place])

    def largest(self, at: int) -> Largest:
        """Of a block of sums of a number."""
        return Largest(*self._parts[at])

    def in_cells(self, at: int) -> np.ndarray:
        """int64 (cells,): people in each cell that a block tells records apart by."""
        cells = self._cells[at]
        pairs = np.unique(np.stack([cells, self.whose]), axis=1)[0]
        return np.bincount(pairs[pairs >= 0])

    @property
    def patients(self) -> int:
        """People who have a record that is used."""
        return self.people_in(self.used)

    def people_in(self, chosen: np.ndarray) -> int:
        """How many people have one of these records (bool (n,))."""
        return len(np.unique(self.whose[chosen]))

    def together(self, levels: Sequence[Level], least: int) -> Iterator[Tuple[Level, Level]]:
        """Pairs of levels, also of one with itself, that used records have both of, and perhaps fewer than `least` people."""
        counts, rows = np.zeros((len(levels), len(levels))), max(1, _PIECE // max(1, len(levels)))
        for start in range(0, self.data.records if levels else 0, rows):
            piece = slice(start, start + rows)
            has_it = np.stack([level.has_it[piece] & self.used[piece] for level in levels]).astype(np.float32)
            counts += has_it @ has_it.T
        for i, j in np.argwhere(np.triu((counts > 0) & (counts < least * self.most_records))):
            if i == j or (levels[i].with_others and levels[j].with_others):
                yield levels[i], levels[j]

    def used_lines(self) -> np.ndarray:
        """bool (lines,): those of used records."""
        found = np.zeros(1 + int(self.lines.max(initial=0)), bool)
        found[self.lines[self.used]] = True
        return found

    def summed_lines(self, but: Sequence[Block] = ()) -> Iterator[np.ndarray]:
        """bool (lines,): those of the records of each cell that numbers are summed in."""
        for block, cells in self.divisions(but):
            if block.summed:
                yield from (cells.of_line == cell for cell in np.unique(cells.of_line[cells.of_line >= 0]))

    @property
    def lines(self) -> np.ndarray:
        """int64 (n,): where each record is in the file."""
        return np.arange(self.data.records) if self.data.places is None else self.data.places

    def divisions(self, but: Sequence[Block] = ()) -> List[Division]:
        """Of all blocks that say which columns they are of, but some and what adds up from the cells of these."""
        found = []
        gone = np.zeros(self.counted.size, bool)
        for block in but:
            gone[block.at.ravel()] = True
        for at, cells in self._cells.items():
            block = self.blocks[at]
            if gone[block.at].any() or not (cells >= 0).any():
                continue
            of_line = np.full(1 + int(self.lines.max(initial=0)), -1, np.int32)
            of_line[self.lines] = cells
            follows = block.ordered or block.rule == UPTO
            found.append(Division(block, Cells(self._subject(block, follows), of_line)))
        return found

    def _subject(self, block: Block, follows: bool) -> Subject:
        """By place where the file has no header: names are the task's then."""
        columns = self.schema.columns
        named = {
            name: f"#{columns.index(name)}" if name in columns else name for name in (*block.columns, *block.among)
        }
        level = canonical(block.among[1])  # however a task spells it
        of = sorted({named[name] for name in block.columns})
        return Subject(follows, block.what, (named[block.among[0]], level), tuple(of))

    def patients_of(self, chosen: np.ndarray) -> int:
        """How many people have records in lines (bool (lines,)); a line that is no record now counts as one."""
        inside = self.lines < len(chosen)
        here = np.zeros(self.data.records, bool)
        here[inside] = chosen[self.lines[inside]]
        return len(np.unique(self.whose[here])) + int(chosen.sum()) - int(here.sum())

    @property
    def most_records(self) -> int:
        """Of one person."""
        return int(np.bincount(self.whose).max(initial=1))


def divides(block: Block) -> bool:
    """Whether it puts records into cells that other answers can be compared with."""
    return bool(block.columns) and block.rule in (CELLS, MARGINS, UPTO)


def people_of(data: Dataset) -> np.ndarray:
    """int64 (n,): the number of the person whose record each is."""
    return (
        np.arange(data.records) if data.patients is None else np.unique(data.patients, return_inverse=True)[1].ravel()
    )


def levels_of(data: Dataset, schema: Schema, name: str) -> List[Level]:
    """What sums separate of a column: levels of a category, and values of a number that has two, or three: their count, their sum
    and that of their squares say how often each occurs.
    """
    place = _place_of(schema, name)
    if place is None:
        return []
    feature, first = place
    if feature.categories:
        return [Level(f"{name} = {level}", data.x[:, first + at] > 0.5) for at, level in enumerate(feature.categories)]
    values = data.x[:, first]
    found = np.unique(values[~np.isnan(values)])
    if found.size not in (2, 3):
        return []
    return [Level(f"{name}: one of its {found.size} values", values == value, found.size == 2) for value in found]


def apart_from_most(data: Dataset, schema: Schema, name: str) -> np.ndarray:
    """bool (n,): records whose number is known and not its commonest; none of a category. By a range few can be kept apart so."""
    place = _place_of(schema, name)
    if place is None or place[0].categories:
        return np.zeros(data.records, bool)
    values = data.x[:, place[1]]
    there = ~np.isnan(values)
    found, counts = np.unique(values[there], return_counts=True)
    return there & (values != found[counts.argmax()]) if found.size else there


def known(data: Dataset, schema: Schema, block: Block) -> np.ndarray:
    """bool (n,): records that have a value of the block's first column, and are among those it is of."""
    place = _place_of(schema, block.columns[0])
    assert place is not None, "a block names columns of its schema"
    found = ~np.isnan(data.x[:, place[1]])
    if block.among == EVERYBODY:
        return found
    of_group = _place_of(schema, block.among[0])
    assert of_group is not None, "a block is among levels of its schema"
    return found & (data.x[:, of_group[1] + of_group[0].categories.index(block.among[1])] > 0.5)


def without(data: Dataset, schema: Schema, columns: Sequence[str]) -> Dataset:
    """The data as if these columns were missing."""
    x = data.x.copy()
    for name in columns:
        place = _place_of(schema, name)
        if name != BY_ITSELF and place is not None:
            feature, first = place
            x[:, first : first + feature.width] = 0.0 if feature.categories else np.nan
    return data._replace(x=x)


def _place_of(schema: Schema, name: str) -> Optional[Tuple[Feature, int]]:
    first = 0
    for feature in schema.features:
        if feature.name == name:
            return feature, first
        first += feature.width
    return None


def _pieces(
    analysis: Analysis, asked: np.ndarray, data: Dataset, whose: np.ndarray
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """(vectors, the records they are of), those of a person in one piece, or with one vector where sums are of patients."""
    question = analysis.question(asked)
    if analysis.of_patients(question):
        yield from zip(unit_vectors(analysis, asked, data, "patient"), data.units("patient"))
        return
    order, rows = np.argsort(whose, kind="stable"), max(1, _PIECE // analysis.sums.size)
    ends = np.append(np.flatnonzero(np.diff(whose[order])) + 1, len(order))
    start = 0
    while start < len(order):
        after = ends[np.searchsorted(ends, min(start + rows, len(order)))]
        piece = order[start:after]
        yield analysis.vectors(question, data.x[piece]), piece
        start = int(after)


def _together(added: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The sum of each person's rows, which begin at `starts`."""
    return added if len(starts) == len(added) else np.add.reduceat(added, starts, axis=0)


def _effective(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(sum |a|)^2 / sum a^2, 0 where nobody adds anything."""
    return np.where(second > 0, first**2 / np.where(second > 0, second, 1.0), 0.0)


def _amounts(u: np.ndarray, feature: Feature) -> np.ndarray:
    """In the units of the file, of numbers over [-1, 1] that are 0 where a record adds nothing."""
    low, high = feature.scaled_range
    values = low + (high - low) * (u + 1) / 2
    return np.where(u != 0, np.abs(np.exp(values) if feature.transform else values), 0.0)
