"""What shapes operators give that go over windows and blocks: convolutions, pools, space to batch."""

from typing import Any, Dict, List, Sequence, Tuple

from orchestrator.node.graph_shapes import (
    FLOAT,
    INT,
    MAX_REACH,
    Call,
    Known,
    constant,
    float_of,
    operands,
    require,
    size_of,
)


def _window(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Output positions of a window along one axis. padding: 0 same, 1 valid."""
    reach = (kernel - 1) * dilation + 1
    require(kernel >= 1 and stride >= 1 and dilation >= 1, "a kernel, stride or dilation below 1")
    require(reach <= MAX_REACH and stride <= MAX_REACH, "a window that reaches too far")
    if padding == 0:
        return -(-size // stride)
    require(reach <= size, f"a window of {reach} over {size}")
    return (size - reach) // stride + 1


def _windows(x: Known, kernel: Sequence[int], options: Dict[str, Any]) -> Tuple[int, int]:
    require(len(x.shape) == 4, f"rank {len(x.shape)}, expected 4")
    height, width = (
        _window(size, k, options[f"stride_{axis}"], options.get(f"dilation_{axis}", 1), options["padding"])
        for size, k, axis in zip(x.shape[1:3], kernel, "hw")
    )
    return height, width


def conv_2d(call: Call) -> List[Known]:
    x, kernel, *bias = operands(call, FLOAT, FLOAT, FLOAT, least=2)
    require(len(kernel.shape) == 4 and len(x.shape) == 4, "input and kernel of rank 4 were expected")
    filters, *sizes, channels = kernel.shape
    require(channels == x.shape[3], f"a kernel over {channels} of {x.shape[3]} channels")
    require(not bias or bias[0].shape == (filters,), "a bias of another size than the output")
    return float_of((x.shape[0], *_windows(x, sizes, call.options), filters))


def depthwise_conv_2d(call: Call) -> List[Known]:
    x, kernel, *bias = operands(call, FLOAT, FLOAT, FLOAT, least=2)
    require(len(kernel.shape) == 4 and len(x.shape) == 4, "input and kernel of rank 4 were expected")
    one, *sizes, filters = kernel.shape
    require(one == 1 and filters == x.shape[3] * call.options["multiplier"], "a kernel that does not fit the channels")
    require(not bias or bias[0].shape == (filters,), "a bias of another size than the output")
    return float_of((x.shape[0], *_windows(x, sizes, call.options), filters))


def transpose_conv(call: Call) -> List[Known]:
    target, kernel, x, *bias = operands(call, INT, FLOAT, FLOAT, FLOAT, least=3)
    require(len(kernel.shape) == 4 and len(x.shape) == 4, "input and kernel of rank 4 were expected")
    filters, *sizes, channels = kernel.shape
    shape = constant(target, (4,))
    require(min(shape) >= 1 and max(shape) <= MAX_REACH, f"shape {shape}")
    require(channels == x.shape[3], f"a kernel over {channels} of {x.shape[3]} channels")
    require(not bias or bias[0].shape == (filters,), "a bias of another size than the output")
    forward = _windows(Known(FLOAT, tuple(shape)), sizes, call.options)
    require((shape[0], *forward, shape[3]) == (*x.shape[:3], filters), "an output the input is no convolution of")
    return float_of(shape)


def pool(call: Call) -> List[Known]:
    (x,) = operands(call, FLOAT)
    kernel = (call.options["filter_h"], call.options["filter_w"])
    height, width = _windows(x, kernel, call.options)
    return float_of((x.shape[0], height, width, x.shape[3]))


def _blocks(call: Call) -> Tuple[Known, List[int], List[Tuple[int, int]]]:
    x, block, borders = operands(call, FLOAT, INT, INT)
    require(len(x.shape) in (3, 4), f"rank {len(x.shape)}, expected 3 or 4")
    spatial = len(x.shape) - 2
    sizes, edges = constant(block, (spatial,)), constant(borders, (spatial, 2))
    require(all(1 <= size <= MAX_REACH for size in sizes), "a block below 1 or too large")
    require(all(0 <= edge <= MAX_REACH for edge in edges), "a border below 0 or too wide")
    return x, sizes, list(zip(edges[::2], edges[1::2]))


def space_to_batch(call: Call) -> List[Known]:
    x, blocks, borders = _blocks(call)
    shape = []
    for n, block, (before, after) in zip(x.shape[1:], blocks, borders):
        require((n + before + after) % block == 0, f"blocks of {block} in {n + before + after}")
        shape.append((n + before + after) // block)
    return float_of((x.shape[0] * size_of(tuple(blocks)), *shape, x.shape[-1]))


def batch_to_space(call: Call) -> List[Known]:
    x, blocks, borders = _blocks(call)
    batch, rest = divmod(x.shape[0], size_of(tuple(blocks)))
    require(rest == 0, f"{x.shape[0]} batches in blocks of {blocks}")
    shape = [n * block - before - after for n, block, (before, after) in zip(x.shape[1:], blocks, borders)]
    require(min(shape) >= 1, "more cropped than there is")
    return float_of((batch, *shape, x.shape[-1]))
