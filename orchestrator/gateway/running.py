"""Whether a gateway works on a state folder."""

from pathlib import Path
from typing import Optional

from orchestrator.folder_lock import FolderLock, holder_of

LOCK_NAME = "gateway.lock"


class Held(FolderLock):
    """The lock of OUT/gateway.lock from `with` to its end. UsageError where another gateway has it."""

    def __init__(self, out: Path) -> None:
        refusal = "{folder}: process {pid} runs a gateway on this folder; stop it, or choose another --out"
        super().__init__(out, LOCK_NAME, refusal)


def holder(out: Path) -> Optional[int]:
    """Process id of the gateway that works on the folder; None without one."""
    return holder_of(out / LOCK_NAME)


def held_since(out: Path) -> float:
    """Unix seconds when a gateway last began to work on the folder; 0.0 where none ever did."""
    try:
        return (out / LOCK_NAME).stat().st_mtime
    except OSError:
        return 0.0
