"""The identity of a gateway and the certificate authority of its federation: in one folder, or each on a machine of its own.

ca.key ca.crt           the authority             signing.key signing.pub  Ed25519, signs messages and models
gateway.key gateway.crt the gateway, for TLS      crl.pem                  revoked certificates
authority.sqlite        invitations, certificates identity.json            federation and addresses
audit.jsonl             what was done here        certificates.json        authority apart: what the gateway has to know

Anyone who has ca.key says who is who. A gateway that runs without it (gateway/apart.py) cannot certify nodes it invents.
"""

import secrets
import time
from pathlib import Path
from typing import Any, Dict, FrozenSet, Mapping, Sequence, Set

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.database import RESTORE, open_database
from orchestrator.errors import IdentityError, UsageError
from orchestrator.files import replace_file, whole_folder
from orchestrator.gateway.audit import AUDIT_FILE, AuditLog
from orchestrator.gateway.certificate_log import CertificateLog, check_certificates
from orchestrator.gateway.certificates import GATEWAY_NAME, gateway_certificate, leaf, make_authority, revocation_list
from orchestrator.gateway.identity_files import (
    CRL_FILE,
    STORE_FILE,
    addresses,
    check_files,
    make_gateway_keys,
    requested_key,
    write_settings,
)
from orchestrator.gateway.identity_folder import IdentityFolder
from orchestrator.gateway.issued import SCHEMA, Issued, not_a_time
from orchestrator.wire import pki
from orchestrator.wire.enrolling import NodeAnswer
from orchestrator.wire.envelope import EVERYONE
from orchestrator.wire.token import Token
from orchestrator.wire.topics import check_name, check_party
from orchestrator.wire.transparency import ISSUED, REVOKED, write_log

_RESERVED = (GATEWAY_NAME, EVERYONE)


class Authority(IdentityFolder):
    """An identity folder opened with its store: who is who, and what was done about it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        listed = check_files(folder, self.federation)  # before the store is looked at: the list follows it
        self.database = open_database(folder / STORE_FILE, SCHEMA, "authority", ahead=False)
        self._issued = Issued(self.database)
        self.audit = AuditLog(folder / AUDIT_FILE, self.database)
        self.log = CertificateLog(self.database)
        if self.issues and self.log.empty:
            self._begin_log()
        self._check_store(listed)

    @classmethod
    def create(cls, folder: Path, federation: str, hosts: Sequence[str]) -> "Authority":
        """Makes every key and certificate; IdentityError, with nothing changed, where an identity is already there."""
        check_name(federation, "federation")
        names = addresses(hosts)
        with whole_folder(folder):
            return cls._made(folder, federation, names)

    @classmethod
    def _made(cls, folder: Path, federation: str, names: Sequence[str]) -> "Authority":
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

    def check_online(self) -> None:
        """IdentityError where nodes cannot enrol by themselves: authority and gateway are not in one folder."""
        self.ca_key()
        if not self.signing_key.exists():
            raise IdentityError(
                f"{self.folder}: an authority apart from its gateway; nodes bring requests (`edgeward node request`), "
                "which `edgeward authority sign` signs"
            )

    def invite(self, name: str, gateway: str, hours: float = 24.0) -> Token:
        """A one-time token for one name; only its hash is kept."""
        self.check_online()
        self._check_free(name)
        if not 0 < hours <= 8760:
            raise UsageError(f"--hours {hours}: expected more than 0, at most a year of 8760")
        secret = secrets.token_urlsafe(24)
        expires = time.time() + 3600 * hours
        self._issued.invite(secret, name, expires)
        self.audit.append("invited", node=name, expires=round(expires))
        return Token(gateway, self.ca_fingerprint, self.federation, name, secret)

    def enroll(self, name: str, secret: str, request_pem: bytes) -> NodeAnswer:
        """Redeems an invitation. Every refusal is recorded with its own reason, and raised as IdentityError."""
        try:
            self.database.execute("BEGIN IMMEDIATE")
            self._issued.redeem(secret, name)
            answer = self._issue(name, request_pem)
            self.database.execute("COMMIT")
        except BaseException as error:
            if self.database.in_transaction:  # where it could not begin, or SQLite took it back itself, there is none
                self.database.execute("ROLLBACK")
            if isinstance(error, (IdentityError, UsageError)):
                self.audit.note_refusal("enrolment_refused", node=name[:64], reason=str(error))
            raise
        return answer

    def sign(self, request_pem: bytes, name: str) -> Dict[str, str]:
        """The offline way: certificate for a request that came by another channel; `name` must be the request's."""
        try:
            with self.database:
                self.database.execute("BEGIN IMMEDIATE")
                return self._issue(name, request_pem).written()
        except (IdentityError, UsageError) as error:
            self.audit.append("signing_refused", node=name[:64], reason=str(error))
            raise

    def _issue(self, name: str, request_pem: bytes) -> NodeAnswer:
        self.ca_key()
        self._check_free(name)
        if not (self.folder / pki.SIGNING_PUBLIC_FILE).exists():
            raise IdentityError("sign the gateway's request first: what nodes get names the gateway's signing key")
        key = requested_key(request_pem, name)
        certificate = self._certify(
            name, leaf(self.ca().subject, pki.subject(name, self.federation), key, server=False)
        )
        pem = certificate.public_bytes(Encoding.PEM).decode()
        signing = (self.folder / pki.SIGNING_PUBLIC_FILE).read_text()
        return NodeAnswer(pem, self.ca_pem.decode(), signing, self.federation, name)

    def certify_gateway(self, request_pem: bytes, hosts: Sequence[str], signing_pem: str) -> x509.Certificate:
        """On an authority apart: the gateway's certificate; nodes signed from now on believe its signing key."""
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            if self._issued.valid(GATEWAY_NAME) or (self.folder / "gateway.crt").exists():
                raise IdentityError("the gateway has a certificate; revoke it first: edgeward authority revoke gateway")
            key = requested_key(request_pem, GATEWAY_NAME)
            builder = gateway_certificate(self.ca().subject, self.federation, key, hosts)
            certificate = self._certify(GATEWAY_NAME, builder)
            (self.folder / pki.SIGNING_PUBLIC_FILE).write_text(signing_pem, encoding="utf-8")
        return certificate

    def revoke(self, name: str) -> int:
        """Revokes every certificate of a name and its open invitations; returns how many certificates."""
        ca_key = self.ca_key()
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            serials = self._issued.valid(name)
            for serial in serials:
                self._issued.revoke(serial, time.time())
                self.log.append(ca_key, REVOKED, name, self._logged_key(serial), serial)
            count = len(serials)
            opened = self._issued.withdraw(name)
            if not count and not opened:
                raise IdentityError(f"{name!r} has neither a certificate nor an open invitation")
            self.audit.append("revoked", node=name, certificates=count, invitations=opened)
        self.write_crl()  # after the store: killed in between, the next one that opens this folder writes it
        return count

    def active(self) -> Set[str]:
        """Names of nodes and monitors with a certificate that is not revoked."""
        return self._issued.names() - {GATEWAY_NAME}

    def revoked_count(self) -> int:
        """How many certificates are revoked."""
        return len(self._issued.revoked())

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
        new, crl = check_certificates(certificates, self.ca(), self.log.head)
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            self.log.extend(new)
            for entry in new:
                self._issued.follow(entry)
            self._issued.install_list(crl)
            self.audit.append("certificates_installed", entries=self.log.head.entries, head=self.log.head.hash)
        replace_file(self.folder / CRL_FILE, crl)
        return len(new)

    def _certify(self, name: str, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Signs, and notes what was signed; in the caller's transaction."""
        ca_key = self.ca_key()
        certificate = builder.sign(ca_key, hashes.SHA256())
        serial = format(certificate.serial_number, "x")
        self._issued.note(serial, name, time.time())
        self.log.append(ca_key, ISSUED, name, pki.key_fingerprint(certificate.public_key()), serial)
        self.audit.append("enrolled", node=name, serial=serial)
        return certificate

    def _begin_log(self) -> None:
        """Of the gateway's own certificate, and those an older version issued; of these it noted no key."""
        ca_key, own = self.ca_key(), self.folder / "gateway.crt"
        with self.database:
            self.database.execute("BEGIN IMMEDIATE")
            if self.log.head.entries:
                return  # begun by another process meanwhile
            if own.exists():
                certificate = pki.read_certificate(own.read_bytes(), str(own))
                fingerprint = pki.key_fingerprint(certificate.public_key())
                self.log.append(ca_key, ISSUED, GATEWAY_NAME, fingerprint, format(certificate.serial_number, "x"))
            for serial, name, revoked in self._issued.rows():
                self.log.append(ca_key, ISSUED, name, "", serial)
                if revoked is not None:
                    self.log.append(ca_key, REVOKED, name, "", serial)

    def _check_store(self, listed: FrozenSet[int]) -> None:
        """A byte that changed on the disk revokes nobody, and neither that nor an older store makes a revoked certificate valid.

        listed: what is in the list of revoked certificates. Killed before it was written, it is written now.
        """
        with self.database:
            self.database.execute("BEGIN")  # table and log of one moment: another process may be signing
            rows = self._issued.rows()
            known = {serial: (name, revoked is not None) for serial, name, revoked in rows}
            objection = self.log.objection_to(known, self.ca().public_key(), GATEWAY_NAME)
            revoked = frozenset(int(serial, 16) for serial, (_, over) in known.items() if over)
        objection = objection or not_a_time(rows)
        if not objection and listed - revoked:
            unknown = min(listed - revoked)
            objection = f"does not know that certificate {unknown:x} is revoked, which {CRL_FILE} says: an older copy"
        if objection:
            self.database.close()
            raise IdentityError(f"{self.folder / STORE_FILE}: {objection}; {RESTORE}")
        if revoked - listed:
            self._write_missing_list()

    def _write_missing_list(self) -> None:
        """The list that a process was killed before writing: made again, or as the authority elsewhere gave it."""
        installed = self._issued.installed_list()
        if self.issues:
            self.write_crl()
        elif installed is not None:
            replace_file(self.folder / CRL_FILE, installed)

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
        builder = revocation_list(self.ca().subject, self._issued.revoked())
        crl = builder.sign(self.ca_key(), hashes.SHA256())
        replace_file(self.folder / CRL_FILE, crl.public_bytes(Encoding.PEM))

    def close(self) -> None:
        self.database.close()
