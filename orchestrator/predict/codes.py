"""Codes of records by an autoencoder, `edgeward predict --codes`: what the narrowest layer of its float model gives.

The model is cut there: its file is read and written again as a node reads one before it runs it.
"""

from typing import List, Sequence, Set

import numpy as np

from model_export.errors import ExportError
from model_export.gradient_check import run_graph
from orchestrator.errors import GivenError, GraphError, UsageError
from orchestrator.gateway.described_bundle import Described
from orchestrator.node.graph_check import SCORES, check_model, without_unused
from orchestrator.node.graph_file import Function, Operation, tflite_file
from orchestrator.node.graph_shapes import size_of
from orchestrator.wire.plain import many, plain


def codes_of(bundle: Described, inputs: np.ndarray) -> np.ndarray:
    """float32 (n, width) for standardized float32 inputs. UsageError for a model that has none."""
    if not bundle.schema.learned.scored:
        predicts = bundle.schema.learned.words(lambda name: repr(plain(name)))
        raise UsageError(
            f"--codes: {bundle.folder} predicts {predicts}; codes are of a model that learned target 'none'"
        )
    if "float_model" not in bundle.manifest:
        raise UsageError(f"--codes: {bundle.folder} holds no float model, whose layers codes are of")
    try:
        whole = check_model((bundle.folder / "model_float.tflite").read_bytes()).functions[SCORES]
        cut = tflite_file(_encoder(whole, str(bundle.folder)))
        found = run_graph(cut, {"rows": inputs})["rows"]
    except (ExportError, GraphError) as error:
        raise GivenError(f"{bundle.folder}: {error}") from error
    return np.asarray(found, np.float32).reshape(len(inputs), -1)


def _encoder(function: Function, folder: str) -> Function:
    """The function up to the narrowest tensor that every way to the output leads through, of equally narrow ones the last."""
    x, output = function.inputs[-1], function.outputs[0]
    entry = _width(function, x)
    narrow = [place for place in _passed_by_all(function) if place != output and _width(function, place) < entry]
    if not narrow:
        raise UsageError(f"--codes: no layer of the model in {folder} is narrower than its {many(entry, 'input')}")
    least = min(_width(function, place) for place in narrow)
    code = [place for place in narrow if _width(function, place) == least][-1]
    needed = _needed(function.operations, code)
    return without_unused(function._replace(operations=tuple(needed), inputs=(x,), outputs=(code,)))


def _width(function: Function, place: int) -> int:
    return size_of(function.tensors[place].shape[1:])


def _passed_by_all(function: Function) -> List[int]:
    """Tensors of one record, in order, of which nothing but they themselves goes on from the input to the output."""
    operations = _needed(function.operations, function.outputs[0])
    last = {place: at for at, operation in enumerate(operations) for place in operation.inputs}
    last[function.outputs[0]] = len(operations)
    going_on, found = {function.inputs[-1]}, []
    for at, operation in enumerate(operations):
        if going_on & set(operation.inputs):
            going_on |= set(operation.outputs)
        going_on = {place for place in going_on if last.get(place, -1) > at}
        if len(going_on) == 1:
            (place,) = going_on
            shape = function.tensors[place].shape
            found += [place] if place in operation.outputs and len(shape) > 1 and shape[0] == 1 else []
    return found


def _needed(operations: Sequence[Operation], output: int) -> List[Operation]:
    """Those that an output takes, in their order."""
    wanted: Set[int] = {output}
    found: List[Operation] = []
    for operation in reversed(operations):
        if wanted & set(operation.outputs):
            wanted |= set(operation.inputs)
            found.append(operation)
    return found[::-1]
