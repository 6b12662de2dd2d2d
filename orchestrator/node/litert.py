"""The TensorFlow Lite runtime of this machine: ai-edge-litert, or tflite-runtime where Python is older.

Only processes made for it import it: a runtime can crash, and what a gateway's graph does inside it is not for the node's own.
"""

import base64
import importlib
import importlib.util
import zlib
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


def tiny_graph() -> bytes:
    """y = x + x, to see whether a runtime works, and to have it read what it wants to know of this machine."""
    return zlib.decompress(base64.b64decode(_TINY_GRAPH))


# tf.lite of x + x for a float32 x of shape (1, 4), compressed with zlib.
_TINY_GRAPH = (
    b"eNplUctKw1AQPWljLTTUgkW66KJI18HW+gGhrRDoA2oRF4UqJIsskkKNoiB+g7h26dJPcOFC/AoXfoRr47k3k1B04JDJuXfOzJnbBDA/Hh3W0U"
    b"ITDdRRg0WuDJM5yKWIibYB9IhRASgiDaboESbxmSSJKfku0Z9OToezE3c6WY6Hc2fgzB3qWlq7jFQjuxsG0XJ9FcVB6C+v/fVlsIqwRf6FeCae"
    b"iDu5/yh9zomazFFGNddVXFuzJc2VpE6FlXs0tc/79WK//e02i+LF1FVA1+527IP/Gkq7Yx+lRxKvP0nyRrwTO/wfj9xZq7+K6CP2PRtcmd4lOG"
    b"PWXWlWhVf7XYgfT/qEF0GkKjZr67q/hYrUiveKJfmAezGkprAxn7GB7M3OpM8Ha9RRTTTUWYN4IK926Xo+HyW+zeqMfJd72gvETRrbZNOWmZ4h"
    b"3y+Z7eaPjqHfTuWm/v8FNVdKNw=="
)
