"""What training minimizes: a loss for each kind of target, made of operators a node accepts (orchestrator/node/graph_ops.py).

The other half of a target, what its whole numbers y mean, is in orchestrator/wire/targets. A loss here takes the model's outputs
float32 (B, outputs), y int32 (B,), the records x float32 (B, *S), and options; it gives float32 (B,), one value for each record.
"""

from typing import Any, Callable, Dict, List, Mapping, Tuple

from model_export.errors import ExportError
from model_export.quiet import tensorflow

Loss = Callable[[Any, Any, Any, Mapping[str, Any]], Any]
CROSSENTROPY: Mapping[str, Any] = {"kind": "crossentropy"}


def cross_entropy(outputs: Any, y: Any, x: Any, options: Mapping[str, Any]) -> Any:
    """Of a softmax over the outputs; y: the class."""
    tf = tensorflow()
    return -tf.reduce_sum(tf.one_hot(y, outputs.shape[-1]) * tf.nn.log_softmax(outputs), -1)


def squared(outputs: Any, y: Any, x: Any, options: Mapping[str, Any]) -> Any:
    """(output - t)^2 with t = 2 y / codes - 1."""
    tf = tensorflow()
    t = tf.cast(y, tf.float32) * (2.0 / options["codes"]) - 1.0
    return tf.square(tf.reshape(outputs, [-1]) - t)


def poisson(outputs: Any, y: Any, x: Any, options: Mapping[str, Any]) -> Any:
    """exp(output) - y output: Poisson's log-likelihood of the count y, its sign turned, but for what no weight changes."""
    tf = tensorflow()
    flat = tf.reshape(outputs, [-1])
    return tf.exp(flat) - tf.cast(y, tf.float32) * flat


def labels(outputs: Any, y: Any, x: Any, options: Mapping[str, Any]) -> Any:
    """The sum over outputs of the cross entropy of its sigmoid and a bit of y, the first output the least one."""
    tf = tensorflow()
    rest = tf.cast(y, tf.float32)
    bits: List[Any] = []
    for place in reversed(range(outputs.shape[-1])):
        bit = tf.cast(rest >= 2.0**place, tf.float32)
        rest -= bit * 2.0**place
        bits.insert(0, bit)
    there = tf.reshape(tf.stack(bits, -1), [-1, 1])
    flat = tf.reshape(outputs, [-1, 1])
    shares = tf.nn.log_softmax(tf.concat([tf.zeros_like(flat), flat], -1))
    picked = tf.reduce_sum(shares * tf.concat([1.0 - there, there], -1), -1)
    return -tf.reduce_sum(tf.reshape(picked, outputs.shape), -1)


def hazard(outputs: Any, y: Any, x: Any, options: Mapping[str, Any]) -> Any:
    """Cross entropies of hazards, sigmoids of K outputs: of the intervals a record came through, and of the one with the event.

    y = k + (K + 1) event, k intervals whole.
    """
    tf = tensorflow()
    intervals = outputs.shape[-1]
    code = tf.cast(y, tf.float32)
    event = tf.cast(code > float(intervals), tf.float32)
    whole = tf.reshape(code - event * float(intervals + 1), [-1, 1])
    places = tf.constant([[float(place) for place in range(intervals)]])
    through = tf.cast(whole > places, tf.float32)
    there = tf.cast(tf.equal(places - whole, 0.0), tf.float32) * tf.reshape(event, [-1, 1])
    flat = tf.reshape(outputs, [-1, 1])
    shares = tf.nn.log_softmax(tf.concat([tf.zeros_like(flat), flat], -1))
    picked = tf.concat([tf.reshape(through, [-1, 1]), tf.reshape(there, [-1, 1])], -1)
    return -tf.reduce_sum(tf.reshape(tf.reduce_sum(shares * picked, -1), outputs.shape), -1)


def reconstruction(outputs: Any, y: Any, x: Any, options: Mapping[str, Any]) -> Any:
    """The mean over a record's values of (output - input)^2; y says nothing."""
    tf = tensorflow()
    flat = tf.reshape(x, outputs.shape)
    return tf.reduce_mean(tf.square(outputs - flat), -1) + 0.0 * tf.cast(y, tf.float32)


LOSSES: Dict[str, Tuple[Loss, Tuple[str, ...]]] = {
    "crossentropy": (cross_entropy, ()),
    "squared": (squared, ("codes",)),
    "poisson": (poisson, ()),
    "labels": (labels, ()),
    "hazard": (hazard, ()),
    "reconstruction": (reconstruction, ()),
}
"""Kind -> (the loss, names of the whole numbers it takes)."""


def check_loss(declared: Any) -> Mapping[str, Any]:
    """`loss` of a spec, by default of classes. Raises ExportError for one there is not."""
    if declared is None:
        return CROSSENTROPY
    if not isinstance(declared, dict) or declared.get("kind") not in LOSSES:
        raise ExportError(f"loss is {declared!r}; accepted is an object whose kind is one of {', '.join(LOSSES)}")
    wanted = LOSSES[declared["kind"]][1]
    for name in {*wanted, *declared} - {"kind"}:
        value = declared.get(name)
        if name not in wanted or isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31:
            raise ExportError(f"loss {declared['kind']}: {name} is {value!r}; accepted are whole numbers: {wanted}")
    return declared


def codes_of(declared: Mapping[str, Any], outputs: int) -> int:
    """How many codes y there are at least, from 0 on, for trying a loss."""
    return int(
        {"squared": declared.get("codes", 2), "labels": 1 << outputs, "poisson": 9, "hazard": 2 * outputs + 1}.get(
            declared["kind"], outputs
        )
    )


def record_losses(outputs: Any, y: Any, x: Any, declared: Mapping[str, Any]) -> Any:
    """float32 (B,)."""
    return LOSSES[declared["kind"]][0](outputs, y, x, declared)
