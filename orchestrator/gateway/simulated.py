"""A gateway whose nodes are simulated: what it is given in their place, and that its folder is of simulations alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.errors import UsageError
from orchestrator.files import replace_file

if TYPE_CHECKING:
    from orchestrator.gateway.gateway import Gateway
    from orchestrator.wire.link import Broker

MARK = "SIMULATED"
"""File of a folder whose runs are simulated."""


class Simulated(Protocol):
    """Nodes that are in this process (orchestrator/simulation), and how a gateway is run with them."""

    @property
    def broker(self) -> "Broker":
        """Where they meet."""

    def serve(self, gateway: "Gateway") -> None:
        """Until the gateway is over."""


def is_simulated(out: Path) -> bool:
    """Whether the runs of a gateway's folder are simulated, finished or not."""
    return (out / MARK).exists()


def check_apart(out: Path, simulated: bool) -> None:
    """A run that one of them began is never gone on with, or reported, by the other: UsageError where that would be.

    Its result would not say that nobody was protected, or that real nodes took part.
    """
    marked = is_simulated(out)
    if marked and not simulated:
        raise UsageError(f"{out} holds simulated runs, whose results must not pass for real ones: name another folder")
    if simulated and not marked and (out / "gateway.sqlite").exists():
        raise UsageError(f"{out} is the folder of a gateway whose nodes are not simulated: name another folder")


def keep_apart(out: Path, simulated: bool) -> None:
    """`check_apart`, for a folder that is held; noted durably before anything of a run is written there."""
    check_apart(out, simulated)
    if simulated and not is_simulated(out):
        replace_file(out / MARK, b"Runs in this folder are simulated: all nodes ran in one process.\n")
