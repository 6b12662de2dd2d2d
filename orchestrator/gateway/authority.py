"""The identity of a gateway and the certificate authority of its federation: in one folder, or each on a machine of its own.

ca.key ca.crt           the authority             signing.key signing.pub  Ed25519, signs messages and models
gateway.key gateway.crt the gateway, for TLS      crl.pem                  revoked certificates
authority.sqlite        invitations, certificates identity.json            federation and addresses
audit.jsonl             what was done here        certificates.json        authority apart: what the gateway has to know

Anyone who has ca.key says who is who. A gateway that runs without it (gateway/apart.py) cannot certify nodes it invents.
"""

import datetime
import hashlib
import ipaddress
import secrets
import time
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Mapping, Sequence, Set

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from orchestrator.database import RESTORE, open_database
from orchestrator.errors import IdentityError, UsageError
from orchestrator.files import replace_file
from orchestrator.gateway.audit import AUDIT_FILE, AuditLog
from orchestrator.gateway.certificate_log import CertificateLog, check_certificates
from orchestrator.gateway.identity_files import (
    CA_KEY_FILE,
    CRL_FILE,
    SIGNING_KEY_FILE,
    STORE_FILE,
    addresses,
    check_files,
    hosts_in,
    make_gateway_keys,
    new_folder,
    requested_key,
    write_settings,
)
from orchestrator.wire import pki
from orchestrator.wire.envelope import EVERYONE, Sealer, key_id
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.token import Token
from orchestrator.wire.topics import check_name, check_party
from orchestrator.wire.transparency import ISSUED, REVOKED, Entry, write_log

GATEWAY_NAME = "gateway"

CA_DAYS, CERTIFICATE_DAYS = 3650, 825
_RESERVED = (GATEWAY_NAME, EVERYONE)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS invitations (
    secret TEXT PRIMARY KEY, name TEXT NOT NULL, expires REAL NOT NULL, used REAL
);
CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, issued REAL NOT NULL, revoked REAL
);
CREATE TABLE IF NOT EXISTS installed_list (one INTEGER PRIMARY KEY CHECK (one = 1), pem BLOB NOT NULL);
"""


class Authority:
    """An opened identity folder: of a gateway, of an authority apart from it, or of both in one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = pki.read_settings(folder)
        if "gateway_hosts" not in settings:
            raise IdentityError(f"{folder}: a node's identity; a gateway's is made by `edgeward gateway init`")
        self.federation = str(settings["federation"])
        self.hosts: List[str] = hosts_in(settings, folder)
        listed = check_files(folder, self.federation)  # before the store is looked at: the list follows it
        self._db = open_database(folder / STORE_FILE, _SCHEMA, "authority", ahead=False)
        self.audit = AuditLog(folder / AUDIT_FILE, self._db)
        self.log = CertificateLog(self._db)
        if self.issues and self.log.empty:
            self._begin_log()
        self._check_store(listed)

    @classmethod
    def create(cls, folder: Path, federation: str, hosts: Sequence[str]) -> "Authority":
        """Makes every key and certificate; IdentityError, with nothing changed, where an identity is already there."""
        check_name(federation, "federation")
        names = addresses(hosts)
        ca_key = make_authority(folder, federation)
        key = make_gateway_keys(folder)
        ca = pki.read_certificate((folder / pki.CA_FILE).read_bytes(), "the authority")
        mine = gateway_certificate(ca.subject, federation, key.public_key(), names).sign(ca_key, hashes.SHA256())
        pki.create_file(folder / "gateway.crt", mine.public_bytes(Encoding.PEM))
        write_settings(folder, federation, names)
        authority = cls(folder)
        authority.write_crl()
        authority.audit.append("identity_made", federation=federation, hosts=names, ca=authority.ca_fingerprint)
        return authority

    @property
    def issues(self) -> bool:
        """Whether the authority's key is here."""
        return (self.folder / CA_KEY_FILE).exists()

    @property
    def ca_pem(self) -> bytes:
        return (self.folder / pki.CA_FILE).read_bytes()

    @property
    def ca_fingerprint(self) -> str:
        return pki.fingerprint(self.ca_pem)

    @property
    def signing_key(self) -> Path:
        return self.folder / SIGNING_KEY_FILE

    @property
    def key_id(self) -> str:
        """How signed messages and the audit log call the signing key, 16 hex digits."""
        return key_id(pki.read_signing_public(self.folder / pki.SIGNING_PUBLIC_FILE)).hex()

    def check_online(self) -> None:
        """IdentityError where nodes cannot enrol by themselves: authority and gateway are not in one folder."""
        self._ca_key()
        if not self.signing_key.exists():
            raise IdentityError(
                f"{self.folder}: an authority apart from its gateway; nodes bring requests (`edgeward node request`), "
                "which `edgeward authority sign` signs"
            )

    def sealer(self) -> Sealer:
        return Sealer(pki.read_signing_key(self.signing_key), self.federation)

    def secure(self, address: BrokerAddress) -> BrokerAddress:
        """`address` reached over TLS as the gateway."""
        files = (str(self.folder / name) for name in (pki.CA_FILE, "gateway.crt", "gateway.key"))
        return address.secured(*files)

    def invite(self, name: str, gateway: str, hours: float = 24.0) -> Token:
        """A one-time token for one name; only its hash is kept."""
        self.check_online()
        self._check_free(name)
        if not 0 < hours <= 8760:
            raise UsageError(f"--hours {hours}: expected more than 0, at most a year of 8760")
        secret = secrets.token_urlsafe(24)
        expires = time.time() + 3600 * hours
        self._db.execute("INSERT INTO invitations VALUES (?, ?, ?, NULL)", (_hash(secret), name, expires))
        self.audit.append("invited", node=name, expires=round(expires))
        return Token(gateway, self.ca_fingerprint, self.federation, name, secret)

    def enroll(self, name: str, secret: str, request_pem: bytes) -> Dict[str, str]:
        """Redeems an invitation. Every refusal is recorded with its own reason, and raised as IdentityError."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._redeem(name, secret)
            answer = self._issue(name, request_pem)
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # where it could not begin, or SQLite took it back itself, there is none
                self._db.execute("ROLLBACK")
            if isinstance(error, (IdentityError, UsageError)):
                self.audit.note_refusal("enrolment_refused", node=name[:64], reason=str(error))
            raise
        return answer

    def sign(self, request_pem: bytes, name: str) -> Dict[str, str]:
        """The offline way: certificate for a request that came by another channel; `name` must be the request's."""
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                return self._issue(name, request_pem)
        except (IdentityError, UsageError) as error:
            self.audit.append("signing_refused", node=name[:64], reason=str(error))
            raise

    def _redeem(self, name: str, secret: str) -> None:
        row = self._db.execute(
            "SELECT name, expires, used FROM invitations WHERE secret = ?", (_hash(secret),)
        ).fetchone()
        if row is None:
            raise IdentityError("this token is not known here: wrong gateway, or it was altered")
        if row[0] != name:
            raise IdentityError(f"this token invites {row[0]!r}, not {name!r}")
        if row[2] is not None:
            raise IdentityError(f"this token was used before; invite {name!r} again if that was not you: and revoke it")
        if row[1] < time.time():
            raise IdentityError(f"this token has expired; ask for another with `edgeward gateway invite {name}`")
        self._db.execute("UPDATE invitations SET used = ? WHERE secret = ?", (time.time(), _hash(secret)))

    def _issue(self, name: str, request_pem: bytes) -> Dict[str, str]:
        self._ca_key()
        self._check_free(name)
        if not (self.folder / pki.SIGNING_PUBLIC_FILE).exists():
            raise IdentityError("sign the gateway's request first: what nodes get names the gateway's signing key")
        key = requested_key(request_pem, name)
        certificate = self._certify(
            name, _leaf(self._ca().subject, pki.subject(name, self.federation), key, server=False)
        )
        return {
            "certificate": certificate.public_bytes(Encoding.PEM).decode(),
            "ca": self.ca_pem.decode(),
            "signing": (self.folder / pki.SIGNING_PUBLIC_FILE).read_text(),
            "federation": self.federation,
            "name": name,
        }

    def certify_gateway(self, request_pem: bytes, hosts: Sequence[str], signing_pem: str) -> x509.Certificate:
        """On an authority apart: the gateway's certificate; nodes signed from now on are told to believe its signing key."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if self._valid(GATEWAY_NAME) or (self.folder / "gateway.crt").exists():
                raise IdentityError("the gateway has a certificate; revoke it first: edgeward authority revoke gateway")
            key = requested_key(request_pem, GATEWAY_NAME)
            builder = gateway_certificate(self._ca().subject, self.federation, key, hosts)
            certificate = self._certify(GATEWAY_NAME, builder)
            (self.folder / pki.SIGNING_PUBLIC_FILE).write_text(signing_pem, encoding="utf-8")
        return certificate

    def revoke(self, name: str) -> int:
        """Revokes every certificate of a name and its open invitations; returns how many certificates."""
        ca_key = self._ca_key()
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            serials = self._valid(name)
            for serial in serials:
                self._db.execute("UPDATE certificates SET revoked = ? WHERE serial = ?", (time.time(), serial))
                self.log.append(ca_key, REVOKED, name, self._logged_key(serial), serial)
            count = len(serials)
            query = "UPDATE invitations SET used = 0 WHERE name = ? AND used IS NULL"
            opened = self._db.execute(query, (name,)).rowcount
            if not count and not opened:
                raise IdentityError(f"{name!r} has neither a certificate nor an open invitation")
            self.audit.append("revoked", node=name, certificates=count, invitations=opened)
        self.write_crl()  # after the store: killed in between, the next one that opens this folder writes it
        return count

    def active(self) -> Set[str]:
        """Names of nodes and monitors with a certificate that is not revoked."""
        rows = self._db.execute("SELECT DISTINCT name FROM certificates WHERE revoked IS NULL")
        return {row[0] for row in rows} - {GATEWAY_NAME}

    def revoked_count(self) -> int:
        """How many certificates are revoked."""
        row = self._db.execute("SELECT COUNT(*) FROM certificates WHERE revoked IS NOT NULL").fetchone()
        return int(row[0])

    def certificates(self) -> Dict[str, Any]:
        """The certificate log and the revocation list, as a gateway without the authority's key installs them."""
        crl = (self.folder / CRL_FILE).read_text(encoding="utf-8")
        return {"federation": self.federation, "log": write_log(self.log.entries()), "crl": crl}

    def install_certificates(self, certificates: Mapping[str, Any]) -> int:
        """On a gateway apart from its authority: notes what `certificates` of the authority says; how many entries are new.

        Raises IdentityError, with nothing changed, for what is not this authority's, or does not continue what is here.
        """
        if self.issues:
            raise IdentityError(f"{self.folder}: this gateway is its own authority; there is nothing to install")
        new, crl = check_certificates(certificates, self._ca(), self.log.head)
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self.log.extend(new)
            for entry in new:
                self._note(entry)
            self._db.execute("INSERT OR REPLACE INTO installed_list VALUES (1, ?)", (crl,))
            self.audit.append("certificates_installed", entries=self.log.head.entries, head=self.log.head.hash)
        replace_file(self.folder / CRL_FILE, crl)
        return len(new)

    def _note(self, entry: Entry) -> None:
        if entry.event == ISSUED:
            row = (entry.serial, entry.name, entry.at)
            self._db.execute("INSERT INTO certificates VALUES (?, ?, ?, NULL)", row)
        else:
            self._db.execute("UPDATE certificates SET revoked = ? WHERE serial = ?", (entry.at, entry.serial))

    def _certify(self, name: str, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Signs, and notes what was signed; in the caller's transaction."""
        ca_key = self._ca_key()
        certificate = builder.sign(ca_key, hashes.SHA256())
        serial = format(certificate.serial_number, "x")
        self._db.execute("INSERT INTO certificates VALUES (?, ?, ?, NULL)", (serial, name, time.time()))
        self.log.append(ca_key, ISSUED, name, pki.key_fingerprint(certificate.public_key()), serial)
        self.audit.append("enrolled", node=name, serial=serial)
        return certificate

    def _ca_key(self) -> ec.EllipticCurvePrivateKey:
        if not self.issues:
            raise IdentityError(
                f"{self.folder}: this federation's authority is on another machine, which alone issues and revokes "
                "certificates: run `edgeward authority sign` or `revoke` there, and bring its certificates.json to "
                "`edgeward gateway install` here"
            )
        key: ec.EllipticCurvePrivateKey = pki.read_private(self.folder / CA_KEY_FILE)
        return key

    def _ca(self) -> x509.Certificate:
        return pki.read_certificate(self.ca_pem, str(self.folder / pki.CA_FILE))

    def _begin_log(self) -> None:
        """Of the gateway's own certificate, and those an older version issued; of these it noted no key."""
        ca_key, own = self._ca_key(), self.folder / "gateway.crt"
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if self.log.head.entries:
                return  # begun by another process meanwhile
            if own.exists():
                certificate = pki.read_certificate(own.read_bytes(), str(own))
                fingerprint = pki.key_fingerprint(certificate.public_key())
                self.log.append(ca_key, ISSUED, GATEWAY_NAME, fingerprint, format(certificate.serial_number, "x"))
            for serial, name, revoked in self._db.execute(
                "SELECT serial, name, revoked FROM certificates ORDER BY issued"
            ).fetchall():
                self.log.append(ca_key, ISSUED, name, "", serial)
                if revoked is not None:
                    self.log.append(ca_key, REVOKED, name, "", serial)

    def _check_store(self, listed: FrozenSet[int]) -> None:
        """A byte that changed on the disk revokes nobody, and neither that nor an older store makes a revoked certificate valid.

        listed: what is in the list of revoked certificates. Killed before it was written, it is written now.
        """
        with self._db:
            self._db.execute("BEGIN")  # table and log of one moment: another process may be signing
            rows = self._db.execute("SELECT serial, name, revoked FROM certificates").fetchall()
            known = {serial: (name, revoked is not None) for serial, name, revoked in rows}
            objection = self.log.objection_to(known, self._ca().public_key(), GATEWAY_NAME)
            revoked = frozenset(int(serial, 16) for serial, (_, over) in known.items() if over)
        for serial, _, when in rows:
            if when is not None and not (isinstance(when, (int, float)) and 0 <= when < _END_OF_TIME):
                objection = objection or f"the time at which certificate {serial} was revoked is not a time"
        if not objection and listed - revoked:
            unknown = min(listed - revoked)
            objection = f"does not know that certificate {unknown:x} is revoked, which {CRL_FILE} says: an older copy"
        if objection:
            self._db.close()
            raise IdentityError(f"{self.folder / STORE_FILE}: {objection}; {RESTORE}")
        if revoked - listed:
            self._write_missing_list()

    def _write_missing_list(self) -> None:
        """The list that a process was killed before writing: made again, or as the authority elsewhere gave it."""
        row = self._db.execute("SELECT pem FROM installed_list").fetchone()
        if self.issues:
            self.write_crl()
        elif row is not None:  # folders of earlier versions have none
            replace_file(self.folder / CRL_FILE, bytes(row[0]))

    def _valid(self, name: str) -> List[str]:
        """Serials of the certificates of a name that are not revoked."""
        query = "SELECT serial FROM certificates WHERE name = ? AND revoked IS NULL ORDER BY issued"
        return [row[0] for row in self._db.execute(query, (name,))]

    def _logged_key(self, serial: str) -> str:
        return next(entry.key for entry in self.log.entries() if entry.serial == serial)

    def _check_free(self, name: str) -> None:
        check_party(name, "node")
        if name in _RESERVED:
            raise UsageError(f"node {name!r}: this name has a meaning of its own, choose another")
        if name in self.active():
            raise IdentityError(f"{name!r} has a certificate; revoke it first: edgeward gateway revoke {name}")

    def write_crl(self) -> None:
        """Writes the list of revoked certificates, signed."""
        ca = self._ca()
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(now - _SKEW)
        builder = builder.next_update(now + datetime.timedelta(days=CA_DAYS))
        for serial, revoked in self._db.execute("SELECT serial, revoked FROM certificates WHERE revoked IS NOT NULL"):
            when = datetime.datetime.fromtimestamp(revoked, datetime.timezone.utc)
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(when)
            builder = builder.add_revoked_certificate(entry.build())
        crl = builder.sign(self._ca_key(), hashes.SHA256())
        replace_file(self.folder / CRL_FILE, crl.public_bytes(Encoding.PEM))

    def close(self) -> None:
        self._db.close()


_END_OF_TIME = 253_402_300_800
"""Seconds since 1970: the year 10000, which neither a certificate nor a revocation list can hold."""

_SKEW = datetime.timedelta(days=1)
"""Certificates hold from a day before now: nodes' clocks differ."""


def make_authority(folder: Path, federation: str) -> ec.EllipticCurvePrivateKey:
    """Makes ca.key and ca.crt in a new folder."""
    new_folder(folder)
    ca_key, issuer = pki.new_key(), pki.subject("Edgeward authority", federation)
    ca = _builder(issuer, issuer, ca_key.public_key(), CA_DAYS)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(_usage(authority=True), critical=True)
    pki.create_file(folder / CA_KEY_FILE, pki.private_pem(ca_key), private=True)
    pki.create_file(folder / pki.CA_FILE, ca.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return ca_key


def gateway_certificate(issuer: x509.Name, federation: str, key: Any, hosts: Sequence[str]) -> x509.CertificateBuilder:
    """For TLS as a server under these names and addresses, and as the broker's user `gateway`."""
    builder = _leaf(issuer, pki.subject(GATEWAY_NAME, federation), key, server=True)
    return builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _builder(issuer: x509.Name, subject: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.not_valid_before(now - _SKEW).not_valid_after(now + datetime.timedelta(days=days))


def _leaf(issuer: x509.Name, subject: x509.Name, key: Any, server: bool) -> x509.CertificateBuilder:
    """A node may not act as a server: otherwise it could pose as the gateway to those who enrol."""
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])
    builder = _builder(issuer, subject, key, CERTIFICATE_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=True)
    return builder.add_extension(_usage(authority=False), critical=True)


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
