"""The shim (shim.cpp) and its switches: one file for each process, which the test writes while the process runs."""

import mmap
import os
import struct
import subprocess
from pathlib import Path
from typing import Dict

SOURCE = Path(__file__).with_name("shim.cpp")
BYTES = 4096
_LAYOUT = struct.Struct("=iiq1024s")


def build(folder: Path) -> Path:
    """Compiles the shim into `folder`; its path."""
    path = folder / "shim.so"
    command = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-o", str(path), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    path.chmod(0o755)
    return path


class Control:
    """What is wrong for one process and its children, from now on: nothing, until something is set."""

    def __init__(self, path: Path, folder: Path) -> None:
        """`folder`: where writes fail once `error` is set."""
        self._path = path
        path.write_bytes(bytes(BYTES))
        path.chmod(0o644)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), BYTES)
        self._folder = os.fsencode(str(folder.resolve()))
        self._error, self._clock_s = 0, 0
        self._write()

    def environment(self, shim: Path) -> Dict[str, str]:
        return {"LD_PRELOAD": str(shim), "EDGEWARD_FAULTS_CONTROL": str(self._path)}

    @property
    def error(self) -> int:
        """errno of every write and sync below the folder; 0 for none."""
        return self._error

    @error.setter
    def error(self, number: int) -> None:
        self._error = number
        self._write()

    @property
    def clock_s(self) -> int:
        """Seconds added to the time of day."""
        return self._clock_s

    @clock_s.setter
    def clock_s(self, seconds: int) -> None:
        self._clock_s = seconds
        self._write()

    def _write(self) -> None:
        self._map[: _LAYOUT.size] = _LAYOUT.pack(self._error, 0, self._clock_s, self._folder)
