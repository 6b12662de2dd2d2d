"""What a model is traced as for boards: layers that TensorFlow Lite Micro has no kernel for, in a form of the same values."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, List, Optional, Tuple

MOST_STEPS = 128
"""Of a loop that is unrolled: every step has operators of its own."""


def loops(model: Any) -> List[Tuple[Any, Optional[int]]]:
    """Layers that loop over time, as people leave them, and over how many steps; None where that is not known."""
    import keras

    found = []
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN) and not layer.unroll:
            shape = list((layer.get_build_config() or {}).get("input_shape") or ())
            found.append((layer, int(shape[1]) if len(shape) > 1 and shape[1] is not None else None))
    return found


@contextlib.contextmanager
def board_forms(model: Any) -> Iterator[None]:
    """Within it, loops are unrolled, and images and signals enlarged by nearest neighbours are resized, not repeated.

    The model is afterwards as it was: a .keras file of it has the layers of its author.
    """
    import keras

    two, one = keras.layers.UpSampling2D, keras.layers.UpSampling1D
    originals = two.call, one.call

    def enlarged(layer: Any, inputs: Any) -> Any:
        if layer.interpolation != "nearest" or layer.data_format != "channels_last":
            return originals[0](layer, inputs)
        size = [int(n) * factor for n, factor in zip(inputs.shape[1:3], layer.size)]
        return keras.ops.image.resize(inputs, size, interpolation="nearest", data_format="channels_last")

    def longer(layer: Any, inputs: Any) -> Any:
        _, steps, channels = inputs.shape
        image = keras.ops.reshape(inputs, (-1, steps, 1, channels))
        size = (int(steps) * layer.size, 1)
        resized = keras.ops.image.resize(image, size, interpolation="nearest", data_format="channels_last")
        return keras.ops.reshape(resized, (-1, size[0], channels))

    unrolled = [layer for layer, _ in loops(model)]
    for layer in unrolled:
        layer.unroll = True
    two.call, one.call = enlarged, longer
    try:
        yield
    finally:
        two.call, one.call = originals
        for layer in unrolled:
            layer.unroll = False
