"""Per-tensor comparison of a training graph's gradients with TensorFlow's own, in the runtime nodes use.

A falling loss proves nothing: a graph with gradients 100 % wrong below its second layer still learned. So every
exported graph is compared tensor by tensor, at equal weights, in each runtime it will meet.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from model_export.errors import ExportError, GradientMismatchError
from model_export.losses import CROSSENTROPY, codes_of
from model_export.models import get_weights, tensor_table
from model_export.quiet import quiet_stderr, tensorflow
from model_export.training_graph import frozen_values, logits_of, split_weights, weighted_loss

RUNNER = Path(__file__).with_name("graph_runner.py")
TOLERANCE = 1e-4
FLOOR = 1e-3  # of the whole gradient's largest value: below that a tensor is float32 rounding noise


def check_gradients(
    model: Any,
    graph: bytes,
    batch_size: int,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    python: Optional[Sequence[str]] = None,
    loss: Mapping[str, Any] = CROSSENTROPY,
) -> Dict[str, Any]:
    """Compare `graph` with tf.GradientTape on random data and near-initial random weights.

    Three batches go through `grad` and `infer` (all weights 1; some 0; all different) and two rows through `grad1` and
    `infer1`. A tensor's error is max |g - ref| / max |ref|, where max |ref| is at least FLOOR of the whole gradient's.
    `python` is the command of the interpreter whose runtime is checked, by default this one; the runtime always gets a
    process of its own.

    Returns {runtime, tolerance, max_error, loss_error, logits_error, tensors: [{name, max_error}]}.
    Raises GradientMismatchError naming the worst tensor, ExportError if the runtime cannot run the graph.
    """
    calls = _random_calls(model, batch_size, seed, loss)
    found = run_graph(graph, calls, python)
    with quiet_stderr():
        return _compare(model, calls, found, tolerance, loss)


def run_graph(
    graph: bytes, calls: Mapping[str, "np.ndarray"], python: Optional[Sequence[str]] = None
) -> Dict[str, "np.ndarray"]:
    """Run the calls (see graph_runner) in a process of its own. Raises ExportError with the process's last words."""
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        model_path, calls_path, results_path = (Path(folder) / n for n in ("graph.tflite", "calls.npz", "results.npz"))
        model_path.write_bytes(graph)
        arrays: Dict[str, Any] = dict(calls)
        np.savez(calls_path, **arrays)
        command = [*(python or [sys.executable]), RUNNER, model_path, calls_path, results_path]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()
            raise ExportError(
                f"the LiteRT runtime ended with {done.returncode}: {words[-1] if words else 'no message'}"
            )
        with np.load(results_path) as results:
            return {key: results[key] for key in results.files}


def _random_calls(model: Any, batch_size: int, seed: int, loss: Mapping[str, Any]) -> Dict[str, "np.ndarray"]:
    rng = np.random.default_rng(seed)
    shape = tuple(model.inputs[0].shape[1:])
    codes = codes_of(loss, int(model.outputs[0].shape[-1]))
    base = get_weights(model)
    weightings = [
        ("", np.ones(batch_size)),
        ("", np.arange(batch_size) % 3 != 1),
        ("", rng.random(batch_size) * 2),
        ("1", np.ones(1)),
        ("1", np.full(1, 0.5)),
    ]
    calls: Dict[str, np.ndarray] = {}
    for case, (suffix, sw) in enumerate(weightings):
        w = (base + 0.05 * rng.standard_normal(base.shape)).astype(np.float32)
        x = rng.standard_normal((len(sw), *shape)).astype(np.float32)
        calls[f"{case}|grad{suffix}|w"] = calls[f"{case}|infer{suffix}|w"] = w
        calls[f"{case}|grad{suffix}|x"] = calls[f"{case}|infer{suffix}|x"] = x
        calls[f"{case}|grad{suffix}|y"] = rng.integers(0, codes, len(sw)).astype(np.int32)
        calls[f"{case}|grad{suffix}|sw"] = sw.astype(np.float32)
    return calls


def _compare(
    model: Any,
    calls: Mapping[str, "np.ndarray"],
    found: Mapping[str, "np.ndarray"],
    tolerance: float,
    loss_of: Mapping[str, Any],
) -> Dict[str, Any]:
    table = tensor_table(model)
    worst = np.zeros(len(table))
    loss_error = logits_error = 0.0
    for key in [k for k in calls if k.endswith("|sw")]:
        case, signature, _ = key.split("|")
        w, x, y, sw = (calls[f"{case}|{signature}|{name}"] for name in ("w", "x", "y", "sw"))
        infer = signature.replace("grad", "infer")
        reference, loss, logits = _reference(model, w, x, y, sw, loss_of)
        g = found[f"{case}|{signature}|g"]
        worst = np.maximum(worst, tensor_errors(g, reference, table))
        loss_error = max(loss_error, abs(float(found[f"{case}|{signature}|loss"]) - loss) / max(abs(loss), 1e-3))
        difference = np.abs(found[f"{case}|{infer}|logits"] - logits).max()
        logits_error = max(logits_error, float(difference / max(np.abs(logits).max(), 1e-3)))
    runtime = str(found["runtime"])
    if not worst.max(initial=0.0) <= tolerance:
        bad = int(np.argmax(np.where(np.isnan(worst), np.inf, worst)))
        raise GradientMismatchError(
            f"in {runtime} the gradient of '{table[bad]['name']}' differs from TensorFlow's by {worst[bad]:.1e} of its "
            f"largest value; at most {tolerance:.0e} is accepted"
        )
    for what, error in (("loss", loss_error), ("logits", logits_error)):
        if not error <= tolerance:
            raise GradientMismatchError(
                f"in {runtime} the {what} of the training graph differ from TensorFlow's by {error:.1e} of their size; "
                f"at most {tolerance:.0e} is accepted"
            )
    return {
        "runtime": runtime,
        "tolerance": tolerance,
        "max_error": float(worst.max(initial=0.0)),
        "loss_error": loss_error,
        "logits_error": logits_error,
        "tensors": [{"name": entry["name"], "max_error": float(e)} for entry, e in zip(table, worst)],
    }


def tensor_errors(g: "np.ndarray", reference: "np.ndarray", table: List[Dict[str, Any]]) -> "np.ndarray":
    """max |g - reference| per tensor, as a share of the tensor's largest reference value (see check_gradients)."""
    floor = max(FLOOR * float(np.abs(reference).max(initial=0.0)), 1e-12)
    errors = []
    for entry in table:
        part = slice(entry["offset"], entry["offset"] + entry["size"])
        scale = max(float(np.abs(reference[part]).max()), floor)
        errors.append(float(np.abs(g[part] - reference[part]).max()) / scale)
    return np.array(errors)


def _reference(model: Any, w: Any, x: Any, y: Any, sw: Any, loss_of: Mapping[str, Any]) -> Any:
    tf = tensorflow()
    weights = split_weights(model, tf.constant(w))
    with tf.GradientTape() as tape:
        tape.watch(weights)
        logits = logits_of(model, weights, frozen_values(model), tf.constant(x))
        loss = weighted_loss(logits, y, sw, x, loss_of)
    gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    flat = np.concatenate([np.asarray(g).ravel() for g in gradients])
    return flat, float(loss), logits.numpy()
