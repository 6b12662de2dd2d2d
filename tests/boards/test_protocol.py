"""Records and frames: what is intact is recovered, what is damaged is counted, nothing else ever escapes."""

import json
import struct
from typing import List, Optional

from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.boards.protocol import FRAME_INFER, RecordParser, crc16, encode_frame, parse_record


def line(seq: int, boot: str = "0000abcd", model: Optional[str] = None, **fields: object) -> bytes:
    head = {"v": 1, "boot": boot, "seq": seq, "model": model, "t_us": 10 * seq, "kind": "metrics"}
    content = json.dumps({**head, **fields}).encode()
    return b"@ew " + content + b"*%04x\r\n" % crc16(content)


def test_crc16_check_value() -> None:
    assert crc16(b"123456789") == 0x29B1  # the published check value of CRC-16/CCITT-FALSE


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=600))
def test_frames_decode(kind: int, number: int, body: bytes) -> None:
    frame = encode_frame(kind, number, body)
    assert frame[0] == frame[-1] == 0
    assert 0 not in frame[1:-1]
    payload = cobs.decode(frame[1:-1])
    assert struct.unpack("<BI", payload[:5]) == (kind, number)
    assert payload[5:-2] == body
    assert struct.unpack("<H", payload[-2:])[0] == crc16(payload[:-2])


@given(st.lists(st.binary(max_size=30)), st.data())
def test_pieces_of_any_size_between_noise(noise: List[bytes], data: st.DataObject) -> None:
    noise = [piece.replace(b"\n", b"").replace(b"@ew ", b"") for piece in noise]
    stream = b"".join(piece + line(seq) for seq, piece in enumerate(noise))
    parser = RecordParser()
    records = []
    while stream:
        size = data.draw(st.integers(1, 50))
        records += parser.feed(stream[:size])
        stream = stream[size:]
    assert [r.seq for r in records] == list(range(len(noise)))
    assert parser.stats.as_dict() == {"received": len(noise), "lost": 0, "corrupt": 0}


@settings(max_examples=200)
@given(st.binary(max_size=2000))
def test_garbage_never_escapes(garbage: bytes) -> None:
    parser = RecordParser()
    parser.feed(garbage)
    parser.feed(b"\n@ew " + garbage + b"\n")
    assert parser.feed(line(0))[0].seq == 0


@given(st.data())
def test_one_damaged_byte_is_counted_and_costs_one_record(data: st.DataObject) -> None:
    good = [line(seq, value=seq) for seq in range(3)]
    at = data.draw(st.integers(4, len(good[1]) - 3))  # within `{...}*crc`
    byte = data.draw(st.integers(0, 255).filter(lambda b: b not in (good[1][at], 10)))
    damaged = good[1][:at] + bytes([byte]) + good[1][at + 1 :]
    parser = RecordParser()
    records = parser.feed(good[0] + damaged + good[2])
    assert [r.seq for r in records] == [0, 2]
    assert (parser.stats.corrupt, parser.stats.lost) == (1, 1)


def test_records_that_lost_their_line_end_are_both_recovered() -> None:
    parser = RecordParser()
    records = parser.feed(line(0).rstrip() + b"I (312) wifi: up " + line(1))
    assert [r.seq for r in records] == [0, 1]


def test_a_new_boot_starts_counting_again() -> None:
    parser = RecordParser()
    parser.feed(line(0) + line(1) + line(0, boot="11112222") + line(3, boot="11112222"))
    assert (parser.stats.received, parser.stats.lost, parser.stats.boots) == (4, 2, 2)


def test_sequence_wraps() -> None:
    parser = RecordParser()
    parser.feed(line(2**32 - 1) + line(0))
    assert parser.stats.lost == 0


def test_valid_crc_over_nonsense_is_not_a_record() -> None:
    for content in (
        b"{}",
        b'{"v":1}',
        b'{"v":"1","boot":"a","seq":0,"model":null,"t_us":0,"kind":"x"}',
        b"{" * 5000 + b"}",
    ):
        assert parse_record(content + b"*%04x" % crc16(content)) is None


def test_endless_line_is_dropped() -> None:
    parser = RecordParser()
    for _ in range(40):
        parser.feed(b"x" * 10000)
    assert parser.feed(b"\n" + line(0))[0].seq == 0
    assert parser.stats.received == 1


def test_fields_arrive() -> None:
    (record,) = RecordParser().feed(line(3, model="00112233aabbccdd", latency_us=7))
    assert (record.model, record.fields) == ("00112233aabbccdd", {"latency_us": 7})
    assert record.as_dict()["latency_us"] == 7
    assert FRAME_INFER == 1
