"""Where records go from a monitor: files, a Prometheus endpoint (prometheus.py), the gateway over MQTT (forward.py)."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, List, Protocol, Sequence, TextIO

from orchestrator.boards.protocol import Record
from orchestrator.errors import UsageError
from orchestrator.mishaps import sentence
from orchestrator.wire.plain import csv_cell

log = logging.getLogger("edgeward.monitor")

CSV_HEAD = ("received_at", "port", "boot", "seq", "model", "t_us", "kind", "fields")
SUFFIXES = (".jsonl", ".csv", ".parquet")
_PARQUET_ROWS = 10_000
_FLUSH_S = 0.2
_BLOCK = 1 << 16


class Exporter(Protocol):
    """What takes records: write() is called by one thread at a time, flush() now and then by another."""

    def write(self, port: str, received_at: float, record: Record) -> None: ...

    def flush(self) -> None: ...

    def summary(self) -> str:
        """What a user should know at the end; empty for nothing."""
        ...

    def close(self) -> None: ...


class Steady:
    """Writes to another exporter's file while that works, and tries again with every record: a file that cannot be written is no
    reason to stop watching boards. What is lost is said once, and counted."""

    def __init__(self, exporter: Exporter, path: Path | str) -> None:
        """`path`: how to call it."""
        self._exporter, self._path = exporter, path
        self._lost, self._said = 0, False

    def write(self, port: str, received_at: float, record: Record) -> None:
        try:
            self._exporter.write(port, received_at, record)
            self._said = False
        except BrokenPipeError:
            raise  # who read it has gone, which is the way to end watching
        except Exception as error:
            self._lost += 1
            self._complain(error)

    def flush(self) -> None:
        try:
            self._exporter.flush()
        except BrokenPipeError:
            raise
        except Exception as error:
            self._complain(error)

    def summary(self) -> str:
        lost = f"{self._path}: up to {self._lost} records could not be written" if self._lost else ""
        return "; ".join(part for part in (self._exporter.summary(), lost) if part)

    def close(self) -> None:
        try:
            self._exporter.close()
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._said:
            self._said = True
            why = error.strerror if isinstance(error, OSError) and error.strerror else sentence(error)
            log.error("%s: %s; watching goes on, and records are not written until that works again", self._path, why)


def to_all(exporters: Sequence[Exporter]) -> Callable[[str, float, Record], None]:
    """What hands a record to each of them."""

    def write(port: str, received_at: float, record: Record) -> None:
        for exporter in exporters:
            exporter.write(port, received_at, record)

    return write


def json_line(port: str, received_at: float, record: Record, **more: Any) -> str:
    return json.dumps({"received_at": received_at, "port": port, **record.as_dict(), **more})


def open_file(path: Path) -> Exporter:
    """The exporter for a file's suffix. Raises UsageError for another one, and where it cannot be written."""
    if path.suffix == ".parquet":
        return ParquetFile(path)
    return RecordFile(path)


def _row(port: str, received_at: float, record: Record) -> List[Any]:
    """As CSV_HEAD names it; the kind's fields are JSON in one cell."""
    head = [received_at, port, record.boot, record.seq, record.model or "", record.t_us, record.kind]
    return [*head, json.dumps(record.fields)]


class RecordFile:
    """Records as they arrive: .jsonl, one object per line, or .csv. They come after those of an earlier monitor."""

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".jsonl", ".csv"):
            raise UsageError(f"{path}: records are written as {', '.join(SUFFIXES)}")
        self._path, self._stack = path, ExitStack()
        self._lock = threading.Lock()
        self._flushed_at = 0.0
        self._open()

    def _open(self) -> None:
        path = self._path
        with ExitStack() as opened:
            try:
                begun = _cut_unfinished(
                    path, f"{','.join(CSV_HEAD)}\r\n" if path.suffix == ".csv" else '{"received_at": '
                )
                file: TextIO = opened.enter_context(path.open("a", encoding="utf-8", newline=""))
            except OSError as error:
                raise UsageError(f"cannot write {path}: {error.strerror}") from error
            before, self._stack = self._stack, opened.pop_all()
        self._file = file
        self._csv = csv.writer(file) if path.suffix == ".csv" else None
        if self._csv is not None and not begun:
            self._csv.writerow(CSV_HEAD)
        before.close()

    def write(self, port: str, received_at: float, record: Record) -> None:
        with self._lock:
            if self._csv is None:
                self._file.write(json_line(port, received_at, record) + "\n")
            else:
                self._csv.writerow([csv_cell(cell) for cell in _row(port, received_at, record)])
        if received_at - self._flushed_at > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Where the file was moved away, as log rotation does, or removed, what follows goes to a new one of its name."""
        with self._lock:
            self._file.flush()
            if self._moved():
                self._open()
        self._flushed_at = time.time()

    def _moved(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return True

    def summary(self) -> str:
        return ""

    def close(self) -> None:
        self._stack.close()


def _cut_unfinished(path: Path, first: str) -> bool:
    """Removes a last line that was not finished, of a file that begins with `first`. Returns whether whole lines are left.

    UsageError for a file that begins otherwise.
    """
    if not path.is_file():
        return False
    with path.open("r+b") as file:
        head = file.read(len(first)).decode("utf-8", "replace")
        if not first.startswith(head):
            raise UsageError(f"{path}: is there, and not a file of records; move it away, or give another name")
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            last = file.read(end - begin).rfind(b"\n")
            if last >= 0:
                end = begin + last + 1
                break
            end = begin
        file.truncate(end)
        return end > 0


class Lines:
    """Every record as one line of JSON to a descriptor that is open already, such as standard output's.

    Nothing is kept: a line that cannot be written is lost, and does not fail again when the program ends.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, port: str, received_at: float, record: Record) -> None:
        left = json_line(port, received_at, record).encode() + b"\n"
        while left:
            left = left[os.write(self._descriptor, left) :]

    def flush(self) -> None:
        """Nothing: each line goes out at once."""

    def summary(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing: it is not ours."""


def _free_name(path: Path) -> Path:
    return next(one for n in itertools.count(1) if not (one := path.with_suffix(f".{n}{path.suffix}")).exists())


class ParquetFile:
    """Records in row groups; the file is readable only after close(), as the format has it, and nothing can be added to it then.

    One that is there is kept as NAME.1.parquet, or under the next number that is free.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as arrow
            from pyarrow import parquet
        except ImportError as error:
            raise UsageError(f"{path}: Parquet needs pyarrow (pip install pyarrow); .jsonl and .csv do not") from error
        text, real, number = arrow.string(), arrow.float64(), arrow.uint64()
        types = (real, text, text, number, text, number, text, text)
        self._schema = arrow.schema(list(zip(CSV_HEAD, types)))
        self._table = arrow.table
        self._rows: List[List[Any]] = []
        try:
            if path.is_file():
                path.rename(_free_name(path))
            self._writer = parquet.ParquetWriter(path, self._schema)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}") from error

    def write(self, port: str, received_at: float, record: Record) -> None:
        self._rows.append(_row(port, received_at, record))
        if len(self._rows) >= _PARQUET_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        columns: Dict[str, List[Any]] = {name: [row[i] for row in self._rows] for i, name in enumerate(CSV_HEAD)}
        self._writer.write_table(self._table(columns, schema=self._schema))
        self._rows = []

    def flush(self) -> None:
        """Nothing: a row group is written when it is full, or at the end."""

    def summary(self) -> str:
        return ""

    def close(self) -> None:
        if self._rows:
            self._write_group()
        self._writer.close()
