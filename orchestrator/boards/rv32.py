"""engine/direct on a bare RV32IMC machine in qemu: the bits of its outputs, instructions per inference, and size of code.

A simulation. Instructions are exact; on silicon they are a lower bound of cycles, because qemu has no caches, flash or
pipeline. Needs Debian's gcc-riscv64-unknown-elf, picolibc-riscv64-unknown-elf and qemu-system-misc.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np

from model_export.plan import compile_plan
from model_export.trees import is_trees, parse_trees
from orchestrator.boards.host_engine import (
    CORE,
    ENGINES,
    NO_FIRMWARE,
    NO_HOOKS,
    NO_NETWORK,
    HostBuildError,
    cache_dir,
    digest_of,
    firmware_dir,
    make,
)
from orchestrator.boards.partitions import SECTOR_BYTES

COMPILER = "riscv64-unknown-elf-gcc"
QEMU = "qemu-system-riscv32"
ARCHITECTURE = ("--specs=picolibc.specs", "-march=rv32imc", "-misa-spec=2.2", "-mabi=ilp32")
FLAGS = (
    *("-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
    *("-ffunction-sections", "-fdata-sections", "-nostartfiles", "-Wl,--gc-sections"),
)
_PACKAGES = "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc"
_IMAGE_ADDRESS = 0x81000000
_IMAGE_BYTES = 16 << 20
_RUN_S = 600
_C3_SLOT_BYTES = 72 * 1024  # as in firmware/hal/c3_bare/kept.h


@dataclass(frozen=True)
class Rv32Run:
    outputs: np.ndarray
    """int8 (rows, output elements)"""
    instructions: np.ndarray
    """int64 (rows,): retired by one invoke()"""
    load_instructions: int


def missing(*programs: str) -> Optional[str]:
    """What this machine lacks to build rv32 code (COMPILER) or to run it (also QEMU, the default); None when nothing."""
    wanted = programs or (COMPILER, QEMU)
    lacking = [program for program in wanted if shutil.which(program) is None]
    if not lacking:
        spec = subprocess.run(
            [COMPILER, "-print-file-name=picolibc.specs"], capture_output=True, text=True, check=False
        )
        if spec.stdout.strip() == "picolibc.specs":
            lacking.append("picolibc")
    return f"{', '.join(lacking)} not installed (Debian: apt-get install {_PACKAGES})" if lacking else None


def run_rv32(model_tflite: bytes, rows: np.ndarray, optimize: str = "-O2") -> Rv32Run:
    """Run int8 `rows` (n, input elements; any shape that flattens to it). Of a model of trees, too.

    Raises PlanError, TfliteError, TreesError or HostBuildError.
    """
    if is_trees(model_tflite):
        trees = parse_trees(model_tflite)
        blob, width, outputs = b"", trees.channels, trees.outputs
    else:
        plan = compile_plan(model_tflite)
        blob, width, outputs = plan.blob, plan.input_bytes, plan.output_bytes
    table = np.ascontiguousarray(rows, np.int8).reshape(len(rows), width)
    head = struct.pack("<4I", len(model_tflite), len(blob), len(table), 0)
    image = head + _padded(model_tflite) + _padded(blob) + table.tobytes()
    if len(image) > _IMAGE_BYTES:
        raise HostBuildError(f"model and rows are {len(image)} bytes, the simulated machine has {_IMAGE_BYTES}")
    problem = missing()
    if problem is not None:
        raise HostBuildError(problem)
    lines = _run_on(build_elf("src/run_direct_rv32.cpp", optimize), image, f"{len(table)} rows")
    return _parse(lines, outputs)


def _run_on(elf: Path, image: bytes, what: str) -> List[str]:
    """The lines a program prints that finds `image` in its memory. Raises HostBuildError where it does not come to its end."""
    with tempfile.TemporaryDirectory(prefix="edgeward-rv32-") as folder:
        path = Path(folder) / "image.bin"
        path.write_bytes(image)
        command = [
            *(QEMU, "-M", "virt", "-cpu", "rv32", "-m", "32M", "-bios", "none", "-display", "none", "-monitor", "none"),
            *("-serial", "stdio", "-icount", "shift=0", "-kernel", str(elf)),
            *("-device", f"loader,file={path},addr={_IMAGE_ADDRESS:#x},force-raw=on"),
        ]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_RUN_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise HostBuildError(f"qemu did not finish {what} in {_RUN_S} s") from error
    lines = done.stdout.decode("ascii", "replace").split("\n")
    if "end" not in lines:
        said = "\n".join(lines)[-300:].strip() or done.stderr.decode("utf-8", "replace").strip() or "it said nothing"
        raise HostBuildError(f"the rv32 program failed: {said}")
    return lines


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _parse(lines: Sequence[str], output_bytes: int) -> Rv32Run:
    rows = [line.split() for line in lines if line.startswith("row ")]
    outputs = np.frombuffer(bytes.fromhex("".join(row[2] for row in rows)), np.int8).reshape(len(rows), output_bytes)
    load = next(int(line.split()[1]) for line in lines if line.startswith("load "))
    return Rv32Run(outputs, np.array([int(row[1]) for row in rows], np.int64), load)


@dataclass(frozen=True)
class AudioRun:
    features: np.ndarray
    """uint16 (steps, channels)"""
    instructions: np.ndarray
    """int64 (steps,): retired by the feed() that completes a step"""
    start_instructions: int


def run_audio(tables: bytes, samples: np.ndarray, piece: int, optimize: str = "-O2") -> AudioRun:
    """int16 `samples` (n,) through firmware/audio/, `piece` at a time. `tables` as model_export/audio/tables.py packs them.

    Raises HostBuildError, also where the tables are refused.
    """
    table = np.ascontiguousarray(samples, "<i2")
    image = struct.pack("<4I", len(tables), len(table), piece, 0) + _padded(tables) + table.tobytes()
    problem = missing()
    if problem is not None:
        raise HostBuildError(problem)
    if len(image) > _IMAGE_BYTES:
        raise HostBuildError(f"tables and samples are {len(image)} bytes, the simulated machine has {_IMAGE_BYTES}")
    lines = _run_on(build_elf("test/audio_rv32.cpp", optimize, extra=("audio/*.cpp",)), image, f"{len(table)} samples")
    words = [line.split() for line in lines if line.startswith("step ")]
    features = np.frombuffer(bytes.fromhex("".join(row[2] for row in words)), ">u2").astype(np.uint16)
    start = next(int(line.split()[1]) for line in lines if line.startswith("start "))
    return AudioRun(features.reshape(len(words), -1), np.array([int(row[1]) for row in words], np.int64), start)


@dataclass(frozen=True)
class VerifyCost:
    """Of one Ed25519 verification on rv32imc."""

    instructions: int
    stack_bytes: int
    flash_bytes: int


def verify_cost(optimize: str = "-O2") -> VerifyCost:
    """Measured in qemu and, for flash, in the linked program. Raises HostBuildError, also if the signature is not accepted."""
    elf = build_elf("test/verify_rv32.cpp", optimize, extra=("core/ed25519.cpp", "core/sha512.cpp"))
    found = re.search(r"verify (\d+) (\d+)\nend", said_by(elf))
    if found is None:
        raise HostBuildError("the rv32 program did not accept a good signature")
    names = subprocess.run(
        [COMPILER.replace("gcc", "nm"), "-S", "-C", str(elf)], capture_output=True, text=True, check=True
    )
    own = [line.split() for line in names.stdout.splitlines() if "edgeward::" in line and len(line.split()) > 3]
    return VerifyCost(int(found[1]), int(found[2]), sum(int(words[1], 16) for words in own))


def said_by(elf: Path) -> str:
    """What a program that reads nothing prints, in qemu. Raises HostBuildError where it does not end."""
    command = [
        *(QEMU, "-M", "virt", "-cpu", "rv32", "-m", "32M", "-bios", "none", "-display", "none", "-monitor", "none"),
        *("-serial", "stdio", "-icount", "shift=0", "-kernel", str(elf)),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_RUN_S, check=False)
    printed = done.stdout.decode("ascii", "replace").replace("\r", "")
    if not printed.endswith("end\n"):
        raise HostBuildError(f"the rv32 program failed: {printed[-200:]!r}")
    return printed


def code_bytes(optimize: str, engine: str = "direct") -> Dict[str, int]:
    """Bytes a whole engine, direct or trees, adds to a linked rv32 program, library routines included: `flash` and `ram` (no
    arena).
    """
    with_engine, without = (
        _sizes(build_elf(source, optimize)) for source in (f"test/size_{engine}.cpp", "test/size_nothing.cpp")
    )
    return {key: with_engine[key] - without[key] for key in with_engine}


def _sizes(elf: Path) -> Dict[str, int]:
    done = subprocess.run([COMPILER.replace("gcc", "size"), "-A", str(elf)], capture_output=True, text=True, check=True)
    sizes = {name: int(size) for name, size in re.findall(r"^(\.\w+)\s+(\d+)", done.stdout, re.MULTILINE)}
    data = sizes.get(".data", 0)
    return {"flash": sizes[".text"] + sizes.get(".rodata", 0) + data, "ram": data + sizes.get(".bss", 0)}


def c3_elf(model_bin: bytes, path: Path, hooks: str = NO_HOOKS) -> Path:
    """Write to `path` the whole firmware for a simulated bare ESP32-C3 (firmware/hal/c3_bare), `model_bin` in its slot a.

    hooks: the files of a sensor and an action of one's own, below firmware/.
    """
    room = _C3_SLOT_BYTES - SECTOR_BYTES
    if len(model_bin) > room:
        raise HostBuildError(
            f"{len(model_bin)} bytes do not fit the model slot of the simulated ESP32-C3, which holds {room}"
        )
    extra = (*CORE, "hal/c3_bare/*.cpp", NO_NETWORK, NO_FIRMWARE, hooks)
    elf = build_elf("src/main_c3_bare.cpp", "-O2", target="c3_bare", extra=extra)
    slot = path.with_suffix(".slot")
    slot.write_bytes(model_bin.ljust(_C3_SLOT_BYTES, b"\xff"))
    objcopy = COMPILER.replace("gcc", "objcopy")
    subprocess.run([objcopy, "--update-section", f".slot_a={slot}", str(elf), str(path)], check=True)
    return path


def build_elf(program: str, optimize: str, *, target: str = "rv32_virt", extra: Sequence[str] = ()) -> Path:
    """An ELF of `program` (below firmware/) with the sources it needs, kept in the per-user cache."""
    problem = missing(COMPILER)
    if problem is not None:
        raise HostBuildError(problem)
    root = firmware_dir()
    sources = [root / program, *(path for pattern in extra for path in sorted(root.glob(pattern)))]
    if program != "test/size_nothing.cpp":
        sources += [path for pattern in ENGINES for path in sorted(root.glob(pattern))]
    start, script = root / f"hal/{target}/start.S", root / f"hal/{target}/link.ld"
    cstd = root / "hal/rv32_virt/cstd"
    version = subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=False).stdout
    flags = [*ARCHITECTURE, *FLAGS, optimize]
    read = [*sources, start, script, *sorted(cstd.iterdir()), *sorted(root.rglob("*.h"))]
    elf = cache_dir() / f"rv32-{Path(program).stem}-{digest_of(root, read, [*flags, version])}"
    if not elf.is_file():
        elf.parent.mkdir(parents=True, exist_ok=True)
        command = [COMPILER, *flags, f"-I{root}", f"-I{cstd}", str(start), *map(str, sources), "-lm", "-T", str(script)]
        make(program, command, elf)
    return elf
