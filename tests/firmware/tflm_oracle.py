"""The tflite-micro wheel on many models at once: what it answers, which models it refuses, and which end its process."""

import struct
import subprocess
import sys
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from model_export.errors import ExportError
from model_export.tflite_file import read_tflite
from model_export.variables import keeps_state

_HEAD, _SIZE = struct.Struct("<4I"), struct.Struct("<i")
_REFUSED = -1


class Answer(NamedTuple):
    outputs: Optional[np.ndarray]
    """int8 (rows, output elements); None where TFLM gives no output."""
    ended: bool = False
    """The process of TFLM did not survive it."""


def answers(cases: Sequence[Tuple[bytes, np.ndarray]]) -> List[Answer]:
    """Of (model, int8 rows (n, input elements)), in order. Rows of a model that keeps state follow each other in time."""
    found: List[Answer] = []
    while len(found) < len(cases):
        rest = cases[len(found) :]
        stdin = b"".join(
            _HEAD.pack(len(blob), *rows.shape, _keeps(blob)) + blob + rows.tobytes() for blob, rows in rest
        )
        done = subprocess.run([sys.executable, __file__], input=stdin, capture_output=True, check=False)
        at = 0
        for _, rows in rest:
            if at == len(done.stdout):
                break
            (size,) = _SIZE.unpack_from(done.stdout, at)
            at += _SIZE.size + max(size, 0)
            outputs = None if size == _REFUSED else np.frombuffer(done.stdout, np.int8, size, at - size)
            found.append(Answer(None if outputs is None else outputs.reshape(len(rows), -1)))
        if done.returncode != 0:
            assert done.returncode < 0, done.stderr.decode()[-2000:]
            found.append(Answer(None, ended=True))
    return found


def _main() -> None:
    from tflite_micro import runtime

    content = sys.stdin.buffer.read()
    at = 0
    while at < len(content):
        size, count, width, keeps = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        blob = content[at : at + size]
        rows = np.frombuffer(content, np.int8, count * width, at + size).reshape(count, width)
        at += size + count * width
        answer = _run(runtime, blob, rows, bool(keeps))
        sys.stdout.buffer.write(_SIZE.pack(_REFUSED) if answer is None else _SIZE.pack(len(answer)) + answer)
        sys.stdout.buffer.flush()


def _keeps(blob: bytes) -> bool:
    try:
        return keeps_state(read_tflite(blob))
    except ExportError:
        return False


def _run(runtime: Any, blob: bytes, rows: np.ndarray, keeps: bool) -> Optional[bytes]:
    try:
        interpreter = runtime.Interpreter.from_bytes(blob, arena_size=1 << 20)
        shape = interpreter.get_input_details(0)["shape"]
        outputs = []
        for row in rows:
            if not keeps:
                interpreter.reset()
            interpreter.set_input(row.reshape(shape), 0)
            interpreter.invoke()
            outputs.append(np.array(interpreter.get_output(0), np.int8).tobytes())
    except RuntimeError:
        return None
    return b"".join(outputs)


if __name__ == "__main__":
    _main()
