"""Secrets in files of their own: not on a command line, which every user of a machine can read."""

import os
import sys
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.wire.special_files import NO_FILE, is_special

STDIN = "-"
_MOST_BYTES = 4096


def read_secret(name: str, what: str) -> str:
    """The one line in the file `name`, or of standard input for "-". UsageError for a file that others can read as well."""
    if name == STDIN:
        text = sys.stdin.readline(_MOST_BYTES)
    else:
        path = Path(name)
        try:
            if is_special(name):
                raise UsageError(f"{path}: {NO_FILE} with the {what}")
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(_MOST_BYTES)
            text = content.decode("utf-8")
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; the {what} is read from there") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: is not UTF-8 text") from error
        if mode & 0o077:
            raise UsageError(f"{path}: others can read the {what} in it: chmod 600 {path}")
    lines = text.splitlines()
    if len(lines) != 1 or not lines[0]:
        raise UsageError(f"{'standard input' if name == STDIN else name}: one line with the {what} is expected")
    return lines[0]
