"""A file that is no key, no certificate and no request: the message says which, what was expected, what it is, and what to do."""

import datetime
import re
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from orchestrator.cli.main import main
from orchestrator.errors import IdentityError, UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.wire import pem, pki
from orchestrator.wire.link import BrokerAddress

SIGNING, OTHER = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
TLS = ec.generate_private_key(ec.SECP256R1())


def private(key: Any, sort: PrivateFormat = PrivateFormat.PKCS8, password: str = "") -> bytes:
    hidden = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    found: bytes = key.private_bytes(Encoding.PEM, sort, hidden)
    return found


def certificate(key: Any = TLS) -> bytes:
    now = datetime.datetime(2024, 1, 1)
    name = pki.subject("a", "icu")
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + datetime.timedelta(9999))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


PUBLIC = pki.public_pem(SIGNING.public_key())
CERTIFICATE = certificate()
REQUEST = pki.make_request(TLS, "a", "icu")
CONTENTS: Dict[str, bytes] = {
    "nothing": b"",
    "spaces": b" \n\n",
    "csv": b"age,crp\n63,12\n",
    "binary": bytes(range(256)),
    "der": TLS.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "ssh": SIGNING.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "ssh private": private(SIGNING, PrivateFormat.OpenSSH),
    "public": PUBLIC,
    "cut public": PUBLIC[:70],
    "damaged public": PUBLIC.replace(b"MCow", b"MCoz"),
    "public rsa": pki.public_pem(OTHER.public_key()),
    "private": private(SIGNING),
    "private rsa": private(OTHER),
    "private tls": private(TLS),
    "private other tls": private(ec.generate_private_key(ec.SECP256R1())),
    "hidden": private(SIGNING, password="secret"),
    "hidden old": private(TLS, PrivateFormat.TraditionalOpenSSL, "secret"),
    "certificate": CERTIFICATE,
    "cut certificate": CERTIFICATE[:200],
    "request": REQUEST,
    "of openssl": b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n",
}
LOOKS = {
    "nothing": "it is empty",
    "spaces": "it is empty",
    "csv": "it is text without PEM",
    "binary": "it is binary, and no PEM",
    "der": "it is binary, as DER is, and no PEM",
    "ssh": "it holds a public key of OpenSSH, which is no PEM",
    "ssh private": "it holds a private key of OpenSSH",
    "public": "it holds a public key",
    "cut public": "it holds a public key that is cut off",
    "damaged public": "it holds a public key that is damaged",
    "private": "it holds a private key",
    "hidden": "it holds a private key with a password; write the key without its password: openssl pkey",
    "hidden old": "it holds a private key with a password; write the key without its password: openssl pkey",
    "certificate": "it holds a certificate",
    "cut certificate": "it holds a certificate that is cut off",
    "request": "it holds a certificate request",
    "of openssl": "it holds PEM of another kind, DH PARAMETERS",
}
FIT = {
    "public": ("public", "private"),
    "private": ("private",),
    "certificate": ("certificate",),
    "request": ("request",),
    "tls": ("private tls",),
}
"""What is right, of those above."""
_PRIVATE = ("private rsa", "private tls", "private other tls")
ANOTHER_ALGORITHM = {"public": ("public rsa", *_PRIVATE), "private": _PRIVATE}


def looks(wanted: str, content: str) -> str:
    """Whether one is cut or locked matters where it is the sort that was expected."""
    kind = KINDS[wanted]
    if "public" in content and kind != "PUBLIC_KEY":
        return "it holds a public key; "
    if "hidden" in content and kind != "PRIVATE_KEY":
        return "it holds a private key with a password; name "
    if "certificate" in content and kind != "CERTIFICATE":
        return "it holds a certificate; "
    return LOOKS.get(content, "it holds a p")


def dashboard(path: Path, certificate_file: bool) -> Callable[[], Any]:
    """The server's pair, one of which is the file."""
    given = path.parent / ("own.key" if certificate_file else "own.crt")
    given.write_bytes(private(TLS) if certificate_file else CERTIFICATE)
    pair = (path, given) if certificate_file else (given, path)
    return lambda: WebSettings.parse("0", *pair).check(path.parent)


READERS: Dict[str, Any] = {
    "public": lambda path: lambda: pem.model_public_key(path),
    "private": lambda path: lambda: pem.model_private_key(path),
    "request": lambda path: lambda: pem.request_in(path),
    "certificate": lambda path: lambda: BrokerAddress.parse("mqtts://127.0.0.1:1", str(path)),
    "tls": lambda path: dashboard(path, False),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("wanted", [*READERS, "shown"])
def test_what_a_file_is_in_place_of_what_was_expected(tmp_path: Path, wanted: str, content: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(CONTENTS[content])
    read = dashboard(path, True) if wanted == "shown" else READERS[wanted](path)
    wanted = "certificate" if wanted == "shown" else wanted
    if content in FIT[wanted]:
        read()
        return
    with pytest.raises(UsageError) as caught:
        read()
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert not re.search(r"https?:|Unable to load|_ssl\.c|MalformedFraming|InvalidData|ASN", said)
    assert re.search(r"[;:] (name|write) ", said), "what to do"
    if content in ANOTHER_ALGORITHM.get(wanted, ()):
        assert "expected an Ed25519 key, and it holds one of another algorithm" in said
    elif wanted == "tls" and content.startswith("private"):
        assert "is not the key of" in said
    else:
        assert f"cannot be read as {getattr(pem, KINDS[wanted]).words}: " in said
        assert looks(wanted, content) in said


KINDS = {
    "public": "PUBLIC_KEY",
    "private": "PRIVATE_KEY",
    "request": "REQUEST",
    "certificate": "CERTIFICATE",
    "tls": "PRIVATE_KEY",
}


def test_an_edgeward_toml_says_which_key_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("age,crp\n")
    text = (Path(__file__).parents[2] / "docs/edgeward.toml").read_text()
    (tmp_path / "e.toml").write_text(text.replace("[gateway]\n", f'[gateway]\nca_file = "{tmp_path}/ca.pem"\n', 1))
    with pytest.raises(
        UsageError, match=r"gateway\.ca_file: .*ca\.pem: cannot be read as a certificate in PEM: it is text"
    ):
        load_config(tmp_path / "e.toml", files=True)


@pytest.mark.parametrize("words", [["node", "install"], ["gateway", "install"]], ids=" ".join)
def test_an_answer_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Any) -> None:
    (tmp_path / "x.csv").write_bytes(CERTIFICATE)
    more = ["--ca", "0" * 64]
    assert main([*words, str(tmp_path / "x.csv"), "--identity", str(tmp_path / "i"), *more]) == 2
    said = capsys.readouterr().err
    assert "x.csv: not " in said
    assert "name " in said
    assert "Expecting value" not in said


@pytest.mark.parametrize("content", ["nothing", "csv", "hidden", "certificate"])
def test_an_identity_says_the_same_of_its_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(CONTENTS[content])
    for read in (pki.read_private, pki.read_signing_key, pki.read_signing_public):
        with pytest.raises(IdentityError, match=rf"{path}: cannot be read as a p.*: {LOOKS[content][:12]}"):
            read(path)
    if content != "certificate":
        with pytest.raises(
            IdentityError, match=rf"cannot be read as a certificate in PEM: {LOOKS[content][:12]}.*backup"
        ):
            pki.read_certificate_file(path)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "@", "--data", "no.csv", "--key"],
        ["model", "verify", "@", "--key"],
        ["model", "preflight", "@", "--chip", "esp32", "--key"],
        ["model", "sign", "@", "--key"],
        ["board", "key", "PORT", "set"],
        [
            "node",
            "run",
            "--broker",
            "mqtts://127.0.0.1:1",
            "--federation",
            "f",
            "--name",
            "n",
            "--data",
            "x.csv",
            "--ca-file",
        ],
        ["gateway", "dashboard", "@", "--broker", "mqtts://127.0.0.1:1", "--ca-file"],
    ],
    ids=" ".join,
)
def test_commands_say_it_and_end_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: Any
) -> None:
    if "dashboard" in words:
        pytest.importorskip("uvicorn", reason="uvicorn comes with the gateway, not on a node")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("age,crp\n63,12\n")
    assert main([*(str(tmp_path) if word == "@" else word for word in words), "x.csv"]) == 2
    said = capsys.readouterr().err
    assert "x.csv: cannot be read as a " in said
    assert "it is text without PEM" in said
    assert "cryptography.io" not in said
