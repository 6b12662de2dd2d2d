"""A board's place on a network, written over its serial port."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError, NoAnswerError
from orchestrator.boards.protocol import FRAME_SETTINGS, encode_frame
from orchestrator.boards.settings import NetworkSettings

_WRITING_S = 10.0
_POLL_S = 0.2


def write_settings(board: BoardClient, settings: Optional[NetworkSettings]) -> None:
    """Gives a board its place, or without settings takes it; the board restarts. BoardError where it refuses."""
    ids = board.new_ids(1)
    body = b"" if settings is None else settings.packed()
    answers = list(board.exchange([encode_frame(FRAME_SETTINGS, ids.start, body)], ids, "settings", _WRITING_S))
    if not answers:
        raise NoAnswerError(f"{board.port}: no answer to its settings: is its firmware older than this edgeward?")


def network_state(board: BoardClient) -> Dict[str, Any]:
    """What the board says of its network: `state` (none, off, joining, connected), and its place where it has one."""
    return board.whole(board.ask("network", "network"), ("state", "dropped"))


def wait_until_connected(board: BoardClient, timeout_s: float) -> Dict[str, Any]:
    """The board's state once it is connected, or after `timeout_s`. BoardError for a board without a radio."""
    deadline = time.monotonic() + timeout_s
    while True:
        state = network_state(board)
        if state["state"] in ("none", "off"):
            raise BoardError(
                f"{board.port}: it keeps the settings, but its firmware has no network: flash one built with EDGEWARD_NETWORK=1, "
                "or start a virtual board with --network"
            )
        if state["state"] == "connected" or time.monotonic() >= deadline:
            return state
        time.sleep(_POLL_S)
