"""The interface board of MLPerf Tiny's streaming wake word, simulated: it plays sound to a virtual board and times its pins.

The benchmark's runner drives two boards: the one under test, and one that sends it a WAV file over I2S and notes when two of
its pins change. Of a virtual board the file of its source and the file of its pins take their place. Commands, as the runner
sends them, end with `%`; every answer ends with a line `m-ready`.
"""

from __future__ import annotations

import os
import pty
import re
import select
import threading
import time
import tty
import wave
from pathlib import Path
from typing import IO, Iterator, List, Optional

import numpy as np

from orchestrator.boards.conversation import open_port
from orchestrator.errors import GivenError

DETECTED_PIN, PROCESSING_PIN = 4, 5
"""Free pins of a virtual board, which it is given as the runner's."""
_READY = b"m-ready\r\n"
_PIECE_S = 0.008
RATE_HZ = 16_000
"""Of the benchmark's sound."""
_NAME = re.compile(r"[!-$&-~]+")
_TICKS_PER_S = 100_000
"""In which the runner takes the times of the processing pin."""
_SETTLE_S = 10.0


class MlperfInterface:
    """From `with` to its end, at `port`, beside a virtual board that was given `samples` and `pins`.

    `sounds`: the folder whose WAV files it plays: PCM of 16 bits, of which it takes the first channel, as the runner's own does.
    """

    def __init__(self, sounds: Path, folder: Path) -> None:
        self._sounds = sounds
        self.samples, self.pins = folder / "sound.i16", folder / "pins.txt"
        for path in (self.samples, self.pins):
            path.write_bytes(b"")
        self._heard_from = 0
        self._ended = threading.Event()
        self._master, self._kept_open = pty.openpty()
        tty.setraw(self._kept_open)
        self.port = os.ttyname(self._kept_open)
        self._thread = threading.Thread(target=self._serve, name="mlperf-interface", daemon=True)

    def __enter__(self) -> MlperfInterface:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for descriptor in (self._master, self._kept_open):
            os.close(descriptor)

    def _serve(self) -> None:
        text = b""
        while not self._ended.is_set():
            if not select.select([self._master], [], [], 0.1)[0]:
                continue
            text += os.read(self._master, 4096)
            *commands, text = text.split(b"%")
            for command in commands:
                try:
                    for line in self._answer(command.decode("ascii", "replace").split()):
                        self._send(line.encode("ascii", "replace") + b"\r\n")
                except OSError as error:  # of the folder of sounds, say
                    self._send(f"e-[{error.strerror}]\r\n".encode("ascii", "replace"))
                self._send(_READY)

    def _send(self, line: bytes) -> None:
        """All of it, or nothing more once this ends: nobody need read."""
        while line and not self._ended.is_set():
            if select.select([], [self._master], [], 0.1)[1]:
                line = line[os.write(self._master, line) :]

    def _answer(self, words: List[str]) -> Iterator[str]:
        verb, rest = (words[0], words[1:]) if words else ("", [])
        if verb == "name":
            yield "m-name-interface-[edgeward, simulated]"
        elif verb == "ls":
            yield from sorted(path.name for path in wav_files(self._sounds))
        elif verb == "setbaud":
            yield "m-[A pseudo-terminal has no baud rate]"
        elif verb == "record_detections":
            self._heard_from = self.pins.stat().st_size
            yield "m-[Recording]"
        elif verb == "play" and len(rest) == 1:
            yield self._play(next((path for path in wav_files(self._sounds) if path.name == rest[0]), None))
        elif verb == "print_detections":
            yield "Detection Timestamps (ms)"
            yield from (f"{at_us // 1000}," for at_us in self._changes(DETECTED_PIN, "low"))
        elif verb == "print_dutycycle":
            for name, level in (("start", "high"), ("stop", "low")):
                yield f"Duty cycle {name} times (s)"
                yield from (f"{at_us * _TICKS_PER_S // 1_000_000}," for at_us in self._changes(PROCESSING_PIN, level))
        else:
            yield f"e-[Unknown command: {' '.join(words)}]"

    def _changes(self, pin: int, level: str) -> Iterator[int]:
        """Microseconds since the board's start, of each change since `record_detections`."""
        with open(self.pins, "rb") as file:
            file.seek(self._heard_from)
            lines = file.read().decode("ascii").splitlines()
        for at_us, number, *state in (line.split() for line in lines):
            if number == str(pin) and state == [level]:
                yield int(at_us)

    def _play(self, path: Optional[Path]) -> str:
        if path is None:
            return "e-[There is no such file]"
        try:
            content = read_first_channel(path).astype("<i2").tobytes()
        except GivenError as error:
            return f"e-[{error}]"
        with open(self.samples, "ab", buffering=0) as file:
            # A board that listens has this file open. One that begins to listen from now on hears nothing of it.
            fresh = self.samples.with_suffix(".fresh")
            fresh.write_bytes(b"")
            os.replace(fresh, self.samples)
            whole = self._write_in_time(content, file)
        return f"m-[Played {path.name}]" if whole else f"m-[Stopped {path.name}]"

    def _write_in_time(self, content: bytes, file: IO[bytes]) -> bool:
        """Whether all of it; the next command ends it."""
        written = 0
        began = time.monotonic()
        while written < len(content) and not self._ended.wait(_PIECE_S):
            if select.select([self._master], [], [], 0)[0]:
                return False
            due = 2 * min(len(content) // 2, int((time.monotonic() - began) * RATE_HZ))
            file.write(content[written:due])
            written = due
        return written == len(content)


def wav_files(folder: Path) -> List[Path]:
    """Those that a command can name: without spaces, `%` and letters beyond ASCII."""
    files = (path for path in folder.iterdir() if path.suffix.lower() == ".wav" and path.is_file())
    return [path for path in files if _NAME.fullmatch(path.name)]


def read_first_channel(path: Path) -> np.ndarray:
    """int16 (samples,). Raises GivenError where a file is anything else than a whole WAV file of 16 bits and RATE_HZ."""
    try:
        with open(path, "rb") as file, wave.open(file, "rb") as sound:
            channels, bits, rate_hz = sound.getnchannels(), 8 * sound.getsampwidth(), sound.getframerate()
            length = sound.getnframes()
            held = sound.readframes(length)
    except OSError as error:
        raise GivenError(f"{path.name}: {error.strerror or error}") from error
    except (wave.Error, EOFError, RuntimeError) as error:
        raise GivenError(f"{path.name}: not read as a WAV file: {str(error) or 'it ends too early'}") from error
    for value, name, wanted in ((bits, "bits a value", 16), (rate_hz, "Hz", RATE_HZ)):
        if value != wanted:
            raise GivenError(f"{path.name}: {value} {name}, expected {wanted}")
    if len(held) != 2 * channels * length:
        raise GivenError(f"{path.name}: ends before the {length} samples it says it has")
    return np.frombuffer(held, "<i2").reshape(-1, channels)[:, 0].astype(np.int16)


def give_pins(port: str) -> None:
    """Say to the board at `port` which pins to drive for the runner. Raises GivenError where it declines."""
    with open_port(port) as device:
        device.timeout = _SETTLE_S
        device.write(f"%pins {DETECTED_PIN} {PROCESSING_PIN}%".encode())
        answer = "m-ready"
        while answer and "Pins" not in answer:  # the greeting, and the end of what may have been sent before
            answer = device.read_until(_READY).decode("ascii", "replace")
    if "m-[Pins are set]" not in answer:
        reason = answer.split("e-[Pins refused: ")[-1].split("]")[0].strip() or "it is silent"
        raise GivenError(
            f"the virtual board does not drive pins {DETECTED_PIN} and {PROCESSING_PIN} for the runner: {reason}"
        )
