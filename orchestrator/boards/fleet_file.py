"""The boards of an owner that are on a network: their names, and the secret each shares with its owner."""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, Optional

from orchestrator.boards.settings import SECRET_BYTES
from orchestrator.errors import UsageError
from orchestrator.files import replace_file
from orchestrator.wire.special_files import read_file
from orchestrator.wire.topics import check_name

FILE = "fleet.json"
_VERSION = 1
_HEX = re.compile(f"[0-9a-f]{{{2 * SECRET_BYTES}}}")


@dataclass
class Fleet:
    """What FOLDER/fleet.json holds; who reads that file can pass for every board in it, and not order it about."""

    folder: Path
    federation: str
    secrets: Dict[str, bytes] = field(default_factory=dict, repr=False)
    """Board's name -> its secret."""

    @classmethod
    def read(cls, folder: Path, federation: str = "") -> Fleet:
        """The fleet of a folder; an empty one of `federation` where there is no file and it is given. UsageError for another
        federation, and for a file that is damaged or that others can read."""
        path = folder / FILE
        if not path.is_file():
            if not federation:
                raise UsageError(f"{path}: there is no such file: `edgeward board connect --fleet {folder}` makes it")
            return cls(folder, check_name(federation, "federation"))
        if path.stat().st_mode & 0o077:
            raise UsageError(f"{path}: others can read the boards' secrets in it: chmod 600 {path}")
        try:
            content = json.loads(read_file(path))
            if content["version"] != _VERSION:
                raise UsageError(f"{path}: of version {content['version']!r}; this edgeward reads version {_VERSION}")
            secrets = {
                check_name(name, "board"): _secret(content["boards"][name]["secret"]) for name in content["boards"]
            }
            fleet = cls(folder, check_name(content["federation"], "federation"), secrets)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"{path}: is damaged, or no file of `edgeward board connect`: {error}") from None
        if federation not in ("", fleet.federation):
            raise UsageError(f"{path}: its boards are of federation {fleet.federation!r}, not {federation!r}")
        return fleet

    @classmethod
    def keep(cls, folder: Path, federation: str, name: str, secret: Optional[bytes]) -> None:
        """Puts a board in or, without a secret, takes it out; what others put in meanwhile stays. UsageError as `read`."""
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder):
            fleet = cls.read(folder, federation)
            fleet.secrets.pop(name, None)
            if secret is not None:
                fleet.secrets[name] = secret
            fleet.write()

    @classmethod
    def forget(cls, folder: Path, name: str) -> Fleet:
        """Takes a board out and gives the fleet without it. UsageError where it is not there, and as `read`."""
        cls.read(folder)  # says what is wrong with a folder that has no such file
        with _one_at_a_time(folder):
            fleet = cls.read(folder)
            if name not in fleet.secrets:
                # No name like it is suggested: what is removed is gone for good.
                raise UsageError(f"{name}: {folder} has no such board; nothing was removed")
            del fleet.secrets[name]
            fleet.write()
        return fleet

    def write(self) -> None:
        """Whole or not at all, for its owner's eyes only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        boards = {name: {"secret": secret.hex()} for name, secret in sorted(self.secrets.items())}
        content = {"version": _VERSION, "federation": self.federation, "boards": boards}
        replace_file(self.folder / FILE, (json.dumps(content, indent=1) + "\n").encode(), mode=0o600)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Waits until no other process changes the file; nobody does for long."""
    place = os.open(str(folder), os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _secret(value: object) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError(f"a secret has {2 * SECRET_BYTES} hex digits")
    return bytes.fromhex(value)
