"""Part of the fault matrix: every fault and every process at least once. All of it is run by hand: python -m tests.faults."""

import shutil
from itertools import groupby
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from .cells import FAILED, PROCESSES, TITLES, VARIANTS, Variant, finish, run, setting_of, why_not
from .federation import Federation, Setting
from .kinds import FAULTS
from .processes import ROOT, can_be_another_user
from .table import MISSING, committed, render

ROOT_PLAIN, USER_KNOWN = Variant(user=False, identities=False), Variant(user=True, identities=True)

CI: List[Tuple[Variant, str, str]] = [
    (ROOT_PLAIN, "kill", "gateway"),
    (ROOT_PLAIN, "full", "gateway"),
    (ROOT_PLAIN, "stop", "embedded"),
    (ROOT_PLAIN, "eio", "node"),
    (ROOT_PLAIN, "descriptors", "dashboard"),
    (ROOT_PLAIN, "descriptors", "monitor"),
    (ROOT_PLAIN, "network", "node"),
    (USER_KNOWN, "eio", "gateway"),
    (USER_KNOWN, "kill", "mosquitto"),
    (USER_KNOWN, "port", "monitor"),
    (USER_KNOWN, "clock", "node"),
    (ROOT_PLAIN, "damage", "key holder"),
    (ROOT_PLAIN, "kill", "relay"),
]


def groups() -> Iterator[Tuple[Setting, Variant, List[Tuple[str, str]]]]:
    for (setting, variant), some in groupby(CI, lambda one: (setting_of(one[2], one[0]), one[0])):
        yield setting, variant, [(fault, process) for _, fault, process in some]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("setting", "variant", "some"), list(groups()), ids=lambda value: str(value).replace(" ", ""))
def test_cells(setting: Setting, variant: Variant, some: List[Tuple[str, str]]) -> None:
    if setting.broker == "mosquitto" and not shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/sbin"):
        pytest.skip("mosquitto is not installed")
    if setting.kind == "keys":
        pytest.importorskip("tenseal")
    if setting.user and not can_be_another_user():
        setting = Setting(
            setting.kind, setting.broker, False, setting.identities
        )  # the tests run as such a user already
    wrong = []
    with Federation(setting) as federation:
        for fault, process in some:
            outcome = run(federation, fault, process, variant)
            wrong += [f"{fault}, {process}: {line}" for line in outcome.wrong]
            assert not wrong, "\n".join(wrong)
        assert finish(federation) == []


def test_every_fault_and_every_process_is_there() -> None:
    assert {fault for _, fault, _ in CI} == set(FAULTS)
    assert {process for _, _, process in CI} >= set(PROCESSES) - {"mosquitto", "embedded"}


def test_the_table_names_every_cell_and_none_has_failed() -> None:
    head, *rows = committed(ROOT / "docs" / "operations.md")
    assert head[1:] == [TITLES.get(name, name) for name in PROCESSES]
    assert [row[0] for row in rows] == [fault.title for fault in FAULTS.values()]
    for (name, _), row in zip(FAULTS.items(), rows):
        assert len(row) == 1 + len(PROCESSES)
        for process, text in zip(PROCESSES, row[1:]):
            assert text
            assert FAILED not in text, f"{name}, {process}"
            assert MISSING not in text, f"{name}, {process}"
            assert (text == "n/a") == all(why_not(name, process, variant) for variant in VARIANTS)


def test_a_cell_that_was_not_run_shows() -> None:
    assert MISSING in render([])


def test_why_a_cell_is_not_applicable_stands_in_the_document() -> None:
    text = " ".join((ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split())
    reasons = {why_not(f, p, v) for f in FAULTS for p in PROCESSES for v in VARIANTS} - {""}
    assert [reason for reason in reasons if reason not in text] == []
    assert Path(ROOT, "tests", "faults", "__main__.py").exists()
