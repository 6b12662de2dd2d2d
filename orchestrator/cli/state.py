"""Where a node keeps what it must not forget, when --state does not say: in a folder of its own name."""

from pathlib import Path
from typing import Optional

FOLDER, KEY_HOLDER = "edgeward-node", "edgeward-keyholder"
HELP = f"the node's folder (default: {FOLDER}-NAME here, if there is one only)"


def state_of(given: Optional[Path], name: str, folder: str = FOLDER) -> Path:
    """The folder of the node (or key holder) `name`. UsageError where an earlier version left one that could be its own."""
    from orchestrator.errors import UsageError
    from orchestrator.wire.topics import check_name

    check_name(name, "node")
    own = Path(f"{folder}-{name}")
    if given is not None:
        return given
    if _has_state(Path(folder)) and not own.exists():
        raise UsageError(
            f"{folder}: holds the state of an earlier version, with its ledger, and does not say whose. If it is "
            f"{name}'s: mv {folder} {own}; if it is another's, begin a new one with --state {own}"
        )
    return own


def only_state(given: Optional[Path]) -> Path:
    """The folder of the one node that has run here. UsageError where there are several."""
    from orchestrator.errors import UsageError

    if given is not None:
        return given
    found = [path for path in sorted(Path().glob(f"{FOLDER}*")) if _has_state(path)]
    if len(found) > 1:
        raise UsageError(f"several nodes have run here: name one with --state {' or '.join(map(str, found))}")
    return found[0] if found else Path(FOLDER)


def _has_state(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("node.sqlite", "ledger.sqlite"))
