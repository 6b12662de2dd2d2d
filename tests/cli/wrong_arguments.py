"""Every command with every kind of wrong argument, taken from the parser: what `test_wrong_arguments.py` goes through."""

import argparse
import os
import stat
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

CONFIG = """
[gateway]
broker = "mqtt://127.0.0.1:1"
[task]
name = "t"
[task.schema]
kind = "table"
label = "y"
classes = ["a", "b"]
label_values = {"0" = 0, "1" = 1}
features = [{name = "x", minimum = 0, maximum = 1}]
[task.model]
kind = "mlp"
"""

KINDS = {
    "a folder": "@/folder",
    "a file": "@/file",
    "an empty file": "@/empty.csv",
    "one row": "@/one.csv",
    "a binary file": "@/binary",
    "missing": "@/nowhere/at-all",
    "a loop": "@/loop",
    "a socket": "@/socket",
    "a pipe": "@/pipe",  # to which nobody writes: who reads it waits for ever
    "endless": "/dev/zero",
    "unreadable": "/proc/self/mem",  # for root too; and nobody can make anything in /proc
    "-1": "-1",
    "nan": "nan",
    "1e99": "1e99",
    "empty": "",
    "not a host": "not a host",
    "no such port": "127.0.0.1:99999",
    "no digit": "127.0.0.1:\u00b2",
    "too many digits": "127.0.0.1:" + "9" * 5000,
    "not text": "caf\udce9",
}
"""What is put where something else is meant."""


FILES = ("a file", "an empty file", "one row", "a binary file")


class Case(NamedTuple):
    command: str  # its words
    argument: str  # an option, or a positional's name
    kind: str
    words: List[str]  # all of them

    def __str__(self) -> str:
        return f"{self.command} {self.argument} {self.kind!r}"


def make_files(folder: Path) -> None:
    """What a case finds in its folder, which its words call @."""
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    os.mknod(str(folder / "socket"), 0o600 | stat.S_IFSOCK)
    os.mkfifo(str(folder / "pipe"))
    (folder / "file").write_text("this is neither\nTOML, JSON,\nCSV nor a key\n")
    (folder / "empty.csv").write_text("")
    (folder / "one.csv").write_text("x,y\n0.5,0\n")
    (folder / "binary").write_bytes(bytes(range(256)) * 20)
    (folder / "edgeward.toml").write_text(CONFIG)
    (folder / "data.csv").write_text("x,y\n0.5,0\n0.25,1\n")


def commands(parser: argparse.ArgumentParser, words: List[str]) -> Iterator[Tuple[List[str], argparse.ArgumentParser]]:
    """(words, parser) of every command that does something."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield words, parser
    for group in groups:
        for name, inner in group.choices.items():
            yield from commands(inner, [*words, name])


def cases(parser: argparse.ArgumentParser) -> Iterator[Case]:
    """One argument of one command wrong at a time; the others are right, or lead to an end that comes soon."""
    for words, command in commands(parser, []):
        arguments = [action for action in command._actions if action.nargs != 0]
        for number, action in enumerate(arguments):
            for kind in _kinds(action, number):
                yield Case(" ".join(words), _name(action), kind, _line(words, arguments, action, KINDS[kind]))


def _kinds(action: argparse.Action, number: int) -> Iterator[str]:
    """Those that differ for such an argument: every word is no number and no choice alike, every new path is a new path."""
    if action.nargs == argparse.REMAINDER:
        return
    alike: Tuple[str, ...] = ()
    if action.choices:
        alike = (
            *FILES,
            "a folder",
            "missing",
            "a loop",
            "a socket",
            "a pipe",
            "endless",
            "unreadable",
            "-1",
            "nan",
            "1e99",
            "not a host",
            "no such port",
            "no digit",
            "too many digits",
        )
    elif action.type is Path:
        alike = ("nan", "1e99", "not a host", "no such port", "no digit", "too many digits")
    elif action.type is not None:
        alike = (
            *FILES,
            "a folder",
            "missing",
            "a loop",
            "a socket",
            "a pipe",
            "endless",
            "unreadable",
            "no digit",
            "too many digits",
        )
    for kind in KINDS:
        if kind not in alike and (kind != "not text" or number == 0):
            yield kind


def _name(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else action.dest


def _line(words: List[str], arguments: List[argparse.Action], wrong: argparse.Action, value: str) -> List[str]:
    line = list(words)
    for action in arguments:
        given = value if action is wrong else _usual(words, action)
        if given is None and not (action.required and action.nargs != argparse.REMAINDER):
            continue
        given = "@/nowhere/usual" if given is None else given
        if action.option_strings:
            line += (
                [action.option_strings[-1], given] if action.nargs == "+" else [f"{action.option_strings[-1]}={given}"]
            )
        else:
            line.append(given)
    return line


def _usual(words: List[str], action: argparse.Action) -> Optional[str]:
    """What stands in the place of an argument that is not the wrong one; None to leave an option out."""
    name = _name(action)
    if action.choices and action.required:
        return str(next(iter(action.choices)))
    usual = {
        "--connect-timeout": "0.05",
        "--timeout": "0.05",
        "--seconds": "0.05",
        "config": "@/edgeward.toml",
        "--broker": "mqtt://127.0.0.1:1",
        "--upstream": "mqtt://127.0.0.1:1",
        "--federation": "f",
        "--name": "n",
        "--data": "@/data.csv",
        "--out": "@/out",
        "--state": "@/state",
    }
    if words == ["demo"]:
        usual = {"--task": "heart-disease", "--data": "@/nowhere/at-all", "--out": "@/out"}
    if words == ["attack"]:
        usual["--data"] = "@/nowhere/at-all"  # or it would go on to train
    return usual.get(name)
