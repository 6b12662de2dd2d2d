"""An invented dose, and a Keras model of it: model.keras, rows.npy for the int8 ranges, test.npz with what is right."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np


def rows(seed: int, records: int) -> "tuple[np.ndarray, np.ndarray]":
    """Standardized weight, age and creatinine, float32 (records, 3); the dose, float32 (records, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (records, 3)).clip(-3, 3).astype(np.float32)
    dose = 5 + 1.4 * x[:, 0] - 0.8 * x[:, 1] - 0.9 * np.maximum(x[:, 2], 0) + rng.normal(0, 0.1, records)
    return x, dose[:, None].astype(np.float32)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,), name="x"), keras.layers.Dense(16, "relu"), keras.layers.Dense(1, name="dose")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x, dose = rows(1, 1000)
    model.fit(x, dose, batch_size=50, epochs=15, verbose=0)
    model.save("model.keras")
    np.save("rows.npy", x[:300])
    test, right = rows(2, 200)
    np.savez("test.npz", x=test, y=right, float=np.asarray(model(test)))
