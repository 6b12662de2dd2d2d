"""MQTT 3.1.1 packets of a client, checked whole before a broker sees them. Raises PacketError for invalid ones, and for packets
Edgeward does not use.

Section numbers are those of the OASIS standard (MQTT Version 3.1.1, 29 October 2014).
"""

import struct
from typing import NamedTuple, Tuple, Union

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 12, 14
"""What clients of ours send; amqtt keeps a filter for ever that somebody unsubscribed from."""
_LEVEL = 4
"""Protocol level of MQTT 3.1.1 (section 3.1.2.2)."""

_NAME_AT = 10
"""Where a CONNECT's body has the length of the client identifier."""

MOST_TOPIC_BYTES = 512
MOST_NAME_BYTES = 256
MOST_RETAINED_BYTES = 64 << 10
"""Of one retained message, or will; presence has at most 16 KiB."""
MOST_FILTERS = 20
"""Of one packet and of one connection: Edgeward's own have at most three."""


class PacketError(ValueError):
    """Why a connection ends."""


class Connect(NamedTuple):
    name: str  # the client identifier
    keep_alive_s: int
    will_topic: str = ""
    will_bytes: int = 0  # of a will that is to be retained


class Publish(NamedTuple):
    topic: str
    number: int  # packet identifier, 0 at QoS 0
    retained_bytes: int  # -1 where the message is not to be retained


class Acknowledge(NamedTuple):
    number: int


class Subscribe(NamedTuple):
    filters: Tuple[str, ...]


Packet = Union[Connect, Publish, Acknowledge, Subscribe, None]
"""None for those that ask nothing a limit counts."""


def read_packet(kind: int, flags: int, body: bytes) -> Packet:
    """What a client's packet asks. `kind`, `flags`: halves of its first byte (section 2.2)."""
    if kind == CONNECT and flags == 0:
        return _connect(_Reader(body))
    if kind == PUBLISH:
        return _publish(flags, _Reader(body))
    if kind == PUBACK and flags == 0 and len(body) == 2:
        return Acknowledge(*struct.unpack("!H", body))
    if kind == SUBSCRIBE and flags == 2:
        return _subscribe(_Reader(body))
    if kind in (PINGREQ, DISCONNECT) and flags == 0 and not body:
        return None
    raise PacketError(f"a packet of type {kind}, flags {flags} and {len(body)} bytes")


def named(connect: bytes, name: str) -> bytes:
    """The CONNECT of a client that left its name to the broker, with this one (section 3.1.3.1)."""
    start = _after_length(connect)
    held, text = connect[start:], name.encode()
    body = held[:_NAME_AT] + struct.pack("!H", len(text)) + text + held[_NAME_AT + 2 :]
    return connect[:1] + _length(len(body)) + body


def identifier(publish: bytes) -> int:
    """Of a PUBLISH of QoS 1 (section 3.3.2.2)."""
    start = _after_length(publish)
    (size,) = struct.unpack_from("!H", publish, start)
    return int(struct.unpack_from("!H", publish, start + 2 + size)[0])


def _after_length(packet: bytes) -> int:
    return next(i for i in range(1, 5) if packet[i] < 128) + 1


def _length(size: int) -> bytes:
    """Section 2.2.3."""
    encoded = b""
    while True:
        size, digit = divmod(size, 128)
        encoded += bytes([digit | (128 if size else 0)])
        if not size:
            return encoded


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._body, self._at = body, 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise PacketError("a field is longer than its packet")
        self._at += size
        return self._body[self._at - size : self._at]

    def number(self) -> int:
        return int(struct.unpack("!H", self.take(2))[0])

    def identifier(self) -> int:
        number = self.number()
        if not number:
            raise PacketError("a packet identifier of 0")
        return number

    def text(self, most: int, what: str) -> str:
        size = self.number()
        if size > most:
            raise PacketError(f"a {what} of {size} bytes, at most {most} are accepted")
        try:
            text = self.take(size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise PacketError(f"a {what} that is not UTF-8") from error
        if "\0" in text:
            raise PacketError(f"a {what} with a null character")
        return text

    def topic(self) -> str:
        """Of a message (section 4.7): not empty, no wildcard, none of the broker's own."""
        topic = self.text(MOST_TOPIC_BYTES, "topic")
        if not topic or topic[0] == "$" or "+" in topic or "#" in topic:
            raise PacketError("a topic nothing can be published to")
        return topic


def _connect(fields: _Reader) -> Connect:
    """Section 3.1. Sessions that outlive their connection are not accepted: the broker would queue for them without end."""
    if fields.text(6, "protocol name") != "MQTT" or fields.take(1)[0] != _LEVEL:
        raise PacketError("another protocol than MQTT 3.1.1")
    flags = fields.take(1)[0]
    keep_alive = fields.number()
    name = fields.text(MOST_NAME_BYTES, "client identifier")
    if flags & 1 or not flags & 2:
        raise PacketError("a session that outlives its connection, or a reserved flag")
    will_topic, will_bytes = "", 0
    if flags & 0x04:
        if flags & 0x18 > 0x08:
            raise PacketError("a will of QoS 2 or 3")
        will_topic, will_bytes = fields.topic(), fields.number()
        if will_bytes > MOST_RETAINED_BYTES:
            raise PacketError(f"a will of {will_bytes} bytes, at most {MOST_RETAINED_BYTES} are accepted")
        fields.take(will_bytes)
    elif flags & 0x38:
        raise PacketError("flags of a will that is not there")
    if flags & 0x40 and not flags & 0x80:
        raise PacketError("a password without a user")
    for flag, what in ((0x80, "user"), (0x40, "password")):
        if flags & flag:
            fields.take(fields.number()) if what == "password" else fields.text(MOST_NAME_BYTES, what)
    if fields.left:
        raise PacketError("bytes after the last field")
    return Connect(name, keep_alive, will_topic, will_bytes if flags & 0x20 else 0)


def _publish(flags: int, fields: _Reader) -> Publish:
    """Section 3.3. QoS 2 is not used by Edgeward, and a client that begins it and does not end it would cost memory."""
    qos = flags >> 1 & 3
    if qos > 1 or (flags & 8 and not qos):
        raise PacketError(f"a message with flags {flags}")
    topic = fields.topic()
    number = fields.identifier() if qos else 0
    if flags & 1 and fields.left > MOST_RETAINED_BYTES:
        raise PacketError(f"a message of {fields.left} bytes to retain, at most {MOST_RETAINED_BYTES} are accepted")
    return Publish(topic, number, fields.left if flags & 1 else -1)


def _subscribe(fields: _Reader) -> Subscribe:
    """Section 3.8."""
    fields.identifier()
    filters = []
    while fields.left:
        filters.append(fields.text(MOST_TOPIC_BYTES, "filter"))
        levels = filters[-1].split("/")
        wrong = any(("+" in level and level != "+") or ("#" in level and level != "#") for level in levels)
        if wrong or "#" in levels[:-1] or not filters[-1] or len(filters) > MOST_FILTERS:
            raise PacketError("an invalid filter, or too many of them")
        if fields.take(1)[0] > 2:
            raise PacketError("a filter with a QoS above 2")
    if not filters:
        raise PacketError("no filter")
    return Subscribe(tuple(filters))
