"""Through how few files one update, one record and one board's report pass: those with functions that carry the value.

python benchmarks/ways.py [--tree FOLDER ...] [--json] [--functions]       (Python 3.11 or newer)

Runs the demo of a checkout, with real processes, and a monitor of a virtual board, and notes every function that carries the
value (ways_tracer.py). --tree: another checkout than this, or several to compare, run with this one's environment. A report is
followed from the firmware's function that measures to the line on the port (the virtual board, compiled with
-finstrument-functions), and from the port to a CSV file.
"""

import argparse
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

HERE = Path(__file__).resolve().parent
MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
_WATCHED_S = 12
"""Of ten records a second."""
_LONGEST_S = 900
"""After which a demo or a monitor is given up."""

Files = Dict[str, List[str]]

_HOOKS = """
#include <cstdio>
#include <cstdlib>
extern "C" __attribute__((no_instrument_function)) void __cyg_profile_func_enter(void* function, void*) {
  static FILE* const out = std::fopen(std::getenv("WAYS_CALLS"), "w");
  std::fprintf(out, "%p\\n", function);
  std::fflush(out);
}
extern "C" __attribute__((no_instrument_function)) void __cyg_profile_func_exit(void*, void*) {}
"""


def traced(tree: Path, out: Path) -> Dict[str, str]:
    """Environment of processes that are followed."""
    site = out / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text("import ways_tracer\n\nways_tracer.follow()\n")
    places = os.pathsep.join(map(str, (site, HERE, tree)))
    return {**os.environ, "PYTHONPATH": places, "WAYS_TREE": str(tree), "WAYS_OUT": str(out)}


def of_demo(tree: Path, out: Path) -> Dict[str, Files]:
    """{update, record}, each file -> functions that carry it."""
    command = [*MAIN, "demo", "--out", str(out / "demo")]
    done = subprocess.run(command, cwd=tree, env=traced(tree, out), capture_output=True, text=True, timeout=_LONGEST_S)
    if done.returncode:
        raise SystemExit(f"the demo of {tree} failed:\n{done.stdout}{done.stderr}")
    node, gateway = (json.loads((out / f"{name}.json").read_text()) for name in ("Node", "Gateway"))
    update: Files = {name: list(of) for name, of in node["update"].items()}
    for name, of in gateway["update"].items():
        update.setdefault(name, []).extend(of)
    return {"update": update, "record": node["record"]}


def of_monitor(tree: Path, out: Path) -> Files:
    """From the port to a CSV file."""
    plain = {**os.environ, "PYTHONPATH": str(tree)}
    simulate = [*MAIN, "board", "simulate", "--model", str(out / "demo" / "bundle")]
    with subprocess.Popen(simulate, cwd=tree, env=plain, stdout=subprocess.PIPE, text=True) as board:
        try:
            assert board.stdout is not None
            port = next(place[0] for line in board.stdout if (place := re.search(r"/dev/[\w/]+", line)))
            words = ["--rate", "100", "--seconds", str(_WATCHED_S), "--json", "--out", str(out / "records.csv")]
            watch = [*MAIN, "monitor", port, *words]
            where = traced(tree, out)
            subprocess.run(watch, cwd=tree, env=where, stdout=subprocess.DEVNULL, check=True, timeout=_LONGEST_S)
        finally:
            board.terminate()
    found: Files = json.loads((out / "Monitor.json").read_text())["report"]
    return found


def of_firmware(tree: Path, out: Path) -> Files:
    """From the function that reports to the bytes on the port, for `metrics`."""
    root, program, calls = tree / "firmware", out / "board", out / "calls.txt"
    kinds = ("core", "audio", "engine/direct", "engine/trees", "hooks/none", "hal/host", "hal/no_network")
    sources = [path for kind in kinds for path in sorted((root / kind).glob("*.cpp"))]
    (out / "hooks.cpp").write_text(_HOOKS)
    flags = ["-std=c++17", "-O0", "-g", "-no-pie", "-fno-exceptions", "-fno-rtti", "-finstrument-functions"]
    flags += ["-finstrument-functions-exclude-file-list=/usr/include,/usr/lib", f"-I{root}"]
    files = [*map(str, sources), str(root / "src" / "main_host.cpp"), str(out / "hooks.cpp")]
    subprocess.run(["g++", *flags, *files, "-o", str(program)], check=True)
    board = subprocess.Popen(
        [str(program), "--flash", str(out / "flash"), "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "WAYS_CALLS": str(calls)},
    )
    with board:
        try:
            assert board.stdout is not None
            port = os.open(board.stdout.readline().split()[1], os.O_RDWR | os.O_NOCTTY)
            os.write(port, b"\nmetrics\n")
            answer = b""
            while b'"kind":"metrics"' not in answer or not answer.endswith(b"\n"):
                if not select.select([port], [], [], _LONGEST_S)[0]:
                    raise SystemExit(f"the board of {tree} does not answer `metrics`")
                answer += os.read(port, 65536)
            os.close(port)
        finally:
            board.kill()
    addresses = calls.read_text().split()
    unique = list(dict.fromkeys(addresses))
    named = subprocess.run(["addr2line", "-Cfe", str(program), *unique], capture_output=True, text=True, check=True)
    lines = named.stdout.splitlines()
    known = dict(zip(unique, zip(lines[::2], lines[1::2])))
    begun = next(k for k, at in enumerate(addresses) if "send_metrics" in known[at][0])
    end = next(k for k in range(begun, len(addresses)) if "serial_write" in known[addresses[k]][0])
    found: Files = {}
    for at in addresses[begun : end + 1]:
        function, place = known[at]
        name = f"firmware/{os.path.normpath(place.split(':')[0]).rpartition('/firmware/')[2]}"
        if function not in found.setdefault(name, []):
            found[name].append(function)
    return found


def ways(tree: Path) -> Dict[str, Files]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        found = of_demo(tree, out)
        return {**found, "report": {**of_firmware(tree, out), **of_monitor(tree, out)}}


def main() -> None:
    if sys.version_info < (3, 11):
        raise SystemExit("ways.py goes by qualified names of functions, which Python 3.11 and newer say")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, action="append", help="a checkout; several are compared (default: this)")
    parser.add_argument("--json", action="store_true", help="files and functions, as JSON")
    parser.add_argument("--functions", action="store_true", help="also which functions of each file")
    args = parser.parse_args()
    trees = [path.resolve() for path in args.tree or [HERE.parent]]
    found: Dict[str, Dict[str, Files]] = {str(tree): ways(tree) for tree in trees}
    if args.json:
        print(json.dumps(found))
        return
    for kind in ("update", "record", "report"):
        print(f"one {kind}: {', then '.join(f'{len(of[kind])} files' for of in found.values())}")
        for tree, of in found.items():
            if len(found) > 1:
                print(f" {tree}")
            for name, functions in of[kind].items():
                print(f"  {name}" + (f": {', '.join(functions)}" if args.functions else ""))


if __name__ == "__main__":
    main()
