"""What is to be learned of a record, as its target's code, from the cells that say it."""

from typing import Any, List, Sequence, Tuple

import numpy as np

from orchestrator.data.cells import UNLABELLED, Codes, finite, no_class, shown, unfit_number
from orchestrator.data.problems import Problems
from orchestrator.wire.schema import Schema


class Outcome:
    """Reads the target's columns of one file."""

    def __init__(self, schema: Schema) -> None:
        self._schema, self._target, self._declared = schema, schema.learned, schema.declared
        self.columns = tuple(name for name in self._target.columns if name)
        self._labels = Codes(tuple(schema.label_values))
        self._classes = [*schema.label_values.values(), UNLABELLED]

    def find(self, cells: Sequence[str]) -> int:
        """What is read of a record with these cells, one for each of `columns` (Declared.read); UNLABELLED without a label."""
        if self._declared is None:
            return self._classes[self._labels.find(cells[0])]
        numbers = [number for number in map(finite, cells) if number is not None]
        try:
            return self._declared.read(numbers) if len(numbers) == len(cells) else UNLABELLED
        except ValueError:
            return UNLABELLED

    def clamped(self, cells: Sequence[str]) -> bool:
        """Whether a record's value is beyond the target's range, and counts as its nearest end."""
        limits = self._target.limits
        value = finite(cells[0]) if limits is not None and cells else None
        return limits is not None and value is not None and not limits[0] <= value <= limits[1]

    def explain(self, cells: Sequence[str]) -> List[Tuple[str, str]]:
        """(column, why `find` finds none); for the owner of the data, since cells are quoted."""
        if self._declared is None:
            return [(self.columns[0], no_class(self._schema, cells[0]))] if self.find(cells) < 0 else []
        wrong = [(name, cell) for name, cell in zip(self.columns, cells) if finite(cell) is None]
        if wrong:
            return [(name, unfit_number(cell)) for name, cell in wrong]
        try:
            self._declared.read([number for number in map(finite, cells) if number is not None])
        except ValueError as error:
            return [(self.columns[0], f"{', '.join(map(shown, cells))}: {error}")]
        return []


def codes_of(schema: Schema, arrays: Sequence[Any], records: int, problems: Problems) -> np.ndarray:
    """int32 (records,): codes from the arrays of a signal file, one for each of the target's columns; UNLABELLED without any."""
    y, outcome = np.full(records, UNLABELLED, np.int64), Outcome(schema)
    for i, values in enumerate(zip(*(array.tolist() for array in arrays))):
        cells = [cell_of(value) for value in values]
        y[i] = outcome.find(cells)
        if y[i] == UNLABELLED:
            for name, why in outcome.explain(cells) if problems.listed else [("", "")]:
                problems.add("", f"record {i} of {name}: {why}")
    return schema.learned.codes(y).astype(np.int32)


def cell_of(value: Any) -> str:
    """One value of an array as a table would have it: arrays of bytes are text too, and spaces around it are not read."""
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
