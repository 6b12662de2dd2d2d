"""Whom a node believes to be another node: by certificate of its own authority, or by the first key it saw of a name."""

import datetime
from pathlib import Path
from typing import Tuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import PrivacyError
from orchestrator.node.identity import CERTIFICATE_FILE, NodeIdentity, install, make_node_request
from orchestrator.node.peers import Peers
from orchestrator.node.store import NodeStore
from orchestrator.wire import pki

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


class Issuer:
    """A certificate authority in memory: nodes have no gateway code, and neither has this test."""

    def __init__(self, federation: str = "icu") -> None:
        self.federation = federation
        self.key, self.name = pki.new_key(), pki.subject("Edgeward authority", federation)
        self.certificate = self.issue("Edgeward authority", self.key.public_key())

    def issue(self, name: str, public: object, start: datetime.timedelta = -DAY, days: int = 100) -> x509.Certificate:
        builder = x509.CertificateBuilder().issuer_name(self.name).subject_name(pki.subject(name, self.federation))
        builder = builder.public_key(public).serial_number(x509.random_serial_number())  # type: ignore[arg-type]
        builder = builder.not_valid_before(NOW + start).not_valid_after(NOW + start + days * DAY)
        return builder.sign(self.key, hashes.SHA256())

    def enrol(self, folder: Path, name: str) -> NodeIdentity:
        make_node_request(folder, name, self.federation)
        public = pki.read_private(folder / "node.key").public_key()
        answer = {
            "certificate": self.issue(name, public).public_bytes(Encoding.PEM).decode(),
            "ca": self.certificate.public_bytes(Encoding.PEM).decode(),
            "signing": _signing(),
            "federation": self.federation,
            "name": name,
        }
        return install(folder, answer)

    def peers(self, folder: Path, name: str) -> Peers:
        return Peers(name, NodeStore(folder / f"{name}.sqlite"), self.enrol(folder / name, name))


def _signing() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return pki.public_pem(Ed25519PrivateKey.generate().public_key()).decode()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def authority() -> Issuer:
    return Issuer()


@pytest.fixture
def pair(authority: Issuer, tmp_path: Path) -> Tuple[Peers, Peers]:
    return authority.peers(tmp_path, "a"), authority.peers(tmp_path, "b")


# With certificates


def test_a_peer_with_a_certificate_of_the_authority_is_believed_and_only_what_it_signed(
    pair: Tuple[Peers, Peers],
) -> None:
    a, b = pair
    assert a.certified
    signature = b.sign(b"message")
    assert not a.verify("b", b"message", signature), "nobody is believed before it was admitted"
    a.admit("b", b.credential)
    assert a.verify("b", b"message", signature)
    assert not a.verify("b", b"massage", signature)
    assert not a.verify("b", b"message", signature[:-1])
    assert not a.verify("b", b"message", b"")
    assert not a.verify("a", b"message", signature)
    a.admit("b", b.credential)
    a.admit("a", a.credential)
    assert a.verify("a", b"message", a.sign(b"message"))


def test_who_is_refused(authority: Issuer, pair: Tuple[Peers, Peers]) -> None:
    a, b = pair
    key = pki.new_key().public_key()
    other = Issuer()
    cases = {
        "no certificate of this federation's authority": [
            der(other.issue("b", key)),
            der(Issuer("other").issue("b", key)),
            der(other.certificate),
            b.credential[:-1],
            b.credential + b"\x00",
            b.credential[:40] + bytes([b.credential[40] ^ 1]) + b.credential[41:],
            b"",
            b"garbage",
            b"\x30\x82" + bytes(64),
            b"\x00" * 32,
        ],
        "b shows the certificate of a": [a.credential],
        "b shows the certificate of Edgeward authority": [der(authority.certificate)],
        "not valid now": [
            der(authority.issue("b", key, -20 * DAY, 10)),
            der(authority.issue("b", key, DAY)),
        ],
        "8193 bytes": [
            bytes(8193),
        ],
        "another kind of key": [der(authority.issue("b", rsa.generate_private_key(65537, 2048).public_key()))],
    }
    for reason, credentials in cases.items():
        for credential in credentials:
            with pytest.raises(PrivacyError, match=reason):
                a.admit("b", credential)
            assert not a.verify("b", b"m", b.sign(b"m"))


def test_a_certificate_signed_by_a_node_is_none_of_the_authority(pair: Tuple[Peers, Peers], tmp_path: Path) -> None:
    """The authority's name as issuer is not enough, nor is a chain over a node that was enrolled."""
    a, _ = pair
    fake = Issuer()
    fake.key = pki.read_private(tmp_path / "b" / "node.key")
    with pytest.raises(PrivacyError, match="no certificate of this federation"):
        a.admit("c", der(fake.issue("c", pki.new_key().public_key())))


def test_a_gateway_cannot_put_its_own_key_in_a_nodes_place(authority: Issuer, pair: Tuple[Peers, Peers]) -> None:
    """Whoever has no certificate under the name cannot sign for it, also not after the right one was admitted."""
    a, b = pair
    a.admit("b", b.credential)
    gateway = pki.new_key()
    forged = der(Issuer().issue("b", gateway.public_key()))
    with pytest.raises(PrivacyError, match="no certificate"):
        a.admit("b", forged)
    assert not a.verify("b", b"keys", gateway.sign(b"keys", ec.ECDSA(hashes.SHA256())))
    assert a.verify("b", b"keys", b.sign(b"keys")), "the right one stays admitted"
    with pytest.raises(PrivacyError, match="no certificate"):
        a.admit("c", Peers("c", NodeStore(Path(":memory:"))).credential)


def test_a_node_with_a_certificate_does_not_pin(authority: Issuer, pair: Tuple[Peers, Peers], tmp_path: Path) -> None:
    """A node enrolled anew, with another key, is admitted at once: the authority vouches for it."""
    a, b = pair
    a.admit("b", b.credential)
    again = authority.peers(tmp_path / "again", "b")
    assert again.credential != b.credential
    a.admit("b", again.credential)
    assert a.verify("b", b"m", again.sign(b"m"))
    assert not a.verify("b", b"m", b.sign(b"m"))


def test_the_credential_is_the_installed_certificate(pair: Tuple[Peers, Peers], tmp_path: Path) -> None:
    installed = pki.read_certificate((tmp_path / "a" / CERTIFICATE_FILE).read_bytes(), "a")
    assert pair[0].credential == der(installed)


# Without


def opened(folder: Path, name: str) -> Peers:
    return Peers(name, NodeStore(folder / f"{name}.sqlite"))


def test_without_an_identity_the_first_key_of_a_name_is_kept_to(tmp_path: Path) -> None:
    a, b, gateway = (opened(tmp_path, name) for name in ("a", "b", "x"))
    assert not a.certified
    a.admit("b", b.credential)
    assert a.verify("b", b"m", b.sign(b"m"))
    assert not a.verify("b", b"m", gateway.sign(b"m"))
    with pytest.raises(PrivacyError, match="b has another key than when this node first met it"):
        a.admit("b", gateway.credential)
    assert a.verify("b", b"m", b.sign(b"m"))


def test_the_first_key_is_kept_to_over_restarts(tmp_path: Path) -> None:
    b, gateway = opened(tmp_path, "b"), opened(tmp_path, "x")
    store = NodeStore(tmp_path / "a.sqlite")
    first = Peers("a", store)
    first.admit("b", b.credential)
    own = first.credential
    store.close()
    again = opened(tmp_path, "a")
    assert again.credential == own
    assert not again.verify("b", b"m", b.sign(b"m")), "admitted anew in every process"
    with pytest.raises(PrivacyError, match="another key"):
        again.admit("b", gateway.credential)
    again.admit("b", b.credential)
    assert again.verify("b", b"m", b.sign(b"m"))


def test_what_is_no_key_is_refused_and_not_pinned(tmp_path: Path) -> None:
    a, b = opened(tmp_path, "a"), opened(tmp_path, "b")
    for credential in (b"", bytes(31), bytes(33), bytes(8193)):
        with pytest.raises(PrivacyError, match="is none|8193 bytes"):
            a.admit("b", credential)
    a.admit("b", b.credential)
    assert a.verify("b", b"m", b.sign(b"m"))
