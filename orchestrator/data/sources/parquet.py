"""Parquet, where pyarrow is installed."""

from pathlib import Path
from typing import Any, Iterator, List

import numpy as np

from orchestrator.data.sources.base import Row, Source, cells

_BATCH = 4096


def _rows(path: Path, part: str) -> Iterator[Row]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        yield 0, names
        number = 0
        for batch in file.iter_batches(_BATCH):
            for values in zip(*(_values(column) for column in batch.columns)):
                number += 1
                yield number, cells(number, names, values)


def _values(column: Any) -> List[Any]:
    """Those of a batch. A number of single or half precision is the shortest one that means it, as in other formats: 0.1."""
    kind = {"float": np.float32, "halffloat": np.float16}.get(str(column.type))
    if kind is None:
        return list(column.to_pylist())
    return [None if value is None else float(str(kind(value))) for value in column.to_pylist()]


PARQUET = Source(lambda head: head.startswith(b"PAR1"), _rows, "pyarrow")
