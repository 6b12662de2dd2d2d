"""A gateway's identity folder, by its files: who the federation's authority is, and the keys that are here."""

from pathlib import Path
from typing import List

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import IdentityError
from orchestrator.gateway.identity_files import CA_KEY_FILE, SIGNING_KEY_FILE, hosts_in
from orchestrator.wire import pki
from orchestrator.wire.envelope import Sealer, key_id
from orchestrator.wire.link import BrokerAddress


class IdentityFolder:
    """Of a gateway, of an authority apart from it, or of both in one. Files are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = pki.read_settings(folder)
        if "gateway_hosts" not in settings:
            raise IdentityError(f"{folder}: a node's identity; a gateway's is made by `edgeward gateway init`")
        self.federation = str(settings["federation"])
        self.hosts: List[str] = hosts_in(settings, folder)

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

    def sealer(self) -> Sealer:
        return Sealer(pki.read_signing_key(self.signing_key), self.federation)

    def secure(self, address: BrokerAddress) -> BrokerAddress:
        """`address` reached over TLS as the gateway."""
        files = (str(self.folder / name) for name in (pki.CA_FILE, "gateway.crt", "gateway.key"))
        return address.secured(*files)

    def ca_key(self) -> ec.EllipticCurvePrivateKey:
        if not self.issues:
            raise IdentityError(
                f"{self.folder}: this federation's authority is on another machine, which alone issues and revokes "
                "certificates: run `edgeward authority sign` or `revoke` there, and bring its certificates.json to "
                "`edgeward gateway install` here"
            )
        key: ec.EllipticCurvePrivateKey = pki.read_private(self.folder / CA_KEY_FILE)
        return key

    def ca(self) -> x509.Certificate:
        return pki.read_certificate(self.ca_pem, str(self.folder / pki.CA_FILE))
