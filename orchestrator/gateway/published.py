"""What an honest gateway shows of exact tables: no small cells, nor what those follow from (`[gateway] minimum_cell`).

It cannot bind a gateway that lies: that is for the nodes' own rules (node/guard.py), each on its own records. A cell is hidden as
not a number; so is all that is computed from it.
"""

from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from orchestrator.analyses.agents import PeerAnalysis
from orchestrator.analyses.base import Analysis, Cell, Result, State, Table
from orchestrator.analyses.blocks import CELLS, LEFT_OUT, ROUNDED, Block
from orchestrator.gateway.exchanged import FIGURES, TRAFFIC, taken_from, with_exchange
from orchestrator.wire.plain import many

WORDS = "owners"
"""Of the vectors of a run: what nodes said of their owners' rules."""


def words_of(headers: Iterable[Mapping[str, object]], parts: int) -> Dict[str, np.ndarray]:
    """{WORDS: (nodes that left parts out, these parts, nodes that rounded, the largest multiple)}; {} where none did.

    parts: that a node may leave out. What cannot be is not counted.
    """
    left_out: List[int] = []
    rounded: List[int] = []
    for header in headers:
        for name, found, least, most in ((LEFT_OUT, left_out, 1, parts), (ROUNDED, rounded, 2, 1_000_000_000)):
            said = header.get(name)
            if isinstance(said, int) and not isinstance(said, bool) and least <= said <= most:
                found.append(said)
    if not left_out and not rounded:
        return {}
    return {WORDS: np.array([len(left_out), sum(left_out), len(rounded), max(rounded, default=1)], np.float64)}


def published(analysis: Analysis, state: State, units: str, minimum: int = 0) -> Result:
    """The result, of exact sums without cells of 1 to `minimum` - 1, and with what nodes said of their owners' rules."""
    state = dict(state)
    notes = list(_of_owners(state.pop(WORDS, None), units))
    exchanged = taken_from(state)
    noisy = any(state[name].any() for name in ("deviation", "noise") if name in state)
    if minimum > 1 and not noisy:
        notes += _hide(analysis, state, units, minimum)
    result = analysis.result(state, units)
    if isinstance(analysis, PeerAnalysis) and len(exchanged) == 2:
        result = with_exchange(analysis, result, exchanged[FIGURES], exchanged[TRAFFIC])
    return Result([_shown(table) for table in result.tables], [*result.notes, *notes])


def _hide(analysis: Analysis, state: State, units: str, minimum: int) -> Iterator[str]:
    """Changes the state, and says what is not shown of it."""
    blocks = analysis.blocks(analysis.question(analysis.begin(0)))
    if analysis.in_steps:
        state["total"] = merged_steps(state["total"], blocks, minimum)
        yield f"steps with fewer than {minimum} {units} with an event, or lost to view, count together with those after them"
    elif any(block.shown for block in blocks):
        hidden = hidden_places(state["total"], blocks, minimum)
        state["total"] = np.where(hidden, np.nan, state["total"])
        if hidden.any():
            yield f"{hidden.sum()} cells are not shown: of fewer than {minimum} {units}, or those would follow from them"
    elif any(block.rule == CELLS and block.at.size > 1 for block in blocks):
        yield f"cells of fewer than {minimum} {units} are not hidden in results of this kind"


def _of_owners(words: Optional[np.ndarray], units: str) -> Iterator[str]:
    if words is None:
        return
    nodes, parts, rounding, multiple = (int(value) for value in words)
    if nodes:
        left = many(parts, "column or crosstab", "columns or crosstabs")
        yield (
            f"{many(nodes, 'node')} left out {left} by the rules of their owners, for cells of few: of a column "
            f"their {units} count as missing, in a crosstab they are in no cell"
        )
    if rounding:
        yield f"{many(rounding, 'node')} rounded their counts in tables, to multiples of up to {multiple}"


def _shown(table: Table) -> Table:
    """With nothing in the place of what is no number."""
    rows: List[Tuple[Cell, ...]] = [
        tuple(None if isinstance(cell, float) and cell != cell else cell for cell in row) for row in table.rows
    ]
    return table._replace(rows=rows)


def hidden_places(total: np.ndarray, blocks: List[Block], minimum: int) -> np.ndarray:
    """bool (size,): what is not shown of a total, of tables whose margins are."""
    hidden = np.zeros(len(total), bool)
    tables = [block for block in blocks if block.rule == CELLS and block.shown]
    lines = {block.columns[0]: block for block in tables if len(block.columns) == 1}
    for block in lines.values():
        hidden[block.at] = hidden_in_line(total[block.at], minimum)
    for block in (block for block in tables if len(block.columns) == 2):
        first, second = (lines.get(name) for name in block.columns)
        counts, rest = total[block.at], _rest(total, block, first, second)
        hidden[block.at] = hidden_in_table(counts, minimum, *rest)
        for line, axis in ((first, 0), (second, 1)):
            if line is not None:
                hidden[np.moveaxis(block.at, axis, 0)[hidden[line.at]]] = True
    return hidden


def _rest(
    total: np.ndarray, block: Block, first: Optional[Block], second: Optional[Block]
) -> Tuple[np.ndarray, np.ndarray]:
    """Of each row and column of a crosstab, how many are in none of its cells, which the levels of both columns tell."""
    counts = total[block.at]
    if first is None or second is None:
        return np.zeros(counts.shape[0]), np.zeros(counts.shape[1])  # they are in the table, as missing
    return total[first.at] - counts.sum(axis=1), total[second.at] - counts.sum(axis=0)


def hidden_in_line(counts: np.ndarray, minimum: int) -> np.ndarray:
    """bool (n,): small counts, and the smallest others that it takes to make them two or more, of `minimum` together."""
    small = (counts > 0) & (counts < minimum)
    order = iter(np.argsort(np.where(small | (counts <= 0), np.inf, counts), kind="stable"))
    hidden = small.copy()
    while small.any() and (hidden.sum() < 2 or counts[hidden].sum() < minimum):
        following = next(order, None)
        if following is None:
            break
        hidden[following] = True
    return hidden


def hidden_in_table(counts: np.ndarray, minimum: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """bool (r, c): small counts of a table whose margins are known, and of each so many others that it may be `minimum` as well.

    rows, columns: how many of each are in none of the cells; nobody sees these, so that they hide others for nothing. A cell i, j
    does not follow from its margins where i, k and l, j and l, k are hidden, too: by as much as the smaller of the first two has,
    it may be more. Of all such three those are hidden that are seen the least (Giessing and Repsilber 2002, hypercubes).
    """
    whole = np.zeros((counts.shape[0] + 1, counts.shape[1] + 1))
    whole[:-1, :-1], whole[:-1, -1], whole[-1, :-1] = counts, rows, columns
    inside = np.zeros(whole.shape, bool)
    inside[:-1, :-1] = True
    hidden = ~inside
    small = inside & (whole > 0) & (whole < minimum)
    hidden |= small
    for i, j in np.argwhere(small):
        slack = np.minimum(whole[i][np.newaxis, :], whole[:, j][:, np.newaxis])  # of l, k
        slack[i, :] = slack[:, j] = -1.0
        cost = np.where(hidden, 0.0, whole)
        price = cost[i][np.newaxis, :] + cost[:, j][:, np.newaxis] + cost
        enough = slack >= minimum - whole[i, j]
        if not enough.any():
            return np.ones(counts.shape, bool)
        at, across = np.unravel_index(int(np.where(enough, price, np.inf).argmin()), price.shape)
        hidden[i, across] = hidden[at, j] = hidden[at, across] = True
    return hidden[:-1, :-1]


def merged_steps(total: np.ndarray, blocks: List[Block], minimum: int) -> np.ndarray:
    """The total with events, and records lost to view, of few in the last of as many steps as it takes to be none or `minimum`.

    Of a group that has fewer in all, not a number.
    """
    found = total.copy()
    groups: Dict[Tuple[str, str], List[Block]] = {}
    for block in blocks:
        if block.rule == CELLS:
            groups.setdefault(block.among, []).append(block)
    for pair in groups.values():
        places = np.stack([block.at for block in pair])
        found[places] = _merged(total[places], minimum)
    return found


def _merged(counts: np.ndarray, minimum: int) -> np.ndarray:
    """counts: (2, steps)."""
    merged, waiting, last = np.zeros_like(counts), np.zeros(len(counts)), -1
    for step in range(counts.shape[1]):
        waiting = waiting + counts[:, step]
        if waiting.any() and ((waiting == 0) | (waiting >= minimum)).all():
            merged[:, step], waiting, last = waiting, np.zeros(len(counts)), step
    while waiting.any() and last >= 0:  # the end has too few: with what is before it
        waiting, merged[:, last] = waiting + merged[:, last], 0.0
        if ((waiting == 0) | (waiting >= minimum)).all():
            merged[:, int(np.flatnonzero(counts.any(axis=0))[-1])] = waiting
            return merged
        before = np.flatnonzero(merged.any(axis=0))
        last = int(before[-1]) if before.size else -1
    return np.full_like(counts, np.nan) if waiting.any() else merged
