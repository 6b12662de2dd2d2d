"""The words of declining nodes in the presence that a broker keeps of them: replaced by the same presence without."""

import queue
import time
from typing import List

from orchestrator.errors import WireError
from orchestrator.gateway.scrub_text import REMOVED
from orchestrator.wire.address import client_id
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.link import BrokerAddress, Link, Message
from orchestrator.wire.topics import Topics

_QUIET_S = 2.0
"""How long nothing must come before all that was kept has come."""


def scrub_presence(broker: BrokerAddress, federation: str, dry_run: bool = False) -> List[str]:
    """Names of the nodes whose kept presence had a reason in words. BrokerError where the broker does not answer."""
    topics = Topics(federation)
    link = Link(broker, client_id(f"{federation}-scrub"), [topics.every_presence])
    link.open(10.0)
    found = []
    try:
        until = time.monotonic() + _QUIET_S
        while time.monotonic() < until:
            try:
                event = link.events.get(timeout=0.1)
            except queue.Empty:
                continue
            sender = topics.sender(event.topic) if isinstance(event, Message) else None
            if not isinstance(event, Message) or sender is None:
                continue
            until = time.monotonic() + _QUIET_S
            clean = _clean(event.payload)
            if clean is not None:
                found.append(sender[0])
                if not dry_run:
                    link.publish(event.topic, clean, retain=True)
        link.flush(5.0)
    finally:
        link.close()
    return sorted(set(found))


def _clean(payload: bytes) -> "bytes | None":
    try:
        header, _ = decode_body(payload, 1 << 20)
    except WireError:
        return None
    if header.get("reason", "") in ("", REMOVED):
        return None
    rest = {name: value for name, value in header.items() if name != "tensors"}
    return encode_body({**rest, "reason": REMOVED})
