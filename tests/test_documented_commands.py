"""Every `edgeward ...` that the documents print is one the command line knows, and every link leads somewhere."""

import argparse
import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Iterator, List, NamedTuple

import pytest

from orchestrator.cli.main import build_parser
from orchestrator.gateway.config import load_config

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
_PLACEHOLDER = re.compile(r"\.\.\.|[A-Z][A-Z0-9_]*(?:[/:][A-Z0-9_]+)*")
"""NAME, HOST:PORT and ... stand for what a reader puts there."""


class Command(NamedTuple):
    document: str
    line: int
    words: List[str]  # without `edgeward`
    whole: bool  # a line of a code block, to be typed as it is; in running text arguments may be left out

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: edgeward {' '.join(self.words)}"


def commands(path: Path) -> Iterator[Command]:
    """Lines of code blocks, indented or fenced, and `edgeward ...` in running text."""
    where = str(path.relative_to(ROOT))
    text = re.sub(r"\\\n", lambda found: " " * len(found.group()), path.read_text(encoding="utf-8"))
    for found in re.finditer(r"^(?: {4}|\t)?(?:\$ |sudo )?edgeward (.*)$", text, re.MULTILINE):
        if found.group().startswith("edgeward") and not _fenced(text, found.start()):
            continue  # a sentence that begins with the name
        yield Command(where, text.count("\n", 0, found.start()) + 1, _words(found.group(1)), True)
    for found in re.finditer(r"`edgeward\s([^`]+)`", text):
        yield Command(where, text.count("\n", 0, found.start()) + 1, _words(found.group(1)), False)


def _fenced(text: str, at: int) -> bool:
    return text[:at].count("\n```") % 2 == 1


def _words(line: str) -> List[str]:
    """Up to a comment, a pipe, a redirection or a second command."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.commenters, lexer.whitespace_split = "#", True
    words: List[str] = []
    for word in lexer:
        if set(word) <= set("|&;<>"):
            break
        words.append(word)
    return words


def alternatives(words: List[str]) -> Iterator[List[str]]:
    """`list|show` is one command each, `bundle|OUT` any of them."""
    for place, word in enumerate(words):
        if "|" in word:
            for one in word.split("|"):
                yield from alternatives([*words[:place], one, *words[place + 1 :]])
            return
    yield words


def parse(words: List[str], whole: bool) -> str:
    """What the parser has against the words; empty where nothing. Of a mention in running text arguments may be missing."""
    if "VERB" in words:  # any of them
        words, whole = words[: words.index("VERB")], False
    whole = whole and "..." not in words
    words = [_filled(word) for word in words if word != "..."]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            build_parser().parse_args(words)
        except SystemExit as end:
            if not end.code:
                return ""
    complaint = said.getvalue().strip().split("\n")[-1]
    lacks = "the following arguments are required" in complaint or ("expected" in complaint and "argument" in complaint)
    return "" if not whole and lacks else complaint


def _filled(word: str) -> str:
    """A value in the place of a placeholder, where the parser looks at values."""
    if word.startswith("mqtt"):
        return re.sub(r"[A-Z]+", "h", word)
    return "7" if _PLACEHOLDER.fullmatch(word) and len(word) <= 2 else word


FOUND = [command for path in DOCUMENTS for command in commands(path)]


@pytest.mark.parametrize("document", sorted({command.document for command in FOUND}))
def test_every_command_of_the_documents_is_one(document: str) -> None:
    wrong = []
    for command in FOUND:
        if command.document == document:
            for words in alternatives(command.words):
                complaint = parse(words, command.whole)
                if complaint:
                    wrong.append(f"{command}: {complaint}")
    assert wrong == []


def test_they_are_found_and_wrong_ones_are_seen() -> None:
    assert len(FOUND) > 100
    assert parse(["gateway", "run"], whole=True)
    assert parse(["gateway", "runs"], whole=False)
    assert parse(["node", "run", "--feeration", "x", "--data", "d"], whole=False)
    assert not parse(["node", "run"], whole=False)


def test_the_readme_s_node_joins_the_federation_of_the_documented_file() -> None:
    """Typed as printed, with docs/edgeward.toml, both sides used to wait for each other."""
    federation = load_config(ROOT / "docs" / "edgeward.toml").gateway.federation
    nodes = [
        c.words
        for c in FOUND
        if c.document == "README.md" and c.words[:2] == ["node", "run"] and "GATEWAY" in str(c.words)
    ]
    parsed = [build_parser().parse_args(words) for words in nodes]
    assert [arguments.federation for arguments in parsed] == [federation]


def test_the_readme_has_every_command() -> None:
    """A command nobody is told of is found by nobody."""
    (group,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    named = {command.words[0] for command in FOUND if command.words}
    assert set(group.choices) <= named


def _anchors(path: Path) -> List[str]:
    """Of a document's headings, as Markdown makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    nowhere = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if ":" not in link and not (target.exists() and (not anchor or anchor in _anchors(target))):
            nowhere.append(link)
    assert nowhere == []
