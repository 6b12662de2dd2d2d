"""Who is here under which name: a second node under a name in use is refused, and the first one goes on.

Where there are no identities anyone may start a node under any name, most often by mistake: two hospitals that call theirs "icu".
A node says which one it is by an id of its state folder, so one that comes back is known, and one from another folder is not.
Who was not heard of for ALIVE_S, and is not at work for the open round, is not here any more, whether it said so or not.
"""

from typing import Dict, Optional, Tuple

from orchestrator.node.health import REPORT_EVERY_S

ALIVE_S = 4 * REPORT_EVERY_S
"""How long a node that reports every REPORT_EVERY_S may be silent."""

NOTICE_EVERY_S = 1.0
"""A second node is answered at most so often."""


class Names:
    """Of one gateway process: after its restart the node that is heard first is the first."""

    def __init__(self) -> None:
        self._here: Dict[str, Tuple[str, float]] = {}  # node -> (its instance, when it was heard of)
        self._held: Dict[str, Tuple[str, bytes]] = {}  # node -> (instance, last presence) of a second one
        self._noticed: Dict[str, float] = {}

    def heard(self, node: str, instance: str, now: float, busy: bool) -> bool:
        """Whether what this instance says is said by the node of this name. busy: the first one is at work.

        What names no instance, as nodes of older versions do not, is the first one's.
        """
        if not instance:
            instance = self._here.get(node, ("",))[0]
        first, at = self._here.get(node, (instance, now))
        if first not in ("", instance) and (busy or now - at <= ALIVE_S):
            return False
        self._here[node] = instance, now
        self._held.pop(node, None)
        return True

    def left(self, node: str, instance: str) -> bool:
        """Whether the node of this name is gone; not when it was a second one."""
        first = self._here.get(node, (instance, 0.0))[0]
        if instance not in ("", first):
            if self._held.get(node, ("",))[0] == instance:
                del self._held[node]
            return False
        self._here.pop(node, None)
        return True

    def hold(self, node: str, instance: str, presence: bytes, now: float) -> Tuple[bool, bool]:
        """Keeps what a second one said until the first is gone; (whether it is a new one, whether to tell it now)."""
        new = self._held.get(node, ("",))[0] != instance
        self._held[node] = instance, presence
        due = now - self._noticed.get(node, -NOTICE_EVERY_S) >= NOTICE_EVERY_S
        if due:
            self._noticed[node] = now
        return new, due

    def waiting(self, node: str) -> Optional[bytes]:
        """The presence of who came second, once the first is gone."""
        return self._held.pop(node, ("", None))[1]
