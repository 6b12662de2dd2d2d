"""Boards that reach a broker by themselves: what they say, whom they obey, and what an owner may rely on."""

import json
import time
from pathlib import Path
from typing import Iterator, List, Optional, Set, Tuple

import numpy as np
import pytest
from board_sample import Sample
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wireless import FEDERATION, Ward, digest_of, packed, until

from model_export.model_bin import KnownAnswers, parse_model_bin
from orchestrator.boards.client import BoardClient
from orchestrator.boards.connect import network_state, wait_until_connected, write_settings
from orchestrator.boards.conversation import BoardError, NoAnswerError
from orchestrator.boards.orders import checked, sign_order
from orchestrator.boards.protocol import Record
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.wire.address import client_id
from orchestrator.wire.link import Link, Message
from orchestrator.wire.topics import Topics

pytestmark = pytest.mark.slow


TOPICS = Topics(FEDERATION)
ROOT = f"edgeward/1/{FEDERATION}"


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    with Ward(tmp_path, ["ward-1", "ward-2"], ["monitor:m", "node-a"]) as running:
        yield running


def models(ward: Ward, sample: Sample) -> Tuple[bytes, bytes]:
    """Two models of one network, signed."""
    tflite = parse_model_bin(sample.model_bin).tflite
    first, second = (KnownAnswers(sample.rows[i : i + 2], sample.outputs[i : i + 2]) for i in (0, 2))
    return packed(tflite, "first", first, ward.key), packed(tflite, "second", second, ward.key)


def heard(link: Link, topic: str) -> List[bytes]:
    """What came on a topic so far."""
    found = []
    while not link.events.empty():
        event = link.events.get_nowait()
        if isinstance(event, Message) and event.topic == topic:
            found.append(event.payload)
    return found


def test_a_board_is_given_its_place_over_serial_and_is_there(ward: Ward, sample: Sample) -> None:
    first, _ = models(ward, sample)
    with VirtualBoard(first, network=True) as board, BoardClient(board.port, timeout_s=20.0) as client:
        assert network_state(client)["state"] == "off"
        client.set_key(ward.public)
        write_settings(client, ward.settings("ward-1"))
        client.wait_for("boot", "its settings", 20.0)
        state = wait_until_connected(client, 60.0)
        assert (state["state"], state["name"], state["encrypted"]) == ("connected", "ward-1", True)
        with ward.link() as link:
            until(lambda: link.presence("ward-1").here)
            board.kill()
            until(lambda: not link.presence("ward-1").here)  # by its last will
            board.start()
            until(lambda: link.presence("ward-1").here)
        with BoardClient(board.port, timeout_s=20.0) as again:
            write_settings(again, None)
            again.wait_for("boot", "its settings", 20.0)
            assert network_state(again)["state"] == "off"


def test_a_board_that_restarts_is_there_afterwards(ward: Ward, sample: Sample) -> None:
    """The connection before is over before the new one says that the board is there: its last will may not come later."""
    first, _ = models(ward, sample)
    board = ward.board("ward-2", first)
    gateway = Link(ward.authority.secure(ward.broker.address), client_id("gateway"), [f"{ROOT}/board/+/presence"])
    gateway.open(20.0)
    here: List[bytes] = []

    def said(part: bytes) -> bool:
        here.extend(heard(gateway, f"{ROOT}/board/ward-2/presence"))
        return any(part in each for each in here)

    until(lambda: said(b'"info"'))
    here.clear()
    with BoardClient(board.port, timeout_s=20.0) as client:
        boot = str(client.reboot()["boot"]).encode()
    until(lambda: said(boot))
    gateway.close()
    assert b'{"kind":"gone"}' in here[:-1]
    assert boot in here[-1]


def test_an_owner_asks_updates_and_goes_back(ward: Ward, sample: Sample) -> None:
    first, second = models(ward, sample)
    board = ward.board("ward-1", first)
    with ward.link() as link:
        until(lambda: link.presence("ward-1").here)
        far = ward.order_to(link, "ward-1")
        assert far.info()["model"] == digest_of(first)
        info = far.update(second)
        assert (info["model"], info["name"], info["slot"], info["signature"]) == (
            digest_of(second),
            "second",
            "b",
            "verified",
        )
        seen = link.presence("ward-1").info
        until(lambda: (link.presence("ward-1").info or seen).model == digest_of(second))  # type: ignore[union-attr]
        assert far.selftest()["mismatches"] == 0
        assert far.reboot()["model"] == digest_of(second)
        assert far.rollback()["model"] == digest_of(first)
        with BoardClient(board.port, timeout_s=20.0) as near:
            np.testing.assert_array_equal(near.infer(sample.rows[:3]).outputs, sample.outputs[:3])
        assert not link.foreign
        assert far.stats.lost == 0


def test_what_is_about_somebody_stays_on_the_cable(ward: Ward, sample: Sample) -> None:
    """Results, and raw samples, of what a board was given over serial; metrics leave."""
    first, _ = models(ward, sample)
    board = ward.board("ward-1", first, metrics_s=0)
    operator = Link(ward.address(), client_id("test"), [f"{ROOT}/board/+/record"])
    operator.open(20.0)
    with ward.link() as link, BoardClient(board.port, timeout_s=20.0) as near:
        until(lambda: link.presence("ward-1").here)
        near.infer(sample.rows[:5])
        near.bench(2)
        near.metrics()
        ward.order_to(link, "ward-1").info()
    sent = [json.loads(payload) for payload in heard(operator, TOPICS.board_record("ward-1"))]
    operator.close()
    kinds = {record["kind"] for record in sent}
    assert "metrics" in kinds
    assert kinds <= {"metrics", "order", "info"}
    assert [record["seq"] for record in sent] == list(range(sent[0]["seq"], sent[0]["seq"] + len(sent)))


def test_only_the_owners_orders_are_obeyed_and_each_once(ward: Ward, sample: Sample) -> None:
    """A gateway may write to every topic: what it makes up, changes, repeats or sends to another board does nothing."""
    first, _ = models(ward, sample)
    board = ward.board("ward-1", first, metrics_s=0)
    other = ward.board("ward-2", first, metrics_s=0)
    gateway = Link(ward.authority.secure(ward.broker.address), client_id("gateway"), [TOPICS.board_down("ward-1")])
    gateway.open(20.0)
    with ward.link() as link:
        until(lambda: link.presence("ward-1").here and link.presence("ward-2").here)
        far = ward.order_to(link, "ward-1")
        far.ask("metrics rate 60000", "ok")
        until(lambda: not gateway.events.empty())
        (order, *_) = heard(gateway, TOPICS.board_down("ward-1")) or [b""]
        assert order.startswith(b"EWORDER1")
        secret = ward.fleet.secrets["ward-1"]
        number = ward.numbers.next() + 1000
        forged = sign_order(Ed25519PrivateKey.generate(), FEDERATION, "ward-1", secret, number, "reboot")
        for message in (order, order[:-1] + bytes([order[-1] ^ 1]), forged, b"\x11\0\0\0\0\0\0\0\0abcd", b"x"):
            gateway.publish(TOPICS.board_down("ward-1"), message)
        gateway.publish(TOPICS.board_down("ward-2"), order)
        reboot = sign_order(ward.key, FEDERATION, "ward-2", ward.fleet.secrets["ward-2"], number, "reboot")
        gateway.publish(TOPICS.board_down("ward-1"), reboot)
        assert gateway.flush(20.0)
        for port, name in ((board.port, "ward-1"), (other.port, "ward-2")):
            with BoardClient(port, timeout_s=20.0) as near:
                assert near.info()["state"] == "ready"
            seen = link.presence(name).info
            assert seen is not None
            boots = {seen.boot, ward.order_to(link, name).info()["boot"]}
            assert len(boots) == 1
    gateway.close()


def test_an_order_is_not_obeyed_again_after_a_restart(ward: Ward, sample: Sample) -> None:
    first, second = models(ward, sample)
    ward.board("ward-1", first)
    gateway = Link(ward.authority.secure(ward.broker.address), client_id("gateway"), [TOPICS.board_down("ward-1")])
    gateway.open(20.0)
    with ward.link() as link:
        until(lambda: link.presence("ward-1").here)
        far = ward.order_to(link, "ward-1")
        far.update(second)
        far.rollback()
        messages = heard(gateway, TOPICS.board_down("ward-1"))
        assert len(messages) > 10
        far.reboot()
        for message in messages:  # all that made it take the second model, and go back, in the same order
            gateway.publish(TOPICS.board_down("ward-1"), message)
            gateway.flush(20.0)
        assert far.info()["model"] == digest_of(first)
        assert far.selftest()["mismatches"] == 0
    gateway.close()


def test_a_restart_is_known_by_the_next_boot_and_not_by_its_answer(
    ward: Ward, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer may be lost with the connection, and a broker can show the presence of a boot that is over."""
    ward.board("ward-1", models(ward, sample)[0])
    with ward.link() as link:
        until(lambda: link.presence("ward-1").here)
        first = link.presence("ward-1")
        far = ward.order_to(link, "ward-1")
        second = far.reboot()["boot"]
        take, shown, presence = link.take, [first], link.presence

        def without_answer(name: str, timeout_s: float) -> Optional[Record]:
            record = take(name, timeout_s)
            return None if record is not None and record.kind == "reboot" else record

        monkeypatch.setattr(link, "take", without_answer)
        monkeypatch.setattr(link, "presence", lambda name: shown.pop() if shown else presence(name))
        third = far.reboot()["boot"]
        assert len({first.info.boot if first.info else 0, second, third}) == 3


@pytest.mark.parametrize(
    "command", ["record off", "key list", "key set " + "0" * 64, "bench 1", "stream off", "network"]
)
def test_what_takes_a_cable_is_not_ordered(ward: Ward, sample: Sample, command: str) -> None:
    ward.board("ward-1", models(ward, sample)[0])
    with ward.link() as link:
        until(lambda: link.presence("ward-1").here)
        with pytest.raises(BoardError, match="not_by_order"):
            ward.order_to(link, "ward-1").ask(command, "ok", attempts=1)


def test_a_model_that_another_key_signed_or_that_is_wrong_changes_nothing(ward: Ward, sample: Sample) -> None:
    first, _ = models(ward, sample)
    ward.board("ward-1", first)
    tflite = parse_model_bin(first).tflite
    wrong = packed(tflite, "wrong", KnownAnswers(sample.rows[:1], sample.outputs[:1] ^ 1), ward.key)
    stranger = packed(tflite, "x", KnownAnswers(sample.rows[5:6], sample.outputs[5:6]), Ed25519PrivateKey.generate())
    with ward.link() as link:
        until(lambda: link.presence("ward-1").here)
        far = ward.order_to(link, "ward-1")
        with pytest.raises(BoardError, match="known_answers_differ"):
            far.update(wrong)
        with pytest.raises(BoardError, match="bad_signature"):
            far.update(stranger)
        assert far.info()["model"] == digest_of(first)


def test_answers_that_the_board_did_not_make_are_not_believed(ward: Ward, sample: Sample) -> None:
    """A gateway that answers in a board's name: nothing of it reaches the owner's tool."""
    first, _ = models(ward, sample)
    secret = ward.settings("ward-1").secret
    gateway = Link(ward.authority.secure(ward.broker.address), client_id("gateway"), [TOPICS.board_down("ward-1")])
    gateway.open(20.0)

    def lie(number: int, mac: str) -> bytes:
        head = f'{{"v":1,"boot":"00000001","seq":0,"model":"{digest_of(first)}","t_us":1,"kind":"selftest","order":{number}'
        return f'{head},"rows":4,"mismatches":0,"mac":"{mac}"}}'.encode()

    assert checked(lie(1, "0" * 32), secret) is None
    with ward.link() as link:
        far = ward.order_to(link, "ward-1", timeout_s=2.0)
        far.order("selftest")
        for number in range(3):
            gateway.publish(TOPICS.board_record("ward-1"), lie(number, "0" * 32))
            gateway.publish(f"{ROOT}/board/ward-1/presence", lie(number, "f" * 32))
        gateway.publish(TOPICS.board_record("ward-1"), b"\xff" * 5000)
        until(lambda: link.foreign["ward-1"] >= 6)
        with pytest.raises(NoAnswerError):
            far.selftest()
        assert not link.presence("ward-1").here
    gateway.close()


@pytest.mark.parametrize(
    ("name", "writes", "reads", "mark"),
    [
        ("board:ward-1", {"record", "presence"}, {"down"}, "board/ward-1/down"),
        ("board:ward-2", set(), set(), "board/ward-2/down"),
        ("fleet:operator", {"down"}, {"record", "presence"}, "board/ward-1/record"),
        ("monitor:m", {"record"}, set(), ""),
        ("node-a", set(), set(), "node/node-a/down"),
    ],
)
def test_certificates_say_what_a_board_an_owner_and_others_may(
    ward: Ward, name: str, writes: Set[str], reads: Set[str], mark: str
) -> None:
    """Of board ward-1: only it writes in its name besides monitors, only an owner and the gateway write to it.

    mark: a topic that `name` may read, to know that all before has come; a monitor has none.
    """
    kinds = ("record", "presence", "down")
    gateway = Link(ward.authority.secure(ward.broker.address), client_id("gateway"), [f"{ROOT}/board/#", f"{ROOT}/all"])
    gateway.open(20.0)
    for kind in kinds:  # a broker ends a connection for what it denies, so each has its own
        one = Link(ward.address(name), client_id("test"), [])
        one.open(20.0)
        one.publish(f"{ROOT}/board/ward-1/{kind}", kind.encode())
        assert one.flush(20.0)
        one.close()
    gateway.publish(f"{ROOT}/all", b"end")
    assert {event.payload.decode() for event in events_until(gateway, b"end")} - {"end"} == writes

    if mark:
        listener = Link(ward.address(name), client_id("test"), [f"{ROOT}/#"])
        listener.open(20.0)
        while not heard(listener, f"{ROOT}/{mark}"):  # until its subscription is granted
            gateway.publish(f"{ROOT}/{mark}", b"begin")
            time.sleep(0.1)
        for kind in kinds:
            gateway.publish(f"{ROOT}/board/ward-1/{kind}", kind.encode())
        gateway.publish(f"{ROOT}/{mark}", b"end")
        assert {event.payload.decode() for event in events_until(listener, b"end")} - {"begin", "end"} == reads
        listener.close()
    gateway.close()


def events_until(link: Link, last: bytes) -> List[Message]:
    """Messages up to the one that ends."""
    found: List[Message] = []
    while not found or found[-1].payload != last:
        event = link.events.get(timeout=60.0)
        if isinstance(event, Message):
            found.append(event)
    return found


def test_a_board_that_is_enrolled_while_the_broker_runs_has_its_rights(
    ward: Ward, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.gateway.broker.LOOK_S", 0.0)
    ward.enroll("board:late")
    ward.board("late", models(ward, sample)[0])
    with ward.link() as link:
        time.sleep(1.0)
        assert not link.presence("late").here
        ward.broker.keep_out(set())
        until(lambda: link.presence("late").here)


def test_settings_do_not_change_where_keys_are_locked(ward: Ward, sample: Sample) -> None:
    first, _ = models(ward, sample)
    with VirtualBoard(first, network=True) as board, BoardClient(board.port, timeout_s=20.0) as client:
        client.set_key(ward.public)
        client.lock_keys()
        with pytest.raises(BoardError, match="keys_locked"):
            write_settings(client, ward.settings("ward-1"))
        assert network_state(client)["state"] == "off"


def test_a_board_does_not_talk_to_a_broker_of_another_authority(ward: Ward, sample: Sample, tmp_path: Path) -> None:
    first, _ = models(ward, sample)
    with Ward(tmp_path / "elsewhere", ["ward-1"]) as elsewhere:
        stranger = elsewhere.settings("ward-1")
        settings = ward.settings("ward-1")
        ward.fleet.secrets["ward-2"] = stranger.secret
        wrong = type(settings)(**{**settings.__dict__, "ca": stranger.ca})
        with VirtualBoard(first, settings=wrong) as board, BoardClient(board.port, timeout_s=20.0) as client:
            for _ in range(20):
                assert network_state(client)["state"] == "joining"
