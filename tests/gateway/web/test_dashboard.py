"""The dashboard over HTTP: what it shows of a real run, who may see it, and that it never disturbs the rounds."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.errors import UsageError
from orchestrator.gateway.broker import OwnBroker, free_port
from orchestrator.gateway.running import Held, holder
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.doorkeeper import MOST_CONNECTIONS
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.sessions import FREE_TRIES, SESSION_S, Sessions, TryLimit
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.rounds.events import Aggregated, Arrived, Declined, Joined, Started
from orchestrator.wire.link import BrokerAddress, Link
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Privacy, Rounds, Task, Training, task_to_dict
from orchestrator.wire.topics import Topics

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
NOWHERE = BrokerAddress("127.0.0.1", 1)
PASSWORD = "correct horse battery"
RUN = "heart-0123abcd"


def make_store(out: Path, rounds: int = 3, begun: int = 2, privacy: Optional[Privacy] = None) -> None:
    """A run in round `begun`: a has answered, b is awaited, c declined; as the gateway would have journalled it."""
    schema = Schema("table", "sick", ("no", "yes"), {"0": 0, "1": 1}, (Feature("age", 0, 110),))
    rules = Rounds(nodes=2, quorum=2, deadline_s=60.0)
    task = Task(
        "heart", schema, {"kind": "mlp", "hidden": [4]}, Training(rounds=rounds), privacy or Privacy("none"), rules
    )
    store = Store(out / "gateway.sqlite")
    store.create_run(RUN, task_to_dict(task), b"graph", np.zeros(5, np.float32))
    store.append(RUN, Started(1000.0))
    store.append(RUN, Joined(1001.0, "a", 120))
    store.append(RUN, Declined(1002.0, "c", "no column 'age'"))
    store.append(RUN, Joined(1003.0, "b", 80))
    for number in range(begun + 1):
        store.append(RUN, Arrived(1004.0 + number, "a", number, "d", 120.0))
        if number == begun:
            store.put_update(RUN, number, "a", b"x" * 77)
            break
        store.append(RUN, Arrived(1004.5 + number, "b", number, "d", 80.0))
        figures = {"bytes_up": 200, "bytes_down": 300, "seconds": 0.5, "codec_error": None, "nodes": ["a", "b"]}
        scores = {"accuracy": 0.8, "loss": float("nan"), "auc": 0.9} if number else {}
        store.put_result(RUN, number, {"round": number, "updates": 2, **figures, **scores})
        store.append(RUN, Aggregated(1004.7 + number, number))
    store.close()


class Client:
    """Plain requests, so that a test can say anything a stranger could."""

    def __init__(self, port: int, tls: bool = False, host: str = "127.0.0.1") -> None:
        self.port, self.tls, self.host = port, tls, host
        self.cookie = ""

    def ask(
        self, path: str, method: str = "GET", body: Optional[str] = None, **headers: str
    ) -> Tuple[int, Dict[str, str], str]:
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            link: Any = http.client.HTTPSConnection(self.host, self.port, timeout=60, context=context)
        else:
            link = http.client.HTTPConnection(self.host, self.port, timeout=60)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            told.setdefault("Cookie", self.cookie)
        link.request(method, path, body, told)
        answer = link.getresponse()
        text = answer.read().decode()
        link.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    def json(self, path: str) -> Any:
        status, _, text = self.ask(path)
        assert status == 200, text
        return json.loads(text)

    def log_in(self, password: str) -> Tuple[int, Dict[str, str], str]:
        answer = self.ask("/api/login", "POST", json.dumps({"password": password}), Content_Type="application/json")
        self.cookie = answer[1].get("set-cookie", "").split(";")[0]
        return answer

    def wait(self) -> "Client":
        deadline = time.monotonic() + 60
        while True:
            try:
                assert self.ask("/healthz")[0] == 200
                return self
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@contextmanager
def dashboard(
    out: Path, host: str = "127.0.0.1", broker: BrokerAddress = NOWHERE, **files: Path
) -> Iterator[Tuple[Client, DashboardProcess]]:
    settings = WebSettings(host, 0, **files)
    with DashboardProcess(out, settings, "test", broker) as process:
        port = int(process.url.rstrip("/").rpartition(":")[2])
        yield Client(port, settings.tls).wait(), process


def test_an_open_round_is_shown_as_the_journal_has_it(tmp_path: Path) -> None:
    make_store(tmp_path)
    with dashboard(tmp_path) as (client, _):
        page = client.json("/api/overview")
        live = page["live"]
        assert (live["phase"], live["round"], live["rounds"], live["kind"]) == ("collecting", 2, 3, "training")
        assert (live["arrived"], live["awaited"]) == ([{"node": "a", "bytes": 77}], ["b"])
        assert live["deadline_at"] == pytest.approx(1005.7 + 60)
        nodes = {row["node"]: row for row in page["nodes"]}
        assert [nodes[name]["state"] for name in "abc"] == ["arrived", "training", "declined"]
        assert nodes["c"]["reason"] == "no column 'age'"
        assert (nodes["a"]["records"], nodes["a"]["updates"]) == (120, 3)
        assert [row["round"] for row in page["rounds"]] == [0, 1]
        assert page["rounds"][1]["loss"] is None, "a number that is not finite is no JSON"
        assert page["privacy"]["state"] == "none"
        assert "age (0 to 110)" in page["run"]["words"][0]["text"]
        assert page["gateway"]["running"] is False
        assert any("c declined" in line["text"] for line in page["activity"])
        assert client.json(f"/api/runs/{RUN}")["live"] == live
        assert client.json("/api/runs")[0]["rounds_done"] == 1
        assert client.ask("/api/runs/nothing")[0] == 404
        # What the journal gains is seen, without asking the gateway.
        store = Store(tmp_path / "gateway.sqlite")
        store.append(RUN, Arrived(1010.0, "b", 2, "d", 80.0))
        store.close()
        assert client.json("/api/overview")["live"]["phase"] == "aggregating"


def test_before_any_run_and_without_boards_it_says_so(tmp_path: Path) -> None:
    with dashboard(tmp_path) as (client, _):
        page = client.json("/api/overview")
        assert (page["run"], page["runs"], page["boards"]["boards"]) == (None, [], [])
        assert client.json("/api/audit") == {"present": False, "entries": []}
        assert client.ask("/metrics")[0] == 200
        (tmp_path / "audit.jsonl").write_text('{"what": "first"}\n{"what": "last"}\nbroken')
        assert client.json("/api/audit?limit=2")["entries"] == [{"unreadable": "broken"}, {"what": "last"}]
        assert client.ask("/api/audit?limit=x")[0] == 400


def test_epsilon_is_a_curve_that_ends_where_the_statement_does(tmp_path: Path) -> None:
    privacy = Privacy(
        epsilon=8.0,
        delta=1e-3,
        noise_multiplier=1.5,
        statistics_noise_multiplier=3.0,
        statistics_clip_norm=0.5,
    )
    make_store(tmp_path, privacy=privacy)
    from orchestrator.privacy.charges import Charge, epsilon_of

    with dashboard(tmp_path) as (client, _):
        deadline = time.monotonic() + 120
        while (shown := client.json("/api/overview")["privacy"])["state"] == "computing":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert shown["state"] == "ready", shown
        assert [number for number, _ in shown["points"]] == [0, 1, 2, 3]
        for number, epsilon in shown["points"]:
            charges = [Charge("statistics", 3.0), Charge("count", 7.5)]
            charges += [Charge("training", 1.5, privacy.sampling_rate, number)]
            assert epsilon == pytest.approx(epsilon_of(charges, privacy.delta), rel=1e-3)
        assert shown["spent"] == shown["points"][2][1], "round 2 is open: its answers may be out"
        assert shown["unit"] == "record"
        assert shown["not_covered"]
        metrics = parse_metrics(client)
        assert metrics["edgeward_privacy_epsilon_spent"] == pytest.approx(shown["spent"])


def parse_metrics(client: Client) -> Dict[str, float]:
    status, headers, text = client.ask("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {sample.name: sample.value for sample in samples if sample.labels.get("direction") != "sent"}


def test_prometheus_reads_the_metrics(tmp_path: Path) -> None:
    make_store(tmp_path)
    with dashboard(tmp_path) as (client, process):
        process.tell({"event": "refused", "node": "a", "reason": "unsigned"})
        deadline = time.monotonic() + 30
        while not (metrics := parse_metrics(client))["edgeward_messages_refused_total"]:
            assert time.monotonic() < deadline
        assert metrics["edgeward_rounds_completed_total"] == 1
        assert metrics["edgeward_round_bytes_total"] == 400
        assert metrics["edgeward_nodes_online"] == 2
        assert metrics["edgeward_nodes_declined"] == 1
        assert metrics["edgeward_updates_total"] == 2
        assert metrics["edgeward_accuracy_ratio"] == 0.8
        assert metrics["edgeward_last_round_seconds"] == 0.5
        assert metrics["edgeward_process_resident_memory_bytes"] > 1e6
        assert any("unsigned" in line["text"] for line in client.json("/api/overview")["activity"])


def test_records_of_boards_are_heard_and_strange_ones_passed_over(tmp_path: Path) -> None:
    with OwnBroker("embedded") as broker, dashboard(tmp_path, broker=broker.address) as (client, _):
        deadline = time.monotonic() + 60
        while client.json("/api/boards")["state"] != "listening":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        link = Link(broker.address, "board", ())
        link.open(20)
        topic = Topics("test").board_record("ttyusb0")
        head = {"boot": "b", "model": "m1", "t_us": 5}
        link.publish(topic, b"no json")
        link.publish(topic, b'{"kind": "metrics", "latency_p50_us": NaN}')
        link.publish(
            topic, json.dumps({**head, "seq": 0, "kind": "info", "simulated": True, "engine": "direct"}).encode()
        )
        for seq in (1, 4):
            record = {**head, "seq": seq, "kind": "metrics", "latency_p50_us": 10 * seq, "inferences": seq}
            link.publish(topic, json.dumps(record).encode())
        while not (boards := client.json("/api/boards")["boards"]) or boards[0]["received"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        link.close()
        (board,) = boards
        assert (board["simulated"], board["model"], board["lost"]) == (True, "m1", 2)
        assert [point["latency_p50_us"] for point in board["history"]] == [10, 40]
        assert 'simulated="true"' in client.ask("/metrics")[2]


def test_events_are_pushed_as_they_happen(tmp_path: Path) -> None:
    make_store(tmp_path)
    with dashboard(tmp_path) as (client, _), socket.create_connection(("127.0.0.1", client.port), timeout=60) as link:
        link.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(link, b'"phase":"collecting"')
        store = Store(tmp_path / "gateway.sqlite")
        store.append(RUN, Arrived(1010.0, "b", 2, "d", 80.0))
        store.close()
        read_until(link, b'"phase":"aggregating"')


def read_until(link: socket.socket, wanted: bytes) -> None:
    heard = b""
    while wanted not in heard:
        part = link.recv(65536)
        assert part, f"the stream ended before {wanted!r}"
        heard += part


# Strangers


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


def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path) as (client, _):
        results: list = []
        guess = lambda: results.append(client_of(client).log_in("wrong")[0])  # noqa: E731
        threads = [threading.Thread(target=guess) for _ in range(FREE_TRIES + 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results.count(401) == FREE_TRIES
        assert results.count(429) == 3
        status, headers, _ = client.log_in(PASSWORD)
        assert (status, int(headers["retry-after"]) >= 1) == (429, True)


def test_floods_and_a_lost_file_open_nothing_and_close_nothing(tmp_path: Path) -> None:
    """Bodies held back, requests that never end, and the login file gone: five guesses, pages that answer, nobody let in."""
    Login(tmp_path).set_password(PASSWORD)
    with dashboard(tmp_path) as (client, process):
        browser = next(v for v in all_cookies(client, PASSWORD) if v.startswith("edgeward-browser="))
        body = b'{"password": "wrong guess"}'
        head = "POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        held = [socket.create_connection(("127.0.0.1", client.port), timeout=60) for _ in range(FREE_TRIES + 9)]
        for link in held:
            link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        for link in held:
            link.sendall(body[-1:])
        codes = [link.recv(65536).split()[1] for link in held]
        assert (codes.count(b"401"), codes.count(b"429")) == (FREE_TRIES, 9)
        half = [socket.create_connection(("127.0.0.1", client.port), timeout=60) for _ in range(MOST_CONNECTIONS + 50)]
        for link in half:
            with contextlib.suppress(OSError):  # the first are ended for the last
                link.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        assert client.ask("/healthz")[0] == 200
        for link in [*held, *half]:
            link.close()
        # Who was here before is not held up by what others tried, and a page of brackets is no password.
        assert client.ask("/api/login", "POST", "[" * 3000, Content_Type="application/json", Cookie=browser)[0] == 400
        login = json.dumps({"password": PASSWORD})
        assert client.ask("/api/login", "POST", login, Content_Type="application/json", Cookie="")[0] == 429
        assert client.ask("/api/login", "POST", login, Content_Type="application/json", Cookie=browser)[0] == 200
        client.log_in(PASSWORD)
        (tmp_path / "dashboard-login.json").unlink()
        assert process.pid is not None
        for _ in range(2):
            assert client.ask("/api/overview", Cookie="")[0] == 503
            assert client.ask("/healthz")[0] == 200
            os.kill(process.pid, signal.SIGKILL)  # the next one knows that there was a password
            client.wait()


def all_cookies(client: Client, password: str) -> List[str]:
    link = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
    link.request("POST", "/api/login", json.dumps({"password": password}), {"Content-Type": "application/json"})
    answer = link.getresponse()
    answer.read()
    return [value.split(";")[0] for name, value in answer.getheaders() if name.lower() == "set-cookie"]


def client_of(other: Client) -> Client:
    return Client(other.port)


def test_waits_grow_end_and_sessions_expire() -> None:
    now = [0.0]
    limit = TryLimit(lambda: now[0])
    waits = []
    for _ in range(FREE_TRIES + 3):
        now[0] += limit.wait_s("x")
        limit.failed("x")
        waits.append(limit.wait_s("x"))
    assert waits[: FREE_TRIES - 1] == [0.0] * (FREE_TRIES - 1)
    assert waits[FREE_TRIES - 1 :] == [30.0, 60.0, 120.0, 240.0]
    assert limit.wait_s("y") == 0.0
    limit.succeeded("x")
    assert limit.wait_s("x") == 0.0
    for number in range(60):
        limit.failed(str(number))
    assert limit.wait_s("new") > 0, "guessing from many addresses is one guesser"
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
        assert cookie.startswith("__Host-edgeward=")
        assert "Secure" in cookie
        assert client.ask("/api/overview")[0] == 200
    with pytest.raises(UsageError, match=r"c\.pem with key .*c\.pem"):
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


def test_a_killed_dashboard_comes_back_and_one_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    make_store(tmp_path)
    with dashboard(tmp_path) as (client, process):
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while process.restarts == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.wait()
        assert client.json("/api/overview")["live"]["round"] == 2
        assert process.pid != first
        os.kill(process.pid or 0, signal.SIGSTOP)
        before = time.monotonic()
        for _ in range(5000):  # far more than the channel holds
            process.tell({"event": "refused", "node": "a", "reason": "x" * 1000})
        assert time.monotonic() - before < 60, "telling a dashboard that hangs must not wait for it"
    assert not Path(f"/proc/{process.pid}").exists() or "zombie" in Path(f"/proc/{process.pid}/status").read_text()


def test_a_taken_port_and_a_second_gateway_are_refused(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}: Address already in use"):
            DashboardProcess(tmp_path, WebSettings("127.0.0.1", port), "test", NOWHERE)
    assert holder(tmp_path) is None
    program = "import sys; from pathlib import Path; from orchestrator.gateway.running import Held\n"
    program += "with Held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    held = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    assert holder(tmp_path) == held.pid
    with pytest.raises(UsageError, match=f"process {held.pid} runs a gateway"), Held(tmp_path):
        pass
    held.kill()
    held.communicate()
    with Held(tmp_path):
        pass


def test_the_dashboard_of_a_folder_alone(tmp_path: Path) -> None:
    make_store(tmp_path)
    port = free_port()
    command = [*MAIN, "gateway", "dashboard", str(tmp_path), "--listen", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        client = Client(port).wait()
        page = client.json("/api/overview")
        assert page["boards"]["state"] == "not configured"
        assert page["gateway"]["running"] is False
    finally:
        process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert "Traceback" not in told
