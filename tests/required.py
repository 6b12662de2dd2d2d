"""What was not run, and why: a summary after every run; with EDGEWARD_REQUIRE_ALL=1 a skip is a failure.

A plugin of pytest that conftest.py brings in. Continuous integration sets the variable: it has every tool and all data, but for
what `ALLOWED` lists.
"""

import os
import re
from collections import Counter
from typing import Any, Generator

import pytest

REQUIRE_ALL = "EDGEWARD_REQUIRE_ALL"

ALLOWED = {
    r"no Python 3\.8 on this machine": "neither Debian 12 nor PyPI has that interpreter; name one in EDGEWARD_PYTHON38",
    r"no Python with acro": "it needs an older pandas than the other tools; name one in EDGEWARD_ACRO",
    r"no Python with pyCANON": "it wants other packages than the tools here; name one in EDGEWARD_PYCANON",
    r"Parquet needs pyarrow": "a node with Python 3.8 works without pyarrow",
    r"giving up rights takes root": "a user of a machine without root has no rights to give up",
    r"call numbers of x86-64 Linux": "the filter of another processor cannot be tried on this one",
    r"on Linux for x86-64 and aarch64 only": "other processors have no such switch",
}
"""Reasons that are no failure (a pattern that is searched for), and why nobody can do better."""


def allowed(reason: str) -> str:
    """Why a skip for this reason is no failure; empty where it is one."""
    return next((why for pattern, why in ALLOWED.items() if re.search(pattern, reason)), "")


def _reason(report: Any) -> str:
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text)[len("Skipped: ") :] if str(text).startswith("Skipped: ") else str(text)


def _judge(report: Any) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get(REQUIRE_ALL) != "1":
        return
    reason = _reason(report)
    if not allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and {REQUIRE_ALL} is set: {reason}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    outcome = yield
    _judge(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, None]:
    outcome = yield
    _judge(outcome.get_result())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if not hasattr(report, "wasxfail")]
    if not skipped:
        return
    terminalreporter.section("not run, and why")
    for reason, count in Counter(map(_reason, skipped)).most_common():
        why = allowed(reason)
        terminalreporter.write_line(f"{count:>4}  {reason}{f' ({why})' if why else ''}")
