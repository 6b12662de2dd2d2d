"""The training graph: signatures, loss, and every gradient against TensorFlow's in the runtimes nodes have."""

from typing import Any, Callable, List

import numpy as np
import pytest
from export_samples import SPECS

from model_export import builtin_gradients
from model_export.errors import ExportError, GradientMismatchError
from model_export.gradient_check import check_gradients, run_graph, tensor_errors
from model_export.models import build_model, get_weights
from model_export.quiet import tensorflow
from model_export.tflite_file import read_tflite
from model_export.training_graph import export_training_graph
from orchestrator.node.graph_check import check_graph
from orchestrator.node.graph_process import GraphProcess

BATCH = 6
ZOO = [
    "conv2d strided, relu6, odd sizes",
    "depthwise, same and strided",
    "depthwise in long and uneven strides",
    "overlapping and uneven pools",
    "average pools that divide and do not",
    "dilated and causal",
    "frozen batch norm and dropout",
]


@pytest.fixture(scope="module")
def graphs(built: Callable[[str], Any]) -> Callable[[str], bytes]:
    made = {}

    def get(name: str) -> bytes:
        if name not in made:
            made[name] = export_training_graph(built(name), BATCH)
        return made[name]

    return get


def layers_model(shape: Any, *stack: Any) -> Any:
    tensorflow()
    import keras

    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(shape), *stack])


def zoo(name: str) -> Any:
    """Models that reach the branches of the replaced gradients the built-in kinds do not reach."""
    tensorflow()
    from keras import layers

    return {
        "conv2d strided, relu6, odd sizes": lambda: layers_model(
            (9, 7, 3),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu6"),
            layers.Conv2D(5, (1, 2), padding="valid", activation="tanh"),
            layers.LeakyReLU(),
            layers.Conv2D(4, 1, activation="elu"),
            layers.Flatten(),
            layers.Dense(3),
        ),
        "depthwise, same and strided": lambda: layers_model(
            (8, 9, 2),
            layers.Conv2D(4, 1),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.DepthwiseConv2D(2, padding="valid"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ),
        "depthwise in long and uneven strides": lambda: layers_model(
            (17, 16, 2),
            layers.DepthwiseConv2D(5, strides=2, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, strides=3, padding="same"),
            layers.Conv2D(3, 1, activation="relu"),
            layers.DepthwiseConv2D(1, strides=2),
            layers.Flatten(),
            layers.Dense(3),
        ),
        "overlapping and uneven pools": lambda: layers_model(
            (11, 10, 2),
            layers.Conv2D(3, 3),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.Conv2D(4, 1, activation="sigmoid"),
            layers.AveragePooling2D(2, strides=1, padding="same"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3),
        ),
        "average pools that divide and do not": lambda: layers_model(
            (13, 3),
            layers.Conv1D(4, 3, padding="same"),
            layers.AveragePooling1D(2),
            layers.Conv1D(4, 3, strides=2, padding="same", activation="relu"),
            layers.AveragePooling1D(2, padding="same"),
            layers.Flatten(),
            layers.Dense(3),
        ),
        "dilated and causal": lambda: layers_model(
            (20, 2),
            layers.Conv1D(4, 3, dilation_rate=2, padding="causal", activation="relu"),
            layers.Conv1D(4, 3, dilation_rate=3, padding="same", activation="relu"),
            layers.Conv1D(4, 3, dilation_rate=2, padding="valid"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ),
        "frozen batch norm and dropout": lambda: layers_model(
            (6,), layers.Dense(8), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5), layers.Dense(3)
        ),
    }[name]()


@pytest.mark.parametrize("name", sorted(SPECS))
def test_gradients_equal_tensorflows(name: str, built: Callable[[str], Any], graphs: Callable[[str], bytes]) -> None:
    report = check_gradients(built(name), graphs(name), BATCH)
    assert report["runtime"] == "ai-edge-litert"
    assert report["max_error"] <= 1e-4
    assert [t["name"] for t in report["tensors"]] == [v.path for v in built(name).trainable_variables]


@pytest.mark.parametrize("name", sorted(SPECS))
def test_gradients_on_python38(
    name: str, built: Callable[[str], Any], graphs: Callable[[str], bytes], python38: List[str]
) -> None:
    report = check_gradients(built(name), graphs(name), BATCH, python=python38)
    assert report["runtime"] == "tflite-runtime"
    assert report["max_error"] <= 1e-4


@pytest.fixture(scope="module")
def zoo_graphs() -> Callable[[str], Any]:
    made = {}

    def get(name: str) -> Any:
        if name not in made:
            model = zoo(name)
            made[name] = (model, export_training_graph(model, 3))
        return made[name]

    return get


@pytest.mark.parametrize("name", ZOO)
def test_gradients_of_other_layers(name: str, zoo_graphs: Callable[[str], Any]) -> None:
    model, graph = zoo_graphs(name)
    assert check_gradients(model, graph, 3)["max_error"] <= 1e-4


@pytest.mark.parametrize("name", ZOO)
def test_gradients_of_other_layers_on_python38(
    name: str, zoo_graphs: Callable[[str], Any], python38: List[str]
) -> None:
    model, graph = zoo_graphs(name)
    assert check_gradients(model, graph, 3, python=python38)["runtime"] == "tflite-runtime"


def assert_nodes_run_the_same(graph: bytes) -> None:
    """What a node makes of the graph, in its own process, gives the bits the runtime gives for the graph as it is."""
    checked = check_graph(graph)
    random = np.random.default_rng(4)
    process, calls, ours = GraphProcess(checked), {}, {}
    for name, function in checked.functions.items():
        shapes = [function.tensors[i].shape for i in function.inputs]
        w, x = (random.standard_normal(shape).astype(np.float32) for shape in shapes[:2])
        columns = [x]
        if name.startswith("grad"):
            y, sw = random.integers(0, checked.classes, shapes[2]), random.random(shapes[3])
            columns += [y.astype(np.int32), sw.astype(np.float32)]
        calls.update({f"0|{name}|{key}": value for key, value in zip(("w", "x", "y", "sw"), (w, *columns))})
        ours[f"0|{name}|{'g' if name.startswith('grad') else 'logits'}"] = process.run(
            name, w, *[column[np.newaxis] for column in columns]
        )[0]
    process.close()
    theirs = run_graph(graph, calls)
    assert {key: value.tobytes() for key, value in ours.items()} == {key: theirs[key].tobytes() for key in ours}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_nodes_run_the_same(name: str, graphs: Callable[[str], bytes]) -> None:
    assert_nodes_run_the_same(graphs(name))


@pytest.mark.parametrize("name", ZOO)
def test_nodes_run_the_same_of_other_layers(name: str, zoo_graphs: Callable[[str], Any]) -> None:
    assert_nodes_run_the_same(zoo_graphs(name)[1])


@pytest.mark.parametrize("activation", ["relu6", "tanh", "sigmoid", "linear"])
def test_nodes_run_every_built_in_activation(activation: str) -> None:
    spec = {"kind": "cnn1d", "filters": [3, 4], "kernel": 3, "pool": 2, "dense": [5], "activation": activation}
    assert_nodes_run_the_same(export_training_graph(build_model(spec, (17, 2), 3, 1), 4))


def test_the_same_model_gives_the_same_graph(built: Callable[[str], Any], graphs: Callable[[str], bytes]) -> None:
    """Exported again it computes the same, operator by operator; other weights of the file do not count, another width does."""
    spec, shape, classes = SPECS["mlp"]
    again = export_training_graph(build_model(spec, shape, classes, seed=8), BATCH)
    assert check_graph(again).digest() == check_graph(graphs("mlp")).digest()
    wider = export_training_graph(build_model({**spec, "hidden": [17]}, shape, classes, seed=7), BATCH)
    assert check_graph(wider).digest() != check_graph(graphs("mlp")).digest()


@pytest.mark.parametrize("op", ["Relu", "Conv2D", "MaxPool"])
def test_a_wrong_gradient_is_caught(op: str, built: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    right = builtin_gradients.GRADIENTS[op]

    def wrong(node: Any, dy: Any) -> Any:
        result = right(node, dy)
        return (result[0] * 1.01, result[1]) if isinstance(result, tuple) else result * 1.01

    monkeypatch.setitem(builtin_gradients.GRADIENTS, op, wrong)
    graph = export_training_graph(built("cnn1d"), BATCH)
    with pytest.raises(GradientMismatchError, match=r"gradient of 'cnn1d/conv\d/(kernel|bias)' differs"):
        check_gradients(built("cnn1d"), graph, BATCH)


def test_error_is_relative_to_each_tensor() -> None:
    table = [{"name": "a", "offset": 0, "size": 2}, {"name": "b", "offset": 2, "size": 2}]
    reference = np.array([100.0, -50.0, 1.0, 0.5])
    errors = tensor_errors(reference + np.array([0.0, 1.0, 0.0, 0.01]), reference, table)
    np.testing.assert_allclose(errors, [0.01, 0.01])


def test_tensorflows_gradients_are_restored() -> None:
    tensorflow()
    from tensorflow.python.framework import ops

    before = {name: ops.gradient_registry._registry[name]["type"] for name in builtin_gradients.GRADIENTS}
    seen = []

    def fail_inside() -> None:
        with builtin_gradients.builtin_gradients():
            seen.append(ops.gradient_registry._registry["Relu"]["type"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert seen == [builtin_gradients.GRADIENTS["Relu"]]
    assert before == {name: ops.gradient_registry._registry[name]["type"] for name in builtin_gradients.GRADIENTS}


def test_only_builtins_and_four_signatures(graphs: Callable[[str], bytes]) -> None:
    graph = read_tflite(graphs("cnn1d"))
    codes = {op.code for subgraph in graph.subgraphs for op in subgraph.ops}
    assert not [code for code in codes if code.startswith("CUSTOM")]
    assert len(graph.subgraphs) == 4


def test_loss_is_the_weighted_mean_cross_entropy(built: Callable[[str], Any], graphs: Callable[[str], bytes]) -> None:
    """Against numpy: a zero weight masks a row, and batch-1 gradients add up to the batch's."""
    rng = np.random.default_rng(5)
    w, x = get_weights(built("mlp")), rng.standard_normal((BATCH, 13)).astype(np.float32)
    y, sw = rng.integers(0, 3, BATCH).astype(np.int32), np.array([1, 0, 2, 1, 0, 0.5], np.float32)
    calls = {"0|grad|w": w, "0|grad|x": x, "0|grad|y": y, "0|grad|sw": sw, "0|infer|w": w, "0|infer|x": x}
    for i in range(BATCH):
        calls.update({f"{i}|grad1|w": w, f"{i}|grad1|x": x[i : i + 1], f"{i}|grad1|y": y[i : i + 1]})
        calls[f"{i}|grad1|sw"] = np.ones(1, np.float32)
        calls.update({f"{i}|infer1|w": w, f"{i}|infer1|x": x[i : i + 1]})
    found = run_graph(graphs("mlp"), calls)
    logits = found["0|infer|logits"].astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(log_p[np.arange(BATCH), y] * sw).sum() / sw.sum()
    np.testing.assert_allclose(found["0|grad|loss"], expected, rtol=1e-5)
    summed = sum(sw[i] * found[f"{i}|grad1|g"] for i in range(BATCH)) / sw.sum()
    np.testing.assert_allclose(found["0|grad|g"], summed, atol=1e-6)
    singles = np.concatenate([found[f"{i}|infer1|logits"] for i in range(BATCH)])
    np.testing.assert_allclose(singles, logits, atol=1e-5)


def test_what_cannot_be_trained_is_named() -> None:
    tensorflow()
    from keras import layers

    with pytest.raises(ExportError, match="grouped convolutions"):
        export_training_graph(layers_model((8, 4), layers.Conv1D(4, 3, groups=2), layers.Flatten(), layers.Dense(2)), 2)
    with pytest.raises(ExportError, match="depth multiplier 2"):
        export_training_graph(
            layers_model((8, 4), layers.DepthwiseConv1D(3, depth_multiplier=2), layers.Flatten(), layers.Dense(2)), 2
        )
    with pytest.raises(ExportError, match="Erfc has no TFLite builtin"):
        export_training_graph(layers_model((6,), layers.Dense(4, activation="gelu"), layers.Dense(2)), 2)
    with pytest.raises(ExportError, match="batch size is 0"):
        export_training_graph(layers_model((6,), layers.Dense(2)), 0)
