"""Who may see the dashboard: passwords, guesses, sessions, headers, certificates, floods."""

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, List

import pytest
from dashboards import MAIN, NOWHERE, PASSWORD, RUN, Client, dashboard, make_store

from orchestrator.errors import UsageError
from orchestrator.gateway.doorkeeper import MOST_CONNECTIONS
from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.sessions import FREE_TRIES, PAUSE_S, SESSION_S, Sessions, TryLimit, address_of
from orchestrator.gateway.web.settings import WebSettings


def test_other_machines_need_a_password(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"edgeward gateway password {tmp_path}"):
        DashboardProcess(tmp_path, WebSettings("0.0.0.0", 0), "test", NOWHERE)
    done = subprocess.run(
        [*MAIN, "gateway", "dashboard", str(tmp_path), "--listen", "0.0.0.0:0"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "set a password first" in done.stderr


def test_a_login_opens_the_door_and_only_that(tmp_path: Path) -> None:
    make_store(tmp_path)
    given = subprocess.run(
        [*MAIN, "gateway", "password", str(tmp_path)], input=PASSWORD + "\n", capture_output=True, text=True
    )
    assert given.returncode == 0, given.stderr
    (stored,) = tmp_path.glob("dashboard-login.json")
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert PASSWORD not in stored.read_text()
    with dashboard(tmp_path, "0.0.0.0") as (client, process):
        assert "not encrypted" in str(process.warning)
        for path in (
            "/api/overview",
            "/api/runs",
            f"/api/runs/{RUN}",
            "/api/boards",
            "/api/audit",
            "/api/events",
            "/metrics",
        ):
            assert client.ask(path)[0] == 401, path
        assert client.ask("/")[1]["location"] == "/login"
        assert client.ask("/statement/%c3%bc%20b%0d%0ax")[1]["location"] == "/login#/statement/%C3%BC%20b%0D%0Ax"
        assert client.ask("/login")[0] == 200
        assert client.ask("/api/overview", Cookie="edgeward=guess")[0] == 401
        assert client.log_in("wrong")[0] == 401
        status, headers, _ = client.log_in(PASSWORD)
        assert status == 200
        for wanted in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"):
            assert wanted in headers["set-cookie"], wanted
        assert client.json("/api/overview")["live"]["round"] == 2
        assert client.ask("/metrics")[0] == 200
        status, headers, _ = client.ask("/")
        assert status == 200
        assert client.ask("/api/logout", "POST", "{}", Content_Type="application/json")[0] == 200
        assert client.ask("/api/overview")[0] == 401
        # A new password ends the sessions of the old one.
        client.log_in(PASSWORD)
        assert client.ask("/api/overview")[0] == 200
        Login(tmp_path).set_password("another password")
        assert client.ask("/api/overview")[0] == 401
        # A scraper has its own token.
        token = Login(tmp_path).new_token()
        assert client.ask("/metrics", Authorization=f"Bearer {token}", Cookie="")[0] == 200
        assert client.ask("/metrics", Authorization="Bearer guess", Cookie="")[0] == 401
        assert client.ask("/api/overview", Authorization=f"Bearer {token}", Cookie="")[0] == 401


ODD_HOSTS = [
    "localhost/healthz?",
    "localhost/static/#",
    "x/login?",
    "/api/session#",
    "[",
    "localhost]",
    "\xff",
    "",
    "a b",
    "x" * 9000,
]
"""Host headers of which a URL is made that a stranger may ask for, or none at all."""


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0"])
def test_what_a_request_says_of_its_host_opens_no_door(
    tmp_path: Path, listen: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_store(tmp_path)
    Login(tmp_path).set_password(PASSWORD)
    note = json.dumps({"note": "of a stranger", "tags": ["x"]})
    with dashboard(tmp_path, listen) as (client, _):
        for host in ODD_HOSTS:
            for path in ("/api/runs", "/metrics", f"/api/runs/{RUN}", "/api/audit"):
                assert client.ask(path, Host=host)[0] in (400, 401, 421, 431), (host, path)
            assert client.ask("/", Host=host)[0] in (303, 400, 421, 431), host
            posted = client.ask(f"/api/notes/{RUN}", "POST", note, Host=host, Content_Type="application/json")
            assert posted[0] in (400, 401, 421, 431), host
        for origin in ("http://[", "null", "", "://", "http://localhost]", "\xff"):
            guess = client.ask("/api/login", "POST", "{}", Content_Type="application/json", Origin=origin)
            assert guess[0] == 403, origin
        assert client.log_in(PASSWORD)[0] == 200
        assert "of a stranger" not in client.ask(f"/api/runs/{RUN}")[2]


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path) as (client, _):
        results: List[int] = []
        guess = lambda: results.append(client_of(client).log_in("wrong")[0])  # noqa: E731
        threads = [threading.Thread(target=guess) for _ in range(FREE_TRIES + 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results.count(401) == FREE_TRIES
        assert results.count(429) == 3
        status, _, text = client_of(client).log_in("wrong")
        assert (status, json.loads(text)["error"][:14]) == (429, "wrong password"), "it waited, and was wrong"
        assert client_of(client).log_in(PASSWORD)[0] == 200, "it waited, and was right"


def test_of_the_tries_that_wait_the_newest_is_checked(tmp_path: Path) -> None:
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path) as (client, _):
        assert [client_of(client).log_in("wrong")[0] for _ in range(FREE_TRIES)] == [401] * FREE_TRIES
        results: List[Any] = []
        threads = []
        for password in [*["wrong"] * 20, PASSWORD]:
            threads.append(threading.Thread(target=lambda p=password: results.append((p, client_of(client).log_in(p)))))
            threads[-1].start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
        assert {status for password, (status, _, _) in results if password != PASSWORD} == {429}
        assert all(int(headers["retry-after"]) >= 1 for _, (status, headers, _) in results if status == 429)
        assert [status for password, (status, _, _) in results if password == PASSWORD] == [200]


def test_floods_and_a_lost_file_open_nothing_and_close_nothing(tmp_path: Path) -> None:
    """Bodies held back, requests that never end, and the login file gone: five guesses, pages that answer, nobody let in."""
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path) as (client, process):
        browser = next(v for v in all_cookies(client, PASSWORD) if "-browser=" in v)
        body = b'{"password": "wrong guess"}'
        head = "POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        held = [socket.create_connection(("127.0.0.1", client.port), timeout=600) for _ in range(FREE_TRIES + 9)]
        for link in held:
            link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        for link in held:
            link.sendall(body[-1:])
        codes = [link.recv(65536).split()[1] for link in held]
        assert (codes.count(b"401"), codes.count(b"429")) == (FREE_TRIES, 9)
        half = [socket.create_connection(("127.0.0.1", client.port), timeout=600) for _ in range(MOST_CONNECTIONS + 50)]
        for link in half:
            with contextlib.suppress(OSError):  # the first are ended for the last
                link.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        assert client.ask("/healthz")[0] == 200
        for link in [*held, *half]:
            link.close()
        # Nor do those who asked for something once, or hold back what a login says.
        for says in ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /", f"{head}Content-Length: 20\r\n\r\n{{"):
            crowd = [socket.create_connection(("127.0.0.1", client.port), timeout=600) for _ in range(MOST_CONNECTIONS)]
            for link in crowd:
                with contextlib.suppress(OSError):
                    link.sendall(says.encode())
            assert client.ask("/healthz")[0] == 200
            for link in crowd:
                link.close()
        # Who was here before is not held up by what others tried, and a page of brackets is no password.
        assert client.ask("/api/login", "POST", "[" * 3000, Content_Type="application/json", Cookie=browser)[0] == 400
        login = json.dumps({"password": PASSWORD})
        assert client.ask("/api/login", "POST", login, Content_Type="application/json", Cookie=browser)[0] == 200
        assert client.ask("/api/login", "POST", login, Content_Type="application/json", Cookie="")[0] == 200
        elsewhere = Client(client.port, source="127.0.0.9")
        assert elsewhere.log_in(PASSWORD)[0] == 200
        client.cookie = elsewhere.cookie
        token = Login(tmp_path).new_token()  # logs nobody out
        assert client.ask("/metrics", Cookie="", Authorization=f"Bearer {token}")[0] == 200
        assert client.ask("/api/overview")[0] == 200
        for text in ("[]", "{}", "", "null"):
            (tmp_path / "dashboard-login.json").write_text(text)
            assert client.ask("/api/overview")[0] == 503, text
        (tmp_path / "dashboard-login.json").unlink()
        assert process.pid is not None
        for _ in range(2):
            assert client.ask("/api/overview", Cookie="")[0] == 503
            assert client.ask("/healthz")[0] == 200
            os.kill(process.pid, signal.SIGKILL)  # the next one knows that there was a password
            client.wait()


def test_guesses_from_everywhere_wait_for_each_other_and_the_password_for_none(tmp_path: Path) -> None:
    """While 20 addresses guess: it is the newest try that is hashed next."""
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path) as (client, _):
        codes: List[int] = []

        def guess(number: int) -> None:
            codes.append(Client(client.port, source=f"127.0.2.{number}").log_in("wrong guess")[0])

        threads = [threading.Thread(target=guess, args=(number,)) for number in range(1, 21)]
        for thread in threads:
            thread.start()
        while not codes:
            time.sleep(0.01)
        waited_for = len(codes)
        assert Client(client.port, source="127.0.0.9").log_in(PASSWORD)[0] == 200
        waited_for = len(codes) - waited_for
        for thread in threads:
            thread.join()
        print(f"{waited_for} of {len(codes)} guesses were answered before the password")
        assert set(codes) <= {401, 429}
        assert waited_for < len(codes) / 2


def test_tries_of_a_network_count_together() -> None:
    assert address_of("2001:db8::1") == address_of("2001:db8::ffff:2") == "2001:db8::/64"
    assert address_of("2001:db8:0:1::1") != address_of("2001:db8::1")
    assert address_of("::ffff:10.0.0.1") == address_of("10.0.0.1") == "10.0.0.1"
    assert address_of("fe80::1%eth0") == "fe80::/64"
    assert address_of("testclient") == "testclient"


def all_cookies(client: Client, password: str) -> List[str]:
    link = http.client.HTTPConnection("127.0.0.1", client.port, timeout=600)
    link.request("POST", "/api/login", json.dumps({"password": password}), {"Content-Type": "application/json"})
    answer = link.getresponse()
    answer.read()
    return [value.split(";")[0] for name, value in answer.getheaders() if name.lower() == "set-cookie"]


def client_of(other: Client) -> Client:
    return Client(other.port)


def test_waits_end_and_sessions_expire() -> None:
    now = [0.0]
    limit = TryLimit(lambda: now[0])
    waits = []
    for _ in range(FREE_TRIES + 3):
        now[0] += limit.wait_s("x")
        limit.failed("x")
        waits.append(limit.wait_s("x"))
    assert waits[: FREE_TRIES - 1] == [0.0] * (FREE_TRIES - 1)
    assert waits[FREE_TRIES - 1 :] == [PAUSE_S] * 4
    assert limit.wait_s("y") == 0.0
    limit.succeeded("x")
    assert limit.wait_s("x") == 0.0
    for number in range(60):
        limit.failed(str(number))
    assert limit.wait_s("new") == 0.0, "who has the password gets in, whatever others try"
    limit.failed("new")
    assert limit.wait_s("new") > 0, "guessing from many addresses is one guesser"
    assert limit.wait_s("browser", known=True) == 0.0
    sessions = Sessions(lambda: now[0])
    token = sessions.begin()
    assert sessions.valid(token)
    now[0] += SESSION_S
    assert not sessions.valid(token)


def test_answers_carry_the_headers_that_keep_pages_apart(tmp_path: Path) -> None:
    with dashboard(tmp_path) as (client, _):
        for path in ("/", "/login", "/static/app.js", "/api/overview", "/api/nothing", "/static/nothing"):
            _, headers, _ = client.ask(path)
            policy = headers["content-security-policy"]
            assert "script-src 'self';" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers
        assert "<script>" not in client.ask("/")[2]
        assert client.ask("/", Host="evil.example")[0] == 421, "a name that was made to point here"
        assert client.ask("/api/overview", Host="localhost.evil.example:80")[0] == 421
        assert client.ask("/", Host="localhost:1234")[0] == 200
        for path in (
            "/static/../server.py",
            "/static/%2e%2e/server.py",
            "/static/..%2fserver.py",
            "/static//etc/passwd",
        ):
            assert client.ask(path)[0] == 404, path
        login = json.dumps({"password": "x" * 12})
        assert client.ask("/api/login", "POST", login, Content_Type="text/plain")[0] == 403
        crossed = client.ask("/api/login", "POST", login, Content_Type="application/json", Origin="http://evil.example")
        assert crossed[0] == 403
        assert (
            client.ask("/api/login", "POST", '{"password": "' + "x" * 9000, Content_Type="application/json")[0] == 400
        )
        assert client.ask("/api/overview", "DELETE", Content_Type="application/json")[0] == 405


def test_https_with_a_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make_certificate(certificate, key)
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path, "0.0.0.0", certificate=certificate, key=key) as (client, process):
        assert process.warning is None
        assert process.url.startswith("https://")
        cookie = client.log_in(PASSWORD)[1]["set-cookie"]
        assert cookie.startswith("__Host-edgeward-")
        assert "Secure" in cookie
        assert client.ask("/api/overview")[0] == 200
    with pytest.raises(UsageError, match=r"c\.pem: cannot be read as a private key .*: it holds a certificate"):
        WebSettings("127.0.0.1", 0, certificate, certificate).check(tmp_path)
    with pytest.raises(UsageError, match="go together"):
        WebSettings.parse("8080", certificate)


def make_certificate(certificate: Path, key: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate.write_bytes(builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(private.private_bytes(*form))


# The process
