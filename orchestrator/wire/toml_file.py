"""TOML files that people write: one reader, which says in one sentence what is wrong with a file."""

import sys
from pathlib import Path
from typing import Any, Dict, Tuple

from orchestrator.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> Tuple[Dict[str, Any], bytes]:
    """(what the file says, its bytes). Raises UsageError for one that cannot be read, or is not TOML."""
    try:
        content = path.read_bytes()
        return tomllib.loads(content.decode("utf-8")), content
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: not TOML: nested too deeply") from error
    except ValueError as error:  # of the text's encoding, of TOML, and of numbers with more digits than Python reads
        raise UsageError(f"{path}: not TOML: {error}") from error
