"""TOML files that people write: one reader, which says in one sentence what is wrong with a file."""

import sys
from pathlib import Path
from typing import Any, Dict, Tuple

from orchestrator.errors import UsageError
from orchestrator.wire.special_files import read_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> Tuple[Dict[str, Any], bytes]:
    """(what the file says, its bytes). Raises UsageError for one that cannot be read, or is not TOML."""
    try:
        content = read_file(path)
        return tomllib.loads(_text(content)), content
    except IsADirectoryError as error:
        raise UsageError(f"{path}: a folder; name the file in it") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: not TOML: nested too deeply") from error
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        raise UsageError(f"{path}:{line}: {_not_utf8(content)}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    except ValueError as error:  # of numbers with more digits than Python reads
        raise UsageError(f"{path}: not TOML: a number of thousands of digits") from error


def _text(content: bytes) -> str:
    """UTF-8, also behind the mark with which Windows editors begin it."""
    return content.decode("utf-8-sig")


def _not_utf8(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "not TOML: UTF-16 text; save it as UTF-8"
    return "not TOML: bytes that are not UTF-8; save it as UTF-8"
