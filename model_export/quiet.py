"""Import TensorFlow without its log lines, and keep what native code prints unless something fails."""

import contextlib
import gc
import os
import re
import sys
import tempfile
from typing import Any, Iterator

from model_export.errors import ExportError

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # one summation order, so two runs agree to the bit
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
}


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, native code included; show it if the block fails unexplained."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        explained = False
        try:
            yield
            explained = True
        except ExportError:
            explained = True
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            if not explained:
                held.seek(0)
                text = held.read().decode("utf-8", "replace")
                sys.stderr.write(text[-4000:])
                sys.stderr.flush()


def tensorflow() -> Any:
    """The tensorflow module, imported on first use (seconds) with the environment this package needs.

    Keras must run on the TensorFlow backend: if another backend is already loaded, the converter would fail late,
    so this raises RuntimeError at once.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if "tensorflow" in sys.modules and "keras" in sys.modules:
        return sys.modules["tensorflow"]
    with quiet_stderr(), _not_looked_for("sklearn", "matplotlib", "pandas"), _all_kept():
        import keras
        import tensorflow as tf
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=tensorflow")
    tf.get_logger().setLevel("ERROR")
    return tf


@contextlib.contextmanager
def _all_kept() -> Iterator[None]:
    """For code that makes many objects which stay: none is looked at by the garbage collector, now or later."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()


@contextlib.contextmanager
def _not_looked_for(*names: str) -> Iterator[None]:
    """As if these were not installed. Keras imports them where they are, for what nothing here uses: a third of its start."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: see the import system's reference
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name)


def said_by(error: BaseException) -> str:
    """The text of an error of TensorFlow or Keras, without the colours of a terminal; empty where it has none."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
