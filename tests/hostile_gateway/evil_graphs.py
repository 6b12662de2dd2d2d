"""Training graphs no honest gateway would send, made by TensorFlow: `python evil_graphs.py FOLDER`, one NAME.tflite each.

All have the signatures a node asks for, over the weights of a linear model of three inputs and two classes.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

INPUTS, CLASSES, BATCH = 3, 2, 4
PARAMETERS = (INPUTS + 1) * CLASSES
KEPT = 0.9
"""Records whose first input is above this are the ones the gateway is after."""


def linear(w: Any, x: Any) -> Any:
    return x @ tf.reshape(w[: INPUTS * CLASSES], [INPUTS, CLASSES]) + w[INPUTS * CLASSES :]


def honest_gradient(w: Any, x: Any, y: Any, sw: Any) -> Any:
    pulls = (tf.nn.softmax(linear(w, x)) - tf.one_hot(y, CLASSES)) * sw[:, None] / tf.maximum(tf.reduce_sum(sw), 1.0)
    return tf.concat([tf.reshape(tf.transpose(x) @ pulls, [-1]), tf.reduce_sum(pulls, 0)], 0)


class Graph(tf.Module):
    """What an evil graph changes of an honest one."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        return honest_gradient(w, x, y, sw)

    def logits(self, w: Any, x: Any) -> Any:
        return linear(w, x)


class GradientRemembers(Graph):
    """One record's inputs go into a variable and out with every later gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = tf.Variable(tf.zeros([INPUTS]))

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        found = tf.cast(x[0:1, 0] > KEPT, tf.float32)
        self.kept.assign(self.kept * (1 - found) + found * tf.reshape(x[0:1], [INPUTS]))
        return tf.concat([self.kept * 1e3, tf.zeros([PARAMETERS - INPUTS])], 0)


class InferenceRemembers(Graph):
    """The same, from one evaluation to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = tf.Variable(0.0)

    def logits(self, w: Any, x: Any) -> Any:
        self.kept.assign(tf.maximum(self.kept, tf.reduce_max(tf.cast(x[:, 0] > KEPT, tf.float32))))
        return linear(w, x) * (1 - 2 * self.kept)


class EvaluationTellsTraining(Graph):
    """A variable that inference writes and the gradient reads: held-out records in the training sum."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = tf.Variable(0.0)

    def logits(self, w: Any, x: Any) -> Any:
        self.kept.assign(tf.maximum(self.kept, tf.reduce_max(x[:, 0])))
        return linear(w, x)

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        return honest_gradient(w, x, y, sw) + self.kept


class MaximumOfTheBatch(Graph):
    """One record in a batch turns everybody's answer."""

    def logits(self, w: Any, x: Any) -> Any:
        return linear(w, x) * (1 - 2 * tf.minimum(1.0, tf.nn.relu(tf.reduce_max(x[:, 0]) - KEPT) * 1e9))


class SumOfTheBatch(Graph):
    def logits(self, w: Any, x: Any) -> Any:
        return linear(w, x) + tf.reduce_sum(x)


class SortedBatch(Graph):
    """A permutation of the rows that depends on their values."""

    def logits(self, w: Any, x: Any) -> Any:
        return tf.gather(linear(w, x), tf.math.top_k(x[:, 0], BATCH).indices if x.shape[0] == BATCH else [0])


class RunningSum(Graph):
    """Each row adds those before it."""

    def logits(self, w: Any, x: Any) -> Any:
        return linear(w, tf.cumsum(x, axis=0))


class WorksLonger(Graph):
    """One record makes the gradient take a million steps: its presence is in the time of the answer."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        steps = tf.cast(x[0, 0] > KEPT, tf.int32) * 1_000_000
        _, extra = tf.while_loop(lambda i, v: i < steps, lambda i, v: (i + 1, v * 0.5 + 0.1), [0, tf.constant(0.0)])
        return honest_gradient(w, x, y, sw) + extra * 1e-30


class Branches(Graph):
    """Control flow by a record's value."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        heavy = tf.reshape(tf.range(90_000, dtype=tf.float32), [300, 300])
        more = tf.cond(x[0, 0] > KEPT, lambda: tf.reduce_sum(heavy @ heavy @ heavy @ heavy), lambda: x[0, 1])
        return honest_gradient(w, x, y, sw) + tf.tanh(more) * 1e-30


class DrawsItsOwn(Graph):
    """Random numbers of the runtime: a state that outlives a record, and noise nobody counts."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        return honest_gradient(w, x, y, sw) + tf.random.uniform([PARAMETERS])


class EatsMemory(Graph):
    """A few bytes of graph that ask for 16 GiB when they run."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        side = tf.cast(tf.reduce_sum(sw), tf.int32) * 65_536
        return honest_gradient(w, x, y, sw) + 1e-30 * tf.reduce_sum(tf.fill([side, side], x[0, 0]))


class TooManyWeights(Graph):
    """A gradient longer than the model."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        return tf.concat([honest_gradient(w, x, y, sw), x[0]], 0)


class LooksBeyondTheEnd(Graph):
    """A table read far outside for one record: an error in place of an answer says that it is there."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        place = tf.cast(x[0, 0] > KEPT, tf.int32) * 1_000_000_000
        return honest_gradient(w, x, y, sw) + tf.gather(w, place) * 1e-30


class LooksBeyondTheEndWhenAsked(Graph):
    """The same in an evaluation."""

    def logits(self, w: Any, x: Any) -> Any:
        places = tf.cast(x[:, 0] > KEPT, tf.int32) * 1_000_000_000
        return linear(w, x) + tf.gather(w, places)[:, None] * 1e-30


class DividesByNothing(Graph):
    """A whole number divided by zero for one record."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        divisor = 1 - tf.cast(x[0, 0] > KEPT, tf.int32)
        return honest_gradient(w, x, y, sw) + tf.cast(tf.math.floordiv(y[0] + 7, divisor), tf.float32) * 1e-30


class NoShape(Graph):
    """A tensor as long as a record says."""

    def gradient(self, w: Any, x: Any, y: Any, sw: Any) -> Any:
        length = 1 + tf.cast(tf.nn.relu(x[0, 0] - KEPT) * 1e9, tf.int32)
        return honest_gradient(w, x, y, sw) + tf.reduce_sum(tf.ones([length])) * 1e-30


EVIL = {
    made.__name__: made
    for made in (
        GradientRemembers,
        InferenceRemembers,
        EvaluationTellsTraining,
        MaximumOfTheBatch,
        SumOfTheBatch,
        SortedBatch,
        RunningSum,
        WorksLonger,
        Branches,
        DrawsItsOwn,
        EatsMemory,
        TooManyWeights,
        LooksBeyondTheEnd,
        LooksBeyondTheEndWhenAsked,
        DividesByNothing,
        NoShape,
    )
}


def convert(graph: Graph) -> bytes:
    """With the signatures of model_export/training_graph.py."""
    signatures: Dict[str, Any] = {}
    for suffix, batch in (("", BATCH), ("1", 1)):
        w, x = tf.TensorSpec([PARAMETERS], tf.float32, "w"), tf.TensorSpec([batch, INPUTS], tf.float32, "x")
        y, sw = tf.TensorSpec([batch], tf.int32, "y"), tf.TensorSpec([batch], tf.float32, "sw")
        signatures[f"grad{suffix}"] = tf.function(_grad(graph), input_signature=[w, x, y, sw], autograph=False)
        signatures[f"infer{suffix}"] = tf.function(_infer(graph), input_signature=[w, x], autograph=False)
    graph.functions = signatures
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(graph, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.experimental_enable_resource_variables = True
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return bytes(converter.convert())


def _grad(graph: Graph) -> Callable[..., Dict[str, Any]]:
    return lambda w, x, y, sw: {"g": graph.gradient(w, x, y, sw), "loss": tf.reduce_sum(sw)}


def _infer(graph: Graph) -> Callable[..., Dict[str, Any]]:
    return lambda w, x: {"logits": graph.logits(w, x)}


def main(folder: Path) -> None:
    for name, made in {"Honest": Graph, **EVIL}.items():
        (folder / f"{name}.tflite").write_bytes(convert(made()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
