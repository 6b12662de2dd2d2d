"""Graphs written to make a node's own functions large, deep or wrong: it goes on without them, or they take no longer."""

from typing import Callable, Dict

import pytest
from graph_bodies import axis, depthwise_gradient, grad1_of, image, strided, whole
from graph_samples import Builder

from orchestrator.errors import GraphError
from orchestrator.node import graph_row_sums
from orchestrator.node.graph_check import check_graph
from orchestrator.node.graph_file import Function, Operation
from orchestrator.node.graph_rewriting import Rows
from orchestrator.node.graph_rows import rows_function, sums_function

Body = Callable[[Builder, int, int], int]


def far_places(build: Builder, x: int, w: int) -> int:
    """As if they were two numbers of a kernel of 5,491 x 5,491."""
    wide = build.add("PAD", [image(build, x), build.constant([[0, 0], [0, 5498], [0, 5497], [0, 0]], "int32")])
    back = build.add("SLICE", [build.add("NEG", [image(build, x)]), axis(build, 0, 0, 0, 0), axis(build, 1, 2, 2, 1)])
    parts = []
    for place in (0, 5490):
        bounds = axis(build, 0, place, place, 0), axis(build, 1, place + 3, place + 3, 1), axis(build, 1, 2, 2, 1)
        product = build.add("MUL", [build.add("STRIDED_SLICE", [wide, *bounds]), back])
        parts.append(build.add("SUM", [product, axis(build, 0, 1, 2)]))
    return build.add("PACK", parts, count=2, axis=0)


def nested(depth: int, same: bool) -> Function:
    """A gradient that is joined to itself, or to one number more, over and over."""
    build = Builder()
    size = 2**depth if same else depth + 1
    w, x, y, sw = build.tensor([size]), build.tensor([1, 6]), build.tensor([1], "int32"), build.tensor([1])
    grown = one = build.add("MUL", [build.add("SUM", [x, build.constant([1], "int32")]), sw])
    for _ in range(depth):
        grown = build.add("CONCATENATION", [grown, grown if same else one], axis=0)
    loss = build.add("SUM", [build.add("MUL", [sw, sw]), build.constant([0], "int32")])
    return build.function([w, x, y, sw], [grown, loss])


def wide_kernel(build: Builder, x: int, w: int) -> int:
    """Of 128 x 128 places over an image of 2 x 3, nearly all of them over its edges."""
    kernel = build.add("TILE", [build.add("SLICE", [w, axis(build, [0]), axis(build, [1])]), axis(build, [128 * 128])])
    weights = build.add("RESHAPE", [kernel, axis(build, 1, 128, 128, 1)])
    return build.add("CONV_2D", [image(build, x), weights, build.constant([0.0])], padding=0, stride_w=1, stride_h=1)


def many_kernels(build: Builder, x: int, w: int) -> int:
    """200 convolutions of 16 x 16 places: each is small."""
    kernel = build.add("TILE", [build.add("SLICE", [w, axis(build, [0]), axis(build, [1])]), axis(build, [256])])
    weights = build.add("RESHAPE", [kernel, axis(build, 1, 16, 16, 1)])
    made = image(build, x)
    for _ in range(200):
        inputs = [made, weights, build.constant([0.0])]
        made = build.add("TANH", [build.add("CONV_2D", inputs, padding=0, stride_w=1, stride_h=1)])
    return made


@pytest.mark.parametrize("body", [far_places, wide_kernel, many_kernels])
def test_what_is_too_large_is_not_made(body: Body) -> None:
    function = check_graph(whole(grad1_of(body))).functions["grad1"]
    assert rows_function(function, 4) is None
    assert sums_function(function, 4) is None


@pytest.mark.parametrize(("depth", "same"), [(16, True), (2000, False)])
def test_a_nest_of_operators_is_gone_through_once_and_not_to_its_end(
    depth: int, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python ends programs that call themselves a thousand times, and 2^16 parts are the same one."""
    asked, real = [], graph_row_sums.summed

    def counted(rows: Rows, x: int, depth: int = 0) -> int:
        asked.append(x)
        return real(rows, x, depth)

    monkeypatch.setattr(graph_row_sums, "summed", counted)
    assert sums_function(nested(depth, same), 2) is not None
    assert 0 < len(asked) <= 40


def test_the_longest_stride_there_is_picks_one_place() -> None:
    """To add what several would need is beyond int32. An old runtime does not survive such a stride, so it is not run here."""
    function = check_graph(whole(grad1_of(strided(2**31 - 1, 1)))).functions["grad1"]
    assert rows_function(function, 4) is not None


def test_records_are_side_by_side_in_one_convolution_only_as_far_as_runtimes_can() -> None:
    """TensorFlow Lite adds up in a buffer of 4,832 numbers and, where optimized, does not look whether they are enough."""
    function = check_graph(whole(grad1_of(depthwise_gradient(2)))).functions["grad1"]
    channels: Dict[int, bool] = {}
    for rows in (2048, 2049):
        made = rows_function(function, rows)
        assert made is not None
        channels[2 * rows] = any(operation.name == "DEPTHWISE_CONV_2D" for operation in made.operations)
    assert channels == {4096: True, 4098: False}


def test_an_operator_that_gives_nothing_is_refused() -> None:
    def nothing(build: Builder, x: int, w: int) -> int:
        build.operations.append(Operation("SPLIT", 1, (axis(build, 0), x), (), {"count": 0}))
        return x

    with pytest.raises(GraphError, match=r"SPLIT.*gives nothing"):
        check_graph(whole(grad1_of(nothing)))
