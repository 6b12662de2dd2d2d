"""A board without a board: the firmware as a process on this machine, behind a pseudo-terminal, with a file for flash."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Optional, Sequence, Union

from orchestrator.boards.host_engine import HostBuildError, build
from orchestrator.boards.keys import key_sector
from orchestrator.boards.partitions import FLASH_BYTES, KEYS, MODEL_CAPACITY, NETWORK, SLOTS
from orchestrator.boards.settings import NetworkSettings, settings_sector

_SLOT = SLOTS["a"]
_START_S = 10.0


class VirtualBoard:
    """Runs from `with` to its end. `port` is the path to open; it stays the same over reboots asked for by command.

    `model_bin`: the content of slot A, as bytes or a file; None leaves it erased. `flash`: the image file, kept
    afterwards; without it a temporary one. `samples`: int16 values, channel after channel, for the source "file".
    `pins`: a file to which every change of a pin is added (firmware/hal/host/pins.cpp). `hooks`: a C++ file in place of
    firmware/hooks/none. `recording`: flashed as `edgeward flash --allow-recording --without-keys` does. `network`: firmware that
    reaches a broker by itself once it has settings (boards/connect.py); `settings`: with these in its flash. `keys`: may sign its
    models, 32 bytes each; `program_key`: its programs.
    """

    def __init__(
        self,
        model_bin: Union[bytes, str, Path, None] = None,
        *,
        flash: Union[str, Path, None] = None,
        arena_bytes: Optional[int] = None,
        samples: Union[str, Path, None] = None,
        pins: Union[str, Path, None] = None,
        hooks: Union[str, Path, None] = None,
        recording: bool = False,
        network: bool = False,
        settings: Optional[NetworkSettings] = None,
        keys: Sequence[bytes] = (),
        program_key: Optional[bytes] = None,
    ) -> None:
        self._model = Path(model_bin).read_bytes() if isinstance(model_bin, (str, Path)) else model_bin
        self._arena_bytes = arena_bytes
        self._files = {"EDGEWARD_BOARD_SAMPLES": samples, "EDGEWARD_BOARD_PINS": pins}
        self._hooks = None if hooks is None else Path(hooks)
        self._recording = recording
        self._program = "edgeward-board-network" if network or settings is not None else "edgeward-board"
        self._settings, self._keys, self._program_key = settings, keys, program_key
        self._folder = tempfile.TemporaryDirectory(prefix="edgeward-board-")
        self.flash = Path(flash) if flash is not None else Path(self._folder.name) / "flash.bin"
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.port = ""

    def __enter__(self) -> VirtualBoard:
        try:
            if self._model is not None:
                self.write_model(self._model)
            if self._recording or self._keys or self._program_key is not None:
                self._write(KEYS.offset, key_sector(self._keys, recording=self._recording, program=self._program_key))
            if self._settings is not None:
                self._write(NETWORK.offset, settings_sector(self._settings))
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> Optional[int]:
        return None if self.process is None else self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def write_model(self, model_bin: bytes) -> None:
        """Put bytes into slot A of the image and erase its log; a running board sees them after `reload`."""
        if len(model_bin) > MODEL_CAPACITY:
            raise HostBuildError(f"{len(model_bin)} bytes do not fit the model slot, which holds {MODEL_CAPACITY}")
        self._write(_SLOT.offset, model_bin + b"\xff" * (_SLOT.size - len(model_bin)))

    def _write(self, offset: int, content: bytes) -> None:
        if not self.flash.exists():
            self.flash.write_bytes(b"\xff" * FLASH_BYTES)
        with open(self.flash, "r+b") as image:
            image.seek(offset)
            image.write(content)

    def start(self, reset: str = "power_on") -> None:
        """Power on. `reset` ('power_on' or 'crash') is the reason the firmware is given."""
        command = [str(build(self._program, hooks=self._hooks)), "--flash", str(self.flash), "--until-stdin-closes"]
        if self._arena_bytes is not None:
            command += ["--arena", str(self._arena_bytes)]
        environment = {**os.environ, "EDGEWARD_BOARD_RESET": reset}
        environment.update((name, str(file)) for name, file in self._files.items() if file is not None)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self.port = self._read_port(self.process)

    def _read_port(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        assert process.stderr is not None
        deadline = time.monotonic() + _START_S
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            byte = os.read(process.stdout.fileno(), 1) if ready else b""
            if not byte:
                process.kill()
                reason = process.stderr.read().decode("utf-8", "replace").strip()
                raise HostBuildError(f"the virtual board did not start: {reason or 'it said nothing'}")
            line += byte
        return line.decode().split(maxsplit=1)[1].strip()

    def kill(self) -> None:
        """Power off at once (SIGKILL). start() powers on again, with the same flash."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def close(self) -> None:
        self.kill()
        self._folder.cleanup()
