"""Writes random small int8 models of the operators engine/direct has: `python random_models.py FOLDER SEED COUNT`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from small_models import convert_function, keras, layers

ACTIVATIONS = (None, "relu", "relu6")


class Builder:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def conv(self, x: Any) -> Any:
        stride = self.pick(1, 1, 2)
        dilation = self.pick(1, 1, 2) if stride == 1 else 1
        kernel = (int(self.pick(1, 2, 3)), int(self.pick(1, 2, 3)))
        return layers.Conv2D(
            int(self.rng.integers(1, 11)), kernel, strides=stride, dilation_rate=dilation,
            padding=self.pick("same", "valid"), activation=self.pick(*ACTIVATIONS), use_bias=self.pick(True, False),
        )(x)  # fmt: skip

    def depthwise(self, x: Any) -> Any:
        return layers.DepthwiseConv2D(
            (int(self.pick(1, 2, 3)), int(self.pick(1, 2, 3))), strides=int(self.pick(1, 2)),
            depth_multiplier=int(self.pick(1, 1, 2, 3)), padding=self.pick("same", "valid"),
            activation=self.pick(*ACTIVATIONS),
        )(x)  # fmt: skip

    def pool(self, x: Any) -> Any:
        kind = self.pick(layers.MaxPooling2D, layers.AveragePooling2D)
        return kind(int(self.pick(2, 3)), strides=int(self.pick(1, 2)), padding=self.pick("same", "valid"))(x)

    def residual(self, x: Any) -> Any:
        y = layers.Conv2D(x.shape[-1], int(self.pick(1, 3)), padding="same", activation=self.pick(*ACTIVATIONS))(x)
        y = layers.Add()([x, y])
        return layers.ReLU()(y) if self.pick(True, False) else y

    def concat(self, x: Any) -> Any:
        y = layers.Conv2D(int(self.rng.integers(1, 6)), 1, activation=self.pick(*ACTIVATIONS))(x)
        if self.pick(True, False):
            return layers.Concatenate(axis=-1)(self.pick([x, y], [y, x], [x, y, x]))
        return layers.Concatenate(axis=int(self.pick(1, 2)))(
            [y, y] if self.pick(True, False) else [y, layers.ReLU()(y)]
        )

    def add_broadcast(self, x: Any) -> Any:
        height, width, channels = x.shape[1:]
        shape = self.pick((1, 1, 1, channels), (1, 1, 1, 1), (1, height, width, 1), (1, height, 1, channels), x.shape)
        if self.pick(True, False):
            return x + self.rng.normal(size=tuple(shape)).astype(np.float32)  # a constant
        y = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(channels, 1)(x))
        return self.pick(lambda: x + y, lambda: y + x)()

    def pad(self, x: Any) -> Any:
        return layers.ZeroPadding2D(tuple(tuple(map(int, self.rng.integers(0, 3, 2))) for _ in range(2)))(x)

    def head(self, x: Any) -> Any:
        if len(x.shape) == 4:
            x = layers.GlobalAveragePooling2D()(x) if self.pick(True, False) else layers.Flatten()(x)
        for _ in range(self.rng.integers(0, 3)):
            x = layers.Dense(int(self.rng.integers(1, 20)), activation=self.pick(*ACTIVATIONS))(x)
        width, last = self.pick((1, "sigmoid"), (5, "softmax"), (3, None), (2, "softmax"))
        return layers.Dense(width, activation=last)(x)

    def body(self, x: Any) -> Any:
        for _ in range(self.rng.integers(1, 6)):
            step = self.pick(
                self.conv,
                self.conv,
                self.depthwise,
                self.pool,
                self.residual,
                self.pad,
                self.concat,
                self.add_broadcast,
            )
            if min(x.shape[1:3]) >= 6 or step in (self.pad, self.residual, self.concat, self.add_broadcast):
                x = step(x)
        return x


def random_model(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    builder = Builder(rng)
    if rng.integers(4) == 0:
        return convert_function(builder.head, (int(rng.integers(1, 40)),), bool(rng.integers(2)))
    shape = (int(rng.integers(6, 15)), int(rng.integers(6, 15)), int(rng.integers(1, 6)))
    return convert_function(lambda x: builder.head(builder.body(x)), shape, bool(rng.integers(2)))


if __name__ == "__main__":
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for number in range(first, first + count):
        (folder / f"{number}.tflite").write_bytes(random_model(number))
