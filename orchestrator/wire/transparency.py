"""The transparency log of certificates: every certificate an authority issues or revokes, in an order nobody can change.

Each entry holds the hash of the one before it and the authority's signature, so a log that was shown once can only be continued.
Nodes keep what they saw (node/peers.py) and mix its head into their sums: a gateway that shows two nodes different logs opens
no sum of both. What a log cannot show is a certificate the authority issued and left out of it; a node therefore believes
only certificates that are in the log it saw.
"""

import hashlib
import json
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import WireError

ISSUED, REVOKED = "issued", "revoked"
MOST_ENTRIES = 20_000
"""In one log; a federation that issued more certificates begins another."""

_FIRST = "0" * 64
_HEX_64 = re.compile(r"[0-9a-f]{64}")
_PATTERNS = {
    "event": re.compile(f"{ISSUED}|{REVOKED}"),
    "name": re.compile(r"[a-z0-9][a-z0-9._:-]{0,80}"),
    "key": re.compile(r"(?:[0-9a-f]{64})?"),
    "serial": re.compile(r"[0-9a-f]{1,40}"),
    "before": _HEX_64,
    "signature": re.compile(r"(?:[0-9a-f]{2}){8,80}"),
}


class Head(NamedTuple):
    """Where a log ends. entries: how many there are; hash: of the last one, 64 hex digits."""

    entries: int
    hash: str


EMPTY = Head(0, _FIRST)


class Entry(NamedTuple):
    """One certificate issued or revoked.

    seq: 1 for the first; key: fingerprint of the public key (`pki.key_fingerprint`), "" where an authority older than this log
    did not note it; serial: of the certificate, hex; at: seconds since 1970; before: hash of the entry before; signature: the
    authority's, hex, over `signed_bytes`.
    """

    seq: int
    event: str
    name: str
    key: str
    serial: str
    at: int
    before: str
    signature: str = ""

    @property
    def hash(self) -> str:
        """SHA-256 of the entry's canonical JSON without its signature, 64 hex digits."""
        fields = {name: value for name, value in self._asdict().items() if name != "signature"}
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def signed_bytes(self) -> bytes:
        return b"edgeward certificate log\0" + bytes.fromhex(self.hash)


def head_of(entries: Sequence[Entry]) -> Head:
    return Head(entries[-1].seq, entries[-1].hash) if entries else EMPTY


def write_log(entries: Iterable[Entry]) -> List[Dict[str, Any]]:
    """What goes into a message or a file; `read_log` reads it."""
    return [entry._asdict() for entry in entries]


def read_log(value: Any) -> Tuple[Entry, ...]:
    """The entries of a log, or of a part of one, in their order and chained. Raises WireError for anything else."""
    if not isinstance(value, list) or len(value) > MOST_ENTRIES:
        raise WireError(f"a certificate log is a list of at most {MOST_ENTRIES} entries")
    entries = tuple(map(_read_entry, value))
    for before, entry in zip(entries, entries[1:]):
        if entry.seq != before.seq + 1 or entry.before != before.hash:
            raise WireError(f"entry {entry.seq} of the certificate log does not follow entry {before.seq}")
    if entries and (entries[0].seq == 1) != (entries[0].before == _FIRST):
        raise WireError("the certificate log does not begin with its first entry")
    return entries


def check_extends(known: Head, entries: Sequence[Entry]) -> Tuple[Entry, ...]:
    """The entries that are new to somebody who knows `known`.

    entries: as `read_log` gave them, the whole log or its later part. Raises WireError where they do not continue the
    known log: entries are missing or changed, or it is shorter than it was.
    """
    if not entries:
        if known != EMPTY:
            raise WireError(f"an empty certificate log was shown, {known.entries} entries were there before")
        return ()
    first, last = entries[0].seq, entries[-1].seq
    if last < known.entries or first > known.entries + 1:
        raise WireError(
            f"entries {first} to {last} of the certificate log were shown, {known.entries} were there before: it was cut"
        )
    # Entry `known.entries` is either shown again, or the first one shown names it as the one before.
    before = entries[0].before if first == known.entries + 1 else entries[known.entries - first].hash
    if before != known.hash:
        raise WireError(f"entry {known.entries} of the certificate log is not the one that was there before")
    return tuple(entries[known.entries - first + 1 :])


def check_signed(entries: Sequence[Entry], authority: ec.EllipticCurvePublicKey) -> None:
    """Raises WireError unless the authority signed the last entry, which names all before it."""
    if not entries:
        return
    try:
        authority.verify(bytes.fromhex(entries[-1].signature), entries[-1].signed_bytes, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise WireError(f"entry {entries[-1].seq} of the certificate log is not signed by the authority") from error


def check_keys(entries: Iterable[Entry], gateway: str) -> None:
    """Raises WireError for a certificate without its key's fingerprint behind one with it.

    Only what an older authority had issued before the log began stands there by its serial, under which any key can be
    certified. The log begins with the certificate of `gateway`, whose key was known.
    """
    keyed = False
    for entry in entries:
        if entry.event != ISSUED or entry.name == gateway:
            continue
        if keyed and not entry.key:
            raise WireError(f"entry {entry.seq} of the certificate log names no key, though later than entries that do")
        keyed = keyed or bool(entry.key)


def newest_of(entries: Iterable[Entry]) -> Dict[str, Entry]:
    """name -> its newest certificate that is not revoked; names without one are left out."""
    valid: Dict[str, Dict[str, Entry]] = {}
    for entry in entries:
        if entry.event == ISSUED:
            valid.setdefault(entry.name, {})[entry.serial] = entry
        else:
            valid.get(entry.name, {}).pop(entry.serial, None)
    return {name: list(found.values())[-1] for name, found in valid.items() if found}


def view_of(head: Head) -> bytes:
    """32 bytes that stand for a log up to `head`; of the empty log where a federation has none."""
    return hashlib.sha256(b"edgeward certificates\0%d\0" % head.entries + head.hash.encode()).digest()


def _read_entry(value: Any) -> Entry:
    if not isinstance(value, dict) or set(value) != set(Entry._fields):
        raise WireError(f"an entry of a certificate log has the fields {', '.join(Entry._fields)}")
    for name, pattern in _PATTERNS.items():
        if not isinstance(value[name], str) or not pattern.fullmatch(value[name]):
            raise WireError(f"an entry of the certificate log has no usable {name}")
    for name in ("seq", "at"):
        if type(value[name]) is not int or not 0 <= value[name] < 1 << 53:
            raise WireError(f"an entry of the certificate log has no usable {name}")
    return Entry(**value)
