"""TensorFlow Lite Micro on the host: the oracle for the numbers a board must give, and the measure of its arena.

Only the `tflite-micro` wheel is TFLM itself. TensorFlow's and LiteRT's interpreters differ from it by up to tens of
LSB, so bit-exact tests compare with this module and nothing else.
"""

import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from model_export.errors import ExportError, RowsError, TfliteError, TflmError, UnsupportedOperatorError
from model_export.given_rows import check_numbers
from model_export.operators import operators
from model_export.operators.recurrent import each_row_a_series
from model_export.tflite_file import read_tflite, single_edges
from model_export.tflite_model import Op, TfliteModel
from model_export.variables import kept_bytes

PROCESS = Path(__file__).with_name("tflm_process.py")
FIRST_ARENA_BYTES = 4 << 20
LARGEST_ARENA_BYTES = 256 << 20
BATCH_SECONDS = 600


class Quantized(NamedTuple):
    """An int8 tensor at the edge of a model: real = scale * (int8 - zero_point)."""

    shape: Tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int

    def quantize(self, values: "np.ndarray") -> "np.ndarray":
        """float (rows, ...) to int8 (rows, *shape[1:]): round half to even, saturate at -128 and 127.

        Raises RowsError for rows of another size, and for what has no int8 value: NaN, infinity, numbers beyond float32.
        """
        values = np.asarray(values)
        check_size(values, self.shape)
        values = check_numbers(values, "the rows hold")
        q = np.rint(values / np.float32(self.scale)) + self.zero_point
        return np.clip(q, -128, 127).astype(np.int8).reshape(-1, *self.shape[1:])

    def dequantize(self, values: "np.ndarray") -> "np.ndarray":
        """int8 to float32, the same shape."""
        return (values.astype(np.float32) - self.zero_point) * np.float32(self.scale)


class Arena(NamedTuple):
    """What RecordingMicroAllocator counted on this machine (64-bit structs), in bytes.

    `head` holds activations, which are the same size on every target; `tail` holds structs with pointers in them.
    model_export.arena32 computes from them what a board needs.
    """

    total: int
    head: int
    tail: int


class TflmModel:
    """An int8 .tflite model that TFLM on this machine has loaded and run once.

    Raises UnsupportedOperatorError naming the first operator TFLM has no kernel for, TflmError when loading or running
    fails or kills TFLM's process, ExportError for bytes that are no model or a model that is not int8 with one input
    and one output.
    """

    def __init__(self, blob: bytes) -> None:
        parsed = read_tflite(blob)
        single_edges(parsed)
        _check_stops(parsed)
        self.state_bytes = _kept_bytes(parsed)
        """What the model keeps from one inference to the next: then its outputs depend on the rows before. 0 without state."""
        self.operators: List[Op] = [op for graph in parsed.subgraphs for op in graph.ops]
        self.blob = blob
        self._begins = "each" if each_row_a_series(parsed) else "first"
        self._arena_bytes = FIRST_ARENA_BYTES + 10 * len(blob)
        _, printed, details = self._start(np.zeros((0, 1), np.int8))
        self.input = _quantized(details["input"], "input", parsed)
        self.output = _quantized(details["output"], "output", parsed)
        self.arena = _arena(printed)

    @property
    def operator_names(self) -> List[str]:
        """The distinct builtin names used, sorted."""
        return sorted({op.code for op in self.operators})

    def run(self, rows: "np.ndarray") -> "np.ndarray":
        """int8 (rows, ...) to int8 (rows, *output shape without batch), row by row at batch 1, from the initial state.

        Every call starts a process (about 0.3 s): give it many rows. Raises ExportError for another dtype or size.
        """
        shaped = check_rows(rows, self.input.shape)
        if not len(shaped):
            return np.zeros((0, *self.output.shape[1:]), np.int8)
        outputs, _, _ = self._start(shaped)
        return outputs

    def run_tensors(self, rows: "np.ndarray", tensors: Sequence[int]) -> Dict[int, "np.ndarray"]:
        """What the int8 tensors of these indices in the main graph hold after each row: index -> int8 (rows, elements)."""
        shaped = check_rows(rows, self.input.shape)
        joined, _, _ = self._start(shaped, tensors)
        known = read_tflite(self.blob).tensors
        sizes = [int(np.prod(known[tensor].shape)) for tensor in tensors]
        parts = np.split(joined.reshape(len(shaped), sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
        return dict(zip(tensors, parts))

    def _start(
        self, rows: "np.ndarray", tensors: Sequence[int] = ()
    ) -> Tuple["np.ndarray", str, Dict[str, Dict[str, object]]]:
        with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
            model, given, outputs = (Path(folder) / name for name in ("model.tflite", "rows.npy", "outputs.npy"))
            model.write_bytes(self.blob)
            np.save(given, rows)
            while True:
                command = [sys.executable, str(PROCESS), str(model), str(given), str(outputs), str(self._arena_bytes)]
                command += [self._begins, *([",".join(map(str, tensors))] if tensors else [])]
                try:
                    done = subprocess.run(
                        command, capture_output=True, text=True, errors="replace", timeout=BATCH_SECONDS + len(rows)
                    )
                except subprocess.TimeoutExpired as error:
                    raise TflmError(f"TFLM did not finish {len(rows)} rows within {error.timeout:.0f} s") from error
                printed = done.stdout + done.stderr
                if done.returncode == 0:
                    details = json.loads(done.stdout.strip().splitlines()[-1])
                    return np.load(outputs), printed, details
                if not _arena_too_small(printed) or self._arena_bytes >= LARGEST_ARENA_BYTES:
                    raise _failure(done.returncode, printed, self.operators)
                self._arena_bytes *= 4


def check_rows(rows: "np.ndarray", shape: Tuple[int, ...]) -> "np.ndarray":
    """rows as int8 (rows, *shape[1:]). Raises RowsError naming dtype and shape that were given and are accepted."""
    rows = np.asarray(rows)
    if rows.dtype != np.int8:
        raise RowsError(f"the rows are {rows.dtype}; the model takes int8, already quantized")
    check_size(rows, shape)
    return rows.reshape(len(rows), *shape[1:])


def check_size(rows: "np.ndarray", shape: Tuple[int, ...]) -> None:
    """Raises RowsError for rows that are not of a model's shape, and not flat ones of as many values either."""
    per_row = int(np.prod(shape[1:]))
    if rows.ndim < 2 or int(np.prod(rows.shape[1:])) != per_row:
        raise RowsError(
            f"the rows have shape {rows.shape}; the model takes (rows, {', '.join(str(n) for n in shape[1:])}) "
            f"or (rows, {per_row})"
        )


def _quantized(details: Dict[str, object], which: str, model: TfliteModel) -> Quantized:
    tensor = Quantized(tuple(details["shape"]), str(details["dtype"]), details["scale"], details["zero_point"])  # type: ignore[arg-type]
    if tensor.dtype != "int8" or not 0 < tensor.scale < math.inf or not -128 <= tensor.zero_point <= 127:
        why = "quantized int8, which a model without any layer that computes does not become"
        if any(each.dtype == "int16" for each in model.tensors):
            why = "int8: activations of 16 bits (int16x8) are not supported, convert it with TFLITE_BUILTINS_INT8"
        found = f"{tensor.dtype} with scale {tensor.scale:g} and zero point {tensor.zero_point}"
        raise ExportError(f"the model's {which} is {found}; accepted is {why}")
    if not tensor.shape or tensor.shape[0] != 1:
        raise ExportError(f"the model's {which} has shape {tensor.shape}; accepted is batch 1")
    return tensor


def _kept_bytes(model: TfliteModel) -> int:
    try:
        return kept_bytes(model)
    except TfliteError as error:
        raise TflmError(str(error)) from None


def _check_stops(model: TfliteModel) -> None:
    """TflmError for an operator at which TFLM would abort or reach beyond its tensors."""
    for graph in model.subgraphs:
        for op in graph.ops:
            entry = operators().get(op.code)
            reason = entry.tflm_stops(graph, op) if entry and entry.tflm_stops else None
            if reason is not None:
                raise TflmError(f"{op.code} (operator {op.index}) {reason}")


def _arena(printed: str) -> Arena:
    def number(pattern: str) -> int:
        match = re.search(pattern, printed)
        if match is None:
            raise TflmError(f"TFLM printed no allocation table with {pattern!r}; this wheel is not the pinned version")
        return int(match.group(1))

    total, head, tail = (number(rf"Arena allocation {part} (\d+) bytes") for part in ("total", "head", "tail"))
    return Arena(total, head, tail)


def _arena_too_small(printed: str) -> bool:
    return "Failed to resize buffer" in printed or "Arena size is too small" in printed


def _failure(code: int, printed: str, operators: List[Op]) -> ExportError:
    missing = re.search(r"Didn't find op for builtin opcode '(\w+)'", printed)
    custom: Optional[re.Match[str]] = re.search(r"Failed to get registration from op code (?:CUSTOM|custom)", printed)
    if missing or custom:
        for op in operators:
            if (missing and op.code == missing.group(1)) or (custom and op.code.startswith("CUSTOM")):
                return UnsupportedOperatorError(
                    f"TensorFlow Lite Micro has no kernel for {op.code} (operator {op.index}); "
                    "replace the layer it comes from"
                )
    native, _, python = printed.partition("Traceback (most recent call last)")
    lines = [line.strip() for line in native.splitlines() if line.strip() and not line.startswith("[Recording")]
    lines += [line.strip() for line in python.splitlines()[-1:]]
    words = "; ".join(lines[:4]) if lines else "it printed nothing"
    ended = f"was killed by signal {-code}" if code < 0 else "refused the model"
    cure = "" if code < 0 else "; replace the layer that operator comes from"
    return TflmError(f"TensorFlow Lite Micro {ended}: {words[:600]}{cure}")
