"""The examples of docs/data.md, a section at a time."""

import re
import textwrap
from pathlib import Path
from typing import List

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def _blocks(section: str) -> List[str]:
    """The indented blocks of a section."""
    text = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (found,) = [each for each in text if each.startswith(section + "\n")]
    return [
        textwrap.dedent(block).strip()
        for block in re.findall(r"(?:(?:^ {4}.*)?\n)+", found, re.MULTILINE)
        if block.strip()
    ]


def described(section: str, number: int) -> str:
    """Its description of that number, from 0."""
    return [block for block in _blocks(section) if "[source]" in block][number]


def statements(section: str) -> List[str]:
    """Its SQL."""
    return [
        each.strip() for block in _blocks(section) if "CREATE" in block for each in block.split(";") if each.strip()
    ]
