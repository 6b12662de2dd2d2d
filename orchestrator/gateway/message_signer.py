"""How a gateway speaks and whom it hears: signed and by certificate with an identity, plainly without one."""

from typing import Optional

from orchestrator.gateway.authority import Authority
from orchestrator.gateway.membership import Membership
from orchestrator.wire.transparency import write_log


class MessageSigner:
    """Of one run, whose serial is in everything it says."""

    def __init__(self, authority: Optional[Authority], serial: int) -> None:
        self._sealer = None if authority is None else authority.sealer()
        self._membership = None if authority is None else Membership(authority)
        self._serial = serial
        self.certificates = [] if authority is None else write_log(authority.log.entries())

    def say(self, body: bytes, addressee: str) -> bytes:
        """What to send: `body` in a signed envelope for one node or EVERYONE, or as it is."""
        return body if self._sealer is None else self._sealer.seal(body, addressee, self._serial)

    def objection(self, node: str) -> Optional[str]:
        """Why messages of this node are refused; None where they are not."""
        return None if self._membership is None else self._membership.objection(node)

    def revocations_changed(self) -> bool:
        return self._membership is not None and self._membership.revocations_changed()
