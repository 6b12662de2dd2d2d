"""Who may not: strangers, impostors, forgers, the revoked; and messages meant to break a reader."""

import json
import shutil
import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from harness import BROKER_PATH, events, expected_weights, make_task, wait_for
from secure import FEDERATION, Federation, enrolled

from orchestrator.errors import BrokerError
from orchestrator.gateway.audit import AUDIT_FILE, read_log, verify
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.store import Store
from orchestrator.node.identity import NodeIdentity
from orchestrator.wire.body import encode_body
from orchestrator.wire.envelope import EVERYONE, Sealer
from orchestrator.wire.frames import CHUNK_BYTES, Chunk, encode_frame, split
from orchestrator.wire.link import Link, Message
from orchestrator.wire.pki import read_signing_key
from orchestrator.wire.refusals import TEXTS, text_of
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import transfer_id

EVERYBODY = ["a", "b", "c"]
TOPICS = Topics(FEDERATION)

pytestmark = pytest.mark.skipif(not shutil.which("mosquitto", path=BROKER_PATH), reason="mosquitto is not installed")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    with Federation(tmp_path, make_task(rounds=3, statistics=False)) as running:
        yield running


def send(link: Link, topic: str, message: bytes) -> None:
    for chunk in split(transfer_id(message), message):
        link.publish(topic, encode_frame(chunk))
    assert link.flush(300)


def until_heard(link: Link, topic: str) -> None:
    while True:
        event = link.events.get(timeout=600)
        if isinstance(event, Message) and event.topic == topic:
            return


def until_logged(federation: Federation, node: str, reason: str) -> None:
    deadline = time.monotonic() + 600
    while reason not in federation.log(node):
        assert time.monotonic() < deadline, (reason, federation.log(node))
        time.sleep(0.05)


def ends_right(gateway: Any, cohorts: List[List[str]]) -> List[Dict[str, Any]]:
    seen = list(events(gateway))
    assert gateway.wait(600) == 0
    assert [r["nodes"] for r in seen[-1]["rounds"]] == cohorts
    np.testing.assert_array_equal(np.array(seen[-1]["weights"], np.float32), expected_weights(cohorts))
    return seen


def mqtt_answer_without_a_certificate(federation: Federation) -> bytes:
    """What the broker says to an MQTT CONNECT of someone who only has the authority's certificate."""
    context = ssl.create_default_context(cafile=str(federation.authority.folder / "ca.crt"))
    with socket.create_connection(("127.0.0.1", federation.port), timeout=200) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped:
                wrapped.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x14\x00\x00")
                return wrapped.recv(16)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_the_broker_lets_in_certificates_of_this_federation_only(federation: Federation, tmp_path: Path) -> None:
    gateway = federation.gateway()
    wait_for(gateway, "open")
    stranger = enrolled(Authority.create(tmp_path / "other", FEDERATION, []), tmp_path / "id-stranger", "a")
    with pytest.raises(BrokerError, match="certificate"):
        Link(federation.address(stranger), "stranger", []).open(1)
    assert mqtt_answer_without_a_certificate(federation) == b""
    for name in EVERYBODY:
        federation.node(name)
    ends_right(gateway, [EVERYBODY] * 3)


def test_a_node_has_its_own_topics_and_no_others(federation: Federation) -> None:
    """a tries to speak and listen as b, as the gateway, to everyone; the broker drops all of it. A monitor hears nothing."""
    watching = enrolled(federation.authority, federation.folder / "id-monitor", "monitor:ward")
    gateway = federation.gateway()
    wait_for(gateway, "open")
    spy = Link(
        federation.address(NodeIdentity(federation.folder / "id-a")),
        "spy",
        [TOPICS.down("b"), TOPICS.every_up, TOPICS.every_presence, "#"],
    )
    spy.open(60)
    monitor = Link(federation.address(watching), "monitor", [TOPICS.all_nodes, TOPICS.down("a"), "#"])
    monitor.open(60)
    listener = federation.as_gateway(TOPICS.up("b"), TOPICS.presence("b"), TOPICS.all_nodes, TOPICS.down("b"))
    time.sleep(0.5)
    for topic in (TOPICS.up("b"), TOPICS.presence("b"), TOPICS.all_nodes, TOPICS.down("b"), TOPICS.down("a")):
        spy.publish(topic, b"forged")
    spy.publish(
        TOPICS.presence("a"), encode_body({"kind": "health"})
    )  # its own: goes through, and proves the rest was tried
    assert spy.flush(300)
    for name in EVERYBODY:
        federation.node(name)
    ends_right(gateway, [EVERYBODY] * 3)
    heard = [e.payload for e in list(listener.events.queue) if hasattr(e, "payload")]
    assert heard
    assert b"forged" not in heard
    topics = {e.topic for e in list(spy.events.queue) if isinstance(e, Message)}
    assert TOPICS.gateway_presence in topics
    assert topics <= {TOPICS.all_nodes, TOPICS.down("a"), TOPICS.gateway_presence}
    assert not [e for e in list(monitor.events.queue) if isinstance(e, Message)]
    for link in (spy, monitor, listener):
        link.close()


def test_who_declined_a_run_reads_nothing_of_it_and_no_member_pushes_another_off(federation: Federation) -> None:
    """d's owner asks for patients. Its certificate still opens the broker, where it takes every name it can think of."""
    gateway = federation.gateway()
    wait_for(gateway, "open")
    (federation.folder / "d.toml").write_text("[budget]\nepsilon_task = 1\ndelta = 1e-3\n")
    federation.node("d")
    wait_for(gateway, "declined", node="d")
    address = federation.address(NodeIdentity(federation.folder / "id-d"))
    spy = Link(address, "spy", [TOPICS.all_nodes, "#", "$SYS/#"])
    spy.open(60)
    listener = federation.as_gateway(TOPICS.all_nodes)
    for name in EVERYBODY:
        federation.node(name)
    names = [*EVERYBODY, *(f"{FEDERATION}-{name}" for name in (*EVERYBODY, "gateway", "watch")), "gateway", "dashboard"]
    names += [f"edgeward-{name}" for name in names]
    for name in names:
        pushing = Link(address, name, [])
        pushing.open(60)
        pushing.close()
    seen = list(events(gateway))
    assert gateway.wait(600) == 0
    assert [r["nodes"] for r in seen[-1]["rounds"]] == [EVERYBODY] * 3
    lost = [e for e in seen if e["event"] == "broker_lost" or (e["event"] == "left" and e["node"] in EVERYBODY)]
    assert [e for e in lost if seen.index(e) < [x["event"] for x in seen].index("finished")] == []
    assert [e for e in list(listener.events.queue) if isinstance(e, Message)], "rounds were sent to all"
    topics = {e.topic for e in list(spy.events.queue) if isinstance(e, Message)}
    assert topics <= {TOPICS.gateway_presence, TOPICS.down("d")}, topics
    spy.close()
    listener.close()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Federation]:
    """Its rounds wait for ten minutes."""
    with Federation(tmp_path, make_task(rounds=3, statistics=False, deadline_s=600.0)) as running:
        yield running


def test_nodes_refuse_what_their_gateway_did_not_say_to_them_now(
    patient: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of someone who took the broker over: unsigned, forged, foreign, replayed and stale messages, and bombs."""
    federation, hold = patient, patient.folder / "hold"
    hold.touch()  # the second round waits for what follows
    gateway = federation.gateway()
    wait_for(gateway, "open")
    for name in EVERYBODY:
        federation.node(name)
        monkeypatch.setenv("FIXED_NODE_HOLD", str(hold))  # of those after the first
    wait_for(gateway, "aggregated", round=1)
    wait_for(gateway, "round", round=2)
    link = federation.as_gateway()
    ours = federation.authority.sealer()
    task = encode_body({"kind": "task", "run": "other", "task": {}}, {"graph": np.zeros(1, np.uint8)})
    stale = encode_body({"kind": "round", "run": "run", "round": 1}, {})
    bomb = b"EWB\x01" + zstandard.ZstdCompressor().compress(bytes(600 << 20))
    other = Sealer(Ed25519PrivateKey.generate(), FEDERATION)
    foreign = Sealer(read_signing_key(federation.authority.signing_key), "elsewhere")
    attacks = {
        "unsigned message": task,
        "this node trusts": other.seal(task, "a", federation.serial + 1),
        "the signature is wrong": ours.seal(task, "a", federation.serial + 1)[:-1] + b"x",
        "signed for federation 'elsewhere'": foreign.seal(task, "a", federation.serial + 1),
        "signed for 'b', not for this node": ours.seal(task, "b", federation.serial + 1),
        "replayed task: run other": ours.seal(task, "a", federation.serial - 1),
        "stale round 1": ours.seal(stale, EVERYONE, federation.serial),
        "at most 536870912 are accepted": ours.seal(bomb, "a", federation.serial),
    }
    for message in attacks.values():
        send(link, TOPICS.down("a"), message)
    link.publish(TOPICS.down("a"), encode_frame(Chunk(bytes(32), 0, 40960, 10 << 30, bytes(CHUNK_BYTES))))
    for reason in [*attacks, "announces 10737418240 bytes"]:
        until_logged(federation, "a", reason)
    hold.unlink()
    link.close()
    seen = ends_right(gateway, [EVERYBODY] * 3)
    refused = [e for e in seen if e["event"] == "node_refused"]
    assert any(e["node"] == "a" for e in refused)
    assert all(e["reason"] == text_of(e["code"]) and e["code"] in TEXTS for e in refused)
    federation.processes[1].wait(600)
    assert federation.processes[1].returncode == 0, federation.log("a")


def test_a_finished_run_cannot_be_played_again_to_a_node(federation: Federation) -> None:
    gateway = federation.gateway()
    wait_for(gateway, "open")
    recorder = federation.as_gateway(TOPICS.down("a"), TOPICS.all_nodes)
    time.sleep(0.5)
    for name in EVERYBODY:
        federation.node(name)
    ends_right(gateway, [EVERYBODY] * 3)
    recorded = [e for e in list(recorder.events.queue) if hasattr(e, "payload")]
    recorder.close()
    with OwnBroker("mosquitto", port=federation.port, authority=federation.authority):
        link = federation.as_gateway(TOPICS.presence("a"))
        federation.node("a")
        until_heard(link, TOPICS.presence("a"))
        for message in recorded:
            link.publish(TOPICS.down("a"), message.payload)
        assert link.flush(300)
        until_logged(federation, "a", "replayed task: run run is over")
        until_logged(federation, "a", "replayed round: run run is over")
        link.close()


def test_hostile_updates_of_a_node_are_refused_and_the_run_goes_on(federation: Federation) -> None:
    gateway = federation.gateway()
    wait_for(gateway, "open")
    insider = Link(federation.address(NodeIdentity(federation.folder / "id-a")), "insider", [])
    insider.open(60)
    lying = b"EWB\x01" + _with_announced_size(zstandard.ZstdCompressor().compress(bytes(64 << 20)), 1 << 10)
    huge = b"EWB\x01" + zstandard.ZstdCompressor().compress(bytes(600 << 20))
    header = b"EWB\x01" + zstandard.ZstdCompressor().compress(struct.pack("<I", 3 << 20) + bytes(3 << 20))
    for message in (lying, huge, header):
        send(insider, TOPICS.up("a"), message)
    insider.publish(TOPICS.up("a"), encode_frame(Chunk(bytes(32), 0, 40960, 10 << 30, bytes(CHUNK_BYTES))))
    assert insider.flush(300)
    refusals = []
    for _ in range(4):
        refusals.append(wait_for(gateway, "refused", node="a")["reason"])
    for reason in ("does not decompress", "announces 629145600 bytes", "message header of 3145728", "announces 10737"):
        assert any(reason in refusal for refusal in refusals), (reason, refusals)
    insider.close()
    for name in EVERYBODY:
        federation.node(name)
    ends_right(gateway, [EVERYBODY] * 3)


def _with_announced_size(frame: bytes, size: int) -> bytes:
    """A zstd frame whose header claims another content size (RFC 8878, section 3.1.1.1)."""
    descriptor = frame[4]
    field = {0: 1, 1: 2, 2: 4, 3: 8}[descriptor >> 6]
    start = 5 + (0 if descriptor & 0x20 else 1)
    return frame[:start] + size.to_bytes(field, "little") + frame[start + field :]


def test_a_revoked_node_is_out_at_once_and_the_others_finish(federation: Federation) -> None:
    gateway = federation.gateway()
    wait_for(gateway, "open")
    victim = federation.node("c", 0.3)
    for name in ("a", "b"):
        federation.node(name, 1.5)
    wait_for(gateway, "round", round=2)
    federation.authority.revoke("c")
    wait_for(gateway, "left", node="c")
    with pytest.raises(BrokerError):
        Link(federation.address(NodeIdentity(federation.folder / "id-c")), "revoked", []).open(3)
    seen = list(events(gateway))
    assert gateway.wait(600) == 0
    assert seen[-1]["rounds"][-1]["nodes"] == ["a", "b"]
    cohorts = [r["nodes"] for r in seen[-1]["rounds"]]
    np.testing.assert_array_equal(np.array(seen[-1]["weights"], np.float32), expected_weights(cohorts))
    assert victim.poll() is None, "a node must not die of being revoked"


def test_the_audit_log_of_a_run_tells_who_took_part(federation: Federation) -> None:
    gateway = federation.gateway()
    for name in EVERYBODY:
        federation.node(name)
    ends_right(gateway, [EVERYBODY] * 3)
    entries = read_log(federation.folder / AUDIT_FILE)
    updates = {(e["round"], e["node"]) for e in entries if e["event"] == "update" and len(e["digest"]) == 64}
    assert updates == {(number, node) for number in (1, 2, 3) for node in EVERYBODY}
    assert [e["event"] for e in entries].count("finished") == 1
    store = Store(federation.folder / "gateway.sqlite")
    assert verify(federation.folder / AUDIT_FILE, store.database)[0] == len(entries)
    store.close()
    assert json.loads((federation.authority.folder / AUDIT_FILE).read_text().splitlines()[-1])["event"] == "enrolled"
