"""Sums over all records of a call (node/graph_rows.py), for steps that promise nothing about single ones.

A gradient's last operators are sums and products of matrices, and the sum over the records is made in the same ones: the places
an operator sums over are then those of all records, so that no gradient of a single record is there at all.
"""

from typing import Callable, Dict, List, Optional, Tuple

from orchestrator.node.graph_file import Operation
from orchestrator.node.graph_rewriting import Rows
from orchestrator.node.graph_shapes import Shape, size_of

_WIDE = 64
"""Sums over the first axis go over whole lines, and lines of fewer numbers than this are put together."""

_DEEP = 16
"""Operators one behind the other that a sum is made in, at most."""


def summed(rows: Rows, x: int, depth: int = 0) -> int:
    """Sums a new tensor over its rows; the result has one axis. What is asked for twice is made once."""
    if x not in rows.sums:
        maker = rows.maker(x)
        rule = _RULES.get(maker.name) if maker and depth < _DEEP else None
        made = rule(rows, maker, depth + 1) if rule and maker else []
        numbers = size_of(rows.tensors[x].shape) // rows.rows
        rows.sums[x] = made[0] if made else lines_summed(rows, x, rows.rows, numbers)
    return rows.sums[x]


def lines_summed(rows: Rows, x: int, lines: int, numbers: int) -> int:
    """The sum of so many lines of a new tensor: (numbers,)."""
    x = _once_summed(rows, x, lines, numbers)
    wide = size_of(rows.tensors[x].shape)
    if wide > numbers:
        (x,) = rows.add("SUM", [rows.reshaped(x, (wide // numbers, numbers)), rows.numbers([0])], {"keep_dims": False})
    return rows.reshaped(x, (numbers,))


def _once_summed(rows: Rows, x: int, lines: int, numbers: int) -> int:
    """The sum over the first axes of lines one behind the other; where they are short, several of them are a longer one.

    Gives (numbers,), or (k x numbers,), of which the k lines are still to be added up.
    """
    x = rows.unshaped(x)
    shape = rows.tensors[x].shape
    first = next((axis for axis in range(len(shape) - 1, 0, -1) if size_of(shape[axis:]) % numbers == 0), 0)
    if not first:
        shape, first = (lines, numbers), 1
        x = rows.reshaped(x, shape)
    while first > 1 and size_of(shape[first:]) < _WIDE:
        first -= 1
    return rows.add("SUM", [x, rows.numbers(list(range(first)))], {"keep_dims": False})[0]


def _of_reshaped(rows: Rows, maker: Operation, depth: int) -> List[int]:
    return [summed(rows, maker.inputs[0], depth)]


def _of_joined(rows: Rows, maker: Operation, depth: int) -> List[int]:
    """Of parts (rows, n) that are one behind the other."""
    shapes = [rows.tensors[part].shape for part in maker.inputs]
    if maker.options["axis"] != 1 or any(len(shape) != 2 or shape[0] != rows.rows for shape in shapes):
        return []
    sums = [_lines_of_sum(rows, rows.maker(rows.unshaped(part))) for part in maker.inputs]
    first = [_once_summed(rows, *of) for of in sums if of is not None]
    wide = {size_of(rows.tensors[x].shape) for x in first}
    numbers = {shape[1] for shape in shapes}
    if len(first) < len(sums) or len(wide) > 1 or len(numbers) > 1:
        return rows.add("CONCATENATION", [summed(rows, part, depth) for part in maker.inputs], {"axis": 0})
    # One of all parts rather than one of each: what is small costs as much.
    (length,), (least,) = wide, numbers
    (made,) = rows.add("CONCATENATION", [rows.reshaped(x, (length,)) for x in first], {"axis": 0})
    made = rows.reshaped(made, (len(first), length // least, least))
    (made,) = rows.add("SUM", [made, rows.numbers([1])], {"keep_dims": False})
    return [rows.reshaped(made, (len(first) * least,))]


def _of_sum(rows: Rows, maker: Operation, depth: int) -> List[int]:
    """Of a sum over the axes behind the row."""
    of = _lines_of_sum(rows, maker)
    return [lines_summed(rows, *of)] if of is not None else []


def _lines_of_sum(rows: Rows, maker: Optional[Operation]) -> Optional[Tuple[int, int, int]]:
    """(what, how many lines, of how many numbers) an operator sums that sums over the axes behind the row; None for another."""
    if maker is None or maker.name != "SUM":
        return None
    x, axes = maker.inputs
    shape, over = rows.tensors[x].shape, rows.tensors[axes].data
    if over is None or sorted(over.ravel().tolist()) != list(range(1, over.size + 1)) or shape[0] != rows.rows:
        return None
    return x, size_of(shape[: over.size + 1]), size_of(shape[over.size + 1 :])


def _of_outer(rows: Rows, maker: Operation, depth: int) -> List[int]:
    """Of products (rows, m, 1) and (rows, 1, n), number by number."""
    a, b = maker.inputs
    shapes = [rows.tensors[i].shape for i in (a, b)]
    if maker.options["activation"] or not all(_of_records(rows, shape) for shape in shapes):
        return []
    if shapes[0][2] != 1 or shapes[1][1] != 1:
        return []
    return [_transposed_product(rows, a, b, rows.rows)]


def _of_records(rows: Rows, shape: Shape) -> bool:
    return len(shape) == 3 and shape[0] == rows.rows


def _transposed_product(rows: Rows, a: int, b: int, lines: int) -> int:
    """A^T B of tensors of so many lines, flat."""
    sizes = [size_of(rows.tensors[i].shape) // lines for i in (a, b)]
    left, right = (rows.reshaped(i, (lines, size)) for i, size in zip((a, b), sizes))
    (made,) = rows.add("BATCH_MATMUL", [left, right], {"adj_x": True})
    return rows.reshaped(made, (sizes[0] * sizes[1],))


_RULES: Dict[str, Callable[[Rows, Operation, int], List[int]]] = {
    "CONCATENATION": _of_joined,
    "MUL": _of_outer,
    "RESHAPE": _of_reshaped,
    "SUM": _of_sum,
}
"""By the operator that makes a tensor: its sum over the rows, or nothing where there is no better way than to add them up."""
