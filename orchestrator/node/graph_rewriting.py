"""A function of a training graph under reconstruction, with the row as one more leading axis (node/graph_rows.py)."""

from collections import Counter
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from orchestrator.node.graph_check import without_unused
from orchestrator.node.graph_file import ITEM_BYTES, Function, Operation
from orchestrator.node.graph_ops import RULES
from orchestrator.node.graph_shapes import FLOAT, INT, Call, Known, Shape, size_of


class NoRuleError(Exception):
    """An operator is used in a way no rule covers, or there is too much of something with rows."""


class Pick(NamedTuple):
    """What was picked out of a new tensor (rows, batch, height, width, channels)."""

    x: int
    places: Tuple[Tuple[int, int, int], Tuple[int, int, int]]
    """Of height and width: the first place, how far one is from the next, and how many."""


MOST_WORK = 1 << 15
"""Operators asked for, at most: of a network of 50 layers they are some thousand. A graph of few could ask for very many."""


class Rows:
    """The function under construction. `new`: tensor index by the old one; `rowed`: new tensors that begin with the row.

    Its constants have at most `most_bytes`, counted before one is made: a graph may repeat a large one for every row.
    """

    def __init__(self, function: Function, rows: int, rules: Mapping[str, "Give"], most_bytes: int) -> None:
        self.old, self.rows, self._rules, self._left = function, rows, rules, most_bytes
        self._uses = Counter(index for operation in function.operations for index in set(operation.inputs))
        self._work = 0
        self.tensors: List[Known] = []
        self.operations: List[Operation] = []
        self.new: Dict[int, int] = {-1: -1}
        self.rowed: Set[int] = set()
        self._made: Dict[Any, Any] = {}
        self._makers: Dict[int, Operation] = {}
        self._reshaped: Dict[int, int] = {}
        self.padded: Dict[int, Tuple[int, Sequence[Sequence[int]]]] = {}
        """By a new tensor with zeros around: what it was before, and how many there are before and behind, by axis."""
        self.picks: Dict[int, Pick] = {}
        """By a new tensor in its first shape, where some places are a stride apart."""
        self.sums: Dict[int, int] = {}
        """Of new tensors with rows: their sum over the rows (node/graph_row_sums.py)."""
        self.joined: Dict[Tuple[Tuple[int, ...], int], int] = {}
        """What new tensors are one behind the other on an axis, where there is a faster way to it than to join them."""

    def rewritten(self, end: Optional["End"] = None) -> Function:
        """(w, x, y) -> each record's gradient; with an `end`, (w, x, y, sw) -> what it makes of those."""
        old, (w, x, y, sw) = self.old, self.old.inputs
        self.new[w] = self.tensor(old.tensors[w])
        for index in (x, y) if end is None else (x, y, sw):
            self.new[index] = self.tensor(self.rowed_form(index), rowed=True)
        if end is None:
            self.new[sw] = self.tensor(Known(FLOAT, old.tensors[sw].shape, np.ones(old.tensors[sw].shape, "<f4")))
        for operation in _needed(old):
            self._take(operation)
        gradient = self.new[old.outputs[0]]
        if gradient not in self.rowed:
            raise NoRuleError("a gradient that no record has a part in")
        inputs = tuple(self.new[index] for index in (old.inputs[:3] if end is None else old.inputs))
        outputs = (gradient if end is None else end(self, gradient),)
        made = Function(tuple(self.tensors), tuple(self.operations), inputs, outputs, 0)
        return without_unused(made._replace(operations=tuple(_needed(made))))

    def _take(self, operation: Operation) -> None:
        for index in operation.inputs:
            if index not in self.new:
                self.new[index] = self.tensor(self.old.tensors[index])
        if not any(self.new[index] in self.rowed for index in operation.inputs):
            made = self.add(
                operation.name,
                [self.new[i] for i in operation.inputs],
                operation.options,
                len(operation.outputs),
                operation.version,
            )
        else:
            rule = self._rules.get(operation.name)
            if rule is None:
                raise NoRuleError(operation.name)
            made = rule(self, operation)
            for index, out in zip(operation.outputs, made):
                known, wanted = self.tensors[out], self.rowed_form(index)
                if (known.dtype, known.shape) != (wanted.dtype, wanted.shape):
                    raise NoRuleError(f"{operation.name} gives {known.shape}, expected {wanted.shape}")
                self.rowed.add(out)
        self.new.update(zip(operation.outputs, made))

    def rowed_form(self, index: int) -> Known:
        """What an old tensor is with its rows."""
        known = self.old.tensors[index]
        return Known(known.dtype, (self.rows, *known.shape))

    def tensor(self, known: Known, rowed: bool = False) -> int:
        """NoRuleError where there is no room for it."""
        if known.data is not None:
            self._left -= _bytes_of(known)
            self._check_room(0)
        self.tensors.append(known)
        if rowed:
            self.rowed.add(len(self.tensors) - 1)
        return len(self.tensors) - 1

    def _check_room(self, more: int) -> None:
        if more > self._left:
            raise NoRuleError("too much memory")

    def floats(self, values: np.ndarray) -> int:
        """A constant of float32."""
        data = np.ascontiguousarray(values, "<f4")
        key = ("floats", data.shape, data.tobytes())
        if key not in self._made:
            self._made[key] = self.tensor(Known(FLOAT, data.shape, data))
        return int(self._made[key])

    def zeros(self, count: int) -> int:
        return self.floats(np.zeros(count, "<f4"))

    def numbers(self, values: Any) -> int:
        """A constant of whole numbers; NoRuleError where one is too large."""
        wide = np.asarray(values, np.int64)
        data = wide.astype("<i4")
        if (data != wide).any():
            raise NoRuleError("numbers beyond int32")
        key = (data.shape, data.tobytes())
        if key not in self._made:
            self._made[key] = self.tensor(Known(INT, data.shape, data))
        return int(self._made[key])

    def is_zero(self, index: int) -> bool:
        """Whether an old tensor is a constant of zeros."""
        data = self.old.tensors[index].data
        return index < 0 or (data is not None and not data.any())

    def add(
        self,
        name: str,
        inputs: Sequence[int],
        options: Optional[Dict[str, Any]] = None,
        outputs: int = 1,
        version: int = 1,
    ) -> List[int]:
        """Appends an operator whose shapes are those of its rule in node/graph_ops.py; the outputs' indices.

        One that is there already, of the same inputs, is not made twice: no operator keeps anything.
        """
        self._work += 1
        if self._work > MOST_WORK:
            raise NoRuleError("too many operators")
        full = {option.name: option.default for option in RULES[name].options}
        full.update(options or {})
        key = (name, tuple(inputs), tuple(sorted(full.items())))
        if key in self._made:
            return list(self._made[key])
        known = [None if i < 0 else self.tensors[i] for i in inputs]
        found = RULES[name].infer(Call(known, full, outputs))
        computed = _computed(name, known, full, found)
        if computed is not None:
            self._made[key] = [self.tensor(computed)]
            return list(self._made[key])
        made = [self.tensor(tensor) for tensor in found]
        self.operations.append(Operation(name, version, tuple(inputs), tuple(made), full))
        self._makers.update(dict.fromkeys(made, self.operations[-1]))
        self._made[key] = made
        return list(made)

    def maker(self, new: int) -> Optional[Operation]:
        """The operator that gives a new tensor; None for inputs and constants."""
        return self._makers.get(new)

    def shape(self, index: int) -> Shape:
        """Of an old tensor, as it was."""
        return self.old.tensors[index].shape

    def is_rowed(self, index: int) -> bool:
        return self.new[index] in self.rowed

    def uses(self, index: int) -> int:
        """How many operators take an old tensor."""
        return self._uses[index]

    def constant(self, index: int) -> np.ndarray:
        """An old tensor's numbers."""
        data = self.old.tensors[index].data
        if data is None:
            raise NoRuleError("a computed axis")
        return np.asarray(data, np.int64)

    def reshaped(self, new: int, shape: Sequence[int]) -> int:
        """A new tensor in another shape; what lies in one row has to stay there, which callers see to.

        What was reshaped is reshaped from what it first was, so that shapes nobody wants are not made (`_needed`).
        """
        first = self._reshaped.get(new, new)
        if self.tensors[first].shape == tuple(shape):
            return first
        data = self.tensors[first].data
        if data is not None:
            return self.tensor(self.tensors[first]._replace(shape=tuple(shape), data=data.reshape(shape)))
        (made,) = self.add("RESHAPE", [first, self.numbers(list(shape))])
        self._reshaped[made] = first
        return made

    def unshaped(self, new: int) -> int:
        """A new tensor in the shape it first had, for what does not look at shapes."""
        return self._reshaped.get(new, new)

    def spread(self, index: int) -> int:
        """An old tensor with rows, all alike where it had none."""
        new = self.new[index]
        if new in self.rowed:
            return new
        known, wanted = self.tensors[new], self.rowed_form(index)
        if known.data is not None:
            self._check_room(_bytes_of(wanted))
            return self.tensor(wanted._replace(data=np.ascontiguousarray(np.broadcast_to(known.data, wanted.shape))))
        return self.add(
            "TILE",
            [self.reshaped(new, (1, *known.shape)), self.numbers([self.rows, *[1] * len(known.shape)])],
        )[0]

    def only_first(self, operation: Operation, place: int = 0) -> int:
        """The new tensor of the only input with rows; no other may have them."""
        if any(self.is_rowed(i) for at, i in enumerate(operation.inputs) if at != place):
            raise NoRuleError(f"{operation.name} by numbers of the record")
        return self.new[operation.inputs[place]]


def _bytes_of(known: Known) -> int:
    return size_of(known.shape) * ITEM_BYTES[known.dtype]


def _computed(
    name: str, inputs: Sequence[Optional[Known]], options: Dict[str, Any], outputs: Sequence[Known]
) -> Optional[Known]:
    """What an operator gives for a few numbers that are all constants, where any runtime gives these bits; None elsewhere.

    A graph works out the mean over its sample weights, which are known to be 1 here, and each call would do it again.
    """
    data = [known.data for known in inputs if known is not None]
    few = [some for some in data if some is not None and some.size <= _FEW_NUMBERS]
    (out, *others) = outputs
    if not data or len(few) < len(data) or others or out.dtype != FLOAT or size_of(out.shape) > _FEW_NUMBERS:
        return None
    if name == "RESHAPE" or (name == "SUM" and few[0].size == 1):
        values = few[0]
    elif name in _EXACT and not options.get("activation"):
        with np.errstate(all="ignore"):
            values = _EXACT[name](*few)
    else:
        return None
    return out._replace(data=np.ascontiguousarray(values, "<f4").reshape(out.shape))


_FEW_NUMBERS = 64

_EXACT: Dict[str, Callable[..., np.ndarray]] = {
    "ADD": np.add,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "MUL": np.multiply,
    "NEG": np.negative,
    "SUB": np.subtract,
}


def _needed(function: Function) -> List[Operation]:
    """The operators the gradient is made by, in order."""
    wanted, found = {function.outputs[0]}, []
    for operation in reversed(function.operations):
        if wanted.intersection(operation.outputs):
            wanted.update(operation.inputs)
            found.append(operation)
    return found[::-1]


End = Callable[[Rows, int], int]
"""What is made of all records' gradients, a new tensor: the new tensor the function gives."""

Give = Callable[[Rows, Operation], List[int]]
"""A rule: appends what an operator is with rows, and gives the new tensors in the place of its outputs."""
