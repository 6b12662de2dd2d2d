"""What words of a command line may be: a parser that refuses, with exit code 2, what no command can mean."""

import argparse
import errno
import math
import os
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Mapping, Optional, Sequence

MOST = 10**15
"""Largest number an argument takes whose command names no bound of its own."""
LEAST = 5e-324
"""The smallest number above 0."""
MOST_SHOWN = 40
"""Characters of a wrong number."""


MOST_NAME_BYTES, MOST_PATH_BYTES = 230, 4000
"""Of a file's name: file systems take 255, of which some are for the name it has while it is written; and of its whole path."""
_MOST_LINKS = 40


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


def whole_within(low: int, high: int, expected: str = "") -> Callable[[str], int]:
    """Reads whole numbers in [low, high]. Whatever else is given, the message is one: `expected`, or the range."""
    wanted = expected or f"expected a whole number from {low} to {high if high < MOST else format(high, 'g')}"

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{_quoted(text)}: {wanted}")
        return value

    return whole_number


def number_within(low: float, high: float, expected: str = "") -> Callable[[str], float]:
    """The same of numbers; without `low` itself where `expected` says so in words."""
    wanted = expected or f"expected a number from {low:g} to {high:g}"

    def any_number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{_quoted(text)}: {wanted}")
        return value

    return any_number


def _quoted(text: str) -> str:
    """A number as it is; anything else in quotation marks, so that it is seen where it ends."""
    shown = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
    return shown if any(map(str.isdecimal, text)) or text.lower() == "nan" else repr(shown)


whole = whole_within(0, MOST)
number = number_within(0, MOST)
seconds = number_within(LEAST, 31_536_000, "expected a number of seconds above 0, at most a year")
"""Above 0, at most a year."""

port = whole_within(0, 65535, "a port is 0 to 65535; 0 takes a free one")


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


def check_output(
    path: Optional[Path],
    option: str,
    others: Mapping[str, Optional[Path]] = MappingProxyType({}),
    size: int = 0,
) -> None:
    """Before the work that is to be written there: UsageError where no file can be made; nothing where None is given.

    others: what else the command reads or writes, by name: none of it is replaced.
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
    if _leads_to_a_device(path) or (os.path.lexists(str(path)) and not path.is_file()):
        # What is written beside it and renamed would take the place of a device, for every program of this machine.
        raise UsageError(f"{option} {path}: a device, a pipe, a socket or a link that leads nowhere; name a file")
    if size and path.is_file() and path.stat().st_size != size:
        raise UsageError(f"{option} {path}: {path.stat().st_size} bytes, expected {size}")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")
    for name, other in others.items():
        if other is not None and _same(path, other):
            raise UsageError(f"{option} {path}: is {name} itself; name another file")
    folder = os.path.dirname(os.path.realpath(str(path)))
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(str(path), os.W_OK)):
        raise UsageError(f"{option} {path}: may not be written, or its folder may not")


def _leads_to_a_device(path: Path) -> bool:
    """/dev/stdout is a link, and may lead to a file: renamed is what stands beside the link."""
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(str(path.parent))
        if folder == "/dev" or f"{folder}/".startswith(("/proc/", "/sys/")):
            return True
        if not path.is_symlink():
            return False
        path = Path(folder) / os.readlink(str(path))
    return True


def _same(path: Path, other: Path) -> bool:
    """Whether both are names of one file, which need not be there."""
    if path.exists() and other.exists():
        return os.path.samefile(path, other)
    return os.path.realpath(str(path)) == os.path.realpath(str(other))


def check_new_file(
    path: Optional[Path], option: str, others: Mapping[str, Optional[Path]] = MappingProxyType({})
) -> None:
    """The same, where nothing is overwritten: what a command writes where somebody says may be all there is of something else."""
    from orchestrator.errors import UsageError

    if path is not None and len(os.fsencode(path.name)) <= MOST_NAME_BYTES and os.path.isfile(path):
        raise UsageError(f"{option} {path}: it exists, and is not overwritten; name another file, or remove it")
    check_output(path, option, others)


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
