"""Firmware built for this machine: the sources a board runs, each compiled once with g++ and kept in a per-user cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterable, Optional, Sequence, Tuple

import numpy as np

from model_export.plan import compile_plan
from orchestrator.errors import EdgewardError, GivenError

FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti")
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

FUZZ = (*SANITIZE, "-fsanitize-coverage=trace-pc", "-fexceptions")

ENGINES = ("engine/direct/*.cpp", "engine/trees/*.cpp")

NO_NETWORK = "hal/no_network/network.cpp"
NO_FIRMWARE = "hal/no_firmware/firmware.cpp"
NO_HOOKS = "hooks/none/*.cpp"
_NO_MIC = "hal/esp32/without_mic/mic.cpp"

CORE = ("core/*.cpp", "audio/*.cpp")
_BOARD = ("src/main_host.cpp", *CORE, *ENGINES, NO_HOOKS, "hal/host/*.cpp")

LIBRARIES = {"edgeward-board-network": ("-lmosquitto",)}
"""Program -> what it is linked with: libmosquitto."""

_WRAPPED = {"fuzz-board": ("-Wl,--wrap=_ZN8edgeward14ed25519_verifyEPKhS1_S1_m",)}
"""Program -> functions of the core that it stands in front of."""

PROGRAMS = {
    "audio-stdio": ("test/audio_stdio.cpp", "audio/*.cpp"),
    "run-direct": ("src/run_direct.cpp", *ENGINES),
    "damage-plan": ("test/damage_plan.cpp", *ENGINES),
    "damage-trees": ("test/damage_trees.cpp", *ENGINES),
    "judge-profiles": ("test/judge_profiles.cpp", "core/input_profile.cpp", "core/logarithm.cpp"),
    "parse-stdio": ("test/parse_stdio.cpp", "core/input_parser.cpp", "core/crc.cpp"),
    "power-cut": ("test/power_cut.cpp", *CORE, *ENGINES, NO_HOOKS, "hal/host/source.cpp", NO_NETWORK, NO_FIRMWARE),
    "fuzz-board": ("test/fuzz_board.cpp", *CORE, *ENGINES, NO_HOOKS, "hal/host/boot_choice.cpp"),
    "verify-stdio": ("test/verify_stdio.cpp", "core/ed25519.cpp", "core/sha512.cpp"),
    "stream-stdio": (
        "test/stream_stdio.cpp",
        *(f"core/{name}.cpp" for name in ("input_profile", "logarithm", "metrics", "stream")),
    ),
    "unit": (
        "test/unit.cpp",
        *(f"core/{name}.cpp" for name in ("crc", "hmac", "metrics", "pins", "rules", "sha256", "uplink")),
    ),
    "unit-engine": ("test/unit_engine.cpp", *ENGINES),
    "board-stdio": (
        "test/board_stdio.cpp",
        *CORE,
        *ENGINES,
        NO_HOOKS,
        *(f"hal/host/{name}.cpp" for name in ("flash", "pins", "source")),
        NO_NETWORK,
        NO_FIRMWARE,
    ),
    **{
        f"esp32-network-{console}": (
            *("test/esp32_network.cpp", "test/esp_idf/stand_in.cpp", "hal/esp32/system.cpp"),
            *("hal/esp32/with_network/*.cpp", f"hal/esp32/console_{console}/serial.cpp", _NO_MIC),
        )
        for console in ("uart", "usb")
    },
    "esp32-mic": (
        *("test/esp32_mic.cpp", "test/esp_idf/*.cpp", "core/pins.cpp", "hal/esp32/source.cpp"),
        *("hal/esp32/with_mic/mic.cpp", "hal/esp32/system.cpp"),
        *("hal/esp32/console_uart/serial.cpp", "hal/esp32/without_network/radio.cpp"),
    ),
    "network-stdio": (
        *("test/network_stdio.cpp", *CORE, *ENGINES, NO_HOOKS),
        *(f"hal/host/{name}.cpp" for name in ("boot_choice", "flash", "pins", "source")),
    ),
    "network-power-cut": (
        *("test/network_power_cut.cpp", *CORE, *ENGINES, NO_HOOKS),
        *(f"hal/host/{name}.cpp" for name in ("boot_choice", "source")),
    ),
    "edgeward-board": (*_BOARD, NO_NETWORK),
    "edgeward-board-network": (*_BOARD, "hal/host_network/network.cpp"),
}
"""Program -> its sources below `firmware/`."""


COPY = "_firmware"
"""What an installed package calls its copy of firmware/."""


class HostBuildError(EdgewardError):
    """The firmware could not be built or run on this machine. The message says what is missing."""


def firmware_dir() -> Path:
    """`firmware/` of a checkout, or the copy an installed package carries."""
    boards = Path(__file__).resolve().parent
    for candidate in (boards.parents[1] / "firmware", boards / COPY):
        if (candidate / "engine" / "engine.h").is_file():
            return candidate
    raise HostBuildError(f"no firmware sources beside {boards}: reinstall edgeward, or run from a checkout")


def cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edgeward"


def build(program: str, extra_flags: Sequence[str] = (), hooks: Optional[Path] = None) -> Path:
    """The path of a program of PROGRAMS, built if the cache does not have it for these sources, flags and compiler.

    `hooks`: a C++ file of one's own in place of NO_HOOKS. Raises HostBuildError with what the compiler says of it.
    """
    root = firmware_dir()
    patterns = [pattern for pattern in PROGRAMS[program] if hooks is None or pattern != NO_HOOKS]
    sources = sorted(path for pattern in patterns for path in root.glob(pattern))
    if hooks is not None:
        if hooks.suffix != ".cpp" or not hooks.is_file():
            raise GivenError(f"{hooks}: expected a C++ file, NAME.cpp; docs/hooks.md says what is in it")
        sources.append(hooks.resolve())
    compiler = shutil.which("g++")
    if compiler is None:
        raise HostBuildError("no g++ on this machine: install it (Debian, Ubuntu: apt-get install g++) and try again")
    if program in LIBRARIES and not _compiles(compiler, "#include <mosquitto.h>"):
        raise HostBuildError(
            "a virtual board with a network needs libmosquitto: install it (Debian, Ubuntu: apt-get install libmosquitto-dev)"
        )
    flags = [*FLAGS, *extra_flags]
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    known = digest_of(root, sorted(root.rglob("*.h")), [*flags, version])
    target = cache_dir() / f"{program}-{digest_of(root, sources, [known])}"
    if target.is_file():
        return target
    (cache_dir() / "objects").mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who waits finds most of what it needs
        if not target.is_file():
            objects = {
                path: cache_dir() / "objects" / f"{path.stem}-{digest_of(root, [path], [known])}.o" for path in sources
            }
            missing = [path for path in sources if not objects[path].is_file()]
            with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                compiling = [[compiler, *flags, f"-I{root}", "-c", str(path)] for path in missing]
                list(pool.map(make, [program] * len(missing), compiling, [objects[path] for path in missing]))
            libraries = (*LIBRARIES.get(program, ()), *_WRAPPED.get(program, ()))
            make(program, [compiler, *flags, *map(str, objects.values()), *libraries], target)
    return target


def _compiles(compiler: str, source: str) -> bool:
    command = [compiler, "-x", "c++", "-fsyntax-only", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False).returncode == 0


def make(program: str, command: Sequence[str], made: Path) -> None:
    """Runs a compiler for `made`, which is there whole or not at all. HostBuildError with what it says."""
    with tempfile.TemporaryDirectory(prefix=".building-", dir=made.parent) as work:
        fresh = Path(work) / made.name
        done = subprocess.run([*command, "-o", str(fresh)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HostBuildError(f"{Path(command[0]).name} could not build {program}:\n{done.stderr.strip()}")
        os.replace(fresh, made)


def digest_of(root: Path, files: Sequence[Path], words: Sequence[str]) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for path in files:
        name = path.relative_to(root) if root in path.parents else path.name
        digest.update(str(name).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


def run_direct(model_tflite: bytes, rows: np.ndarray, extra_flags: Sequence[str] = ()) -> np.ndarray:
    """Run int8 `rows` (n, input elements; any shape that flattens to it) through engine/direct; int8 (n, output elements).

    Raises PlanError or TfliteError for a model engine/direct cannot run, HostBuildError without a compiler.
    """
    plan = compile_plan(model_tflite)
    table, count = _as_table(rows, plan.input_bytes)
    outputs = run_plan(model_tflite, plan.blob, table, extra_flags)
    return outputs.reshape(count, plan.output_bytes)


def run_plan(model_tflite: bytes, plan: bytes, rows: np.ndarray, extra_flags: Sequence[str] = ()) -> np.ndarray:
    """`rows` (n, input bytes) through a given plan; the output bytes in one line. Raises HostBuildError if it is refused."""
    return run_plans([(model_tflite, plan, rows)], extra_flags)


def run_plans(models: Iterable[Tuple[bytes, bytes, np.ndarray]], extra_flags: Sequence[str] = ()) -> np.ndarray:
    """As run_plan, for any number of (model, plan, rows) in one process; the output bytes of all in one line."""
    program = build("run-direct", extra_flags)
    stdin = b"".join(
        struct.pack("<3I", len(tflite), len(plan), len(rows))
        + tflite
        + plan
        + np.ascontiguousarray(rows, np.int8).tobytes()
        for tflite, plan, rows in models
    )
    done = subprocess.run([str(program)], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise HostBuildError(f"engine/direct: {reason}")
    return np.frombuffer(done.stdout, np.int8)


def _as_table(rows: np.ndarray, width: int) -> Tuple[np.ndarray, int]:
    if rows.dtype != np.int8:
        raise HostBuildError(f"the rows are {rows.dtype}; the model takes int8")
    if rows.ndim < 1 or (len(rows) and rows.size != len(rows) * width):
        raise HostBuildError(f"rows of shape {rows.shape}: the model takes {width} values each")
    return rows.reshape(len(rows), width), len(rows)
