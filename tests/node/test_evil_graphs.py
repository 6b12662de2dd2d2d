"""Graphs a malicious gateway would make with TensorFlow: with a memory, loops, whole batches in view, or without measure."""

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest

from orchestrator.errors import GraphError
from orchestrator.node.graph_check import check_graph
from orchestrator.node.runtime import TrainingGraph

D, P, BATCH = 3, 8, 4


@pytest.fixture(scope="module")
def tf() -> Any:
    pytest.importorskip("tensorflow", reason="comes with the gateway, not on a node")
    from model_export.quiet import tensorflow

    return tensorflow()


def converted(tf: Any, folder: Path, **replaced: Callable[..., Any]) -> bytes:
    """A training graph of linear softmax regression with some of its signatures replaced; `infer1` with `infer`."""
    module = tf.Module()
    module.kept = tf.Variable(tf.zeros([D]))

    def grad(w: Any, x: Any, y: Any, sw: Any) -> Dict[str, Any]:
        return {"g": w * tf.reduce_sum(x) + tf.reduce_sum(sw), "loss": tf.reduce_sum(sw)}

    def infer(w: Any, x: Any) -> Dict[str, Any]:
        return {"logits": x[:, :2] * w[0]}

    def spec(batch: int) -> Any:
        return [
            tf.TensorSpec([P], tf.float32, "w"),
            tf.TensorSpec([batch, D], tf.float32, "x"),
            tf.TensorSpec([batch], tf.int32, "y"),
            tf.TensorSpec([batch], tf.float32, "sw"),
        ]

    functions = {"grad": grad, "grad1": grad, "infer": infer, "infer1": infer, **replaced}
    signatures = {}
    for name, function in functions.items():
        bound = function.__get__(module) if "module" in function.__code__.co_varnames[:1] else function
        specs = spec(1 if name.endswith("1") else BATCH)[: 4 if name.startswith("grad") else 2]
        signatures[name] = tf.function(bound, input_signature=specs).get_concrete_function()
    module.functions = signatures
    tf.saved_model.save(module, str(folder / "saved"), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"), signature_keys=list(signatures))
    converter.experimental_enable_resource_variables = True
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return bytes(converter.convert())


def test_the_harmless_one_passes(tf: Any, tmp_path: Path) -> None:
    assert check_graph(converted(tf, tmp_path)).parameters == P


def test_a_memory_is_refused(tf: Any, tmp_path: Path) -> None:
    def remembering(module: Any, w: Any, x: Any, y: Any, sw: Any) -> Dict[str, Any]:
        module.kept.assign(tf.maximum(module.kept, x[0]))
        return {"g": tf.concat([module.kept, tf.zeros([P - D])], 0) + 0 * w, "loss": tf.reduce_sum(sw)}

    with pytest.raises(GraphError, match="is not accepted"):
        check_graph(converted(tf, tmp_path, grad1=remembering))


def test_a_loop_is_refused(tf: Any, tmp_path: Path) -> None:
    def slow(w: Any, x: Any) -> Dict[str, Any]:
        turns = tf.cast(x[0, 0] * 1e6, tf.int32)
        _, out = tf.while_loop(lambda i, a: i < turns, lambda i, a: (i + 1, tf.sin(a)), [0, x])
        return {"logits": out[:, :2]}

    with pytest.raises(GraphError, match="is not accepted"):
        check_graph(converted(tf, tmp_path, infer1=slow))


def test_a_branch_is_refused(tf: Any, tmp_path: Path) -> None:
    def choosing(w: Any, x: Any) -> Dict[str, Any]:
        wide = x @ tf.ones([D, 512])
        out = tf.cond(x[0, 0] > 0, lambda: tf.sin(wide), lambda: wide)
        return {"logits": out[:, :2]}

    with pytest.raises(GraphError, match="is not accepted"):
        check_graph(converted(tf, tmp_path, infer1=choosing))


def test_random_numbers_are_refused(tf: Any, tmp_path: Path) -> None:
    def drawing(w: Any, x: Any) -> Dict[str, Any]:
        return {"logits": x[:, :2] + tf.random.normal([x.shape[0], 2])}

    with pytest.raises(GraphError, match="is not accepted"):
        check_graph(converted(tf, tmp_path, infer=drawing))


def test_an_index_that_is_computed_is_refused(tf: Any, tmp_path: Path) -> None:
    """It may lie outside for one record, and end the process for that record only."""

    def looking_up(w: Any, x: Any) -> Dict[str, Any]:
        return {"logits": tf.gather(tf.reshape(w, [4, 2]), tf.cast(x[:, 0], tf.int32))}

    with pytest.raises(GraphError, match="is not accepted"):
        check_graph(converted(tf, tmp_path, infer1=looking_up))


def test_more_than_a_machine_has_is_refused(tf: Any, tmp_path: Path) -> None:
    def huge(w: Any, x: Any) -> Dict[str, Any]:
        wide = tf.tile(tf.reshape(x[:, :1], [-1, 1, 1]), [1, 1 << 15, 1 << 15])
        return {"logits": tf.reduce_sum(wide, 1)[:, :2]}

    with pytest.raises(GraphError, match="bytes"):
        check_graph(converted(tf, tmp_path, infer1=huge))


def test_a_view_of_the_batch_shows_nothing_record_by_record(tf: Any, tmp_path: Path) -> None:
    """`infer` adds the largest record to all; without `infer1` every record is alone among zeros."""

    def mixing(w: Any, x: Any) -> Dict[str, Any]:
        return {"logits": x[:, :2] + tf.reduce_max(x, 0, keepdims=True)[:, :2]}

    graph = converted(tf, tmp_path, infer=mixing)
    x = np.random.default_rng(0).standard_normal((6, D)).astype("f4")
    other = x.copy()
    other[1] = 50.0
    weights = np.ones(P, "f4")
    with TrainingGraph(graph) as opened:
        opened._functions = {name: f for name, f in opened._functions.items() if name != "infer1"}
        assert not np.array_equal(
            np.delete(opened.logits(weights, x), 1, 0), np.delete(opened.logits(weights, other), 1, 0)
        )
        same, changed = opened.record_logits(weights, x), opened.record_logits(weights, other)
    assert np.delete(same, 1, 0).tobytes() == np.delete(changed, 1, 0).tobytes()
