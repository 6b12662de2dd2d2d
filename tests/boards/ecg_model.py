"""Trains a small ECG classifier and writes its bundle: `python ecg_model.py BEATS.npz FOLDER`.

A process of its own, because it needs TensorFlow.
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

from model_export.bundle import write_bundle
from model_export.models import build_model
from model_export.quantize import quantize_int8
from model_export.tflm import TflmModel

UNITS_PER_MV = 200.0


def main(beats_path: str, folder: str) -> None:
    with np.load(beats_path) as beats:
        training = np.isin(beats["record"], (106, 119, 200, 208, 223)) & (beats["y"] < 3)
        x = (beats["x"][training, :, None] / UNITS_PER_MV).astype(np.float32)
        y = beats["y"][training].astype(int)
    model = build_model({"kind": "cnn1d", "filters": [8, 8], "kernel": 7, "pool": 2, "dense": []}, (128, 1), 3, seed=1)
    tf.keras.utils.set_random_seed(1)  # the order of the beats, too
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=tf.keras.optimizers.Adam(0.01), loss=loss)
    model.fit(x, y, batch_size=64, epochs=3, verbose=0)
    blob = quantize_int8(model, x[::5])
    entry = TflmModel(blob).input
    write_bundle(
        Path(folder),
        tflite=blob,
        name="ecg",
        labels=["N", "S", "V"],
        features=[{"name": "mlii", "mean": 0.0, "std": UNITS_PER_MV}],
        known_rows=entry.quantize(x[:8]),
        reference_rows=entry.quantize(x),
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
