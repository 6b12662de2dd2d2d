"""How nodes of an exchange meet (privacy/peer_channel.py has why it protects)."""

from dataclasses import dataclass, field

from orchestrator.wire.message import Message, raw, whole

KEY_BYTES = 32


@dataclass(frozen=True)
class PeerHello(Message):
    """From node to node, before anything is sealed."""

    born: int = field(metadata=whole(1))
    """How often the sender began this exchange."""
    public: bytes = field(metadata=raw(KEY_BYTES, KEY_BYTES))
    """X25519, of the sender's process."""
    credential: bytes = field(metadata=raw())
    """The certificate, or bare public key, of the key it signs with."""
    signature: bytes = field(metadata=raw())
    """Under the session, its name, the key and `born`."""
