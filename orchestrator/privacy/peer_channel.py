"""What nodes of an exchange send each other: sealed for one neighbour, by fresh keys that each signs with what it is enrolled by.

A hello holds an X25519 key of the sender's process and its signature; the keys of both ends give one key for each direction
(HKDF, bound to the session: federation, run, round, the task as that node was shown it). Contents are sealed with AES-GCM,
numbered from 1 on: a number is opened once. Who carries the messages sees sender, receiver, size and number, and can drop them.
"""

import hashlib
from typing import NamedTuple, Tuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.errors import PeerError
from orchestrator.privacy.secure_session import counted
from orchestrator.wire.body import PRESENCE_BYTES, decode_body, encode_body
from orchestrator.wire.cbor import NARROW
from orchestrator.wire.peer_frames import NUMBER_BYTES, TAG_BYTES
from orchestrator.wire.peer_hello import PeerHello


class Hello(NamedTuple):
    """born: how often the sender began this exchange; a later one takes the place of an earlier one."""

    born: int
    public: bytes
    credential: bytes
    signature: bytes

    def signed(self, session: bytes, sender: str) -> bytes:
        """What the signature is of."""
        return b"edgeward peer hello\0" + session + counted(sender.encode(), self.public, str(self.born).encode())

    def encoded(self) -> bytes:
        """As it travels."""
        return encode_body(PeerHello(*self).written())


def read_hello(content: bytes) -> Hello:
    """WireError for anything else."""
    header, _ = decode_body(content, PRESENCE_BYTES, NARROW)
    said = PeerHello.read(header)
    return Hello(said.born, said.public, said.credential, said.signature)


def peer_session(federation: str, run: str, number: int, task: str, certificates: bytes) -> bytes:
    """32 bytes that name one exchange: nodes that were shown another task, or another log of certificates, have another one."""
    parts = counted(federation.encode(), run.encode(), str(number).encode(), task.encode(), certificates)
    return hashlib.sha256(b"edgeward peers 1\0" + parts).digest()


class PeerKey:
    """Of one node in one exchange, as long as its process lasts."""

    def __init__(self, session: bytes, node: str) -> None:
        self._session, self._node = session, node
        self._key = X25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def channel(self, neighbour: str, public: bytes) -> "PeerChannel":
        """To a neighbour with this key; PeerError where none can be agreed on."""
        try:
            secret = self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise PeerError(f"with the key of {neighbour} no secret can be agreed on") from error
        out = self._derived(secret, (self._node, self.public), (neighbour, public))
        return PeerChannel(out, self._derived(secret, (neighbour, public), (self._node, self.public)))

    def _derived(self, secret: bytes, sender: Tuple[str, bytes], receiver: Tuple[str, bytes]) -> AESGCM:
        info = counted(sender[0].encode(), sender[1], receiver[0].encode(), receiver[1])
        kdf = HKDF(hashes.SHA256(), 32, salt=self._session, info=b"edgeward peer channel/" + info)
        return AESGCM(kdf.derive(secret))


class PeerChannel:
    """Between two nodes, as long as the processes of both last."""

    def __init__(self, out: AESGCM, into: AESGCM) -> None:
        self._out, self._into = out, into
        self._sent = self._opened = 0

    def seal(self, content: bytes) -> bytes:
        """With its number in front."""
        self._sent += 1
        number = self._sent.to_bytes(NUMBER_BYTES, "big")
        return number + self._out.encrypt(number.rjust(12, b"\0"), content, None)

    def open(self, sealed: bytes) -> bytes:
        """b"" for one that was opened before, or comes behind a later one; PeerError for one that its sender did not seal so."""
        number = int.from_bytes(sealed[:NUMBER_BYTES], "big")
        if len(sealed) < NUMBER_BYTES + TAG_BYTES:
            raise PeerError(f"{len(sealed)} bytes are no sealed message")
        try:
            content = self._into.decrypt(sealed[:NUMBER_BYTES].rjust(12, b"\0"), sealed[NUMBER_BYTES:], None)
        except InvalidTag as error:
            raise PeerError("it was changed on the way, or sealed for another run, task or node") from error
        if number <= self._opened:
            return b""
        self._opened = number
        return content
