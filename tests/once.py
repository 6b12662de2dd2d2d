"""Folders that are costly to fill, filled once for all processes of a test run."""

import fcntl
import os
from pathlib import Path
from typing import Callable

import pytest


def filled_once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """The folder `name` after `fill(folder)`: the first process that wants it fills it, others wait and take it as it is.

    Nobody writes into it afterwards. Where `fill` fails, its exception goes on, and the next process tries again.
    """
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "filled-once"
    shared.mkdir(exist_ok=True)
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = factory.mktemp(name)
            fill(part)
            part.rename(folder)
    return folder
