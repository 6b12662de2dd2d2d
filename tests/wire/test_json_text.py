"""Whatever JSON of others is, it is read or refused with one kind of error."""

import base64
import random
from pathlib import Path
from typing import Callable, List

import pytest

from orchestrator.errors import EdgewardError
from orchestrator.gateway.apart import read_answer
from orchestrator.gateway.registry import read_object
from orchestrator.node.anchor import FolderAnchor
from orchestrator.wire.json_text import from_json
from orchestrator.wire.pki import read_settings
from orchestrator.wire.token import Token

ODD = [
    "[" * 100_000,
    '{"a":' * 100_000,
    "9" * 10_000,
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "\x00",
    "",
    '"',
    "\ufffe",
    "[1,]",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_texts_are_a_value_error(text: str) -> None:
    for one in (text, text.encode("utf-8"), text.encode("utf-16-le") + b"\xff"):
        with pytest.raises(ValueError, match="."):
            from_json(one)


def test_any_bytes_are_read_or_a_value_error() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        text = bytes(chance.choice(b'{}[]",:0123456789.eE+-truefalsnul\\ \xff') for _ in range(chance.randrange(40)))
        try:
            from_json(text)
        except ValueError:
            continue


@pytest.mark.parametrize("text", [*ODD[:5], '{"federation": 5}', "[]", "0"], ids=range(8))
def test_files_of_others_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "identity.json"
    path.write_text(text)
    (tmp_path / "ledger-head.json").write_text(text)
    readers: List[Callable[[], object]] = [lambda: read_settings(tmp_path), lambda: FolderAnchor(tmp_path).read()]
    if text != '{"federation": 5}':
        readers += [lambda: read_answer(path), lambda: read_object(path)]
    for read in readers:
        with pytest.raises(EdgewardError, match=str(tmp_path)):
            read()
    with pytest.raises(EdgewardError, match="not a whole token"):
        Token.parse("EW1." + base64.urlsafe_b64encode(text.encode()).decode())
