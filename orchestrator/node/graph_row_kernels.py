"""Gradients of the kernels of depthwise convolutions with strides, of many rows (node/graph_rows.py).

A graph has one number of a kernel's gradient from every place it reads: the sum of those places times what came back. That is a
depthwise convolution itself, of the input by what came back as a kernel, whose places are a stride apart (its dilation), in half
the time of cutting out and adding up each place by itself. Each record has its own kernel there, so records lie side by side as
channels, and none of those sees another.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

from orchestrator.node.graph_file import Operation
from orchestrator.node.graph_rewriting import Pick, Rows
from orchestrator.node.graph_shapes import MAX_REACH, size_of

_MOST_CHANNELS = 4096
"""Runtimes add up a depthwise convolution in a buffer of 4832 numbers (TensorFlow Lite, depthwiseconv_float.h)."""


class _Product(NamedTuple):
    """A sum over places of picked ones times what came back, `back` in its first shape."""

    pick: Pick
    back: int


def kernel_gradient(rows: Rows, parts: Sequence[int]) -> Optional[int]:
    """Returns (rows, parts x channels), a new tensor with these parts one behind the other, if they are such a gradient, in the
    order of its places row by row; otherwise None. parts: new tensors of one number for each record and channel.
    """
    products = [_product(rows, part) for part in parts]
    found = [product for product in products if product is not None]
    if len(found) < len(parts) or len({(product.back, product.pick.x) for product in found}) > 1:
        return None
    (back, x), picks = (found[0].back, found[0].pick.x), [product.pick for product in found]
    size = _kernel_size(picks)
    if size is None:
        return None
    _, batch, height, width, channels = rows.tensors[x].shape
    (_, stride_h, out_h), (_, stride_w, out_w) = picks[0].places
    reach = (out_h - 1) * stride_h + 1, (out_w - 1) * stride_w + 1
    if rows.rows * channels > _MOST_CHANNELS:
        return None
    fits = (height, width) == (reach[0] + size[0] - 1, reach[1] + size[1] - 1)
    if not fits or batch != 1 or max(reach) > MAX_REACH:
        return None
    if size_of(rows.tensors[back].shape) != rows.rows * out_h * out_w * channels:
        return None
    beside = [_beside(rows, new, h, w, channels) for new, h, w in ((x, height, width), (back, out_h, out_w))]
    bias = rows.zeros(rows.rows * channels)
    options = {
        "padding": 1,
        "stride_h": 1,
        "stride_w": 1,
        "multiplier": 1,
        "dilation_h": stride_h,
        "dilation_w": stride_w,
    }
    (made,) = rows.add("DEPTHWISE_CONV_2D", [*beside, bias], options, 1, 2)
    made = rows.reshaped(made, (len(parts), rows.rows, channels))
    (made,) = rows.add("TRANSPOSE", [made, rows.numbers([1, 0, 2])])
    return rows.reshaped(made, (rows.rows, len(parts) * channels))


def _product(rows: Rows, part: int) -> Optional[_Product]:
    total = _made_by(rows, part, "SUM")
    product = _made_by(rows, total.inputs[0], "MUL") if total else None
    if total is None or product is None or product.options["activation"]:
        return None
    a, b = (rows.unshaped(new) for new in product.inputs)
    a, b = (a, b) if a in rows.picks else (b, a)
    if a not in rows.picks:
        return None
    shape, over = rows.tensors[total.inputs[0]].shape, rows.tensors[total.inputs[1]].data
    places = over is not None and sorted(over.ravel().tolist()) == list(range(1, len(shape) - 1))
    channels = rows.tensors[rows.picks[a].x].shape[-1]
    alone = {size_of(rows.tensors[new].shape) for new in (a, b)} == {size_of(shape)}  # no broadcasting
    fits = places and alone and (shape[0], shape[-1]) == (rows.rows, channels)
    return _Product(rows.picks[a], b) if fits else None


def _made_by(rows: Rows, new: int, name: str) -> Optional[Operation]:
    maker = rows.maker(rows.unshaped(new))
    return maker if maker is not None and maker.name == name else None


def _kernel_size(picks: Sequence[Pick]) -> Optional[Tuple[int, int]]:
    """(height, width) of a kernel whose places these are, row by row; None where they are something else."""
    first = [(h[0], w[0]) for h, w in (pick.places for pick in picks)]
    alike = {tuple(place[1:] for place in pick.places) for pick in picks}
    size = first[-1][0] + 1, first[-1][1] + 1
    if size[0] * size[1] != len(first) or len(alike) > 1:
        return None
    whole: List[Tuple[int, int]] = [(i, j) for i in range(size[0]) for j in range(size[1])]
    return size if first == whole else None


def _beside(rows: Rows, new: int, height: int, width: int, channels: int) -> int:
    """(rows, height x width, channels) as (1, height, width, rows x channels)."""
    lines = rows.reshaped(new, (rows.rows, height * width, channels))
    (turned,) = rows.add("TRANSPOSE", [lines, rows.numbers([1, 0, 2])])
    return rows.reshaped(turned, (1, height, width, rows.rows * channels))
