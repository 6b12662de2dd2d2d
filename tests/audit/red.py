"""Runs tests under a broken build, each in a process of its own that has imported none of them yet, and says which go red.

    python tests/audit/red.py '{"noise-off": ["tests/node/test_trainer.py"]}'

Prints one JSON object: kind -> [node ids of failed tests].
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from orchestrator.audit.broken import broken_build  # noqa: E402


class Failed:
    """A plugin that remembers what failed, in setup too."""

    def __init__(self) -> None:
        self.names: List[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.names.append(report.nodeid)


def failed_under(kind: str, tests: List[str]) -> List[str]:
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.close(out)
        silence = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silence, stream)
        failed = Failed()
        with broken_build(kind):
            code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests], [failed])
        answer = failed.names if code in (0, 1) else [f"pytest ended with {int(code)}"]
        os.write(into, json.dumps(answer).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as written:
        said = written.read()
    os.waitpid(child, 0)
    return list(json.loads(said)) if said else ["no answer"]


def main(wanted: Dict[str, List[str]]) -> Dict[str, List[str]]:
    os.chdir(ROOT)
    return {kind: failed_under(kind, tests) for kind, tests in wanted.items()}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
