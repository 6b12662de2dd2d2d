"""Every fault is really there: a closed port, an expired certificate, a file that cannot be written, no runtime."""

import datetime
import ipaddress
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.cli.main import main
from orchestrator.doctor.broker import check_broker, check_gateways, check_own_port
from orchestrator.doctor.certificates import check_identity
from orchestrator.doctor.examine import Question, examine
from orchestrator.doctor.files import check_data, check_store
from orchestrator.doctor.finding import OK, PROBLEM, Finding
from orchestrator.doctor.machine import check_clock, check_disk
from orchestrator.doctor.software import check_port
from orchestrator.gateway.broker import OwnBroker, free_port
from orchestrator.gateway.store import Store
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import BrokerAddress, Link
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task

MAIN = [sys.executable, "-m", "orchestrator.cli.main", "doctor"]
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.timezone.utc)
Key = ec.EllipticCurvePrivateKey


def issue(
    name: str, issuer: Optional[Tuple[x509.Certificate, Key]] = None, begin: Any = NOW - DAY, end: Any = NOW + 90 * DAY
) -> Tuple[x509.Certificate, Key]:
    """A certificate for `name` and 127.0.0.1; a CA of its own without an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(
        issuer[0].subject if issuer else subject, subject, key.public_key(), x509.random_serial_number(), begin, end
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def put(folder: Path, name: str, issued: Tuple[x509.Certificate, Key], mode: int = 0o600) -> None:
    certificate, key = issued
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    if name != "ca":
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(key.private_bytes(*form))
        (folder / f"{name}.key").chmod(mode)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    folder = tmp_path / "identity"
    folder.mkdir()
    ca = issue("ca")
    put(folder, "ca", ca)
    put(folder, "node", issue("icu", ca))
    return folder


def only(findings: List[Finding], level: str = "problem") -> str:
    (message,) = [f.message for f in findings if f.level == level]
    assert all(f.fix for f in findings if f.level == "problem"), "a problem comes with its fix"
    return message


# Certificates


def test_a_sound_identity(identity: Path) -> None:
    assert [f.level for f in check_identity(identity)] == ["ok"]


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        (NOW + 91 * DAY, "expired on"),
        (NOW - 2 * DAY, "this machine's clock says"),
    ],
)
def test_a_certificate_out_of_its_time(identity: Path, when: Any, reason: str) -> None:
    ca = issue("ca", begin=NOW - 1000 * DAY, end=NOW + 1000 * DAY)
    put(identity, "ca", ca)
    put(identity, "node", issue("icu", ca))
    assert reason in only(check_identity(identity, when))
    assert "expires on" in only(check_identity(identity, NOW + 80 * DAY), "warning")


def test_faults_of_an_identity(identity: Path, tmp_path: Path) -> None:
    key = identity / "node.key"
    key.chmod(0o644)
    assert "others on this machine can use it (mode 0644)" in only(check_identity(identity))
    key.chmod(0o600)
    good = key.read_bytes()
    put(tmp_path, "other", issue("x"))
    key.write_bytes((tmp_path / "other.key").read_bytes())
    assert "does not belong to the certificate" in only(check_identity(identity))
    key.unlink()
    assert "key is missing" in only(check_identity(identity))
    key.write_bytes(good[:40])
    key.chmod(0o600)
    assert "cannot be read as a private key" in only(check_identity(identity))
    key.write_bytes(good)
    put(identity, "ca", issue("ca"))
    assert "was not signed by ca.crt" in only(check_identity(identity))
    (identity / "ca.crt").write_text("nonsense")
    assert "cannot be read as a certificate" in only(check_identity(identity))
    (identity / "ca.crt").unlink()
    assert "ca.crt: is missing" in only(check_identity(identity))
    assert "no such folder" in only(check_identity(identity / "none"))
    (tmp_path / "empty").mkdir()
    assert "holds no certificate" in only(check_identity(tmp_path / "empty"))


# Broker


@pytest.fixture
def tls_broker(tmp_path: Path, identity: Path) -> Iterator[Tuple[int, Any]]:
    """A mosquitto with TLS and a password; yields its port and a function that starts it with a server certificate."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    port, started = free_port(), []

    def start(server: Tuple[x509.Certificate, Key], *more: str) -> None:
        put(tmp_path, "server", server, 0o644)
        lines = [
            f"listener {port} 127.0.0.1",
            "user root",
            f"password_file {tmp_path / 'passwd'}",
            "allow_anonymous false",
        ]
        lines += [f"certfile {tmp_path / 'server.crt'}", f"keyfile {tmp_path / 'server.key'}"]
        lines += more
        (tmp_path / "passwd").write_text("")
        (tmp_path / "m.conf").write_text("\n".join(lines) + "\n")
        started.append(subprocess.Popen([MOSQUITTO, "-c", str(tmp_path / "m.conf")], stderr=subprocess.DEVNULL))
        for _ in range(600):
            with socket.socket() as probe:
                probe.settimeout(0.1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("mosquitto did not start")

    yield port, start
    for process in started:
        process.kill()
        process.wait()


def test_a_broker_that_is_there() -> None:
    with OwnBroker("mosquitto" if MOSQUITTO else "embedded") as broker:
        assert [f.level for f in check_broker(broker.address, 10)] == ["ok"]
        assert "cannot listen there" in check_own_port("127.0.0.1", broker.address.port, False).message
        assert check_gateways(broker.address).level == "not checked"
        gateway = Link(broker.address, "gateway", [])
        gateway.open(30)
        gateway.publish("edgeward/1/icu/gateway/presence", encode_body({"kind": "gateway"}), retain=True)
        found = until_seen(broker.address)
        assert (found.level, "federations are there: icu;" in found.message) == ("ok", True)
        gateway.publish("edgeward/4/er/gateway/presence", b"?", retain=True)
        while found.level == "ok":
            found = until_seen(broker.address)
        assert "er speaks protocol 4, this node 1" in found.message
        gateway.close()


def until_seen(broker: BrokerAddress) -> Finding:
    """What is said of gateways once one is seen, however long a busy machine takes."""
    while True:
        found = check_gateways(broker)
        if found.level != "not checked":
            return found


def test_no_name_and_no_port() -> None:
    assert "the name is not known" in only(check_broker(BrokerAddress("no-such-host.invalid", 1883), 5))
    assert "refused" in only(check_broker(BrokerAddress("127.0.0.1", free_port()), 5))


def test_tls_faults_are_told_apart(tls_broker: Tuple[int, Any], tmp_path: Path) -> None:
    port, start = tls_broker
    ca, other = issue("ca"), issue("another")
    put(tmp_path, "ca", ca)
    (tmp_path / "strange").mkdir()
    put(tmp_path / "strange", "ca", other)
    start(issue("server", ca))

    def problem(ca_file: Path, tls: bool = True) -> Finding:
        address = BrokerAddress("127.0.0.1", port, tls, ca_file=str(ca_file))
        return next(f for f in check_broker(address, 10) if f.level == "problem")

    assert "not accepted" in problem(tmp_path / "strange" / "ca.crt").message
    refused = problem(tmp_path / "ca.crt")
    assert "the broker refused" in refused.message
    assert "PASSWORD" in refused.fix


def test_an_expired_broker_certificate_is_named(tls_broker: Tuple[int, Any], tmp_path: Path) -> None:
    port, start = tls_broker
    ca = issue("ca", begin=NOW - 9 * DAY)
    put(tmp_path, "ca", ca)
    start(issue("server", ca, NOW - 5 * DAY, NOW - DAY))
    found = check_broker(BrokerAddress("127.0.0.1", port, True, ca_file=str(tmp_path / "ca.crt")), 10)
    assert "expired" in only(found)


def test_a_broker_that_asks_for_certificates(tls_broker: Tuple[int, Any], tmp_path: Path) -> None:
    port, start = tls_broker
    ca, other = issue("ca"), issue("another")
    put(tmp_path, "ca", ca)
    put(tmp_path, "node", issue("icu", ca))
    put(tmp_path, "foreign", issue("icu", other))
    asks = (f"cafile {tmp_path / 'ca.crt'}", "require_certificate true", "use_identity_as_username true")
    start(issue("server", ca), *asks)
    plain = BrokerAddress("127.0.0.1", port, True, ca_file=str(tmp_path / "ca.crt"))

    def with_files(name: str) -> BrokerAddress:
        return plain.secured(str(tmp_path / "ca.crt"), str(tmp_path / f"{name}.crt"), str(tmp_path / f"{name}.key"))

    assert [f.level for f in check_broker(with_files("node"), 10)] == ["ok"]
    assert "TLS" in only(check_broker(with_files("foreign"), 10))
    assert "TLS" in only(check_broker(plain, 10))


# The machine


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """A limit on file sizes, which the kernel enforces as it does a full disk; and a folder nobody can write to."""
    program = (
        "import sys, json; from pathlib import Path; from orchestrator.doctor.machine import check_disk;"
        "print(json.dumps([f.as_dict() for f in check_disk(Path(sys.argv[1]), 1)]))"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(tmp_path)], preexec_fn=limit, capture_output=True, text=True
    )
    (finding,) = json.loads(done.stdout)
    assert (finding["level"], "cannot be written" in finding["message"]) == ("problem", True)
    assert list(tmp_path.iterdir()) == []
    assert "cannot be written" in only(check_disk(Path("/proc/edgeward"), 1))
    assert [f.level for f in check_disk(tmp_path / "new" / "er", 1)] == ["ok"]
    assert "MiB free" in only(check_disk(tmp_path, 1 << 40))


def test_a_clock_behind_its_own_files(tmp_path: Path) -> None:
    late = NOW.timestamp() + 86400
    (tmp_path / "node.sqlite").write_bytes(b"")
    os.utime(tmp_path / "node.sqlite", (late, late))
    assert any("(a guess)" in f.message for f in check_clock(tmp_path) if f.level == "warning")
    os.utime(tmp_path / "node.sqlite")
    assert not any("(a guess)" in f.message for f in check_clock(tmp_path))


@pytest.mark.parametrize(("said", "level"), [("yes", "ok"), ("no", "warning")])
def test_what_the_time_service_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, level: str) -> None:
    """A stand-in that prints a line of timedatectl: the real one needs a running systemd."""
    (tmp_path / "timedatectl").write_text(f"#!/bin/sh\necho 'System clock synchronized: {said}'\n")
    (tmp_path / "timedatectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert check_clock(tmp_path / "none")[-1].level == level


@pytest.mark.skipif(os.geteuid() != 0, reason="giving up rights takes root")
def test_a_port_this_user_may_not_open() -> None:
    leader, follower = os.openpty()
    device = os.ttyname(follower)
    os.chmod(device, 0o600)
    assert check_port(device).level == "ok"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        finding = check_port(device)
        os.write(writer, f"{finding.level}|{finding.fix}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 500).decode().startswith("problem|sudo usermod -aG ")
    for descriptor in (leader, follower, reader, writer):
        os.close(descriptor)


# Files


def test_a_damaged_store(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    assert check_store(path).level == "not checked"
    store = Store(path)
    for i in range(200):
        store.put_phase(f"run {i}", 1.0, "gathering", -1, "x" * 100)
    store.close()
    assert check_store(path).level == "ok"
    data = bytearray(path.read_bytes())
    data[-4096:] = b"\x5a" * 4096
    path.write_bytes(bytes(data))
    assert check_store(path).level == "problem"


def test_data_against_the_schema(tmp_path: Path) -> None:
    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),))
    task, path = Task("t", schema, {}, privacy=Privacy(delta=0.1)), tmp_path / "d.csv"
    assert "no such file" in check_data(path, task).message
    path.write_text("x,y\n0.5,0\n0.5,7\n")
    assert check_data(path, None).level == "not checked"
    assert "label '7' is not in the task's schema" in check_data(path, task).message
    path.write_text("x,y\n" + "0.5,0\n" * 5)
    assert check_data(path, task).level == "ok"
    path.write_text("x,y\n" + "0.5,0\n" * 50)
    assert "delta 0.1 is not below 1/units = 1/50" in check_data(path, task).message
    path.write_text("x,y\n" + "0.5,0\n" * 4 + "79,1\n")
    wrong_unit = check_data(path, task)
    assert (wrong_unit.level, "1 of 5 values (20.00%)" in wrong_unit.message) == ("warning", True)
    assert "task's units" in wrong_unit.fix
    patients = replace(task, schema=replace(schema, patient="p"), privacy=Privacy(unit="patient", delta=0.1))
    path.write_text("x,y,p\n" + "0.5,0,a\n" * 50)
    assert check_data(path, patients).level == "ok", "fifty records of one patient are one unit"
    path.write_text("x,y,p\n" + "".join(f"0.5,0,{n}\n" for n in range(10)))
    assert "1/units = 1/10: it would allow a whole patient to leak" in check_data(path, patients).message


# The command


def findings(done: "subprocess.CompletedProcess[str]") -> Dict[str, str]:
    return {f["check"]: f["level"] for f in json.loads(done.stdout)["findings"]}


def test_a_missing_runtime_and_the_exit_code(tmp_path: Path) -> None:
    for name in ("ai_edge_litert", "tflite_runtime"):
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text("raise ImportError('not for this machine')\n")
    with OwnBroker("mosquitto" if MOSQUITTO else "embedded") as broker:
        command = [*MAIN, "--node", "--state", str(tmp_path / "state"), "--broker", str(broker.address), "--json"]
        well = subprocess.run(command, capture_output=True, text=True)
        path = f"{tmp_path / 'blocked'}:{os.environ.get('PYTHONPATH', '')}"
        sick = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert (well.returncode, findings(well)["runtime"], findings(well)["broker"]) == (0, "ok", "ok")
    assert (sick.returncode, findings(sick)["runtime"]) == (1, "problem")
    assert not (tmp_path / "state").exists(), "it changes nothing"


def test_a_gateway_with_a_mistake_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text("[gateway]\nprot = 1\n")
    done = subprocess.run([*MAIN, str(tmp_path / "e.toml"), "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean 'port'?" in done.stdout
    assert "fix: edit" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_on_python_38_without_any_gateway_package(python38: List[str], tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("x,y\n0.5,0\n")
    command = [*python38, "-m", "orchestrator.cli.main", "doctor", "--node", "--state", str(tmp_path), "--json"]
    done = subprocess.run([*command, "--data", str(tmp_path / "d.csv")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert findings(done)["runtime"] == "ok"
    assert findings(done)["python"] == "ok"


def test_an_identity_as_the_gateway_makes_it(tmp_path: Path) -> None:
    """`edgeward gateway init`; a node reads the broker's address from its own."""
    folder = tmp_path / "identity"
    assert main(["gateway", "init", str(folder), "--federation", "icu", "--host", "127.0.0.1"]) == 0
    assert [f.level for f in check_identity(folder)] == ["ok"]
    settings = json.loads((folder / "identity.json").read_text())
    (folder / "identity.json").write_text(json.dumps({**settings, "broker": f"mqtts://127.0.0.1:{free_port()}"}))
    found = examine(Question(node=True, config=None, state=tmp_path / "state", identity=folder))
    assert "refused" in next(f.message for f in found if f.check == "broker")


@pytest.mark.parametrize(("epsilon", "level"), [(8.0, OK), (0.001, PROBLEM)])
def test_a_promise_that_no_noise_keeps_is_a_problem(epsilon: float, level: str) -> None:
    from orchestrator.doctor.privacy import check_privacy
    from orchestrator.wire.protection import Privacy
    from orchestrator.wire.schema import Feature, Schema
    from orchestrator.wire.task import Rounds, Task

    schema = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),))
    promised = Task(
        "t", schema, {"kind": "mlp", "hidden": []}, privacy=Privacy(epsilon=epsilon, delta=1e-6), rounds=Rounds(2, 2)
    )
    (finding,) = check_privacy(promised)
    assert (finding.level, finding.check) == (level, "privacy")
    assert ("cannot be met" in finding.message) is (level == PROBLEM)
    assert check_privacy(replace(promised, privacy=Privacy(unit="none"))) == []
