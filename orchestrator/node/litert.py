"""The TensorFlow Lite runtime of this machine: ai-edge-litert, or tflite-runtime where Python is older.

Only processes made for it import it: a runtime can crash, and what a gateway's graph does inside it is not for the node's own.
"""

import importlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any, Tuple

from orchestrator.errors import EdgewardError

PACKAGES = ("ai_edge_litert", "tflite_runtime")


def runtime_package() -> Tuple[str, Path]:
    """(name of the installed runtime, folder it is imported from), found without importing it; EdgewardError without one."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            return name, Path(next(iter(spec.submodule_search_locations))).resolve().parent
    raise EdgewardError("no TensorFlow Lite runtime on this machine: pip install 'edgeward[node]' brings the right one")


def load_interpreter(graph: bytes) -> Any:
    """An interpreter of one thread: more gave no gain on small models."""
    return _interpreter()(model_content=graph, num_threads=1)


@lru_cache(maxsize=None)
def _interpreter() -> Any:
    return importlib.import_module(f"{runtime_package()[0]}.interpreter").Interpreter
