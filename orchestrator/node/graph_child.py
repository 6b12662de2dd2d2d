"""The process a training graph runs in: it loads functions and runs rows through them, over two pipes, and can do nothing else.

    python -I -S -B graph_child.py MEMORY_BYTES DIE_WITH_PARENT FOLDER...

FOLDERs are where numpy, the runtime and this package are imported from. It inherits no data, keys, sockets or environment of the
node: it sees the graph, weights and records it is sent. Requests come on standard input, answers go to standard output:

    request: "EGRQ", kind (1 load, 2 run), function, 2 zeros, number uint32, bytes uint64, content
    answer:  "EGAN", status (0 done, 1 failed), 3 zeros, number uint32, bytes uint64, content

all little endian. Content of a load: a .tflite file of one subgraph with the inputs w, x[, y, sw]; its answer has none. Of a
run: w, then every x, every y, every sw; the answer: the first output of every call. The first answer comes unasked: its content
is one byte, how far the process is confined (node/confine.py).
"""

import ctypes
import struct
import sys
from typing import Any, BinaryIO, Dict, List, NamedTuple, Tuple, Union

REQUEST, ANSWER = struct.Struct("<4sBBxxIQ"), struct.Struct("<4sBxxxIQ")
REQUEST_MARK, ANSWER_MARK = b"EGRQ", b"EGAN"
LOAD, RUN = 1, 2
DONE, FAILED = 0, 1


class Loaded(NamedTuple):
    """An interpreter with its memory laid out. inputs: (tensor, numpy dtype, shape, bytes)."""

    interpreter: Any
    inputs: List[Tuple[int, Any, Tuple[int, ...], int]]
    output: int


def main(memory_bytes: int, die_with_parent: bool) -> None:
    from orchestrator.node.confine import confine
    from orchestrator.node.litert import tiny_graph
    from orchestrator.wire.process import forget_start

    flush_subnormals()
    _load(tiny_graph())  # what the runtime reads of this machine, it reads now
    forget_start()
    confined = confine(memory_bytes, die_with_parent)
    with open(0, "rb", buffering=0) as requests, open(1, "wb", buffering=0) as answers:
        _answer(answers, DONE, 0, bytes([confined]))
        serve(requests, answers)


def flush_subnormals() -> bool:
    """Has this thread compute with zeros in the place of subnormal numbers; whether it could.

    On many processors these take many times as long, so that a graph could have one record's answer come late. By the C library's
    own fegetenv and fesetenv: bits 6 and 15 of MXCSR on x86-64 (Intel SDM vol. 1, 10.2.3), bit 24 of FPCR on aarch64.
    """
    import platform

    place, bits = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}.get(platform.machine(), (0, 0))
    if not bits or not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL("libm.so.6")
    environment = ctypes.create_string_buffer(64)
    if library.fegetenv(environment):
        return False
    (value,) = struct.unpack_from("<I", environment, place)
    struct.pack_into("<I", environment, place, value | bits)
    return bool(library.fesetenv(environment) == 0)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until the other end closes."""
    loaded: Dict[int, Loaded] = {}
    while True:
        header = _read(requests, REQUEST.size)
        if len(header) < REQUEST.size:
            return
        mark, kind, function, number, size = REQUEST.unpack(header)
        content = _read(requests, size)
        if mark != REQUEST_MARK or len(content) < size:
            return
        try:
            if kind == LOAD:
                loaded[function] = _load(bytes(content))
                found = memoryview(b"")
            else:
                found = _run(loaded[function], content)
        except Exception:  # whatever the runtime raises: the parent learns that it failed, and no more
            _answer(answers, FAILED, number, b"")
        else:
            _answer(answers, DONE, number, found)


def _load(graph: bytes) -> Loaded:
    import numpy as np

    from orchestrator.node.litert import load_interpreter

    interpreter = load_interpreter(graph)
    interpreter.allocate_tensors()
    inputs = []
    for detail in interpreter.get_input_details():
        shape, dtype = tuple(int(n) for n in detail["shape"]), np.dtype(detail["dtype"])
        inputs.append((detail["index"], dtype, shape, dtype.itemsize * int(np.prod(shape, dtype=np.int64))))
    return Loaded(interpreter, inputs, interpreter.get_output_details()[0]["index"])


def _run(loaded: Loaded, content: bytearray) -> memoryview:
    """Runs w with every x[, y, sw]; all inputs are set for every call, so that none depends on another."""
    import numpy as np

    interpreter, inputs, output = loaded
    calls = (len(content) - inputs[0][3]) // sum(size for *_, size in inputs[1:])
    columns, start = [], 0
    for i, (index, dtype, shape, size) in enumerate(inputs):
        count = calls if i else 1
        columns.append(
            (index, np.frombuffer(content, dtype, count * size // dtype.itemsize, start).reshape(count, *shape))
        )
        start += count * size
    (w_index, (w,)), *rest = columns
    answer = interpreter.tensor(output)
    found = np.empty((calls, *answer().shape), np.float32)
    for call in range(calls):
        interpreter.set_tensor(w_index, w)
        for index, values in rest:
            interpreter.set_tensor(index, values[call])
        interpreter.invoke()
        found[call] = answer()
    return found.reshape(-1).view(np.uint8).data


def _read(file: BinaryIO, size: int) -> bytearray:
    """So many bytes, fewer only at the end."""
    content = bytearray(size)
    view, have = memoryview(content), 0
    while have < size:
        count = file.readinto(view[have:])  # type: ignore[attr-defined]
        if not count:
            return content[:have]
        have += count
    return content


def _answer(file: BinaryIO, status: int, number: int, content: Union[bytes, memoryview]) -> None:
    for part in (ANSWER.pack(ANSWER_MARK, status, number, len(content)), content):
        view = memoryview(part)
        while view:
            view = view[file.write(view) :]


if __name__ == "__main__":
    sys.path[:0] = sys.argv[3:]
    main(int(sys.argv[1]), sys.argv[2] == "1")
