"""Every TFLite operator this project knows more of than its name: a file for each family, found by listing this folder.

A file's `OPERATORS` say all that Python knows of them: how a .tflite file holds their options, what TFLM's kernels allocate, and
which records of a plan engine/direct runs them as. What is in none of the files is read and named all the same (tflite_names).
The files are imported when the first model is read: most commands read none.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Dict, FrozenSet

if TYPE_CHECKING:
    from model_export.operator_entry import Operator


@lru_cache(maxsize=None)
def operators() -> Dict[str, Operator]:
    """By name, such as 'CONV_2D'. Raises ValueError for two entries of one name."""
    import pkgutil

    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    entries = [entry for name in modules for entry in import_module(f"{__name__}.{name}").OPERATORS]
    found = {entry.name: entry for entry in entries}
    if len(found) < len(entries):
        raise ValueError(f"an operator has two entries: {', '.join(sorted(entry.name for entry in entries))}")
    return found


def supported() -> FrozenSet[str]:
    """What engine/direct computes."""
    return frozenset(name for name, entry in operators().items() if entry.plan is not None or entry.role is not None)


def aliases() -> FrozenSet[str]:
    """What engine/direct need not compute: the output is the input's bytes."""
    return frozenset(name for name, entry in operators().items() if entry.same_bytes)
