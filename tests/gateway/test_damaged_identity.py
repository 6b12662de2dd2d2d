"""A byte that changed in an identity's folder is noticed when it is opened, named with its file, and brings no access back."""

import contextlib
import random
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from cryptography import x509

from orchestrator.errors import EdgewardError, IdentityError
from orchestrator.gateway.apart import create_authority, install_gateway, request_gateway, sign_gateway
from orchestrator.gateway.authority import Authority
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.wire.pki import make_request, new_key

GATEWAY = (
    "ca.crt",
    "ca.key",
    "gateway.crt",
    "gateway.key",
    "signing.key",
    "signing.pub",
    "crl.pem",
    "identity.json",
    "authority.sqlite",
)
NODE = ("node.key", "node.crt", "ca.crt", "signing.pub", "identity.json")
FLIPS = 60


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Of a gateway that revoked one node's certificate, and of another node of it."""
    base = tmp_path_factory.mktemp("identities")
    authority = Authority.create(base / "gateway", "ward", ["127.0.0.1"])
    for name in ("a", "b"):
        request = make_node_request(base / name, name, "ward")
        install(base / name, {**authority.sign(request, name), "broker": ""}, authority.ca_fingerprint)
    authority.revoke("b")
    authority.close()
    return {"gateway": base / "gateway", "node": base / "a"}


def open_gateway(folder: Path) -> None:
    authority = Authority(folder)
    try:
        authority.sealer()
        assert authority.active() == {"a"}
    finally:
        authority.close()


def open_node(folder: Path) -> None:
    identity = NodeIdentity(folder)
    identity.opener()
    identity.for_peers()


OPEN: Dict[str, Callable[[Path], None]] = {"gateway": open_gateway, "node": open_node}


def damaged(good: bytes) -> Iterator[Optional[bytes]]:
    yield from (b"", good[: len(good) // 2], b"\xff" * 20, b"[]", b"{}", b"null", b"0", None)
    chance = random.Random(len(good))
    for _ in range(FLIPS):
        at = chance.randrange(len(good))
        yield good[:at] + bytes([good[at] ^ (1 << chance.randrange(8))]) + good[at + 1 :]


def refusal(opened: Callable[[Path], None], folder: Path) -> Optional[str]:
    try:
        opened(folder)
    except EdgewardError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("of", "name"), [*(("gateway", name) for name in GATEWAY), *(("node", name) for name in NODE)])
def test_damage_is_named_with_its_file(folders: Dict[str, Path], tmp_path: Path, of: str, name: str) -> None:
    accepted = 0
    for number, bad in enumerate(damaged((folders[of] / name).read_bytes())):
        folder = tmp_path / str(number)
        shutil.copytree(folders[of], folder)
        if bad is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(bad)
        said = refusal(OPEN[of], folder)
        assert said is None or str(folder) in said
        accepted += said is None
        # A key of an authority may be on another machine, and a list of revocations not be here yet.
        assert said is not None or number >= 8 or (bad is None and name in ("ca.key", "crl.pem")), f"accepted: {bad!r}"
    # Text of PEM that is not looked at; settings whose words nothing can be compared with; whom a node believes; free pages.
    assert accepted <= {"identity.json": 25, "signing.pub": 30, "authority.sqlite": 66}.get(name, 8)
    print(f"{accepted} of {number + 1} changes of {name} change nothing that counts")


@pytest.mark.parametrize("change", ["revoked = NULL", "name = 'c'", "serial = 'ab'"])
def test_a_revoked_certificate_stays_revoked(folders: Dict[str, Path], tmp_path: Path, change: str) -> None:
    shutil.copytree(folders["gateway"], tmp_path / "gateway")
    with sqlite3.connect(tmp_path / "gateway" / "authority.sqlite") as store:
        assert store.execute(f"UPDATE certificates SET {change} WHERE name = 'b'").rowcount == 1
    store.close()
    with pytest.raises(IdentityError, match=r"authority\.sqlite: what it says of certificate"):
        Authority(tmp_path / "gateway")


def test_without_its_store_an_authority_does_not_begin_again(folders: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["gateway"], tmp_path / "gateway")
    (tmp_path / "gateway" / "authority.sqlite").unlink()
    with pytest.raises(IdentityError, match="certificates that were revoked would be valid again"):
        Authority(tmp_path / "gateway")


def test_an_older_store_makes_no_revoked_certificate_valid_again(folders: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["gateway"], tmp_path / "gateway")
    older = (tmp_path / "gateway" / "authority.sqlite").read_bytes()
    authority = Authority(tmp_path / "gateway")
    authority.revoke("a")
    authority.close()
    (tmp_path / "gateway" / "authority.sqlite").write_bytes(older)
    with pytest.raises(IdentityError, match=r"authority\.sqlite: does not know that certificate \w+ is revoked"):
        Authority(tmp_path / "gateway")


ODD_STORES: Dict[str, List[Tuple[str, Any]]] = {
    "the time at which certificate": [
        ("UPDATE certificates SET revoked = ?", value) for value in ("x", b"x", -1e18, -5e9, 1e300, float("inf"), 2**62)
    ],
    "the certificate log in it is damaged": [
        ("UPDATE certificate_log SET entry = ? WHERE seq = 1", value)
        for value in ("[" * 100_000, "1", b"\xff", '{"seq": "x"}')
    ],
}


@pytest.mark.parametrize("objection", ODD_STORES)
def test_what_no_version_writes_is_an_objection(folders: Dict[str, Path], tmp_path: Path, objection: str) -> None:
    shutil.copytree(folders["gateway"], tmp_path / "gateway")
    authority = Authority(tmp_path / "gateway")
    authority.revoke("a")
    authority.close()
    store = tmp_path / "gateway" / "authority.sqlite"
    whole = store.read_bytes()
    for change, value in ODD_STORES[objection]:
        store.write_bytes(whole)
        with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as database:
            database.execute(change, (value,))
        with pytest.raises(IdentityError, match=objection):
            Authority(tmp_path / "gateway")


@pytest.mark.parametrize("apart", [False, True])
def test_killed_before_the_list_was_written_the_next_one_writes_it(
    folders: Dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    change: Callable[[], object]
    if apart:
        authority = create_authority(tmp_path / "authority", "ward")
        answer = sign_gateway(authority, request_gateway(tmp_path / "gateway", "ward", ["10.0.0.1"]))
        gateway = install_gateway(tmp_path / "gateway", answer, authority.ca_fingerprint)
        authority.sign(make_request(new_key(), "a", "ward"), "a")
        authority.revoke("a")
        change = lambda: gateway.install_certificates(authority.certificates())  # noqa: E731
    else:
        shutil.copytree(folders["gateway"], tmp_path / "gateway")
        gateway = Authority(tmp_path / "gateway")
        change = lambda: gateway.revoke("a")  # noqa: E731
    before = (tmp_path / "gateway" / "crl.pem").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as at_the_file:
        at_the_file.setattr("orchestrator.gateway.authority.replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            change()
    gateway.close()
    assert (tmp_path / "gateway" / "crl.pem").read_bytes() == before
    Authority(tmp_path / "gateway").close()
    crl = x509.load_pem_x509_crl((tmp_path / "gateway" / "crl.pem").read_bytes())
    assert len(list(crl)) == len(list(x509.load_pem_x509_crl(before))) + 1


def test_an_identity_is_opened_while_another_process_signs(folders: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["gateway"], tmp_path / "gateway")
    over = threading.Event()

    def sign() -> None:
        authority = Authority(tmp_path / "gateway")
        for number in range(60):
            authority.sign(make_request(new_key(), f"n{number}", "ward"), f"n{number}")
        authority.close()
        over.set()

    signer = threading.Thread(target=sign)
    signer.start()
    opened = 0
    while not over.is_set():
        Authority(tmp_path / "gateway").close()
        opened += 1
    signer.join()
    assert opened
