"""Runs a graph of one addition in this machine's TensorFlow Lite runtime; a process of its own, since a runtime can crash."""

import numpy as np

from orchestrator.node.litert import load_interpreter, tiny_graph


def main() -> None:
    interpreter = load_interpreter(tiny_graph())
    interpreter.allocate_tensors()
    entry, leave = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    x = np.array([[1.0, -2.0, 0.5, 4.0]], np.float32)
    interpreter.set_tensor(entry["index"], x)
    interpreter.invoke()
    answer = interpreter.get_tensor(leave["index"])
    if not np.array_equal(answer, x + x):
        raise SystemExit(f"the runtime answers {answer.tolist()}, not {(x + x).tolist()}")
    print(type(interpreter).__module__.split(".")[0])
