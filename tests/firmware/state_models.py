"""Models that keep state, written by hand: what a converter makes of streaming layers, and what it never would."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from one_op_models import Operator, Part, model_of, options_of, packed

WIDTH, QUEUE = 8, 16
HANDLE = Part((), kind="resource")


class Kept(NamedTuple):
    """A variable that the second subgraph initializes."""

    name: str
    content: np.ndarray


def with_initialization(model: bytes, variables: Sequence[Kept]) -> bytes:
    """The model with a subgraph that assigns these, for its CALL_ONCE."""
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    parts = [part for kept in variables for part in (HANDLE, Part(kept.content.shape, 1.0, 0, kept.content))]
    steps: List[Operator] = []
    for n, kept in enumerate(variables):
        steps.append(("VAR_HANDLE", [], [2 * n], options_of("VarHandleOptions", sharedName=kept.name.encode())))
        steps.append(("ASSIGN_VARIABLE", [2 * n, 2 * n + 1], [], options_of("AssignVariableOptions")))
    other = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model_of(parts, steps, (), ()), 0))
    (graph,) = other.subgraphs
    for tensor in graph.tensors:
        tensor.buffer += len(whole.buffers) if tensor.buffer else 0
    for operator in graph.operators:
        operator.opcodeIndex += len(whole.operatorCodes)
    whole.buffers += other.buffers
    whole.operatorCodes += other.operatorCodes
    whole.subgraphs.append(graph)
    return packed(whole)


def streaming(change: Optional[Callable[[Any], None]] = None) -> bytes:
    """A queue of past inputs, the last answer, and a level that follows; the last one is read before it is assigned.

    `queue` and `level` begin with constants, `last` with its zero point. `change` edits the model before it is written.
    """
    rng = np.random.default_rng(11)
    inner, answer, level = Part((1, WIDTH), 0.09, 4), Part((1, WIDTH), 0.11, -3), Part((1, WIDTH), 0.3, 12)
    queue, joined = Part((1, QUEUE), 0.05, -7), Part((1, QUEUE + WIDTH), 0.05, -7)
    weights = rng.integers(-127, 128, (WIDTH, QUEUE + WIDTH)).astype(np.int8)
    scales = (0.004 * np.exp(rng.uniform(-1, 1, WIDTH))).astype(np.float32)
    bias = rng.integers(-500, 500, WIDTH).astype(np.int32)
    numbers = [Part((2,), content=np.array(pair, np.int32)) for pair in ((0, WIDTH), (1, QUEUE + WIDTH), (1, 1))]
    values = {
        "in": Part((1, WIDTH), 0.05, -7),
        "out": Part((1, WIDTH), 1 / 256, -128),
        **dict.fromkeys(("queue", "last", "level"), HANDLE),
        **{"past": queue, "joined": joined, "rest": queue},
        **{"f": inner, "before": inner, "d": answer, "was": level, "now": level, "sum": answer},
        "w": Part(weights.shape, scales, 0, weights),
        "b": Part((WIDTH,), 0.05 * scales, 0, bias),
        **dict(zip(("begin", "end", "step"), numbers)),
    }
    at = {name: number for number, name in enumerate(values)}

    def op(kind: str, reads: str, writes: str, options: Optional[Tuple[str, Any]]) -> Operator:
        return kind, [at[name] for name in reads.split()], [at[name] for name in writes.split()], options

    def handle(name: str) -> Operator:
        return op(
            "VAR_HANDLE", "", name, options_of("VarHandleOptions", sharedName=f"m/{name}".encode(), container=None)
        )

    read, assign, add = (options_of(f"{name}Options") for name in ("ReadVariable", "AssignVariable", "Add"))
    operators = [
        ("CALL_ONCE", [], [], options_of("CallOnceOptions", initSubgraphIndex=1)),
        *(handle(name) for name in ("queue", "last", "level")),
        op("READ_VARIABLE", "queue", "past", read),
        op("CONCATENATION", "past in", "joined", options_of("ConcatenationOptions", axis=1)),
        op("STRIDED_SLICE", "joined begin end step", "rest", options_of("StridedSliceOptions", beginMask=1, endMask=1)),
        op("ASSIGN_VARIABLE", "queue rest", "", assign),
        op("FULLY_CONNECTED", "joined w b", "f", options_of("FullyConnectedOptions")),
        op("READ_VARIABLE", "last", "before", read),
        op("ASSIGN_VARIABLE", "last f", "", assign),
        op("ADD", "f before", "d", add),
        op("READ_VARIABLE", "level", "was", read),
        op("ADD", "was d", "now", add),
        op("ASSIGN_VARIABLE", "level now", "", assign),
        op("ADD", "now d", "sum", add),
        op("LOGISTIC", "sum", "out", None),
    ]
    first = [
        Kept("m/queue", rng.integers(-128, 128, (1, QUEUE)).astype(np.int8)),
        Kept("m/level", rng.integers(-20, 60, (1, WIDTH)).astype(np.int8)),
    ]
    model = with_initialization(model_of(list(values.values()), operators), first)
    if change is None:
        return model
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    change(whole)
    return packed(whole)


def _main(number: int, graph: int = 0) -> Callable[[Any], Any]:
    return lambda model: model.subgraphs[graph].operators[number]


def _set(path: Callable[[Any], Any], **fields: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(path(model), name, np.array(value, np.int32) if isinstance(value, list) else value)

    return change


def _without(number: int, graph: int = 0) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        del model.subgraphs[graph].operators[number]

    return change


def _moved(number: int, to: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        operators = model.subgraphs[0].operators
        operators.insert(to, operators.pop(number))

    return change


def _again(number: int, graph: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        operators = model.subgraphs[graph].operators
        operators.append(operators[number])

    return change


def _third(model: Any) -> None:
    model.subgraphs.append(model.subgraphs[1])


def _alone(model: Any) -> None:
    del model.subgraphs[1]


def _computed(model: Any) -> None:
    model.subgraphs[1].tensors[1].buffer = 0
    model.subgraphs[1].tensors[1].isVariable = True


def _options(number: int, graph: int = 0) -> Callable[[Any], Any]:
    return lambda model: model.subgraphs[graph].operators[number].builtinOptions


def _tensor(number: int, graph: int = 0) -> Callable[[Any], Any]:
    return lambda model: model.subgraphs[graph].tensors[number]


BAD: Dict[str, Tuple[Callable[[Any], None], str]] = {
    "itself": (_set(_options(0), initSubgraphIndex=0), r"operator 0 \(CALL_ONCE\): calls the subgraph it stands in"),
    "beyond": (_set(_options(0), initSubgraphIndex=2), "calls subgraph 2 of 2"),
    "negative": (_set(_options(0), initSubgraphIndex=-1), "calls subgraph -1 of 2"),
    "nothing there": (_alone, "calls subgraph 1 of 1"),
    "not called": (_without(0), "2 subgraphs; supported are one, and one that CALL_ONCE calls"),
    "three": (_third, "3 subgraphs; supported are one, and one that CALL_ONCE calls"),
    "called twice": (_again(0, 0), "a second initialization"),
    "called late": (_moved(0, 5), "comes after a variable was read"),
    "calls back": (_set(_main(0, 1), opcodeIndex=2, builtinOptions=None, builtinOptionsType=0), "of subgraph 1"),
    "never assigned": (_without(10), "variable 'm/last' is never assigned"),
    "two shapes": (_set(_tensor(9), shape=[1, 4]), r"'m/last' is int8 \(1, 8\) where .* int8 \(1, 4\)"),
    "two shapes of as many bytes": (_set(_tensor(9), shape=[8, 1]), r"'m/last' is int8 \(1, 8\) .* \(8, 1\)"),
    "two types": (_set(_tensor(9), type=schema.TensorType.UINT8), "'m/last' is int8 .* uint8"),
    "initialized as another": (_set(_tensor(1, 1), shape=[1, 8, 2]), r"'m/queue' .* \(1, 8, 2\)"),
    "initialized twice": (_again(1, 1), "initializes variable 'm/queue' 2 times"),
    "initialized by a value": (_computed, "variables begin with constants"),
    "two handles": (_set(_options(2), sharedName=b"m/queue"), "a second handle of variable 'm/queue'"),
    "one handle twice": (_again(1, 0), r"\(VAR_HANDLE\) writes tensor 2 .*an earlier operator"),
    "no name": (_set(_options(1), sharedName=b""), "a variable without a name"),
    "no options": (_set(_main(1), builtinOptions=None, builtinOptionsType=0), "a variable without a name"),
    "no handle": (_set(_main(4), inputs=[0]), "tensor 0 is no handle of a variable"),
    "a handle left out": (_set(_main(4), inputs=[-1]), "tensor -1 is no handle of a variable"),
    "a handle that comes later": (_moved(1, 6), "reads tensor 2 .*before anything wrote it"),
    "a handle as value": (_set(_main(10), inputs=[3, 4]), "tensor 4 is no value of a variable"),
    "a handle computed with": (_set(_main(15), inputs=[3, 4]), "takes or gives the handle of a variable"),
    "a handle of int8": (_set(_tensor(2), type=schema.TensorType.INT8), "no handle of a variable, but int8"),
    "a handle of two values": (_set(_tensor(2), shape=[2]), r"a handle of shape \(2,\)"),
    "too many inputs": (_set(_main(4), inputs=[2, 3]), "2 inputs and 1 outputs"),
    "no output": (_set(_main(4), outputs=[]), "reads tensor 5 .*before anything wrote it"),
    "empty": (_set(_tensor(9), shape=[1, 0]), "'m/last'"),
    "text": (_set(_tensor(9), type=schema.TensorType.STRING), "'m/last'"),
}
"""How the model is changed, and what its refusal says."""
