"""Ten thousand hostile inputs for every parser a foreign byte can reach: refused with WireError, in bounded memory, or right.

EDGEWARD_CASES_SHARE=0.1 tries a tenth of them.
"""

import struct
import tracemalloc
import zlib
from dataclasses import replace
from typing import Any, Dict, List, Optional

import cbor2
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from series import of_cases

from orchestrator.errors import WireError
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.codec import CODECS, decode_update, encode_update
from orchestrator.wire.evaluation import check
from orchestrator.wire.frames import CHUNK_BYTES, Ack, Chunk, Frame, Want, decode_frame, encode_frame, split
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import Inbox, transfer_id

LIMIT = 1 << 20


def fuzzed(cases: int) -> Any:
    """The same cases everywhere: a failure in CI is one here."""
    return settings(
        max_examples=of_cases(cases),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


def damaged(whole: bytes, edits: List[Any]) -> bytes:
    """`whole` with bytes set, cut out or put in."""
    data = bytearray(whole)
    for kind, place, value in edits:
        at = place % (len(data) + 1)
        if kind == 0 and at < len(data):
            data[at] = value
        elif kind == 1:
            del data[at : at + value]
        else:
            data[at:at] = bytes([value]) * (value % 7)
    return bytes(data)


EDITS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6)
IDS = st.binary(min_size=32, max_size=32)
FRAMES = st.one_of(
    st.builds(Ack, IDS),
    st.builds(Want, IDS, st.lists(st.integers(0, 1 << 31), max_size=5).map(tuple)),
    st.builds(lambda b: split(transfer_id(b), b)[0], st.binary(max_size=200)),
)
PLAIN: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TENSORS = st.dictionaries(
    st.text(max_size=8),
    st.tuples(st.sampled_from(["float32", "int8", "uint8", "int64"]), st.lists(st.integers(0, 4), max_size=3)).map(
        lambda t: np.zeros(t[1], t[0])
    ),
    max_size=3,
)


def refused_or(parse: Any, *arguments: Any) -> Any:
    try:
        return parse(*arguments)
    except WireError:
        return None


@fuzzed(1500)
@given(st.binary(max_size=300))
def test_random_bytes_as_frame_and_body(data: bytes) -> None:
    assert refused_or(decode_frame, data) is None or decode_frame(data) is not None
    assert refused_or(decode_body, data, LIMIT) is None


@fuzzed(2000)
@given(FRAMES, EDITS)
def test_damaged_frames(frame: Frame, edits: List[Any]) -> None:
    assert decode_frame(encode_frame(frame)) == frame
    changed = damaged(encode_frame(frame), edits)
    assert refused_or(decode_frame, changed) in (None, frame), "its CRC-32 finds it"
    # With a CRC that fits, as someone who means harm would send it.
    found = refused_or(decode_frame, changed[:4] + zlib.crc32(changed[8:]).to_bytes(4, "little") + changed[8:])
    if isinstance(found, Chunk):
        assert len(found.data) <= CHUNK_BYTES
        assert found.index < found.count


@fuzzed(1500)
@given(st.dictionaries(st.text(max_size=8), PLAIN, max_size=4), TENSORS, EDITS)
def test_damaged_bodies(header: Dict[str, Any], tensors: Dict[str, np.ndarray], edits: List[Any]) -> None:
    header.pop("tensors", None)
    body = encode_body(header, tensors)
    refused_or(decode_body, damaged(body, edits), LIMIT)
    # Damage below the compression, where no checksum of zstd stands before our own checks.
    content = zstandard.ZstdDecompressor().decompress(body[4:])
    refused_or(decode_body, body[:4] + zstandard.compress(damaged(content, edits)), LIMIT)


@fuzzed(1000)
@given(PLAIN, st.binary(max_size=64))
def test_any_cbor_as_header(header: Any, rest: bytes) -> None:
    packed = cbor2.dumps(header)
    body = b"EWB\x01" + zstandard.compress(struct.pack("<I", len(packed)) + packed + rest)
    found = refused_or(decode_body, body, LIMIT)
    assert found is None or isinstance(found[0], dict)


@fuzzed(1500)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.binary(max_size=40), st.booleans()), max_size=12))
def test_any_sequence_of_chunks(steps: List[Any]) -> None:
    """Whatever comes in whatever order: no body but one whose digest is its name, and no more open transfers than allowed."""
    inbox = Inbox(4 * CHUNK_BYTES, max_open_per_sender=2)
    bodies = [bytes([i]) * (CHUNK_BYTES * i + 5) for i in range(4)]
    for which, index, noise, honest in steps:
        chunks = split(transfer_id(bodies[which]), bodies[which])
        chunk = chunks[index % len(chunks)]
        if not honest:
            chunk = replace(chunk, data=(noise + chunk.data)[: len(chunk.data)])
        try:
            body, answer = inbox.feed("a", chunk)
        except WireError:
            continue
        assert body is None or transfer_id(body) == chunk.id
        assert answer is None or isinstance(answer, (Ack, Want))
        if body is not None:
            inbox.finish("a", body)


@fuzzed(1000)
@given(st.sampled_from(CODECS), st.integers(0, 60), st.integers(0, 60), TENSORS, st.integers(0, 3))
def test_any_tensors_as_an_update(codec: str, size: int, other: int, tensors: Dict[str, np.ndarray], mix: int) -> None:
    encoded = (
        encode_update(np.linspace(-1, 1, other, dtype=np.float32), codec, np.random.default_rng(0)) if other else {}
    )
    names = sorted(encoded)
    if mix and names:
        encoded[names[mix % len(names)]] = np.full(3, np.nan, np.float32) if mix > 1 else np.zeros(other, np.int64)
    found: Optional[np.ndarray] = refused_or(decode_update, {**tensors, **encoded}, codec, size)
    assert found is None or (found.shape == (size,) and np.isfinite(found).all())
    refused_or(check, next(iter(tensors.values()), None), 41)


@fuzzed(500)
@given(st.text(max_size=60))
def test_any_topic(text: str) -> None:
    topics = Topics("f")
    for topic in (
        text,
        f"edgeward/1/f/node/{text}",
        f"edgeward/1/f/board/{text}/record",
        f"edgeward/1/f/node/{text}/up",
    ):
        found = topics.sender(topic)
        assert found is None or "/" not in found[0]
        assert topics.board(topic) is None or "+" not in str(topics.board(topic))


MESSAGES = st.one_of(
    st.binary(max_size=80),
    FRAMES.map(encode_frame),
    st.dictionaries(st.sampled_from(["kind", "run", "round", "records", "codec", "reason"]), PLAIN).map(encode_body),
    st.builds(
        lambda kind, header: encode_body({**header, "kind": kind}),
        st.sampled_from(["ready", "declined", "gone", "hello", "health", "update"]),
        st.fixed_dictionaries(
            {},
            optional={
                "run": st.sampled_from(["run", "other"]),
                "round": st.integers(-1, 3),
                **{name: PLAIN for name in ("records", "process", "labels", "health", "reason", "finished")},
            },
        ),
    ),
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gateway in round 1 of a run with nodes a and b, in process and without a broker."""
    from orchestrator.gateway.gateway import Gateway
    from orchestrator.gateway.store import Store
    from orchestrator.wire.link import BrokerAddress, Message
    from orchestrator.wire.protection import Privacy
    from orchestrator.wire.schema import Feature, Schema
    from orchestrator.wire.task import Rounds, Task, task_to_dict
    from orchestrator.wire.training import Training

    schema = Schema(
        "table", "y", ("no", "yes"), {"0": 0, "1": 1}, features=(Feature("x", 0, 1),), standardization="range"
    )
    rules = Rounds(nodes=2, quorum=2)
    task = Task("t", schema, {"kind": "none"}, Training(rounds=1000), Privacy(unit="none"), rules, codec="float32")
    store = Store(tmp_path_factory.mktemp("gateway") / "gateway.sqlite")
    store.create_run("run", task_to_dict(task), b"graph", np.zeros(8, np.float32))
    made = Gateway(store, "run", "f", BrokerAddress("127.0.0.1", 1))
    made.link.publish = lambda topic, payload, retain=False: None  # type: ignore[method-assign]
    for node in ("a", "b"):
        ready = {"kind": "ready", "run": "run", "records": 10, "process": {"sent_bytes": "many", "tensorflow": 3}}
        made.receive(Message(f"edgeward/1/f/node/{node}/presence", encode_body(ready)))
    assert made.coordinator.round == 1
    return made


@fuzzed(1000)
@given(st.sampled_from(["a/up", "a/presence", "b/up", "b/presence", "a/other", "A/up"]), MESSAGES, st.booleans())
def test_any_message_to_a_gateway(gateway: Any, topic: str, message: bytes, wrapped: bool) -> None:
    from orchestrator.wire.link import Message

    payloads = [encode_frame(c) for c in split(transfer_id(message), message)] if wrapped else [message]
    for payload in payloads:
        gateway.receive(Message(f"edgeward/1/f/node/{topic}", payload))
    assert gateway.coordinator.round == 1
    assert gateway.coordinator.arrived == {}, "nothing here is an update that could count"


def bomb(announced: Optional[int], real: int) -> bytes:
    """A body that decompresses to `real` zeros and says it is `announced` bytes."""
    frame = bytearray(zstandard.ZstdCompressor(level=19).compress(bytes(real)))
    descriptor = frame[4]
    assert descriptor >> 6 == 2, "an eight-byte... four-byte content size is expected"
    at = 5 if descriptor & 32 else 6
    if announced is not None:
        frame[at : at + 4] = struct.pack("<I", announced)
    return b"EWB\x01" + bytes(frame)


@pytest.mark.parametrize("shape", [[False], [True, 2], [1.0], ["1"], [-1], [1 << 40], [1] * 9, None])
def test_a_shape_is_of_whole_numbers(shape: Any) -> None:
    packed = cbor2.dumps({"tensors": [["x", "uint8", shape]]})
    content = struct.pack("<I", len(packed)) + packed + bytes(2)
    with pytest.raises(WireError, match="has the shape|is described by"):
        decode_body(b"EWB\x01" + zstandard.ZstdCompressor().compress(content), LIMIT)


@pytest.mark.parametrize("announced", [None, 100, LIMIT - 1, 0xFFFFFFFF])
def test_a_zip_bomb_costs_no_memory(announced: Optional[int]) -> None:
    packed = bomb(announced, 200 << 20)
    assert len(packed) < 100_000
    tracemalloc.start()
    with pytest.raises(WireError):
        decode_body(packed, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * LIMIT
