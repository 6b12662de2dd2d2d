"""Writes small int8 models that between them use every operator of engine/direct: `python small_models.py FOLDER`.

A process of its own, because it needs TensorFlow. Weights are random: only the arithmetic matters.
"""

import os
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from one_op_models import Part, model_of, options_of
from state_models import streaming
from svdf_layers import svdf_layer

keras = tf.keras
layers: Any = keras.layers


def dense(x: Any) -> Any:
    x = layers.Dense(17, activation="relu")(x)
    return layers.Dense(5, activation="softmax")(x)


def regression(x: Any) -> Any:
    return layers.Dense(3)(layers.Dense(9, activation="relu6")(x))


def binary(x: Any) -> Any:
    return layers.Dense(1, activation="sigmoid")(layers.Dense(12, activation="relu")(x))


def signal(x: Any) -> Any:
    x = layers.Conv1D(8, 5, activation="relu")(x)
    x = layers.MaxPooling1D(2)(x)
    x = layers.Conv1D(10, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.AveragePooling1D(3, strides=2, padding="same")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return layers.Dense(4, activation="softmax")(x)


def image(x: Any) -> Any:
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu6")(x)
    x = layers.Conv2D(7, (2, 3), dilation_rate=(2, 1))(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Conv2D(9, 1)(x)
    x = layers.Flatten()(x)
    return layers.Dense(6, activation="softmax")(x)


def residual(x: Any) -> Any:
    a = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    b = layers.Conv2D(8, 3, padding="same")(a)
    x = layers.ReLU()(layers.Add()([a, b]))
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(3)(x)


def branches(x: Any) -> Any:
    """Concatenations along channels and rows, and additions that broadcast or have a constant."""
    a = layers.Conv2D(5, 3, padding="same", activation="relu")(x)
    b = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Concatenate(axis=-1)([a, b, x])
    x = x + np.linspace(-1, 1, x.shape[-1], dtype=np.float32).reshape(1, 1, 1, -1)
    y = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(x.shape[-1], 1)(x))
    x = layers.Concatenate(axis=1)([x + y, x])
    x = layers.GlobalAveragePooling2D()(x)
    x = x + np.linspace(0, 2, x.shape[-1], dtype=np.float32).reshape(1, -1)
    return layers.Dense(4, activation="softmax")(x)


def rectified(x: Any) -> Any:
    """Activations that stand alone: of the input, into another scale, and of one branch of two."""
    y = layers.Conv2D(3, 1)(x)
    x = layers.Concatenate(axis=-1)([layers.ReLU()(x), y, layers.ReLU()(y), layers.ReLU(max_value=6)(y)])
    return layers.Dense(3)(layers.Flatten()(x))


class Resized(layers.Layer):
    """Of other sizes, by the nearest neighbour."""

    def call(self, x: Any) -> Any:
        return tf.concat([tf.image.resize(x, (9, 31), "nearest"), tf.image.resize(x, (70, 31), "nearest")], axis=1)


def upsampled(x: Any) -> Any:
    """Larger images, as decoders make them."""
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(5, (2, 4), strides=(1, 3), use_bias=False)(x)
    x = Resized()(layers.UpSampling2D(2, interpolation="bilinear")(x))
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3)(x)))


def padded(x: Any) -> Any:
    x = layers.ZeroPadding2D(((0, 1), (2, 1)))(x)
    x = layers.DepthwiseConv2D((3, 2), depth_multiplier=2, strides=2)(x)
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.RandomUniform(-0.1, 0.5, seed=3))(x)
    x = layers.Conv2D(9, 3, activation="relu", padding="same", groups=3)(x)
    x = layers.Conv2D(5, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(2, activation="softmax")(x)


def gated(x: Any) -> Any:
    """Functions of single values, and of two: a gate, a difference, the larger and the smaller, in scales of their own."""
    a = layers.Dense(12, activation="tanh")(x)
    b = layers.Dense(12, activation="sigmoid")(x)
    c = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(12)(x))
    d = layers.Dense(12, activation="hard_swish")(layers.Concatenate()([a, c]))
    x = layers.Maximum()([layers.Multiply()([a, b]), layers.Subtract()([c, d])])
    x = layers.Minimum()([x, layers.Concatenate()([layers.Dense(5)(x), layers.Dense(7)(d)])])
    return layers.Dense(3)(layers.Multiply()([x, c]))


class Moved(layers.Layer):
    """Slices of every kind, put together again."""

    def call(self, x: Any) -> Any:
        one, two = tf.split(x, 2, axis=3)
        three, four = tf.split(x, [3, 5], axis=2)
        x = tf.concat([one, two[:, :, ::-1]], axis=3)
        x = tf.concat([four[:, 1:4:2], tf.slice(x, [0, 0, 1, 0], [1, 2, 5, 4])], axis=1)
        x = tf.concat([x, tf.transpose(three, [0, 2, 1, 3])[:, :, :5] + 0.5], axis=1)
        return x * 0.5


def moved(x: Any) -> Any:
    return layers.Dense(3)(layers.Flatten()(Moved()(x)))


def peaks(x: Any) -> Any:
    """The largest values in time, and means over channels."""
    x = layers.Conv1D(9, 3, activation="relu")(x)
    return layers.Dense(4)(layers.Concatenate()([layers.GlobalMaxPooling1D()(x), keras.ops.mean(x, axis=-1)]))


def unpacked() -> bytes:
    """Written by hand: the converter leaves UNPACK in float every other time."""
    parts = [Part((1, 2, 40), 0.1, 5), Part((1, 40), 0.15, -3), Part((1, 40), 0.1, 5), Part((1, 40), 0.1, 5)]
    parts.append(Part((1, 40, 2), 0.1, 5))
    parts.append(Part((1, 80), 0.1, 5))
    parts[1] = Part((1, 80), 0.15, -3)
    unpack = ("UNPACK", [0], [2, 3], options_of("UnpackOptions", num=2, axis=1))
    pack = ("PACK", [3, 2], [4], options_of("PackOptions", valuesCount=2, axis=2))
    flat = ("RESHAPE", [4], [5], options_of("ReshapeOptions", newShape=[1, 80]))
    return model_of(parts, [unpack, pack, flat, ("ADD", [5, 5], [1], options_of("AddOptions"))])


def surrounded() -> bytes:
    """A value of its own round height and width, then as further channels."""
    parts = [Part((1, 4, 3, 2), 0.1, 5), Part((1, 7, 5, 5), 0.1, 5), Part((1, 7, 5, 2), 0.1, 5)]
    parts += [Part((), 0.1, 5, np.array(value, np.int8)) for value in (-100, 77)]
    wide = np.array([[0, 0], [1, 2], [2, 0], [0, 0]], np.int32)
    deep = np.array([[0, 0], [0, 0], [0, 0], [1, 2]], np.int32)
    parts += [Part((4, 2), content=wide), Part((4, 2), content=deep)]
    options = options_of("PadV2Options")
    return model_of(parts, [("PADV2", [0, 5, 3], [2], options), ("PADV2", [2, 6, 4], [1], options)])


def remembered() -> bytes:
    """A layer that carries a state, as one operator: the converter makes one only of saved models."""
    rng = np.random.default_rng(3)
    steps, width, units, classes = 9, 5, 12, 4
    series, hidden = Part((1, steps, width), 0.02, -7), Part((1, units), 1 / 128, 3, variable=True)
    parts = [series, Part((1, classes), 0.05, 10)]
    parts += [Part((units, width), 0.01, 0, rng.integers(-128, 128, (units, width)).astype(np.int8)) for _ in range(4)]
    parts += [Part((units, units), 0.01, 0, rng.integers(-128, 128, (units, units)).astype(np.int8)) for _ in range(4)]
    parts += [Part((units,), 2e-4, 0, rng.integers(-2000, 2000, units).astype(np.int32)) for _ in range(4)]
    parts += [hidden, Part((1, units), 2.0**-11, 0, kind="int16", variable=True)]
    parts += [hidden._replace(shape=(1, steps, units), variable=False), hidden._replace(shape=(1, 108), variable=False)]
    parts.append(Part((classes, 108), 0.01, 0, rng.integers(-128, 128, (classes, 108)).astype(np.int8)))
    reads = [0, *range(2, 10), -1, -1, -1, *range(10, 14), -1, -1, 14, 15, -1, -1, -1, -1]
    options = options_of("UnidirectionalSequenceLSTMOptions", fusedActivationFunction=4, cellClip=10.0)
    layers_of = [
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", reads, [16], options),
        ("RESHAPE", [16], [17], options_of("ReshapeOptions", newShape=[1, 108])),
        ("FULLY_CONNECTED", [17, 18, -1], [1], options_of("FullyConnectedOptions")),
    ]
    return model_of(parts, layers_of)


MODELS = {
    "dense": (dense, (30,)),
    "regression": (regression, (13,)),
    "binary": (binary, (21,)),
    "signal": (signal, (50, 2)),
    "image": (image, (13, 11, 3)),
    "residual": (residual, (10, 9, 4)),
    "padded": (padded, (11, 12, 3)),
    "branches": (branches, (7, 6, 3)),
    "rectified": (rectified, (5, 7, 2)),
    "gated": (gated, (14,)),
    "moved": (moved, (6, 8, 4)),
    "peaks": (peaks, (20, 3)),
    "upsampled": (upsampled, (5, 4, 3)),
}


def convert(name: str, per_tensor_dense: bool = False) -> bytes:
    function, shape = MODELS[name]
    keras.utils.set_random_seed(sum(map(ord, name)))
    return convert_function(function, shape, per_tensor_dense)


def convert_function(function: Callable[[Any], Any], shape: Tuple[int, ...], per_tensor_dense: bool) -> bytes:
    """Keras layers applied to an input of `shape`, with random weights, as an int8 .tflite."""
    entry = keras.Input(shape, batch_size=1)
    model = keras.Model(entry, function(entry))
    rng = np.random.default_rng(1)
    for weight in model.weights:  # biases matter too, and Keras starts them at zero
        if weight.name == "bias":
            weight.assign(rng.normal(0, 0.3, weight.shape))

    def samples() -> Iterator[List[np.ndarray]]:
        for _ in range(60):
            yield [rng.normal(0.3, 1.5, (1, *shape)).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converter._experimental_disable_per_channel_quantization_for_dense_layers = per_tensor_dense
    return converter.convert()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name in MODELS:
        (folder / f"{name}.tflite").write_bytes(convert(name))
    (folder / "streaming.tflite").write_bytes(streaming())
    (folder / "unpacked.tflite").write_bytes(unpacked())
    (folder / "surrounded.tflite").write_bytes(surrounded())
    (folder / "filters.tflite").write_bytes(svdf_layer())
    (folder / "remembered.tflite").write_bytes(remembered())
    (folder / "dense_per_tensor.tflite").write_bytes(convert("dense", per_tensor_dense=True))
