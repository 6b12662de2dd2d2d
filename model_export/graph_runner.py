"""Run a .tflite file in the LiteRT runtime of whatever interpreter executes this file; one process per runtime.

    python graph_runner.py MODEL.tflite CALLS.npz RESULTS.npz

A runtime must not share a process with TensorFlow, and may live in another Python, so this file stands alone: Python
3.8, numpy, and ai-edge-litert or tflite-runtime. CALLS holds arrays named `case|signature|argument`; RESULTS gets
`case|signature|output`. An array named `rows` is run row by row through the model's only input instead, into `rows`.
RESULTS also names the runtime.
"""

import sys
from typing import Any, Dict, Tuple

import numpy as np

try:
    from ai_edge_litert import interpreter as runtime

    NAME = "ai-edge-litert"
except ImportError:
    from tflite_runtime import interpreter as runtime

    NAME = "tflite-runtime"


def main(model_path: str, calls_path: str, results_path: str) -> int:
    interpreter = runtime.Interpreter(model_path=model_path, num_threads=1)
    results: Dict[str, Any] = {"runtime": np.array(NAME)}
    with np.load(calls_path) as calls:
        if "rows" in calls:
            results["rows"] = run_rows(interpreter, calls["rows"])
        grouped: Dict[Tuple[str, str], Dict[str, Any]] = {}
        for key in calls.files:
            if key.count("|") == 2:
                case, signature, argument = key.split("|")
                grouped.setdefault((case, signature), {})[argument] = calls[key]
    for (case, signature), arguments in grouped.items():
        outputs = interpreter.get_signature_runner(signature)(**arguments)
        for name, value in outputs.items():
            results["|".join((case, signature, name))] = value
    np.savez(results_path, **results)
    return 0


def run_rows(interpreter: runtime.Interpreter, rows: np.ndarray) -> np.ndarray:
    interpreter.allocate_tensors()
    entry, leave = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for row in rows:
        interpreter.set_tensor(entry["index"], row.reshape(entry["shape"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(leave["index"])[0].copy())
    return np.stack(outputs)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
