"""Whom a node believes to be another node: whom its owner confirmed, or at first sight the first key it saw of a name."""

import contextlib
import datetime
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import PeerError, PrivacyError
from orchestrator.node.identity import CERTIFICATE_FILE, NodeIdentity, install, make_node_request
from orchestrator.node.known_peers import MOST_PENDING, MOST_PENDING_OF_A_NAME
from orchestrator.node.peers import TOO_FEW, UNCONFIRMED, Peers
from orchestrator.node.roster import Roster, roster_of
from orchestrator.node.store import NodeStore
from orchestrator.wire import pki
from orchestrator.wire.protection import Aggregation

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

    def peers(self, folder: Path, name: str, confirmed: Optional[Dict[str, str]] = None) -> Peers:
        """Of a node whose owner confirmed these keys; at first sight where the owner set no rules."""
        store = NodeStore(folder / f"{name}.sqlite")
        words: Dict[str, str] = {} if confirmed is None else confirmed
        identity = self.enrol(folder / name, name)
        return Peers(name, store, identity, lambda: roster_of(words, "", {}), first_sight=confirmed is None)


def _signing() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return pki.public_pem(Ed25519PrivateKey.generate().public_key()).decode()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def authority() -> Issuer:
    return Issuer()


@pytest.fixture
def confirmed() -> Dict[str, str]:
    """What the owner of a and of b says; it may change while they run."""
    return {}


@pytest.fixture
def pair(authority: Issuer, tmp_path: Path, confirmed: Dict[str, str]) -> Tuple[Peers, Peers]:
    a, b = (authority.peers(tmp_path, name, confirmed) for name in "ab")
    confirmed.update(a=a.fingerprint, b=b.fingerprint)
    return a, b


# With certificates


def test_a_certificate_no_library_can_read_is_refused_and_ends_nothing(pair: Tuple[Peers, Peers]) -> None:
    """The gateway shows it, so it may be anything: of a version, key or curve that nobody knows, and cut anywhere."""
    a, b = pair
    good, signature = b.credential, b.sign(b"message")
    refused = 0
    for at in range(len(good)):
        for bit in (1, 64, 128):
            odd = good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :]
            with contextlib.suppress(PeerError):
                a.admit("b", odd)
                assert a.verify("b", b"message", signature), "only bits that are not used"
                continue
            refused += 1
    assert refused > 3 * len(good) - 20
    for end in range(len(good)):
        with pytest.raises(PeerError):
            a.admit("b", good[:end])


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
        "b shows the certificate of 'a'": [a.credential],
        "b shows the certificate of 'Edgeward authority'": [der(authority.certificate)],
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


def test_a_gateway_cannot_put_its_own_key_in_a_nodes_place(
    authority: Issuer, pair: Tuple[Peers, Peers], tmp_path: Path
) -> None:
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
        a.admit("c", Peers("c", NodeStore(tmp_path / "c.sqlite")).credential)


def public(peers: Peers) -> Any:
    return x509.load_der_x509_certificate(peers.credential).public_key()


def refused(peers: Peers, party: str, credential: bytes, why: str, **role: Any) -> None:
    with pytest.raises(PrivacyError, match=why):
        peers.admit(party, credential, **role)


def test_a_certificate_of_the_authority_is_not_enough(authority: Issuer, tmp_path: Path) -> None:
    """The gateway is the authority: it certifies keys of its own under the names of enrolled nodes."""
    a, b = authority.peers(tmp_path, "a", {}), authority.peers(tmp_path, "b", {})
    refused(a, "b", b.credential, UNCONFIRMED[:30])
    refused(a, "c", der(authority.issue("c", pki.new_key().public_key())), UNCONFIRMED[:30])
    assert not a.verify("b", b"m", b.sign(b"m"))
    assert Peers("z", NodeStore(tmp_path / "z.sqlite")).first_sight is False, "strict unless somebody says otherwise"


def test_another_key_under_a_confirmed_name_is_refused(authority: Issuer, pair: Tuple[Peers, Peers]) -> None:
    a, b = pair
    puppet = pki.new_key()
    for before in (False, True):
        if before:
            a.admit("b", b.credential)
        refused(a, "b", der(authority.issue("b", puppet.public_key())), UNCONFIRMED[:30])
        assert not a.verify("b", b"m", puppet.sign(b"m", ec.ECDSA(hashes.SHA256())))
        assert a.verify("b", b"m", b.sign(b"m")) == before


def test_a_renewed_certificate_for_the_same_key_is_the_same_peer(authority: Issuer, pair: Tuple[Peers, Peers]) -> None:
    a, b = pair
    a.admit("b", b.credential)
    a.admit("b", der(authority.issue("b", public(b))))
    assert a.verify("b", b"m", b.sign(b"m"))


def test_one_key_cannot_be_several_peers(
    authority: Issuer, pair: Tuple[Peers, Peers], tmp_path: Path, confirmed: Dict[str, str]
) -> None:
    a, b = pair
    refused(a, "c", der(authority.issue("c", public(b))), "the key of another name")
    refused(a, "c", der(authority.issue("c", public(a))), "the key of another name")
    confirmed["c"] = b.fingerprint
    for name, credential in (("b", b.credential), ("c", der(authority.issue("c", public(b))))):
        refused(a, name, credential, UNCONFIRMED[:30])  # the owner confirmed one key twice: it is nobody's
    trusting = authority.peers(tmp_path / "trusting", "d")
    puppet = pki.new_key().public_key()
    trusting.admit("b", der(authority.issue("b", puppet)))
    refused(trusting, "c", der(authority.issue("c", puppet)), "the key of another name")
    again = Peers(
        "d", NodeStore(tmp_path / "trusting" / "d.sqlite"), NodeIdentity(tmp_path / "trusting" / "d"), first_sight=True
    )
    refused(again, "c", der(authority.issue("c", puppet)), "the key of another name")


def test_nobody_else_has_this_nodes_own_name(authority: Issuer, pair: Tuple[Peers, Peers], tmp_path: Path) -> None:
    a, _ = pair
    a.admit("a", a.credential)
    puppet = der(authority.issue("a", pki.new_key().public_key()))
    for peers in (a, authority.peers(tmp_path / "trusting", "a")):
        refused(peers, "a", puppet, "another key is shown under this node's own name")
    a.admit("a", der(authority.issue("a", public(a))))


def test_what_the_owner_withdraws_counts_at_once(pair: Tuple[Peers, Peers], confirmed: Dict[str, str]) -> None:
    """Also for a peer that was admitted before: in the middle of a round, between attempts and between rounds."""
    a, b = pair
    a.admit("b", b.credential)
    confirmed["b"] = ""
    a.refresh()
    assert not a.verify("b", b"m", b.sign(b"m"))
    refused(a, "b", b.credential, UNCONFIRMED[:30])
    confirmed["b"] = b.fingerprint
    a.admit("b", b.credential)
    assert a.verify("b", b"m", b.sign(b"m"))


def test_a_certificate_that_runs_out_while_the_node_runs_is_no_longer_believed(
    authority: Issuer, pair: Tuple[Peers, Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    a.admit("b", b.credential)

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: Optional[datetime.tzinfo] = None) -> "Later":
            return cls.fromtimestamp((NOW + 1000 * DAY).timestamp(), tz)

    monkeypatch.setattr("orchestrator.node.peers.datetime.datetime", Later)
    refused(a, "b", b.credential, "not valid now")
    assert not a.verify("b", b"m", b.sign(b"m"))


def test_a_key_holder_is_named_by_the_owner_and_in_no_sum(authority: Issuer, tmp_path: Path) -> None:
    holder, b = authority.peers(tmp_path, "keys"), authority.peers(tmp_path, "b")
    roster = Roster({"b": b.fingerprint}, holder.fingerprint)
    identity = authority.enrol(tmp_path / "a", "a")
    a = Peers("a", NodeStore(tmp_path / "a.sqlite"), identity, lambda: roster)
    a.admit("keys", holder.credential, key_holder=True)
    refused(a, "keys", der(authority.issue("keys", pki.new_key().public_key())), UNCONFIRMED[:30], key_holder=True)
    refused(a, "b", b.credential, UNCONFIRMED[:30], key_holder=True)
    refused(a, "keys", holder.credential, "the key holder's key, whose vector is in no sum")
    own = der(authority.issue("keys", public(a)))
    refused(a, "keys", own, "the key of another name", key_holder=True)


def test_at_first_sight_a_node_with_a_certificate_pins_too(authority: Issuer, tmp_path: Path) -> None:
    """A node enrolled again, with another key, needs the owner's word: the authority may be the gateway."""
    a, b = authority.peers(tmp_path, "a"), authority.peers(tmp_path, "b")
    a.admit("b", b.credential)
    again = authority.peers(tmp_path / "again", "b")
    for _ in range(2):
        refused(a, "b", again.credential, "b has another key than when this node first met it")
    words = {"b": again.fingerprint}
    sure = Peers("a", NodeStore(tmp_path / "a.sqlite"), NodeIdentity(tmp_path / "a"), lambda: Roster(words), True)
    sure.admit("b", again.credential)
    assert sure.verify("b", b"m", again.sign(b"m"))
    refused(sure, "b", b.credential, UNCONFIRMED[:30])
    words["b"] = ""
    refused(sure, "b", again.credential, UNCONFIRMED[:30])


# What waits for the owner


def test_refused_keys_wait_for_the_owner_over_restarts(authority: Issuer, tmp_path: Path) -> None:
    a, b = authority.peers(tmp_path, "a", {}), authority.peers(tmp_path, "b", {})
    for _ in range(2):
        refused(a, "b", b.credential, UNCONFIRMED[:30])
    waiting = NodeStore(tmp_path / "a.sqlite").peers.pending()
    assert [(peer.name, peer.fingerprint) for peer in waiting] == [("b", b.fingerprint)]


def test_a_flood_of_keys_fills_no_disk_and_no_terminal(authority: Issuer, tmp_path: Path) -> None:
    a = authority.peers(tmp_path, "a", {})
    store = NodeStore(tmp_path / "a.sqlite")
    for _ in range(MOST_PENDING_OF_A_NAME + 2):
        refused(a, "b", der(authority.issue("b", pki.new_key().public_key())), UNCONFIRMED[:30])
    assert len(store.peers.pending()) == MOST_PENDING_OF_A_NAME
    for number in range(MOST_PENDING):
        store.peers.note_pending(f"n{number}", "0" * 64)
    assert len(store.peers.pending()) == MOST_PENDING
    for name in ("b\x1b[2J", "B", "", "b" * 65, 7):
        refused(a, name, a.credential, "a name that no node can have")  # type: ignore[arg-type]


def test_what_is_said_to_the_gateway_holds_neither_name_nor_key(authority: Issuer, tmp_path: Path) -> None:
    a, b = authority.peers(tmp_path, "a", {}), authority.peers(tmp_path, "b", {})
    with pytest.raises(PrivacyError) as caught:
        a.admit("b", b.credential)
    assert str(caught.value) == UNCONFIRMED


# Enough of them


def test_a_task_needs_as_many_confirmed_peers_as_its_sums_have_honest_and_colluding_nodes(tmp_path: Path) -> None:
    words: Dict[str, str] = {"a": "0" * 64, "b": "1" * 64, "c": "2" * 64, "d": "", "keys": "3" * 64}
    strict = Peers("a", NodeStore(tmp_path / "a.sqlite"), roster=lambda: Roster(words))
    masked = Aggregation("masked", honest=3)
    assert strict.objection_to(masked) == ""
    assert strict.objection_to(Aggregation("masked", honest=3, colluding=2)) == TOO_FEW
    assert strict.objection_to(Aggregation("masked", honest=5)) == TOO_FEW
    words["d"] = "4" * 64
    assert strict.objection_to(Aggregation("masked", honest=3, colluding=2)) == ""
    assert strict.objection_to(Aggregation("ckks", honest=5, key_holder="keys")) == TOO_FEW, "a key holder is no peer"
    assert strict.objection_to(Aggregation("ckks", honest=4, key_holder="keys")) == ""
    assert strict.objection_to(Aggregation("ckks", key_holder="other")) == TOO_FEW
    words["keys"] = ""
    assert strict.objection_to(Aggregation("ckks", key_holder="keys")) == TOO_FEW
    assert strict.objection_to(Aggregation()) == ""
    open_to_all = Peers("a", NodeStore(tmp_path / "a.sqlite"), first_sight=True)
    assert open_to_all.objection_to(Aggregation("masked", honest=50)) == ""


def test_the_credential_is_the_installed_certificate(pair: Tuple[Peers, Peers], tmp_path: Path) -> None:
    installed = pki.read_certificate((tmp_path / "a" / CERTIFICATE_FILE).read_bytes(), "a")
    assert pair[0].credential == der(installed)


# Without


def opened(folder: Path, name: str) -> Peers:
    return Peers(name, NodeStore(folder / f"{name}.sqlite"), first_sight=True)


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
    first = Peers("a", store, first_sight=True)
    first.admit("b", b.credential)
    own = first.credential
    store.close()
    again = opened(tmp_path, "a")
    assert again.credential == own
    assert not again.verify("b", b"m", b.sign(b"m")), "admitted again in every process"
    with pytest.raises(PrivacyError, match="another key"):
        again.admit("b", gateway.credential)
    again.admit("b", b.credential)
    assert again.verify("b", b"m", b.sign(b"m"))


def test_what_is_no_key_is_refused_and_not_pinned(tmp_path: Path) -> None:
    a, b = opened(tmp_path, "a"), opened(tmp_path, "b")
    for credential in (b"", bytes(31), bytes(33), bytes(8193)):
        with pytest.raises(PrivacyError, match="is invalid|8193 bytes"):
            a.admit("b", credential)
    a.admit("b", b.credential)
    assert a.verify("b", b"m", b.sign(b"m"))


def test_without_identities_the_owner_confirms_keys_too(tmp_path: Path) -> None:
    b, gateway = opened(tmp_path, "b"), opened(tmp_path, "x")
    words: Dict[str, str] = {}
    a = Peers("a", NodeStore(tmp_path / "a.sqlite"), roster=lambda: Roster(words))
    refused(a, "b", b.credential, UNCONFIRMED[:30])
    words["b"] = b.fingerprint
    refused(a, "b", gateway.credential, UNCONFIRMED[:30])
    a.admit("b", b.credential)
    assert a.verify("b", b"m", b.sign(b"m"))
