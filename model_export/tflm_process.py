"""Load and run an int8 model in TensorFlow Lite Micro, in a process that may die without harm.

    python tflm_process.py MODEL.tflite ROWS.npy OUTPUTS.npy ARENA_BYTES each|first [TENSOR,TENSOR,...]

TFLM is C++ that aborts on some models and prints its errors and its allocation table itself; model_export.tflm starts
this file, reads both streams and turns them into types. ROWS is int8 (rows, *input shape). With no rows, one
inference on zeros still runs, so that a kernel which only fails when invoked is found. What layers remember begins again with
each row, or with the first. With tensors named, their content after each row is written instead of the outputs, joined in the
order named.
"""

import json
import sys
from typing import Any, Dict

import numpy as np


def main(model_path: str, rows_path: str, outputs_path: str, arena_bytes: str, begins: str, tensors: str = "") -> int:
    from tflite_micro import runtime

    config = runtime.InterpreterConfig
    wanted = [int(tensor) for tensor in tensors.split(",") if tensor]
    keep = config.kPreserveAllTensors if wanted else config.kAllocationRecording
    interpreter = runtime.Interpreter.from_file(model_path, arena_size=int(arena_bytes), intrepreter_config=keep)
    entry, leave = interpreter.get_input_details(0), interpreter.get_output_details(0)
    rows = np.load(rows_path)
    shape = tuple(int(n) for n in entry["shape"])
    outputs = []
    for row in rows if len(rows) else np.zeros((1, *shape), entry["dtype"]):
        if begins == "each":
            interpreter.reset()
        interpreter.set_input(np.ascontiguousarray(row.reshape(shape)), 0)
        interpreter.invoke()
        if wanted:
            kept = [
                np.array(interpreter._interpreter.GetTensor(tensor, 0)["tensor_data"]).reshape(-1) for tensor in wanted
            ]
            outputs.append(np.concatenate(kept))
        else:
            outputs.append(np.array(interpreter.get_output(0))[0])
    np.save(outputs_path, np.stack(outputs)[: len(rows)])
    if not wanted:
        interpreter.print_allocations()
    print(json.dumps({"input": _details(entry), "output": _details(leave)}))
    return 0


def _details(tensor: Dict[str, Any]) -> Dict[str, Any]:
    parameters = tensor["quantization_parameters"]
    scales, zeros = parameters["scales"], parameters["zero_points"]
    return {
        "dtype": np.dtype(tensor["dtype"]).name,
        "shape": [int(n) for n in tensor["shape"]],
        "scale": float(scales[0]) if len(scales) == 1 else 0.0,
        "zero_point": int(zeros[0]) if len(zeros) == 1 else 0,
    }


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:7]))
