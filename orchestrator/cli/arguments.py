"""What words of a command line may be: a parser that refuses, with exit code 2, what no command can mean."""

import argparse
import errno
import math
import os
from pathlib import Path
from typing import Any, Optional, Sequence

MOST = 10**15
"""Largest number an argument takes; the commands know what is too much for them below it."""


MOST_NAME_BYTES, MOST_PATH_BYTES = 230, 4000
"""Of a file's name: file systems take 255, of which some are for the name it has while it is written; and of its whole path."""


class Parser(argparse.ArgumentParser):
    """Everywhere: paths are not empty; numbers are finite, not negative and at most MOST; words are text.

    A word that is not known is refused with the nearest one that is.
    """

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.register("action", "parsers", _Commands)
        self.register("type", Path, path)
        self.register("type", int, whole)
        self.register("type", float, number)

    def parse_known_args(self, args: Optional[Sequence[str]] = None, namespace: Any = None) -> Any:  # type: ignore[override]
        for word in args or ():
            if not word.isprintable():
                self.error(f"an argument is not printable text in UTF-8: {word!a}")
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # said by the command itself, which knows what it takes
            self.error(
                f"unrecognized arguments: {' '.join(unknown)}{self._near_option(unknown) or self._as_option(unknown)}"
            )
        return found, unknown

    def _near_option(self, unknown: Sequence[str]) -> str:
        from orchestrator.wire.bounds import near

        options = [option for option in self._option_string_actions if option.startswith("--")]
        return next(filter(None, (near(w.partition("=")[0], options) for w in unknown if w.startswith("--"))), "")

    def _as_option(self, unknown: Sequence[str]) -> str:
        """Of a path that stands alone, where the command takes it behind an option; or the other way round."""
        alone = {f"--{action.dest}" for action in self._actions if not action.option_strings}
        option = next((word.partition("=")[0] for word in unknown if word.partition("=")[0] in alone), None)
        if option is not None:
            return f"; here it stands alone, without {option}"
        paths = [action.option_strings[-1] for action in self._actions if action.type is Path and action.option_strings]
        word = next((word for word in unknown if not word.startswith("-") and os.path.exists(word)), None)
        if word is None or not paths:
            return ""
        return f"; write {' or '.join(f'{option} {word}' for option in (['--out'] if '--out' in paths else paths[:3]))}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Of a closed set, commands included: names the nearest of it."""
        if action.choices is None or value in action.choices:
            return
        from orchestrator.wire.bounds import near

        known = [str(choice) for choice in action.choices]
        expected = ", ".join(known)
        raise argparse.ArgumentError(action, f"invalid choice: {value!r}{near(value, known)} (choose from {expected})")


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]  # not subscriptable
    """A command without a description is described by its line in the listing."""

    def add_parser(self, name: str, **named: Any) -> Any:
        line = named.get("help")
        if line:
            named.setdefault("description", f"{line[0].upper()}{line[1:]}.")
        return super().add_parser(name, **named)


def path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path; . is this folder")
    from orchestrator.wire.special_files import NO_FILE, is_special

    try:
        special = is_special(text)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise argparse.ArgumentTypeError(f"{text}: a link that leads back to itself") from error
        return Path(text)
    if special:
        raise argparse.ArgumentTypeError(f"{text}: {NO_FILE}")
    return Path(text)


def file_name(text: str) -> str:
    """The name of a file that is read, as text."""
    return str(path(text))


def whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number") from error
    if not 0 <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 to {MOST:g}")
    return value


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number") from error
    if not (math.isfinite(value) and 0 <= value <= MOST):
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to {MOST:g}")
    return value


def seconds(text: str) -> float:
    """Above 0, at most a year."""
    value = number(text)
    if not 0 < value <= 31_536_000:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of seconds above 0, at most a year")
    return value


def port(text: str) -> int:
    value = whole(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text}: a port is 0 to 65535; 0 takes a free one")
    return value


def host(text: str) -> str:
    from orchestrator.wire.bounds import host_name

    for reason in host_name("host", text):
        raise argparse.ArgumentTypeError(reason)
    return text


def broker_url(text: str) -> str:
    """The address of a broker that others connect to."""
    from orchestrator.errors import UsageError
    from orchestrator.wire.link import BrokerAddress

    try:
        BrokerAddress.parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def add_json(*parsers: argparse.ArgumentParser) -> None:
    """For commands that say in a few words what they did."""
    for parser in parsers:
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def check_output(path: Optional[Path], option: str, size: int = 0) -> None:
    """Before the work that is to be written there: UsageError where no file can be made, or None is given.

    size: bytes of a file that is there, where it is changed in place.
    """
    from orchestrator.errors import UsageError

    if path is None:
        return
    if len(os.fsencode(path.name)) > MOST_NAME_BYTES:
        raise UsageError(f"{option} {path.name[:40]}...: a file's name of more than {MOST_NAME_BYTES} bytes")
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        raise UsageError(f"{option} {str(path)[:40]}...: a path of more than {MOST_PATH_BYTES} bytes")
    if path.is_dir():
        raise UsageError(f"{option} {path}: a folder; name a file")
    if os.path.lexists(str(path)) and not path.is_file():
        # What is written beside it and renamed would take the place of a device, for every program of this machine.
        raise UsageError(f"{option} {path}: a device, a pipe, a socket or a link that leads nowhere; name a file")
    if size and path.is_file() and path.stat().st_size != size:
        raise UsageError(f"{option} {path}: {path.stat().st_size} bytes, expected {size}")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(str(path if path.exists() else path.parent), os.W_OK):
        raise UsageError(f"{option} {path}: may not be written")


def check_new_file(path: Optional[Path], option: str) -> None:
    """The same, where nothing is overwritten: what a command writes where somebody says may be all there is of something else."""
    from orchestrator.errors import UsageError

    if path is not None and len(os.fsencode(path.name)) <= MOST_NAME_BYTES and os.path.isfile(path):
        raise UsageError(f"{option} {path}: it exists, and is not overwritten; name another file, or remove it")
    check_output(path, option)


def check_output_folder(path: Path, option: str) -> None:
    """Before the work whose results go there: UsageError where it is no folder, or none can be made."""
    from orchestrator.errors import UsageError

    there = path
    while not os.path.lexists(str(there)) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{option} {path}: {there} is a file; name a folder")
    if not os.access(str(there), os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: {there} may not be written")
