import random
from typing import Dict, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import WireError
from orchestrator.wire.frames import CHUNK_BYTES, Ack, Chunk, Want, decode_frame, encode_frame, split
from orchestrator.wire.transfer import Inbox, Outbox, transfer_id

MAX = 64 << 20


def test_frames_come_back_as_they_went() -> None:
    body = bytes(range(256)) * 3000
    for frame in [*split(transfer_id(body), body), Ack(bytes(32)), Want(bytes(32), (0, 5, 9))]:
        assert decode_frame(encode_frame(frame)) == frame


@given(st.binary(max_size=200))
def test_garbage_frames_only_raise_wire_errors(garbage: bytes) -> None:
    for kind in range(5):
        for candidate in (garbage, b"EWF\x01" + bytes([kind]) + garbage):
            try:
                decode_frame(candidate)
            except WireError:
                continue


def test_a_frame_of_another_version_is_refused_naming_both() -> None:
    with pytest.raises(WireError, match="version 7.*version 1"):
        decode_frame(b"EWF\x07" + bytes(40))


def test_an_announcement_beyond_the_limit_is_refused_before_any_memory_is_taken() -> None:
    total = 10 << 30
    chunk = Chunk(bytes(32), 0, -(-total // CHUNK_BYTES), total, bytes(CHUNK_BYTES))
    with pytest.raises(WireError, match="announces 10737418240 bytes"):
        Inbox(MAX).feed("node", decode_frame(encode_frame(chunk)))


def test_contents_that_do_not_match_their_digest_are_refused_and_can_be_sent_again() -> None:
    body = b"x" * 1000
    (chunk,) = split(transfer_id(body), body)
    inbox = Inbox(MAX)
    with pytest.raises(WireError, match="do not match their SHA-256"):
        inbox.feed("node", Chunk(chunk.id, 0, 1, 1000, b"y" * 1000))
    assert inbox.feed("node", chunk) == (body, None)


def test_a_finished_transfer_is_only_acknowledged_again() -> None:
    body = b"update"
    (chunk,) = split(transfer_id(body), body)
    inbox = Inbox(MAX)
    assert inbox.feed("node", chunk) == (body, None)
    inbox.finish("node", body)
    assert inbox.feed("node", chunk) == (None, Ack(chunk.id))
    assert inbox.feed("another", chunk) == (body, None)


def test_a_sender_cannot_hold_more_than_a_few_transfers_open() -> None:
    inbox = Inbox(MAX, max_open_per_sender=2)
    bodies = [bytes([i]) * (CHUNK_BYTES + 1) for i in range(5)]
    for body in bodies:
        inbox.feed("node", split(transfer_id(body), body)[0])
    assert sum(len(open_) for open_ in inbox._open.values()) == 2


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.floats(0, 0.6),
    size=st.integers(0, 3 * CHUNK_BYTES + 5),
    receivers=st.integers(1, 3),
)
def test_every_receiver_gets_the_body_whatever_the_bus_loses(seed: int, loss: float, size: int, receivers: int) -> None:
    """A bus that loses, repeats and reorders: transfers arrive whole, exactly once after `finish`."""
    rng = random.Random(seed)
    body = rng.getrandbits(8 * size + 8).to_bytes(size + 1, "little")[:size]
    names = [f"n{i}" for i in range(receivers)]
    outbox, inboxes = Outbox(resend_after_s=1), {name: Inbox(MAX) for name in names}
    got: Dict[str, List[bytes]] = {name: [] for name in names}
    now = 0.0
    bus: List[Tuple[str, bytes]] = outbox.send(body, "all", {name: name for name in names}, now)
    while outbox.pending():
        now += 1.0
        answers: List[Tuple[str, bytes]] = []
        rng.shuffle(bus)
        for topic, payload in bus:
            for name in names if topic == "all" else [topic]:
                for _ in range(rng.choice([1, 1, 2])):
                    if rng.random() < loss:
                        continue
                    finished, answer = inboxes[name].feed("gateway", decode_frame(payload))
                    if finished is not None:
                        got[name].append(finished)
                        answer = inboxes[name].finish("gateway", finished)
                    if answer is not None and rng.random() >= loss:
                        answers.append((name, encode_frame(answer)))
        bus = []
        for name, payload in answers:
            frame = decode_frame(payload)
            if isinstance(frame, Ack):
                outbox.acknowledged(name, frame)
            else:
                bus.extend(outbox.wanted(name, frame, now))
        bus.extend(outbox.due(now))
        assert now < 1e5
    assert got == {name: [body] for name in names}
