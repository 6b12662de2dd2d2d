"""Invitations and certificates: the ways in, and every way that is refused."""

import json
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

import pytest

from orchestrator import http_server
from orchestrator.cli.main import main
from orchestrator.errors import IdentityError, UsageError
from orchestrator.gateway import audit as audit_module
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.enrolment import EnrolmentServer
from orchestrator.http_server import MOST_CONNECTIONS
from orchestrator.node.identity import NodeIdentity, enroll, make_node_request
from orchestrator.wire.pki import make_request, new_key
from orchestrator.wire.token import Token

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "gateway", "icu", ["127.0.0.1"])


@pytest.fixture
def server(authority: Authority) -> Iterator[str]:
    running = EnrolmentServer(authority.folder, ("127.0.0.1", 0), "mqtts://127.0.0.1:8883")
    yield f"https://127.0.0.1:{running.port}"
    running.close()


def audited(authority: Authority) -> List[Tuple[str, str]]:
    lines = map(json.loads, authority.audit.path.read_text().splitlines())
    return [(line["event"], line.get("reason", "")) for line in lines]


def test_a_token_brings_an_identity_and_the_key_stays_on_the_node(
    authority: Authority, server: str, tmp_path: Path
) -> None:
    token = authority.invite("a", server)
    identity = enroll(tmp_path / "a", Token.parse(str(token)))
    assert (identity.name, identity.federation, identity.broker) == ("a", "icu", "mqtts://127.0.0.1:8883")
    assert stat.S_IMODE((tmp_path / "a" / "node.key").stat().st_mode) == 0o600
    key = (tmp_path / "a" / "node.key").read_text().splitlines()[1]
    assert not any(key in p.read_text(errors="ignore") for p in authority.folder.iterdir())
    assert not any(token.secret in p.read_text(errors="ignore") for p in authority.folder.iterdir())
    assert authority.active() == {"a"}
    assert [event for event, _ in audited(authority)] == ["identity_made", "invited", "enrolled"]


def test_private_keys_are_private_and_nothing_is_overwritten(authority: Authority) -> None:
    for name in ("ca.key", "gateway.key", "signing.key"):
        assert stat.S_IMODE((authority.folder / name).stat().st_mode) == 0o600
    with pytest.raises(IdentityError, match="never overwritten"):
        Authority.create(authority.folder, "icu", [])


def test_every_wrong_token_has_its_own_reason(authority: Authority, server: str, tmp_path: Path) -> None:
    request = make_request(new_key(), "a", "icu")
    token = authority.invite("a", server)
    with pytest.raises(IdentityError, match="invites 'a', not 'b'"):
        authority.enroll("b", token.secret, make_request(new_key(), "b", "icu"))
    with pytest.raises(IdentityError, match="the request is for 'b', not 'a'"):
        authority.enroll("a", token.secret, make_request(new_key(), "b", "icu"))
    authority.enroll("a", token.secret, request)
    with pytest.raises(IdentityError, match="used before"):
        authority.enroll("a", token.secret, request)
    with pytest.raises(IdentityError, match="not known here"):
        authority.enroll("a", "guess", request)
    late = authority.invite("late", server, hours=1e-9)
    with pytest.raises(IdentityError, match="expired"):
        enroll(tmp_path / "late", late)
    refused = [reason for event, reason in audited(authority) if event == "enrolment_refused"]
    assert len(refused) == 5
    assert len(set(refused)) == 5


def test_a_wrong_authority_gets_no_secret(authority: Authority, server: str, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "icu", [])
    token = other.invite("a", server)
    with pytest.raises(IdentityError, match="Nothing was sent"):
        enroll(tmp_path / "a", token)
    assert audited(authority)[-1][0] == "identity_made"


def test_a_stranger_fills_no_disk(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has an Authority of its own, as in the server; the limit is of all of them."""
    monkeypatch.setattr(audit_module, "REFUSALS_AN_HOUR", 3)
    clock = [7.5 * 3600]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    for _ in range(8):
        request = Authority(authority.folder)
        with pytest.raises(IdentityError, match="not known here"):
            request.enroll("a", "guess", b"")
        request.close()
    events = [event for event, _ in audited(authority)]
    assert events == ["identity_made", *["enrolment_refused"] * 3, "refusals_no_longer_recorded"]
    clock[0] += 3600
    with pytest.raises(IdentityError):
        authority.enroll("a", "guess", b"")
    assert audited(authority)[-1][0] == "enrolment_refused"


def test_clients_that_trickle_hold_no_thread_and_print_nothing(
    authority: Authority,
    server: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = int(server.rpartition(":")[2])
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", port), timeout=600) for _ in range(2 * MOST_CONNECTIONS)]
    for link in silent:
        link.sendall(b"\x16\x03\x01")  # the beginning of a handshake
    identity = enroll(tmp_path / "a", authority.invite("a", server))
    assert identity.name == "a"
    until(lambda: threading.active_count() <= before + MOST_CONNECTIONS + 1)
    monkeypatch.setattr(http_server, "TIMEOUT_S", 0.0)
    until(lambda: threading.active_count() <= before)
    for link in silent:
        link.close()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("length", "body"),
    [
        ("\u00b2", b""),
        ("9" * 4300, b""),
        ("-1", b""),
        (None, b"[" * 60_000),
        (None, b'{"name": "\\ud800", "secret": "a", "request": "b"}'),
        (None, b'{"name": "a", "secret": "\\u0000", "request": "b"}'),
        (None, b'{"name": "a", "secret": "b", "request": "\\ud800"}'),
        (None, b'{"name": 1}'),
    ],
)
def test_requests_that_are_none_get_an_answer(
    server: str, length: "str | None", body: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", int(server.rpartition(":")[2])), timeout=600)
    with context.wrap_socket(plain) as link:
        said = str(len(body)) if length is None else length
        link.sendall(f"POST /enroll HTTP/1.0\r\nContent-Length: {said}\r\n\r\n".encode("latin-1") + body)
        assert link.recv(1000).split()[1] == b"403"
    assert "Traceback" not in capfd.readouterr().err


def test_what_the_gateway_cannot_do_is_said_in_its_log_and_not_to_strangers(
    authority: Authority, server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = authority.invite("a", server)
    authority.close()
    hidden = (authority.folder / "authority.sqlite").rename(tmp_path / "away")
    (authority.folder / "authority.sqlite").mkdir()
    with pytest.raises(IdentityError, match="cannot be answered now") as refused:
        enroll(tmp_path / "a", token)
    assert str(authority.folder) not in str(refused.value)
    (said,) = [m for m in caplog.messages if "not answered" in m]
    assert f"{authority.folder}/authority.sqlite" in said
    assert "Traceback" not in caplog.text
    (authority.folder / "authority.sqlite").rmdir()
    hidden.rename(authority.folder / "authority.sqlite")
    assert enroll(tmp_path / "b", token).name == "a"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_monitor_enrolls_as_a_node_does(authority: Authority, server: str, tmp_path: Path) -> None:
    assert enroll(tmp_path / "m", authority.invite("monitor:ward", server)).name == "monitor:ward"


def test_records_are_forwarded_by_a_monitor_of_that_federation_only(
    authority: Authority, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broker drops in silence what a certificate may not write, so it is said before anything is sent."""
    enroll(tmp_path / "m", authority.invite("monitor:ward", server))
    enroll(tmp_path / "n", authority.invite("icu-1", server))
    forward = ["monitor", "/dev/null", "--forward", "mqtts://127.0.0.1:1", "--federation"]
    for words, why in (
        ([*forward, "other", "--identity", str(tmp_path / "m")], f"is of '{authority.federation}'"),
        ([*forward, authority.federation, "--identity", str(tmp_path / "n")], "invite a monitor"),
        (["monitor", "/dev/null", "--identity", str(tmp_path / "m")], "is for --forward"),
    ):
        assert main(words) == 2
        assert why in capsys.readouterr().err


def test_names_that_mean_something_else_are_refused(authority: Authority) -> None:
    for name in ("gateway", "all", "a/b", "monitor:", "+", "Big"):
        with pytest.raises(UsageError):
            authority.invite(name, "https://x:1")


def test_a_revoked_name_can_be_invited_anew(authority: Authority, tmp_path: Path) -> None:
    authority.sign(make_request(new_key(), "a", "icu"), "a")
    with pytest.raises(IdentityError, match="revoke it first"):
        authority.invite("a", "https://x:1")
    with pytest.raises(IdentityError, match="revoke it first"):
        authority.sign(make_request(new_key(), "a", "icu"), "a")
    assert audited(authority)[-1][0] == "signing_refused"
    before = (authority.folder / "crl.pem").read_bytes()
    assert authority.revoke("a") == 1
    assert (authority.folder / "crl.pem").read_bytes() != before
    assert authority.active() == set()
    with pytest.raises(IdentityError, match="neither a certificate"):
        authority.revoke("a")
    authority.invite("a", "https://x:1")


def test_a_request_for_an_identity_that_exists_is_refused(authority: Authority, server: str, tmp_path: Path) -> None:
    enroll(tmp_path / "a", authority.invite("a", server))
    with pytest.raises(IdentityError, match="never overwritten"):
        make_node_request(tmp_path / "a", "a", "icu")


def test_the_offline_way_through_the_commands(tmp_path: Path) -> None:
    def edgeward(*words: object) -> str:
        done = subprocess.run([*MAIN, *map(str, words)], capture_output=True, text=True, timeout=850)
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = edgeward("gateway", "init", tmp_path / "g", "--federation", "icu", "--host", "10.0.0.1")
    fingerprint = made.splitlines()[0].split()[-1]
    edgeward(
        "node",
        "request",
        "--name",
        "a",
        "--federation",
        "icu",
        "--identity",
        tmp_path / "a",
        "--out",
        tmp_path / "a.csr",
    )
    signed = ["--identity", tmp_path / "g", "--name", "a", "--broker", "mqtts://10.0.0.1:8883"]
    edgeward("gateway", "sign", tmp_path / "a.csr", *signed, "--out", tmp_path / "a.json")
    wrong = [*MAIN, "node", "install", str(tmp_path / "a.json"), "--identity", str(tmp_path / "a"), "--ca", "00"]
    done = subprocess.run(wrong, capture_output=True, text=True, timeout=850)
    assert done.returncode == 2
    assert "another authority" in done.stderr
    edgeward("node", "install", tmp_path / "a.json", "--identity", tmp_path / "a", "--ca", fingerprint)
    assert NodeIdentity(tmp_path / "a").broker == "mqtts://10.0.0.1:8883"
    assert "whole" in edgeward("gateway", "audit", tmp_path / "g", "--verify")
    assert "enrolled" in edgeward("gateway", "audit", tmp_path / "g")
