"""A board with a place in a network, as bytes: its flash, what goes in on both of its lines, and what it says on them."""

import hashlib
import json
import struct
import subprocess
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_export.model_bin import HEADER_BYTES, KnownAnswers, pack_model_bin, parse_model_bin
from model_export.signing import raw_public, sign_model_bin
from orchestrator.boards.firmware_file import Firmware, sign_firmware
from orchestrator.boards.host_engine import SANITIZE, build
from orchestrator.boards.keys import key_sector
from orchestrator.boards.orders import checked, sign_order
from orchestrator.boards.partitions import FLASH_BYTES, KEYS, NETWORK, SLOTS
from orchestrator.boards.protocol import (
    FRAME_UPDATE_BEGIN,
    FRAME_UPDATE_CHUNK,
    FRAME_UPDATE_COMMIT,
    Record,
    RecordParser,
    encode_frame,
)
from orchestrator.boards.settings import NetworkSettings
from orchestrator.wire.board_records import read_record

FEDERATION, NAME, SECRET = "clinic-a", "bed-7", bytes(range(32))
OWNER, STRANGER, MAKER = (Ed25519PrivateKey.from_private_bytes(bytes([each]) * 32) for each in (1, 2, 3))
"""OWNER signs models and orders, MAKER programs."""
PLACE = NetworkSettings(NAME, FEDERATION, "broker.example", 8883, SECRET, metrics_s=0)
RESTARTED = 7
_CORPUS = Path(__file__).resolve().parents[2] / "firmware" / "test" / "corpus" / "model.bin"
_CHUNK_BYTES = 1024


def models() -> Sequence[bytes]:
    """Two small models, signed by OWNER: the one in the flash, and another."""
    plain = _CORPUS.read_bytes()
    parsed = parse_model_bin(plain)
    assert parsed.known_answers is not None
    other = pack_model_bin(
        name="other",
        tflite=parsed.tflite,
        plan=parsed.plan,
        arena_tflm_bytes=parsed.arena_tflm_bytes,
        arena_direct_bytes=parsed.arena_direct_bytes,
        known_answers=KnownAnswers(parsed.known_answers.inputs[1:], parsed.known_answers.outputs[1:]),
        input_profile=parsed.input_profile,
    )
    return [sign_model_bin(model, OWNER) for model in (plain, other)]


OLD, NEW = models()


def digest(model: bytes) -> str:
    return parse_model_bin(model).digest


def order(number: int, command: str, **other: Any) -> bytes:
    said = {"key": OWNER, "federation": FEDERATION, "board": NAME, "secret": SECRET, **other}
    return sign_order(number=number, command=command, **said)


def part(kind: int, body: bytes = b"", number: int = 1) -> bytes:
    """A frame as the network carries it."""
    return struct.pack("<BI", kind, number) + body


def parts(model: bytes) -> List[bytes]:
    """Begin, chunks and commit of an update."""
    chunks = range(HEADER_BYTES, len(model), _CHUNK_BYTES)
    return [
        part(FRAME_UPDATE_BEGIN, model[:HEADER_BYTES]),
        *(part(FRAME_UPDATE_CHUNK, struct.pack("<I", at) + model[at : at + _CHUNK_BYTES]) for at in chunks),
        part(FRAME_UPDATE_COMMIT),
    ]


def program(
    image: bytes = b"new" * 3000, chip: str = "host", key: Ed25519PrivateKey = MAKER, trial_s: int = 60
) -> Firmware:
    return sign_firmware(image, chip, "2.0", key, trial_s)


def begins(content: bytes) -> str:
    """The command of an order that asks for what begins with this header."""
    return f"update {hashlib.sha256(content[:HEADER_BYTES]).hexdigest()}"


UPDATE, BACK = (begins(model) for model in (NEW, OLD))
"""The commands of orders that ask for NEW, and for OLD."""


def sector(entries: bytes) -> bytes:
    """Entries of settings as they lie in flash."""
    return (struct.pack("<4sIII", b"EWNW", len(entries), zlib.crc32(entries), 0xFFFFFFFF) + entries).ljust(
        4096, b"\xff"
    )


def flash(folder: Path, place: Optional[NetworkSettings] = PLACE, **keys: Any) -> Path:
    """The image of a board with OLD and OWNER's key, and a place."""
    image = bytearray(b"\xff" * FLASH_BYTES)
    image[SLOTS["a"].offset : SLOTS["a"].offset + len(OLD)] = OLD
    image[KEYS.offset : KEYS.offset + KEYS.size] = key_sector(
        [raw_public(OWNER.public_key())], **{"program": raw_public(MAKER.public_key()), **keys}
    )
    if place is not None:
        image[NETWORK.offset : NETWORK.offset + 4096] = sector(place.packed())
    path = folder / "flash"
    path.write_bytes(image)
    return path


@dataclass
class Said:
    """What a board said: `records` on the network, in their order, `presences` among them."""

    records: List[Dict[str, Any]] = field(default_factory=list)
    presences: List[Dict[str, Any]] = field(default_factory=list)
    serial: List[Record] = field(default_factory=list)
    restarted: bool = False
    everything: bytes = b""

    def orders(self) -> List[str]:
        """Of each `order` record the state, or the code of a refusal."""
        return [record.get("code") or record["state"] for record in self.records if record["kind"] == "order"]

    def updates(self) -> List[str]:
        return [record.get("code") or record["state"] for record in self.records if record["kind"] == "update"]

    def on_serial(self, kind: str) -> List[Dict[str, Any]]:
        return [{**record.fields, "model": record.model} for record in self.serial if record.kind == kind]


class Talk:
    """What goes into a board, in its order."""

    def __init__(self) -> None:
        self._pieces = b""

    def _put(self, kind: bytes, content: bytes) -> "Talk":
        self._pieces += kind + struct.pack("<I", len(content)) + content
        return self

    def serial(self, *commands: str) -> "Talk":
        return self._put(b"s", "".join(f"{command}\n" for command in commands).encode())

    def frame(self, kind: int, body: bytes = b"") -> "Talk":
        return self._put(b"s", encode_frame(kind, 1, body))

    def message(self, *messages: bytes) -> "Talk":
        for message in messages:
            self._put(b"n", message)
        return self

    def apart(self, *messages: bytes) -> "Talk":
        """More than a second after each other: each has its answer."""
        for message in messages:
            self.wait(1100).message(message)
        return self

    def wait(self, milliseconds: int) -> "Talk":
        return self._put(b"t", struct.pack("<I", milliseconds))

    def connected(self, is_connected: bool) -> "Talk":
        return self._put(b"c", bytes([is_connected]))

    def to(self, image: Path, *arguments: str, secret: bytes = SECRET) -> Said:
        """Runs it; every record on the network is whole, of its types, and marked with the secret."""
        done = subprocess.run(
            [str(build("network-stdio", SANITIZE)), str(image), *arguments],
            input=self._pieces, capture_output=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode in (0, RESTARTED), done.stderr.decode("utf-8", "replace")[-3000:]
        said = Said(restarted=done.returncode == RESTARTED, everything=done.stdout)
        parser = RecordParser()
        out, at = done.stdout, 0
        while at < len(out):
            (length,) = struct.unpack_from("<I", out, at + 1)
            kind, content = out[at : at + 1], out[at + 5 : at + 5 + length]
            at += 5 + length
            if kind == b"s":
                said.serial += parser.feed(content)
                continue
            assert checked(content, secret) is not None, content
            assert read_record(content, 4096) is not None, content
            (said.presences if kind == b"p" else said.records).append(json.loads(content))
        assert (parser.stats.corrupt, parser.stats.lost) == (0, 0)
        return said


def said_by(folder: Path, talk: Talk) -> Said:
    """What a board with a place says to it."""
    return talk.to(flash(folder))


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
