"""engine/direct against TensorFlow Lite Micro on rv32imc: instructions per inference, RAM and code. Simulated.

    python benchmarks/firmware.py [--models kws,vww,ic,ad] [--rows 2] [--json] [--markdown benchmarks/results/firmware.md]

Own columns are measured in this run, in qemu-system-riscv32; every output is compared with the tflite-micro wheel. TFLM's
columns were measured on 2026-11-23 the same way (rv32imc -O2, Debian GCC 12.2, picolibc, qemu -icount), from the sources of
espressif/esp-tflite-micro 1.4.0 (99f49e1) and espressif/esp-nn d45b843, which no package carries: they are constants here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from trees import lines_of, measure_trees

from model_export.plan import compile_plan
from model_export.tflm import TflmModel
from orchestrator.boards.rv32 import COMPILER, QEMU, code_bytes, run_rv32

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EDGEWARD_SHARED", ROOT.parent / "shared")) / "data" / "mlperf-tiny"

TFLM = {  # instructions with reference kernels, with ESP-NN's generic C, arena bytes on 32 bit
    "kws": (143.3e6, 25.8e6, 22_780),
    "vww": (400.8e6, 65.3e6, 100_668),
    "ic": (595.8e6, 96.4e6, 54_364),
    "ad": (2.48e6, 2.45e6, 2_380),
}
GOAL = {"kws": 10.0e6, "vww": 30.0e6, "ic": 40.0e6, "ad": 0.9e6}
RAM_GOAL = 0.8
TFLM_CODE = {"FC + softmax": 38_600, "FC, softmax, conv, depthwise, average pool, reshape": 49_400}


def measure(name: str, rows: int) -> Dict[str, Any]:
    """One row of the table. Random int8 inputs after two at the ends of the range."""
    model = (DATA / f"{name}_int8.tflite").read_bytes()
    plan = compile_plan(model)
    inputs = np.random.default_rng(0).integers(-128, 128, (rows, plan.input_bytes)).astype(np.int8)
    inputs[:2] = np.array([[-128], [127]], np.int8)[:rows]
    ran = run_rv32(model, inputs)
    differs = ran.outputs != TflmModel(model).run(inputs).reshape(rows, -1)
    reference, esp_nn, arena = TFLM[name]
    worst = int(ran.instructions.max())
    return {
        "model": name,
        "instructions": worst,
        "load_instructions": ran.load_instructions,
        "goal_instructions": GOAL[name],
        "tflm_reference_instructions": reference,
        "tflm_esp_nn_instructions": esp_nn,
        "ram_bytes": plan.arena_bytes,
        "tflm_arena_bytes": arena,
        "rows": rows,
        "rows_that_differ": int(differs.any(axis=1).sum()),
        "ok": worst <= GOAL[name] and plan.arena_bytes <= RAM_GOAL * arena and not differs.any(),
    }


def markdown(report: Dict[str, Any]) -> str:
    lines = [
        "# engine/direct on rv32imc",
        "",
        "**Simulated.** Instructions retired in qemu, not time on a board: silicon adds cycles for caches, flash and pipeline.",
        f"Written by `python benchmarks/firmware.py --markdown {report['path']}` on {report['machine']}.",
        f"{report['compiler']}, picolibc, `-march=rv32imc`; {report['qemu']}, `-icount shift=0`.",
        "",
        "## Instructions per inference, -O2",
        "",
        "| model | engine/direct | goal | TFLM, ESP-NN generic C | TFLM, reference kernels | load, with all checks "
        "| rows unlike the wheel's |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["models"]:
        lines.append(
            f"| {row['model'].upper()} | **{_millions(row['instructions'])}** | {_millions(row['goal_instructions'])} "
            f"| {_millions(row['tflm_esp_nn_instructions'])} | {_millions(row['tflm_reference_instructions'])} "
            f"| {row['load_instructions']:,} | {row['rows_that_differ']} of {row['rows']} |"
        )
    lines += lines_of(report["trees"], report["trees_code"])
    lines += ["", "## RAM for activations and scratch", "", "| model | engine/direct | TFLM's arena, 32 bit | ratio |"]
    lines.append("|---|---|---|---|")
    for row in report["models"]:
        ratio = row["ram_bytes"] / row["tflm_arena_bytes"]
        lines.append(
            f"| {row['model'].upper()} | {row['ram_bytes']:,} B | {row['tflm_arena_bytes']:,} B | {ratio:.2f} |"
        )
    lines += ["", "## Code in flash", "", "| | -Os | -O2 |", "|---|---|---|"]
    code = report["code"]
    sizes = f"{code['-Os']['flash']:,} B | {code['-O2']['flash']:,} B"
    lines.append(f"| engine/direct, all operators, loader checks and library routines | {sizes} |")
    lines += [f"| TFLM with {what}, error strings stripped | {size:,} B | |" for what, size in TFLM_CODE.items()]
    lines += [
        "",
        f"engine/direct's code is what it adds to a linked program; its static RAM is {code['-Os']['ram']} B.",
        "TFLM's columns were measured the same way on 2026-11-23 from esp-tflite-micro 99f49e1 and esp-nn d45b843; they are",
        "constants in the script, because no package carries those sources.",
        "",
    ]
    return "\n".join(lines)


def _millions(count: float) -> str:
    return f"{count / 1e6:.2f} M"


def _first_line(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(TFLM), help="comma-separated (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=4, help="rows per model (default: %(default)s)")
    parser.add_argument("--tree-rows", type=int, default=100, help="records for models of trees (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table to FILE")
    arguments = parser.parse_args()
    names: List[str] = arguments.models.split(",")
    report: Dict[str, Any] = {
        "simulated": True,
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "compiler": _first_line(COMPILER),
        "qemu": _first_line(QEMU),
        "path": str(arguments.markdown or "benchmarks/results/firmware.md"),
        "models": [measure(name, arguments.rows) for name in names],
        "trees": measure_trees(DATA.parent, arguments.tree_rows),
        "trees_code": code_bytes("-O2", "trees"),
        "code": {optimize: code_bytes(optimize) for optimize in ("-Os", "-O2")},
    }
    report["ok"] = all(row["ok"] for row in [*report["models"], *report["trees"]]) and report["code"]["-O2"][
        "flash"
    ] < min(TFLM_CODE.values())
    text = markdown(report)
    if arguments.markdown is not None:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(text)
    print(json.dumps(report, indent=1) if arguments.json else text)
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
