"""The TensorFlow Lite runtime of this machine: ai-edge-litert, or tflite-runtime where Python is older."""

from typing import Any, Dict

import numpy as np

from orchestrator.errors import EdgewardError


def load_interpreter(graph: bytes) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise EdgewardError(
                "no TensorFlow Lite runtime on this machine: pip install 'edgeward[node]' brings the right one"
            ) from error
    return Interpreter(model_content=graph, num_threads=1)


class TrainingGraph:
    """A training graph's signatures as numpy functions. One thread: more gave no gain on small models."""

    def __init__(self, graph: bytes) -> None:
        self._interpreter = load_interpreter(graph)
        signatures = self._interpreter.get_signature_list()
        lacking = {"grad", "grad1", "infer"} - set(signatures)
        if lacking:
            raise EdgewardError(f"the training graph lacks the signature(s) {', '.join(sorted(lacking))}")
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in ("grad", "grad1", "infer")}
        details = self._runners["grad"].get_input_details()
        self.parameters = int(details["w"]["shape"][0])
        self.batch_size = int(details["x"]["shape"][0])
        self.infer_batch = int(self._runners["infer"].get_input_details()["x"]["shape"][0])

    def gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """float32 (P,): mean cross-entropy gradient over at most `batch_size` records."""
        padded_x, padded_y, present = _pad(x, y, self.batch_size)
        return np.array(self._run("grad", w=weights, x=padded_x, y=padded_y, sw=present)["g"])

    def record_gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """float32 (P,): gradient of one record, given as a batch of one."""
        return np.array(self._run("grad1", w=weights, x=x, y=y, sw=np.ones(1, np.float32))["g"])

    def logits(self, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float32 (n, classes) for float32 inputs (n, *input_shape)."""
        out = []
        for start in range(0, len(x), self.infer_batch):
            batch = x[start : start + self.infer_batch]
            padded, _, _ = _pad(batch, np.zeros(len(batch), np.int32), self.infer_batch)
            out.append(np.array(self._run("infer", w=weights, x=padded)["logits"])[: len(batch)])
        return np.concatenate(out)

    def _run(self, name: str, **inputs: np.ndarray) -> Dict[str, np.ndarray]:
        result: Dict[str, np.ndarray] = self._runners[name](**inputs)
        return result


def _pad(x: np.ndarray, y: np.ndarray, size: int) -> Any:
    """Fixed batch size: zeros behind the records, and 1/0 weights that say which are real."""
    present = np.zeros(size, np.float32)
    present[: len(x)] = 1
    padded_x = np.zeros((size, *x.shape[1:]), np.float32)
    padded_x[: len(x)] = x
    padded_y = np.zeros(size, np.int32)
    padded_y[: len(y)] = y
    return padded_x, padded_y, present
