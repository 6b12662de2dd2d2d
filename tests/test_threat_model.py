"""docs/threat-model.md names the tests that show what it says: all of them exist, and every row names one or says why not."""

import re
from pathlib import Path
from typing import Iterator, List

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "threat-model.md"
_PATH = re.compile(r"tests/[\w./-]+?\.py(?:::\w+)?")


def missing(text: str) -> List[str]:
    """Paths of tests in `text` that are not there; with ::NAME also names that the file does not define."""
    lost = []
    for named in sorted(set(_PATH.findall(text))):
        path, _, name = named.partition("::")
        file = ROOT / path
        if not file.is_file() or (name and f"def {name}(" not in file.read_text()):
            lost.append(named)
    return lost


def rows(text: str) -> Iterator[List[str]]:
    """Cells of every row under a head whose last column is `test`."""
    heads: List[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads = cells
        elif heads[-1] == "test" and not set(line) <= set("|- "):
            yield cells


@pytest.mark.parametrize("page", [PAGE, ROOT / "SECURITY.md"])
def test_every_test_it_names_exists(page: Path) -> None:
    assert missing(page.read_text()) == []


def test_every_row_names_a_test_or_says_that_nothing_is_claimed() -> None:
    found = list(rows(PAGE.read_text()))
    assert len(found) > 60
    silent = [
        cells[0]
        for cells in found
        if not _PATH.search(cells[-1]) and cells[-1] not in ("-", "") and "none: " not in cells[-1]
    ]
    assert silent == []


def test_the_check_sees_what_it_is_for() -> None:
    lost = "see tests/node/test_nothing.py, tests/test_threat_model.py and tests/test_threat_model.py::test_nowhere"
    assert missing(lost) == ["tests/node/test_nothing.py", "tests/test_threat_model.py::test_nowhere"]


def test_everybody_who_may_be_bad_has_a_section() -> None:
    text = PAGE.read_text()
    for who in (
        "The gateway\n",
        "The gateway and others",
        "key holder",
        "Broker",
        "Other nodes",
        "researcher",
        "board",
        "thief",
    ):
        assert re.search(rf"^## .*{who}", text, re.MULTILINE), who


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", PAGE.read_text() + (ROOT / "SECURITY.md").read_text()))
def test_links_lead_somewhere(link: str) -> None:
    assert link.startswith("http") or (ROOT / "docs" / link).exists() or (ROOT / link).exists()
