"""The allow-list: what a training graph may hold, one refused trait at a time, and damaged files by the thousand."""

from typing import Any, Callable, Dict

import numpy as np
import pytest
from graph_samples import Builder, gradient, inference, mutants, softmax_regression, training_file

from orchestrator.errors import GraphError
from orchestrator.node import graph_check
from orchestrator.node.graph_check import CheckedGraph, check_graph
from orchestrator.node.graph_file import TYPES, Function, tflite_file
from orchestrator.node.graph_ops import RULES

GRAPH = softmax_regression()


@pytest.fixture(scope="module")
def schema() -> Any:
    pytest.importorskip("flatbuffers")
    return pytest.importorskip("ai_edge_litert.schema_py_generated")


def edited(schema: Any, edit: Callable[[Any], None], graph: bytes = GRAPH) -> bytes:
    """The graph with something changed by TensorFlow Lite's own object API."""
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(graph, 0))
    edit(model)
    builder = flatbuffers.Builder(len(graph))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_what_is_read() -> None:
    found = check_graph(GRAPH)
    assert found[:5] == (28, (13,), 2, 4, 4)
    assert sorted(found.functions) == ["grad", "grad1", "infer", "infer1"]
    assert sorted(check_graph(softmax_regression(infer1=False)).functions) == ["grad", "grad1", "infer"]


def test_packed_by_another_writer_it_is_the_same(schema: Any) -> None:
    again = edited(schema, lambda model: None)
    assert again != GRAPH
    assert check_graph(again).digest() == check_graph(GRAPH).digest()


def test_numbers_are_those_of_the_schema(schema: Any) -> None:
    """Options tables, the defaults of their fields, and tensor types, against the schema's generated reader."""
    options = {v: k for k, v in vars(schema.BuiltinOptions).items() if isinstance(v, int)}
    types = {v: k.lower() for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    assert {number: types[number] for number in TYPES} == TYPES
    for name, rule in RULES.items():
        if not rule.table:
            continue
        table = options[rule.table]
        assert hasattr(schema, f"{table}T"), name
        defaults = list(vars(getattr(schema, f"{table}T")()).values())
        assert {option.field: option.default for option in rule.options} == {
            option.field: defaults[option.field] for option in rule.options
        }, name
        assert max([-1, *rule.ignored]) < len(defaults), name


# What a graph may not hold, as an edit of a good one and what the refusal says.


def add_signature(model: Any) -> None:
    model.signatureDefs.append(model.signatureDefs[0])


def add_subgraph(model: Any) -> None:
    model.subgraphs.append(model.subgraphs[3])
    model.signatureDefs[3].signatureKey = b"infer1"


def set_code(name: str, version: int = 1) -> Callable[[Any], None]:
    from model_export.tflite_names import OPERATOR_NAMES

    def edit(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = OPERATOR_NAMES.index(name)
        code.deprecatedBuiltinCode = min(127, code.builtinCode)
        code.version = version

    return edit


def custom(model: Any) -> None:
    model.operatorCodes[0].customCode = b"FlexSave"


def tensor(**values: Any) -> Callable[[Any], None]:
    """Sets fields of the tensor the first operator of grad1 gives."""

    def edit(model: Any) -> None:
        subgraph = model.subgraphs[1]
        for name, value in values.items():
            setattr(subgraph.tensors[subgraph.operators[0].outputs[0]], name, value)

    return edit


def sparse(model: Any) -> None:
    import ai_edge_litert.schema_py_generated as schema

    tensor(sparsity=schema.SparsityParametersT())(model)


def quantized(model: Any) -> None:
    import ai_edge_litert.schema_py_generated as schema

    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = [0.5], [0]
    tensor(quantization=parameters)(model)


def external_buffer(model: Any) -> None:
    model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 100, 8


def operator(which: int = 0, **values: Any) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        for name, value in values.items():
            setattr(model.subgraphs[1].operators[which], name, value)

    return edit


def swapped(model: Any) -> None:
    operators = model.subgraphs[1].operators
    operators[0], operators[-1] = operators[-1], operators[0]


def twice(model: Any) -> None:
    operators = model.subgraphs[1].operators
    operators.append(operators[0])


def onto_input(model: Any) -> None:
    """The weights as the output of the split: the next call would start from what this one left."""
    subgraph = model.subgraphs[1]
    last = subgraph.operators[-1]  # NEG, of a scalar
    last.outputs = [int(subgraph.inputs[0])]


def wrong_option(option: str, value: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        for op in model.subgraphs[1].operators:
            if hasattr(op.builtinOptions, option):
                setattr(op.builtinOptions, option, value)
                return
        raise AssertionError(f"no operator has {option}")

    return edit


def constant_of(data: Any) -> Callable[[Any], None]:
    """Another content for the first constant, the lengths of the split."""

    def edit(model: Any) -> None:
        model.buffers[1].data = np.frombuffer(np.asarray(data).tobytes(), np.uint8)

    return edit


def computed_lengths(model: Any) -> None:
    """The lengths of the split read from the labels."""
    subgraph = model.subgraphs[1]
    value, _, axis = subgraph.operators[0].inputs
    subgraph.operators[0].inputs = [value, subgraph.inputs[2], axis]


def rename_input(model: Any) -> None:
    model.signatureDefs[0].inputs[0].name = b"weights"


def same_inputs(model: Any) -> None:
    entry = model.signatureDefs[0].inputs
    entry[0].tensorIndex = entry[1].tensorIndex


def two_signatures_one_subgraph(model: Any) -> None:
    model.signatureDefs[3].subgraphIndex = 2


REFUSED: Dict[str, Any] = {
    "another signature": (add_signature, "signatures"),
    "another subgraph": (add_subgraph, "subgraphs"),
    "a signature less": (lambda m: m.signatureDefs.pop(0), "lacks the signature"),
    "a signature of another name": (lambda m: setattr(m.signatureDefs[3], "signatureKey", b"evil"), "is not one of"),
    "one subgraph for two": (two_signatures_one_subgraph, "no subgraph of its own"),
    "an input of another name": (rename_input, "says otherwise"),
    "two inputs in one": (same_inputs, "does not name"),
    "no version 3": (lambda m: setattr(m, "version", 4), "schema version"),
    **{
        name: (set_code(name), f"operator {name} is not accepted")
        for name in (
            *(
                "VAR_HANDLE",
                "READ_VARIABLE",
                "ASSIGN_VARIABLE",
                "CALL",
                "CALL_ONCE",
                "WHILE",
                "IF",
                "CUSTOM",
                "DELEGATE",
            ),
            *("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "GATHER", "GATHER_ND", "SCATTER_ND", "WHERE"),
            *(
                "STABLEHLO_WHILE",
                "STABLEHLO_CUSTOM_CALL",
                "STABLEHLO_COMPOSITE",
                "HASHTABLE_FIND",
                "LSTM",
                "SVDF",
                "RNN",
            ),
            *("UNIDIRECTIONAL_SEQUENCE_LSTM", "NON_MAX_SUPPRESSION_V5", "PLACEHOLDER_FOR_GREATER_OP_CODES", "UNIQUE"),
        )
    },
    "an unknown operator": (lambda m: setattr(m.operatorCodes[0], "builtinCode", 9999), "operator 9999"),
    "an unknown version": (set_code("ADD", 77), "version 77"),
    "a custom name": (custom, "is not accepted"),
    "a variable": (tensor(isVariable=True), "variables are not accepted"),
    "a resource": (tensor(type=13), "tensor type 13"),
    "a string": (tensor(type=5), "tensor type 5"),
    "a variant": (tensor(type=14), "tensor type 14"),
    "int8": (tensor(type=9), "tensor type 9"),
    "a free dimension": (tensor(shapeSignature=[-1]), "not fixed"),
    "a negative dimension": (tensor(shape=[-1]), "shape"),
    "an empty dimension": (tensor(shape=[0]), "shape"),
    "a huge tensor": (tensor(shape=[1 << 30]), "shape"),
    "a product that overflows": (tensor(shape=[1 << 16] * 8), "shape"),
    "too many dimensions": (tensor(shape=[1] * 9), "shape"),
    "sparse": (sparse, "field 6"),
    "quantized": (quantized, "quantized"),
    "content outside": (external_buffer, "outside the flatbuffer"),
    "a shape it does not have": (tensor(shape=[27]), "other tensors than the graph declares"),
    "custom options": (operator(customOptions=[1, 2]), "options of another kind"),
    "intermediates": (operator(intermediates=[1]), "options of another kind"),
    "mutated inputs": (operator(mutatingVariableInputs=[True]), "options of another kind"),
    "an operator code that is not there": (operator(opcodeIndex=99), "operator code 99"),
    "an output that is not there": (operator(outputs=[999, 1]), "refers to a tensor"),
    "no input": (operator(inputs=[]), "0 inputs"),
    "an input left out": (operator(inputs=[-1, 4, 5]), "left out"),
    "used before it is there": (swapped, "nothing has given yet"),
    "given twice": (twice, "there already"),
    "given onto an input": (onto_input, "gives"),
    "another option type": (lambda m: setattr(m.subgraphs[1].operators[1], "builtinOptionsType", 1), "options of type"),
    "an axis out of range": (wrong_option("axis", 7), "axis 7"),
    "a count that is wrong": (wrong_option("numSplits", 3), "number of parts"),
    "a fused activation it has not": (wrong_option("fusedActivationFunction", 4), "activation 4"),
    "lengths that do not add up": (constant_of(np.array([26, 3], "<i4")), "parts"),
    "lengths below 1": (constant_of(np.array([29, -1], "<i4")), "parts"),
    "a constant of another size": (constant_of(np.array([26], "<i4")), "a constant of 4 bytes"),
    "lengths that are computed": (computed_lengths, "computed"),
}


@pytest.mark.parametrize("trait", sorted(REFUSED))
def test_refused(schema: Any, trait: str) -> None:
    edit, says = REFUSED[trait]
    with pytest.raises(GraphError, match=says):
        check_graph(edited(schema, edit))


def batch_of_two(functions: Dict[str, Function]) -> None:
    functions["grad1"] = gradient(13, 2, 2)


def other_features(functions: Dict[str, Function]) -> None:
    functions["infer1"] = inference(12, 2, 1)


def other_classes(functions: Dict[str, Function]) -> None:
    functions["infer"] = inference(13, 3, 4)


def weights_as_answer(functions: Dict[str, Function]) -> None:
    grad1 = functions["grad1"]
    functions["grad1"] = grad1._replace(outputs=(grad1.inputs[0], grad1.outputs[1]))


def logits_of_truth(functions: Dict[str, Function]) -> None:
    build = Builder()
    w, x = build.tensor([28]), build.tensor([4, 2])
    functions["infer"] = build.function([w, x], [build.add("GREATER", [x, build.constant(0.0)])])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (batch_of_two, "batches of 2, expected 1"),
        (other_features, "do not fit"),
        (other_classes, "do not fit"),
        (weights_as_answer, "an output no operator gives"),
        (logits_of_truth, "do not fit"),
    ],
)
def test_signatures_that_do_not_go_together(change: Callable[[Dict[str, Function]], None], says: str) -> None:
    functions = {
        "grad": gradient(13, 2, 4),
        "grad1": gradient(13, 2, 1),
        "infer": inference(13, 2, 4),
        "infer1": inference(13, 2, 1),
    }
    change(functions)
    with pytest.raises(GraphError, match=says):
        check_graph(training_file(functions))


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("MAX_GRAPH_BYTES", 1000, "at most 1000"),
        ("MAX_TENSORS", 50, "tensors: .* at most"),
        ("MAX_OPERATORS", 20, "operators: .* at most"),
        ("MAX_TENSOR_BYTES", 64, "shape"),
        ("MAX_FUNCTION_BYTES", 400, "too much memory"),
        ("MAX_CONSTANT_BYTES", 16, "of constants"),
        ("MAX_OPERANDS", 2, "tensors, at most 2"),
    ],
)
def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch, limit: str, value: int, says: str) -> None:
    monkeypatch.setattr(graph_check, limit, value)
    with pytest.raises(GraphError, match=says):
        check_graph(GRAPH)


def test_memory_counts_what_kernels_unfold() -> None:
    """A convolution whose windows, laid out, are far larger than all its tensors."""
    build = Builder()
    w, x = build.tensor([5]), build.tensor([4, 4096, 1, 16])
    kernel = build.tensor([1, 2048, 1, 16], data=np.zeros([1, 2048, 1, 16], np.float32))
    wide = build.add("CONV_2D", [x, kernel], padding=0, stride_w=1, stride_h=1)
    functions = {"grad": gradient(2, 2, 4), "grad1": gradient(2, 2, 1), "infer": build.function([w, x], [wide])}
    with pytest.raises(GraphError, match="CONV_2D.*too much memory"):
        check_graph(training_file(functions))


@pytest.mark.parametrize("seed", range(3))
def test_mutants_are_read_or_refused(seed: int) -> None:
    """Nothing but GraphError, and what passes is a graph whose own file passes too."""
    passed = 0
    for mutant in mutants(GRAPH, 400, seed):
        try:
            found = check_graph(mutant)
        except GraphError:
            continue
        passed += 1
        assert isinstance(found, CheckedGraph)
        assert all(tflite_file(function) for function in found.functions.values())
    assert 0 < passed < 200


def test_every_shorter_file_is_refused() -> None:
    for length in range(0, len(GRAPH) - 64, 61):
        with pytest.raises(GraphError):
            check_graph(GRAPH[:length])


def test_messages_hold_none_of_the_files_text(schema: Any) -> None:
    """Names in the file may hold control characters, or anything."""

    def edit(model: Any) -> None:
        for subgraph in model.subgraphs:
            subgraph.name = b"\x1b[2J"
            for found in subgraph.tensors:
                found.name = b"\x1b[2J"
                found.isVariable = True

    with pytest.raises(GraphError) as caught:
        check_graph(edited(schema, edit))
    assert "\x1b" not in str(caught.value)
