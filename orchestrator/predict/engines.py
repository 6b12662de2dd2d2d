"""The ways to run a bundle's model here: int8 as a board does, in TFLM or engine/direct, or the float model in LiteRT."""

import importlib.util
from functools import partial

import numpy as np

from model_export.errors import ExportError
from model_export.gradient_check import run_graph
from model_export.model_bin import parse_model_bin
from model_export.reconstruction import float_scores, int8_scores
from model_export.tflm import Quantized, TflmModel
from model_export.trees import parse_trees, run_trees
from orchestrator.boards.host_engine import run_plan
from orchestrator.errors import EdgewardError
from orchestrator.gateway.described_bundle import Described
from orchestrator.node.litert import runtime_package

MODELS = ("int8", "float")
ENGINES = ("tflm", "direct")
SIDES = ("input", "output")


def outputs_of(bundle: Described, inputs: np.ndarray, model: str = "int8", engine: str = "tflm") -> np.ndarray:
    """float32 (n, outputs) for standardized float32 inputs (n, *input_shape). Raises EdgewardError.

    Of classes they are probabilities; of a model that has scores these, (n, 1).
    model: one of MODELS; engine: of ENGINES, for int8. Each runs in a process of its own, but trees here, as boards run them.
    """
    try:
        if model == "float":
            return _float(bundle, inputs)
        rows = _edge(bundle, "input").quantize(inputs)
        if bundle.of_trees:
            outputs = run_trees(parse_trees((bundle.folder / "model.trees").read_bytes()), rows)
        else:
            outputs = _tflm(bundle, rows) if engine == "tflm" else _direct(bundle, rows)
        if bundle.schema.learned.scored:
            return int8_scores(rows, _by_record(bundle, outputs, len(rows)), *map(partial(_edge, bundle), SIDES))[
                :, None
            ]
    except ExportError as error:
        raise EdgewardError(f"{bundle.folder}: {error}") from error
    return _edge(bundle, "output").dequantize(_by_record(bundle, outputs, len(inputs)))


def _float(bundle: Described, inputs: np.ndarray) -> np.ndarray:
    if "float_model" not in bundle.manifest:
        raise EdgewardError(f"{bundle.folder}: holds no float model; --model int8 runs the one it has")
    runtime_package()
    found = run_graph((bundle.folder / "model_float.tflite").read_bytes(), {"rows": inputs})["rows"]
    if bundle.schema.learned.scored:
        return float_scores(inputs, _by_record(bundle, np.asarray(found, np.float32), len(inputs)))[:, None]
    return _by_record(bundle, np.asarray(found, np.float32), len(inputs))


def _tflm(bundle: Described, rows: np.ndarray) -> np.ndarray:
    if importlib.util.find_spec("tflite_micro") is None:
        raise EdgewardError(
            "TensorFlow Lite Micro is not installed: pip install 'edgeward[gateway]', or run with --engine direct or "
            "--model float"
        )
    return TflmModel((bundle.folder / "model.tflite").read_bytes()).run(rows)


def _direct(bundle: Described, rows: np.ndarray) -> np.ndarray:
    packed = parse_model_bin((bundle.folder / "model.bin").read_bytes())
    if packed.plan is None:
        refused = bundle.manifest["arena"]["direct_refused"]
        raise EdgewardError(f"{bundle.folder}: engine/direct cannot run this model ({refused}); use --engine tflm")
    return run_plan(packed.tflite, packed.plan, rows)


def _by_record(bundle: Described, outputs: np.ndarray, records: int) -> np.ndarray:
    """(records, outputs); EdgewardError for a model that gives another number of values."""
    learned = bundle.schema.learned
    if outputs.size != records * learned.outputs:
        one = "" if bundle.schema.target else ", one for each class"
        raise EdgewardError(f"{bundle.folder}: the model does not give {learned.outputs} values a record{one}")
    return outputs.reshape(records, learned.outputs)


def _edge(bundle: Described, side: str) -> Quantized:
    edge = bundle.manifest[side]
    return Quantized(tuple(edge["shape"]), edge["dtype"], edge["scale"], edge["zero_point"])
