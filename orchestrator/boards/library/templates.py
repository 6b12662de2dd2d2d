"""The files of a library before anything of a model is in them: templates/, where @word@ stands for a value.

templates/KIND/ has the files of a kind where they belong, templates/src/ those of all; NAME in a path is the library's name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Mapping

FOLDER = Path(__file__).with_name("templates")
README = "README.md"


def filled(text: str, values: Mapping[str, str]) -> str:
    """Each @word@ replaced by its value, once: what stands in a value is not looked at. KeyError for a word without one."""
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], text)


def template(path: str) -> str:
    return (FOLDER / path).read_text("utf-8")


def files_of(folder: str, values: Mapping[str, str]) -> Dict[str, str]:
    """Path -> content of every file below templates/`folder`."""
    return {
        path.relative_to(FOLDER / folder).as_posix().replace("NAME", values["name"]): filled(
            path.read_text("utf-8"), values
        )
        for path in sorted((FOLDER / folder).rglob("*"))
        if path.is_file()
    }
