"""Every file and folder that an edgeward.toml names: whether this machine can have one of that name."""

import errno
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from orchestrator.wire.plain import plain

_SHOWN = 40
_INSTEAD = "\ufffd" * 3
"""In the place of a path in which nothing can be, so that all else that is wrong is said as well."""

_UNNAMEABLE = (errno.ENAMETOOLONG, errno.EINVAL)


class Place(NamedTuple):
    """Where a path stands: its keys, from the top of the file, and whether relative ones start at the working folder."""

    keys: Tuple[str, ...]
    of_working_folder: bool = False


PLACES = (
    Place(("evaluation",)),  # a table of them
    Place(("calibration",)),
    Place(("gateway", "ca_file"), of_working_folder=True),
    Place(("gateway", "dashboard_cert")),
    Place(("gateway", "dashboard_key")),
    Place(("gateway", "identity")),
    Place(("task", "model", "path")),
    Place(("task", "analysis", "model")),
    Place(("task", "analysis", "model", "file")),
    Place(("task", "analysis", "edges_file")),
)


def with_possible_paths(data: Dict[str, Any], base: Path) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """(an edgeward.toml in whose paths one can look, why not in the others, by their keys). Relative names start at `base`."""
    wrong: Dict[str, str] = {}
    for place in PLACES:
        for keys, named in _named(data, place.keys):
            why = _objection(named if place.of_working_folder else str(base / named))
            if why:
                where = ".".join(plain(key, _SHOWN) for key in keys)
                wrong[where] = f"{where}: {why}: {plain(named, _SHOWN)}"
                data = _replaced(data, keys, _INSTEAD)
    return data, wrong


def beside(lines: List[str], wrong: Dict[str, str]) -> List[str]:
    """The mistakes of others, and these once: what a replaced path led to is no mistake of its own."""
    places = tuple(f"{where}: " for where in wrong)
    return [*wrong.values(), *(line for line in lines if not line.startswith(places) and _INSTEAD not in line)]


def _named(data: Any, keys: Tuple[str, ...]) -> Iterator[Tuple[Tuple[str, ...], str]]:
    """(its keys, the text) of each path that stands there."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    if isinstance(data, str):
        yield keys, data
    elif isinstance(data, dict) and len(keys) == 1:
        yield from (((*keys, key), named) for key, named in data.items() if isinstance(named, str))


def _objection(path: str) -> str:
    if "\0" in path:
        return "no file's name has a NUL character in it"
    try:
        os.lstat(path)
    except OSError as error:
        return (error.strerror or str(error)) if error.errno in _UNNAMEABLE else ""
    except ValueError as error:  # such as half a surrogate pair
        return str(error)
    return ""


def _replaced(data: Dict[str, Any], keys: Tuple[str, ...], value: str) -> Dict[str, Any]:
    first, *rest = keys
    return {**data, first: _replaced(data[first], tuple(rest), value) if rest else value}
