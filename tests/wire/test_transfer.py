import random
import tracemalloc
import zlib
from typing import Dict, List, Optional, Tuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from series import examples

from orchestrator.errors import WireError
from orchestrator.wire.frames import (
    CHUNK_BYTES,
    Ack,
    Chunk,
    Frame,
    Want,
    chunk_count,
    decode_frame,
    encode_frame,
    split,
)
from orchestrator.wire.transfer import Inbox, Outbox, transfer_id

MAX = 64 << 20


def taken(outbox: Outbox, now: float) -> List[Tuple[str, bytes]]:
    """All the outbox has to send now."""
    return list(iter(lambda: outbox.next(now), None))


def feed(inbox: Inbox, frame: Frame) -> Tuple[Optional[bytes], Optional[Frame]]:
    assert isinstance(frame, Chunk)
    return inbox.feed("gateway", frame)


def frames_of(outbox: Outbox, now: float) -> List[Tuple[str, int]]:
    """(topic, chunk index) of all the outbox has to send now."""
    return [(topic, cast(Chunk, decode_frame(payload)).index) for topic, payload in taken(outbox, now)]


def sealed(content: bytes) -> bytes:
    return b"EWF\x02" + zlib.crc32(content).to_bytes(4, "little") + content


def large(count: int, seed: int = 0) -> bytes:
    """A body of `count` chunks, the last one short."""
    return (
        random.Random(seed)
        .getrandbits(8 * ((count - 1) * CHUNK_BYTES + 9))
        .to_bytes((count - 1) * CHUNK_BYTES + 9, "little")
    )


def test_frames_come_back_as_they_went() -> None:
    body = bytes(range(256)) * 3000
    frames: List[Frame] = [*split(transfer_id(body), body), Ack(bytes(32)), Want(bytes(32), (0, 5, 9))]
    for frame in frames:
        assert decode_frame(encode_frame(frame)) == frame


@given(st.binary(max_size=200))
def test_garbage_frames_only_raise_wire_errors(garbage: bytes) -> None:
    for kind in range(5):
        for candidate in (garbage, sealed(bytes([kind]) + garbage)):
            try:
                decode_frame(candidate)
            except WireError:
                continue


def test_a_frame_of_another_version_is_refused_naming_both() -> None:
    with pytest.raises(WireError, match="version 7.*version 2"):
        decode_frame(b"EWF\x07" + bytes(40))


def test_an_announcement_beyond_the_limit_is_refused_before_any_memory_is_taken() -> None:
    total = 10 << 30
    chunk = Chunk(bytes(32), 0, -(-total // CHUNK_BYTES), total, bytes(CHUNK_BYTES))
    with pytest.raises(WireError, match="announces 10737418240 bytes"):
        Inbox(MAX).feed("node", cast(Chunk, decode_frame(encode_frame(chunk))))


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
    inbox.finish("node", transfer_id(body))
    assert inbox.feed("node", chunk) == (None, Ack(chunk.id))
    assert inbox.feed("another", chunk) == (body, None)


def test_a_sender_cannot_hold_more_than_a_few_transfers_open() -> None:
    inbox = Inbox(MAX, max_open_per_sender=2)
    bodies = [bytes([i]) * (CHUNK_BYTES + 1) for i in range(5)]
    for body in bodies:
        inbox.feed("node", split(transfer_id(body), body)[0])
    assert sum(len(open_) for open_ in inbox.unfinished.values()) == 2


def test_a_damaged_frame_is_refused() -> None:
    frame = bytearray(encode_frame(split(bytes(32), bytes(100))[0]))
    frame[70] ^= 1
    with pytest.raises(WireError, match="CRC-32"):
        decode_frame(bytes(frame))


def test_a_small_transfer_does_not_stand_behind_a_large_one() -> None:
    outbox = Outbox()
    outbox.send(large(50), "all", {"a": "a", "b": "b"}, 0)
    outbox.next(0)
    outbox.send(b"small", "a", {"a": "a"}, 0)
    sizes = [len(payload) for _, payload in taken(outbox, 0)[:2]]
    assert min(sizes) < 1000


def test_after_a_gap_only_what_lacks_is_asked_for_and_sent_once() -> None:
    outbox, inbox, body = Outbox(), Inbox(MAX), large(10)
    outbox.send(body, "down", {"a": "a"}, 0)
    answers = [
        feed(inbox, decode_frame(payload))[1] for i, (_, payload) in enumerate(taken(outbox, 0)) if i not in (2, 3, 7)
    ]
    assert answers[:-1] == [None] * 6
    want = answers[-1]
    assert isinstance(want, Want)
    assert want.missing == (2, 3, 7)
    outbox.wanted("a", want, 1)
    outbox.wanted("a", want, 1)
    assert frames_of(outbox, 1) == [("a", 2), ("a", 3), ("a", 7)]


def test_a_receiver_that_waits_already_is_asked_what_it_lacks_before_anything_is_sent_again() -> None:
    """After a restart of the broker every node reports again, and the gateway announces the round to it again."""
    outbox, body = Outbox(), large(10)
    outbox.send(body, "all", {"a": "a", "b": "b"}, 0)
    for _ in range(4):
        outbox.next(0)
    outbox.send(body, "a", {"a": "a"}, 0)
    assert [index for _, index in frames_of(outbox, 0)] == [4, 5, 6, 7, 8, 9], "the rest is under way anyway"
    outbox.send(body, "a", {"a": "a"}, 0)
    assert frames_of(outbox, 0) == [("a", 0)]
    outbox.acknowledged("a", Ack(transfer_id(body)))
    outbox.send(body, "a", {"a": "a"}, 0)
    assert frames_of(outbox, 0) == [("a", 0)]
    outbox.forget("a")
    outbox.send(body, "a", {"a": "a"}, 0)
    assert len(frames_of(outbox, 0)) == 10, "a new process has nothing"


def test_what_many_lack_is_broadcast_and_what_one_lacks_is_not() -> None:
    outbox, body = Outbox(), large(6)
    outbox.send(body, "all", {n: n for n in "abcd"}, 0)
    taken(outbox, 0)
    for node in "abc":
        outbox.wanted(node, Want(transfer_id(body), (1, 2)), 0)
    outbox.wanted("d", Want(transfer_id(body), (4,)), 0)
    assert frames_of(outbox, 0) == [("all", 1), ("all", 2), ("d", 4)]


def test_a_receiver_that_leaves_takes_its_chunks_along() -> None:
    outbox, body = Outbox(), large(4)
    outbox.send(body, "a", {"a": "a"}, 0)
    outbox.send(body, "b", {"b": "b"}, 0)
    outbox.forget("a")
    assert frames_of(outbox, 0) == [("b", i) for i in range(4)]
    outbox.due(1000)
    assert frames_of(outbox, 1000) == [("b", 0)]


def test_an_overdue_transfer_is_not_probed_while_it_is_under_way() -> None:
    outbox, body = Outbox(resend_after_s=1), large(4)
    outbox.send(body, "a", {"a": "a"}, 0)
    outbox.next(0)
    outbox.due(1000)
    assert [i for _, i in frames_of(outbox, 1000)] == [1, 2, 3]
    outbox.due(1000.1)
    assert frames_of(outbox, 1000.1) == []


def test_an_announcement_takes_no_room_before_its_data_comes() -> None:
    total = 500 << 20
    inbox = Inbox(512 << 20)
    tracemalloc.start()
    for i in range(50):
        inbox.feed(f"n{i}", Chunk(bytes(32), 0, chunk_count(total), total, bytes(CHUNK_BYTES)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20
    assert inbox.held_bytes() <= 50 * CHUNK_BYTES
    assert sum(map(len, inbox.unfinished.values())) == 8, "4 GiB for all of them: the others have to wait"


def test_an_abandoned_transfer_makes_room_for_another() -> None:
    inbox = Inbox(MAX, max_held_bytes=MAX)
    first, second = large(150, 1), large(150, 2)
    inbox.feed("silent", split(transfer_id(first), first)[0])
    chunks = split(transfer_id(second), second)
    assert inbox.feed("busy", chunks[0]) == (None, None)
    assert list(inbox.unfinished) == ["silent"]
    inbox.ABANDONED_AFTER = 10
    for chunk in chunks[:20]:
        inbox.feed("busy", chunk)
    assert list(inbox.unfinished) == ["busy"]


@examples(60)
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
    outbox.send(body, "all", {name: name for name in names}, now)
    while outbox.pending():
        now += 1.0
        bus = taken(outbox, now)
        rng.shuffle(bus)
        answers: List[Tuple[str, bytes]] = []
        for topic, payload in bus:
            for name in names if topic == "all" else [topic]:
                for _ in range(rng.choice([1, 1, 2])):
                    if rng.random() < loss:
                        continue
                    finished, answer = feed(inboxes[name], decode_frame(payload))
                    if finished is not None:
                        got[name].append(finished)
                        answer = inboxes[name].finish("gateway", transfer_id(finished))
                    if answer is not None and rng.random() >= loss:
                        answers.append((name, encode_frame(answer)))
        for name, payload in answers:
            frame = decode_frame(payload)
            if isinstance(frame, Ack):
                outbox.acknowledged(name, frame)
            else:
                outbox.wanted(name, cast(Want, frame), now)
        outbox.due(now)
        assert now < 1e5
    assert got == {name: [body] for name in names}
