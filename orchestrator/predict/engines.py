"""The ways to run a bundle's model here: int8 as a board does, in TFLM or engine/direct, or the float model in LiteRT."""

import importlib.util
from functools import partial
from typing import Optional, Tuple

import numpy as np

from model_export.errors import ExportError
from model_export.gradient_check import run_graph
from model_export.heads import mean_and_spread
from model_export.model_bin import parse_model_bin
from model_export.reconstruction import float_scores, int8_scores
from model_export.tflm import Quantized, TflmModel
from model_export.trees import parse_trees, run_trees
from orchestrator.boards.host_engine import run_plan
from orchestrator.errors import EdgewardError, GivenError
from orchestrator.gateway.described_bundle import Described
from orchestrator.node.litert import runtime_package

MODELS = ("int8", "float")
ENGINES = ("tflm", "direct")
SIDES = ("input", "output")


def outputs_of(bundle: Described, inputs: np.ndarray, model: str = "int8", engine: str = "tflm") -> np.ndarray:
    """float32 (n, outputs), of several heads their mean, for standardized float32 inputs; see `answered`."""
    return answered(bundle, inputs, model, engine)[0]


def answered(
    bundle: Described, inputs: np.ndarray, model: str = "int8", engine: str = "tflm"
) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """(float32 (n, outputs), (n,) the spread over a model's heads, None where it has none). Raises EdgewardError.

    Of classes they are probabilities; of a model that has scores these, (n, 1).
    inputs: standardized, (n, *input_shape). model: one of MODELS; engine: of ENGINES, for int8. Each runs in a
    process of its own, but trees here, as boards run them.
    """
    found = _values(bundle, inputs, model, engine)
    if not _heads(bundle):
        return found, None
    mean, spread = mean_and_spread(found.reshape(len(found), _heads(bundle), -1))
    return mean.astype(np.float32), spread.astype(np.float32)


def _heads(bundle: Described) -> int:
    return int(bundle.manifest.get("heads", {}).get("count", 0))


def _values(bundle: Described, inputs: np.ndarray, model: str, engine: str) -> np.ndarray:
    """float32 (n, values): all that the model gives, of each head."""
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
        raise GivenError(f"{bundle.folder}: {error}") from error
    return _edge(bundle, "output").dequantize(_by_record(bundle, outputs, len(inputs)))


def _float(bundle: Described, inputs: np.ndarray) -> np.ndarray:
    if "float_model" not in bundle.manifest:
        raise GivenError(f"{bundle.folder}: holds no float model; --model int8 runs the one it has")
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
        raise GivenError(f"{bundle.folder}: engine/direct cannot run this model ({refused}); use --engine tflm")
    return run_plan(packed.tflite, packed.plan, rows)


def _by_record(bundle: Described, outputs: np.ndarray, records: int) -> np.ndarray:
    """(records, outputs); EdgewardError for a model that gives another number of values."""
    learned = bundle.schema.learned
    each = learned.outputs * max(1, _heads(bundle))
    if outputs.size != records * each:
        one = "" if bundle.schema.target else ", one for each class"
        raise GivenError(f"{bundle.folder}: the model does not give {each} values a record{one}")
    return outputs.reshape(records, each)


def _edge(bundle: Described, side: str) -> Quantized:
    edge = bundle.manifest[side]
    return Quantized(tuple(edge["shape"]), edge["dtype"], edge["scale"], edge["zero_point"])
