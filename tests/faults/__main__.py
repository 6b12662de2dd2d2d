"""python -m tests.faults: runs cells, prints each, and writes the table of docs/operations.md."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from .cells import FAILED, PROCESSES, VARIANTS, Outcome, Variant, cells, finish, run
from .federation import Federation, Setting
from .kinds import FAULTS
from .table import write

RESULTS = Path("build/faults.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split(":")[1].strip())
    parser.add_argument("--only", default="", metavar="WORD,...", help=f"of {', '.join([*FAULTS, *PROCESSES])}")
    parser.add_argument(
        "--variants", default="", metavar="N,...", help="; ".join(f"{i}: {v}" for i, v in enumerate(VARIANTS))
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where outcomes are kept (default: %(default)s)")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table of all outcomes so far into this file"
    )
    arguments = parser.parse_args()
    chosen = [VARIANTS[int(i)] for i in arguments.variants.split(",") if i] or VARIANTS
    only = [word.strip() for word in arguments.only.split(",") if word.strip()]
    unknown = set(only) - set(FAULTS) - set(PROCESSES)
    if unknown:
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # processes and mounts are taken away then, too
    outcomes = _read(arguments.results)
    failed = 0
    for setting, some, variant in cells(chosen, only):
        print(f"== {setting}", flush=True)
        for outcome in _run(setting, some, variant):
            failed += outcome.word == FAILED
            outcomes[_key(outcome)] = outcome
            _keep(arguments.results, outcomes)
    if arguments.write is not None:
        write(arguments.write, outcomes.values())
    return 1 if failed else 0


def _run(setting: Setting, some: List[Tuple[str, str]], variant: Variant) -> Iterator[Outcome]:
    """Cells that share a federation; after one that failed the next ones get a new one."""
    left = list(some)
    while left:
        with Federation(setting) as federation:
            outcome: Optional[Outcome] = None
            while left and (outcome is None or outcome.word != FAILED):
                outcome = run(federation, *left.pop(0), variant)
                if not left or outcome.word == FAILED:
                    outcome.wrong += finish(federation)
                    outcome.word = FAILED if outcome.wrong else outcome.word
                _show(outcome)
                yield outcome


def _key(outcome: Outcome) -> str:
    return f"{outcome.fault}|{outcome.process}|{outcome.variant}"


def _show(outcome: Outcome) -> None:
    print(f"{outcome.fault:12} {outcome.process:10} {outcome.seconds:6.1f} s  {outcome.word}", flush=True)
    lines: List[str] = [f"    read: {line[:400]}" for line in dict.fromkeys(outcome.read)]
    lines += [f"    WRONG: {line[:3000]}" for line in outcome.wrong]
    print("".join(f"{line}\n" for line in lines), end="", flush=True)


def _read(path: Path) -> Dict[str, Outcome]:
    if not path.exists():
        return {}
    return {key: Outcome(**fields) for key, fields in json.loads(path.read_text()).items()}


def _keep(path: Path, outcomes: Dict[str, Outcome]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: outcome.as_dict() for key, outcome in outcomes.items()}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
