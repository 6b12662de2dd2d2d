"""Libraries built as their users build them, and run: on this machine, on rv32 and on a Cortex-M3 in qemu."""

import shutil
import subprocess
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from orchestrator.boards.host_engine import firmware_dir
from orchestrator.boards.rv32 import ARCHITECTURE

STRICT = ("-Wall", "-Wextra", "-Werror")
CXX = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-ffunction-sections", "-fdata-sections")


class Machine(NamedTuple):
    """A processor without an operating system: its compilers, and qemu as the computer it is in."""

    compiler: str
    flags: Sequence[str]
    cxx_flags: Sequence[str]
    memory: Sequence[str]
    qemu: Sequence[str]
    packages: str

    def missing(self) -> Optional[str]:
        lacking = [program for program in (self.compiler, self.qemu[0]) if shutil.which(program) is None]
        if not lacking:
            asked = [self.compiler, "-print-file-name=picolibc.specs"]
            if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "picolibc.specs":
                lacking.append("picolibc")
        return f"{', '.join(lacking)} not installed (Debian: apt-get install {self.packages})" if lacking else None


RV32 = Machine(
    "riscv64-unknown-elf-gcc",
    ARCHITECTURE,
    # Debian's has no C++ library, of which the engine uses three headers.
    ("-fno-threadsafe-statics", f"-I{firmware_dir() / 'hal/rv32_virt/cstd'}"),
    ("__flash=0x80000000", "__flash_size=8M", "__ram=0x80800000", "__ram_size=8M"),
    ("qemu-system-riscv32", "-M", "virt", "-bios", "none", "-m", "32M"),
    "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc",
)
CORTEX_M3 = Machine(
    "arm-none-eabi-gcc",
    ("--specs=picolibc.specs", "-mcpu=cortex-m3", "-mthumb"),
    (),
    ("__flash=0", "__flash_size=4M", "__ram=0x20000000", "__ram_size=1M"),
    ("qemu-system-arm", "-M", "mps2-an385"),
    "gcc-arm-none-eabi libstdc++-arm-none-eabi-picolibc qemu-system-arm",
)


def sources(library: Path) -> List[Path]:
    """What every builder compiles, with src/ as the one include path."""
    return sorted((library / "src").rglob("*.cpp"))


def run(command: Sequence[object], folder: Optional[Path] = None, stdin: bytes = b"") -> bytes:
    done = subprocess.run([str(word) for word in command], cwd=folder, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")[-4000:]
    return done.stdout


def run_examples(machine: Machine, libraries: Sequence[Path], names: Sequence[str], work: Path) -> str:
    """What the examples print, one after another, in one program that has all these libraries (of kind "cmake")."""
    compile_it = [machine.compiler, *machine.flags, *STRICT, "-O2", "-c"]
    calls = "".join(f"int {name}_main(void);\n" for name in names)
    body = " + ".join(f"{name}_main()" for name in names)
    (work / "all.c").write_text(f"{calls}int main(void) {{ return {body}; }}\n")
    run([*compile_it, "all.c"], work)
    for library, name in zip(libraries, names):
        objects = work / name
        objects.mkdir()
        include = f"-I{library / 'src'}"
        run([*compile_it, *CXX, *machine.cxx_flags, include, *sources(library)], objects)
        run([*compile_it, "-std=c11", include, f"-Dmain={name}_main", library / "example/main.c"], objects)
    memory = [f"-Wl,--defsym={symbol}" for symbol in machine.memory]
    link = [machine.compiler, *machine.flags, "--oslib=semihost", "--crt0=hosted", *memory]
    run([*link, *sorted(work.rglob("*.o")), "-o", "examples.elf"], work)
    hosted = ("-semihosting-config", "enable=on,target=native,chardev=said", "-chardev", "stdio,id=said")
    quiet = ("-display", "none", "-monitor", "none", "-serial", "none")
    return run(["timeout", "60", *machine.qemu, *quiet, *hosted, "-kernel", work / "examples.elf"]).decode()


def promised(library: Path) -> str:
    """What README.md says that the example prints."""
    text = (library / "README.md").read_text("utf-8").split("## What the example prints\n\n")[1]
    block = text[: text.index("\n\n")].split("\n")
    assert all(line.startswith("    ") for line in block)
    return "".join(f"{line[4:]}\n" for line in block)
