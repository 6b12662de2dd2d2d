"""Where an authority, and a gateway whose authority is elsewhere, keep the transparency log (wire/transparency.py)."""

import json
import sqlite3
import time
from typing import Any, Dict, Mapping, Sequence, Tuple, Type

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import IdentityError, WireError
from orchestrator.wire.json_text import from_json
from orchestrator.wire.pem import UNREADABLE
from orchestrator.wire.transparency import REVOKED, Entry, Head, check_extends, check_signed, head_of, read_log

_INVALID: Tuple[Type[Exception], ...] = (WireError, *UNREADABLE)

SCHEMA = "CREATE TABLE IF NOT EXISTS certificate_log (seq INTEGER PRIMARY KEY, entry TEXT NOT NULL);"


class CertificateLog:
    """In the authority's database; entries are written in the caller's transaction, with the certificate they are of."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._db.execute(SCHEMA)

    def entries(self) -> Tuple[Entry, ...]:
        """The whole log. Raises WireError where it is no longer chained."""
        rows = self._db.execute("SELECT entry FROM certificate_log ORDER BY seq")
        return read_log([from_json(row[0]) for row in rows])

    @property
    def empty(self) -> bool:
        return self._db.execute("SELECT 1 FROM certificate_log LIMIT 1").fetchone() is None

    def objection_to(self, certificates: Mapping[str, Tuple[str, bool]], key: Any, apart_from: str) -> str:
        """Why these are not the certificates the log is about, or the log is not whole and signed with `key`; empty otherwise.

        `certificates`: serial -> (name, whether it is revoked), of another table of the same store, in which
        those of the name `apart_from` may be missing.
        """
        logged: Dict[str, Tuple[str, bool]] = {}
        try:
            entries = self.entries()
            check_signed(entries, key)
        except _INVALID as error:
            return f"the certificate log in it is damaged: {error}"
        for entry in entries:
            logged[entry.serial] = (entry.name, entry.event == REVOKED)
        own = {serial: said for serial, said in logged.items() if serial not in certificates and said[0] == apart_from}
        both = {*certificates, *logged} - set(own)
        wrong = sorted(serial for serial in both if logged.get(serial) != certificates.get(serial))
        return f"what it says of certificate {wrong[0]} is not what its log says" if wrong else ""

    @property
    def head(self) -> Head:
        row = self._db.execute("SELECT entry FROM certificate_log ORDER BY seq DESC LIMIT 1").fetchone()
        return head_of([Entry(**json.loads(row[0]))] if row else [])

    def append(self, key: ec.EllipticCurvePrivateKey, event: str, name: str, fingerprint: str, serial: str) -> None:
        """Signs the next entry with the authority's key. `fingerprint`: of the certificate's public key."""
        head = self.head
        entry = Entry(head.entries + 1, event, name, fingerprint, serial, int(time.time()), head.hash)
        signature = key.sign(entry.signed_bytes, ec.ECDSA(hashes.SHA256()))
        self.extend([entry._replace(signature=signature.hex())])

    def extend(self, entries: Sequence[Entry]) -> None:
        """Entries that `transparency.check_extends` found to be new."""
        rows = [(entry.seq, json.dumps(entry._asdict())) for entry in entries]
        self._db.executemany("INSERT INTO certificate_log VALUES (?, ?)", rows)


def check_certificates(
    certificates: Mapping[str, Any], authority: x509.Certificate, known: Head
) -> Tuple[Tuple[Entry, ...], bytes]:
    """(entries that are new after `known`, revocation list in PEM) of what an authority published.

    Raises IdentityError unless log and list are whole, the authority's, and name the same revoked certificates.
    """
    key, pem = authority.public_key(), certificates.get("crl")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(pem, str):
        raise IdentityError("these certificates came without a revocation list")
    try:
        entries = read_log(certificates.get("log"))
        new = check_extends(known, entries)
        check_signed(entries, key)
        crl = x509.load_pem_x509_crl(pem.encode())
        signed = crl.is_signature_valid(key)
    except _INVALID as error:
        raise IdentityError(f"these certificates are not the authority's, or were changed: {error}") from error
    revoked = {int(entry.serial, 16) for entry in entries if entry.event == REVOKED}
    if not signed or not entries or entries[0].seq != 1 or {entry.serial_number for entry in crl} != revoked:
        raise IdentityError("the revocation list is not the authority's, or does not fit its log")
    return new, pem.encode()
