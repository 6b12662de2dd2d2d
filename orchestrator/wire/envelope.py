"""A signed message: who said it, for whom, in which run; checked before anything in it is unpacked.

Layout, big-endian: `EWS`, version u8, key id (first 8 bytes of the SHA-256 of the public key), serial u64, federation and
addressee (u8 length and UTF-8 each), Ed25519 signature (RFC 8032, 64 bytes), content. Signed are the domain string, all
bytes before the signature, and the SHA-256 of the content. The serial names the run: gateways never use a lower one again.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Tuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.errors import WireError

VERSION = 1
EVERYONE = "all"
"""The addressee of what is meant for every node; no node may have this name."""

_MAGIC = b"EWS"
_DOMAIN = b"edgeward signed message 1\0"
_PREFIX = struct.Struct(">3sB8sQ")
_SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class Opened:
    """What a valid envelope held."""

    serial: int
    content: bytes


SIGNATURE = "message.signature"
"""Code of refusals of what its gateway did not sign for this node (wire/refusals.py)."""


class Sealer:
    """Signs what one gateway says in one federation."""

    def __init__(self, key: Ed25519PrivateKey, federation: str) -> None:
        self._key, self._federation = key, federation
        self._key_id = key_id(key.public_key())

    def seal(self, content: bytes, addressee: str, serial: int) -> bytes:
        """The envelope of `content` for a node's name or EVERYONE. The same arguments give the same bytes."""
        head = _PREFIX.pack(_MAGIC, VERSION, self._key_id, serial) + _text(self._federation) + _text(addressee)
        return head + self._key.sign(_DOMAIN + head + hashlib.sha256(content).digest()) + content


class Opener:
    """Accepts only what the gateway with this key said to this node (or to everyone) in this federation."""

    def __init__(self, key: Ed25519PublicKey, federation: str, node: str) -> None:
        self._key, self._federation, self._node = key, federation, node
        self._key_id = key_id(key)

    def open(self, message: bytes) -> Opened:
        """Raises WireError saying why a message is refused; nothing of its content has been looked at then."""
        if message[:3] != _MAGIC:
            raise WireError("unsigned message: this node has an identity and accepts signed ones only", SIGNATURE)
        if len(message) < 4 or message[3] != VERSION:
            raise WireError(f"signed message of another version than {VERSION}: update the older side")
        if len(message) < _PREFIX.size:
            raise WireError("signed message shorter than its fields")
        _, _, found, serial = _PREFIX.unpack_from(message)
        federation, position = _read_text(message, _PREFIX.size)
        addressee, position = _read_text(message, position)
        content_at = position + _SIGNATURE_BYTES
        if content_at > len(message):
            raise WireError("signed message shorter than its signature")
        if serial >= 1 << 63:  # no gateway has said so much, and no database here has room for it
            raise WireError(f"signed message with the serial {serial}")
        if found != self._key_id:
            raise WireError(
                f"signed with key {found.hex()}, this node trusts {self._key_id.hex()}: another gateway?", SIGNATURE
            )
        content = message[content_at:]
        signed = _DOMAIN + message[:position] + hashlib.sha256(content).digest()
        try:
            self._key.verify(message[position:content_at], signed)
        except InvalidSignature:
            raise WireError("the signature is wrong: changed on its way, or forged", SIGNATURE) from None
        if federation != self._federation:
            raise WireError(f"signed for federation {federation!r}, this node is in {self._federation!r}", SIGNATURE)
        if addressee not in (self._node, EVERYONE):
            raise WireError(f"signed for {addressee!r}, not for this node", SIGNATURE)
        return Opened(serial, content)


def key_id(key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).digest()[:8]


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return bytes([len(data)]) + data


def _read_text(message: bytes, position: int) -> Tuple[str, int]:
    if position >= len(message) or position + 1 + message[position] > len(message):
        raise WireError("signed message shorter than its fields")
    end = position + 1 + message[position]
    try:
        return message[position + 1 : end].decode("utf-8"), end
    except UnicodeDecodeError:
        raise WireError("signed message with a name that is not UTF-8") from None
