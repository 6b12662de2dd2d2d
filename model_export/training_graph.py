"""One .tflite file a node can train with: gradients and inference as signatures, built only from TFLite builtins."""

import re
import tempfile
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np

from model_export.builtin_gradients import builtin_gradients
from model_export.errors import ExportError
from model_export.losses import CROSSENTROPY, record_losses
from model_export.models import get_weights
from model_export.quiet import quiet_stderr, tensorflow
from model_export.tflite_file import read_tflite


def export_training_graph(model: Any, batch_size: int, loss: Mapping[str, Any] = CROSSENTROPY) -> bytes:
    """The training graph of a Keras model giving logits, as .tflite bytes.

    With B = batch_size, P = parameters and S = the model's input shape, the signatures are

    - `grad(w float32 (P,), x float32 (B, *S), y int32 (B,), sw float32 (B,)) -> (g float32 (P,), loss float32 ())`
    - `grad1`: the same with B = 1, for per-example clipping
    - `infer(w float32 (P,), x float32 (B, *S)) -> logits float32 (B, classes)`
    - `infer1`: the same with B = 1

    loss = sum_i sw_i * loss_i / max(sum_i sw_i, 1): a weight of 0 masks the padding of a short last batch. loss_i is that of
    `loss`, a kind of losses.py, by default the cross entropy of softmax(logits_i) and y_i. `w` is the flat vector of
    models.get_weights. Dropout and batch normalisation run as they do for inference. Raises ExportError if some op has no
    builtin.
    """
    if not isinstance(batch_size, int) or not 1 <= batch_size <= 4096:
        raise ExportError(f"batch size is {batch_size!r}; accepted is a whole number from 1 to 4096")
    tf = tensorflow()
    module = tf.Module()
    signatures: Dict[str, Any] = {}
    with quiet_stderr():
        for suffix, batch in (("", batch_size), ("1", 1)):
            grad, infer = _functions(model, batch, loss)
            signatures[f"grad{suffix}"] = grad
            signatures[f"infer{suffix}"] = infer
        module.functions = signatures
        try:
            blob = _convert(module, signatures)
        except ExportError:
            raise
        except Exception as error:  # the converter raises its own type, and plain ones from tracing
            raise ExportError(_conversion_message(error)) from error
    for graph in read_tflite(blob).subgraphs:
        for op in graph.ops:
            if op.code.startswith("CUSTOM"):
                raise ExportError(
                    f"the training graph needs {op.code} (operator {op.index} of {graph.name}), no TFLite builtin"
                )
    return blob


def split_weights(model: Any, w: Any) -> List[Any]:
    """The flat vector w, float32 (P,), as the list of the model's trainable tensors (differentiable)."""
    tf = tensorflow()
    shapes = [tuple(v.shape) for v in model.trainable_variables]
    parts = tf.split(w, [int(np.prod(shape)) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes)]


def weighted_loss(logits: Any, y: Any, sw: Any, x: Any = None, loss: Mapping[str, Any] = CROSSENTROPY) -> Any:
    """Sample-weighted mean loss; logits float32 (B, C), y int32 (B,), sw float32 (B,), x float32 (B, *S)."""
    tf = tensorflow()
    return tf.reduce_sum(record_losses(logits, y, x, loss) * sw) / tf.maximum(tf.reduce_sum(sw), 1.0)


def frozen_values(model: Any) -> List["np.ndarray"]:
    """What is not trained (batch normalisation's statistics, seeds), as it is in the model now."""
    return [v.numpy() for v in model.non_trainable_variables]


def logits_of(model: Any, weights: List[Any], frozen: List["np.ndarray"], x: Any) -> Any:
    """The model's logits for explicit trainable and frozen tensors."""
    return model.stateless_call(weights, [tensorflow().constant(v) for v in frozen], x, training=False)[0]


def _functions(model: Any, batch: int, loss_of: Mapping[str, Any]) -> Tuple[Callable[..., Any], Callable[..., Any]]:
    tf = tensorflow()
    frozen = frozen_values(model)
    w_spec = tf.TensorSpec(get_weights(model).shape, tf.float32, "w")
    x_spec = tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32, "x")
    y_spec = tf.TensorSpec((batch,), tf.int32, "y")
    sw_spec = tf.TensorSpec((batch,), tf.float32, "sw")

    @tf.function(input_signature=[w_spec, x_spec, y_spec, sw_spec], autograph=False)
    def grad(w: Any, x: Any, y: Any, sw: Any) -> Dict[str, Any]:
        weights = split_weights(model, w)
        with builtin_gradients(), tf.GradientTape() as tape:
            tape.watch(weights)
            loss = weighted_loss(logits_of(model, weights, frozen, x), y, sw, x, loss_of)
            gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return {"g": tf.concat([tf.reshape(g, [-1]) for g in gradients], 0), "loss": loss}

    @tf.function(input_signature=[w_spec, x_spec], autograph=False)
    def infer(w: Any, x: Any) -> Dict[str, Any]:
        return {"logits": logits_of(model, split_weights(model, w), frozen, x)}

    return grad, infer


def _convert(module: Any, signatures: Dict[str, Any]) -> bytes:
    tf = tensorflow()
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return bytes(converter.convert())


def _conversion_message(error: Exception) -> str:
    text = str(error)
    ops = sorted(set(re.findall(r"\btf\.([A-Z][A-Za-z0-9]+)", text)))
    if ops:
        return (
            f"this model cannot be trained on nodes: {', '.join(ops)} has no TFLite builtin. Supported for training "
            "are Dense, Conv1D/2D, DepthwiseConv, pooling, Flatten, Add and activations such as relu, tanh and sigmoid"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"the training graph could not be converted: {lines[-1][:300] if lines else type(error).__name__}"
