"""Parquet, where pyarrow is installed."""

from pathlib import Path
from typing import Iterator

from orchestrator.data.sources.base import Row, Source, cells

_BATCH = 4096


def _rows(path: Path, part: str) -> Iterator[Row]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        yield 0, names
        number = 0
        for batch in file.iter_batches(_BATCH):
            for values in zip(*(column.to_pylist() for column in batch.columns)):
                number += 1
                yield number, cells(number, names, values)


PARQUET = Source(lambda head: head.startswith(b"PAR1"), _rows, "pyarrow")
