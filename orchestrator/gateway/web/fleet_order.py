"""Which boards come first on the page of a fleet, and which a search finds. No message of others pushes a board aside."""

from typing import Any, Dict, List, Mapping, Optional

from orchestrator.gateway.web.fleet import HERE, LEFT

_SEARCHED = ("board", "presence", "model", "name", "state", "signature", "chip", "firmware", "program")
_READY = "ready"
"""State of a board that has a model and runs it."""


def newest_of(rollouts: List[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """The first that can be read."""
    return next((entry for entry in rollouts if "boards" in entry), None)


def failed_in(rollout: Optional[Dict[str, Any]]) -> Dict[str, str]:
    """Board that failed -> why."""
    boards = [] if rollout is None else rollout["boards"]
    return {board["board"]: board["why"] for board in boards if board["outcome"] == "failed"}


def in_order(boards: List[Dict[str, Any]], failed: Mapping[str, str]) -> List[Dict[str, Any]]:
    return sorted(boards, key=lambda board: (_place(board, failed), board["board"]))


def _place(board: Dict[str, Any], failed: Mapping[str, str]) -> int:
    """What the owner has to look at comes before what others may have written, and strangers come last."""
    if board["of_fleet"] is False:
        return 5
    if board["presence"] == LEFT or (board["of_fleet"] and board["board"] in failed):
        return 0
    if not says_well(board):
        return 1
    if board["presence"] != HERE:
        return 2
    return 3 if board["foreign"] or board["malformed"] else 4


def says_well(board: Dict[str, Any]) -> bool:
    """As far as a board itself says anything: what is malformed is its own only where its secret says so."""
    malformed = board["of_fleet"] and board["malformed"]
    state = board.get("state", _READY)
    return state == _READY and board.get("signature") != "not_verified" and "schema" not in board and not malformed


def matches(board: Dict[str, Any], wanted: str) -> bool:
    said = [board.get(name) for name in _SEARCHED]
    text = " ".join(str(value) for value in said if value is not None).lower()
    return all(word in text for word in wanted.lower().split())
