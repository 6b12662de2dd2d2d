"""Ten small Keras models as people have them, saved as .keras and exported: `python keras_models.py FOLDER`.

A process of its own, because it needs TensorFlow, and one for all of them. Weights are random: only the arithmetic matters.
FOLDER gets NAME.keras, the bundle NAME, and reasons.json: what the export said of a model it refused.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
from keras import layers

from model_export.errors import ExportError
from model_export.worker import bundle

ROWS = 60
Build = Callable[[], Any]


def gesture() -> Any:
    """Accelerometer windows, as tutorials of magic wands have it."""
    return [
        keras.Input((64, 3)),
        layers.Reshape((64, 3, 1)),
        layers.Conv2D(8, (4, 3), padding="same", activation="relu"),
        layers.MaxPooling2D((3, 3)),
        layers.Dropout(0.1),
        layers.Conv2D(16, (4, 1), padding="same", activation="relu"),
        layers.MaxPooling2D((3, 1), padding="same"),
        layers.Flatten(),
        layers.Dense(16, activation="relu"),
        layers.Dense(4, activation="softmax"),
    ]


def mfcc() -> Any:
    """Keywords from a spectrogram: normalized, convolved over time."""
    return [
        keras.Input((49, 13)),
        layers.Conv1D(8, 3, padding="same"),
        layers.BatchNormalization(),
        layers.Activation("relu"),
        layers.MaxPooling1D(2, padding="same"),
        layers.Dropout(0.25),
        layers.Conv1D(16, 3, activation="relu"),
        layers.SeparableConv1D(16, 3, activation="relu"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(5, activation="softmax"),
    ]


def mnist() -> Any:
    return [
        keras.Input((28, 28)),
        layers.Reshape((28, 28, 1)),
        layers.Conv2D(8, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(8, 3, activation="relu"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]


def mobilenet_v2() -> Any:
    entry = keras.Input((32, 32, 3))
    scaled = layers.Rescaling(1 / 127.5, offset=-1)(entry)
    base = keras.applications.MobileNetV2((32, 32, 3), alpha=0.1, include_top=False, weights=None)
    pooled = layers.GlobalAveragePooling2D()(base(scaled))
    return keras.Model(entry, layers.Dense(3, activation="softmax")(pooled))


def lstm() -> Any:
    return [keras.Input((16, 6)), layers.LSTM(12), layers.Dense(4, activation="softmax")]


def gru() -> Any:
    return [
        keras.Input((12, 4)),
        layers.GRU(10, return_sequences=True),
        layers.GRU(8),
        layers.Dense(3, activation="softmax"),
    ]


def autoencoder() -> Any:
    widths = (24, 8, 24)
    return [keras.Input((40,)), *(layers.Dense(width, activation="tanh") for width in widths), layers.Dense(40)]


def swish() -> Any:
    return [
        keras.Input((24, 24, 3)),
        layers.Conv2D(8, 3, strides=2, padding="same", activation="swish"),
        layers.DepthwiseConv2D(3, padding="same", activation="swish"),
        layers.Conv2D(12, 1, activation="swish"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5),
    ]


def leaky_relu() -> Any:
    """A discriminator: strides, groups of channels, slopes that were learned and a fixed one."""
    return [
        keras.Input((20, 20, 2)),
        layers.Conv2D(8, 3, strides=2, padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Conv2D(8, 3, groups=2, padding="same"),
        layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.RandomUniform(0.1, 0.4, seed=3)),
        layers.Flatten(),
        layers.Dense(1, activation="sigmoid"),
    ]


def u_net() -> Any:
    """Up again in the three ways there are: transposed convolution, nearest neighbours, between neighbours."""
    entry = keras.Input((32, 24, 3))
    one = layers.Conv2D(6, 3, padding="same", activation="relu")(entry)
    two = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(one))
    three = layers.Conv2D(12, 3, padding="same", activation="relu")(layers.MaxPooling2D()(two))
    four = layers.Conv2D(12, 3, padding="same", activation="relu")(layers.MaxPooling2D()(three))
    x = layers.Concatenate()([layers.UpSampling2D(2)(four), three])
    x = layers.Concatenate()([layers.UpSampling2D(2, interpolation="bilinear")(x), two])
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Concatenate()([x, one])
    return keras.Model(entry, layers.Conv2D(1, 1, activation="sigmoid")(x))


def noise(shape: Tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0.2, 1.0, (ROWS, *shape))


def pixels(shape: Tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (ROWS, *shape))


MODELS: Dict[str, Tuple[Build, Callable[[Tuple[int, ...], np.random.Generator], np.ndarray]]] = {
    "gesture": (gesture, noise),
    "mfcc": (mfcc, noise),
    "mnist": (mnist, noise),
    "mobilenet_v2": (mobilenet_v2, pixels),
    "lstm": (lstm, noise),
    "gru": (gru, noise),
    "autoencoder": (autoencoder, noise),
    "swish": (swish, noise),
    "leaky_relu": (leaky_relu, noise),
    "u_net": (u_net, noise),
}


def normalizing(model: Any) -> List[Any]:
    """Its layers that keep statistics, those of models inside it among them."""
    found = []
    for layer in model.layers:
        found += normalizing(layer) if isinstance(layer, keras.Model) else [layer]
    return [layer for layer in found if isinstance(layer, layers.BatchNormalization)]


def export(name: str, folder: Path) -> None:
    build, rows_of = MODELS[name]
    keras.utils.set_random_seed(sum(map(ord, name)))
    made = build()
    model = made if isinstance(made, keras.Model) else keras.Sequential(made)
    rng = np.random.default_rng(1)
    rows = rows_of(model.input_shape[1:], rng).astype(np.float32)
    for weight in model.weights:  # biases matter too, and Keras starts them at 0
        if weight.name in ("bias", "beta"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    for layer in normalizing(model):
        layer.momentum = 0.0
    model(rows, training=True)  # statistics as training leaves them: without them nothing comes through deep layers
    model.save(folder / f"{name}.keras")
    np.save(folder / f"{name}.npy", rows)
    spec = folder / f"{name}.json"
    described = {"kind": "keras", "path": f"{name}.keras"}
    spec.write_text(json.dumps({"model": described, "name": name, "representative": f"{name}.npy"}))
    bundle(spec, folder / name)


def main(folder: Path) -> None:
    reasons = {}
    for name in MODELS:
        try:
            export(name, folder)
        except ExportError as error:
            reasons[name] = str(error)
    (folder / "reasons.json").write_text(json.dumps(reasons))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
