"""Records of boards, typed as docs/serial.md has them: what a record holds is checked once, where it comes in.

JSON that others sent is read with limits. A later reader can count, compare, print and chart values without looking at their
types again.
"""

import json
import math
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from orchestrator.wire.plain import LIMIT

SCHEMA = 1
_MOST_FIELDS, _MOST_VALUES = 64, 64
_MOST_DIGITS = 20
_MOST_OUTPUT_DIGITS = 128 * 1024
_MOST_SAMPLE_DIGITS = 4 * 96
_LARGEST_REAL = 1e6
"""Firmware cuts its decimals off there."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_WORD = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,63}")
_RULE = re.compile(r"[0-9]{1,8}(?: [0-9]{1,8}| [a-z]{1,8}){5,10}")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")

Check = Callable[[Any], bool]


def _whole(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


_u32, _i32 = _whole(0, 2**32 - 1), _whole(-(2**31), 2**31 - 1)
_any_u64 = _whole(0, 2**64 - 1)
_u64, _i64 = _whole(0, 2**63 - 1), _whole(-(2**63), 2**63 - 1)  # what readers with signed numbers hold


def _real(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LARGEST_REAL


def _share(value: Any) -> bool:
    return _real(value) and value <= 1


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= LIMIT and value.isprintable())


def _rule(value: Any) -> bool:
    """A rule as `rule set` takes it; what an action means is for boards/rules.py."""
    return isinstance(value, str) and _RULE.fullmatch(value) is not None


def _digits(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MOST_OUTPUT_DIGITS and _HEX.fullmatch(value) is not None


def _sample_digits(value: Any) -> bool:
    return _digits(value) and 0 < len(value) <= _MOST_SAMPLE_DIGITS and len(value) % 4 == 0


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) <= _MOST_VALUES and all(map(check, value))


def _scale(value: Any) -> bool:
    """[mantissa, exponent] of a float32."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and _i32(value[0])
        and type(value[1]) is int
        and -300 <= value[1] <= 300
    )


def _number(value: Any) -> bool:
    return _i64(value) or type(value) is float


def _any_field(value: Any) -> bool:
    """Of a field this version does not know: newer firmware may send one."""
    return _flag(value) or _number(value) or _text(value) or _list_of(_number)(value)


def _fields(check: Check, names: str) -> Dict[str, Check]:
    return dict.fromkeys(names.split(), check)


_ABOUT = {**_fields(_text, "firmware chip engine reset"), "simulated": _flag}
_LATENCY = _fields(_u64, "latency_min_us latency_p50_us latency_p95_us latency_p99_us latency_max_us")
_REFUSAL = {**_fields(_text, "code reason slot"), "op": _i32}

KINDS: Dict[str, Dict[str, Check]] = {
    "boot": _ABOUT,
    "model": {**_fields(_text, "name slot"), **_fields(_u32, "arena_used_bytes arena_bytes")},
    "info": {
        **_ABOUT,
        **_fields(_text, "state name slot signature program program_slot"),
        **_fields(_u32, "sample_bytes model_bytes keys ops arena_used_bytes arena_bytes input_bytes output_bytes"),
        **_fields(_u32, "state_bytes rules"),
        **_fields(_scale, "input_scale output_scale"),
        **_fields(_i32, "input_zero_point output_zero_point"),
        **_fields(_flag, "keys_locked recording_allowed recording on_trial"),
    },
    "metrics": {
        **_LATENCY,
        **_fields(_u64, "inferences errors bad_frames latency_count"),
        **_fields(_u32, "arena_used_bytes arena_bytes"),
        **_fields(_u32, "heap_free_bytes heap_least_free_bytes stack_least_free_bytes"),
        **_fields(_list_of(_u32), "classes confidence"),
        "over": _u32,
        "reset": _text,
        "psi": _real,
        "recording": _flag,
    },
    "result": {
        **{"id": _u32, "latency_us": _u64, "out": _digits, "score": _scale, "over": _flag},
        **{"mean": _list_of(_share), "spread": _share},
    },
    "update": {**_REFUSAL, **_fields(_u32, "id next_offset"), "state": _word},
    "drift": {**_fields(_u32, "rows reference_rows group"), "psi": _real, "psi_of_groups": _list_of(_real)},
    "op": {"name": _text, "op": _i32, "runs": _u32, "total_us": _u64},
    "bench": {**_LATENCY, **_fields(_u32, "runs ops output_crc32"), "total_us": _u64},
    "samples": {**_fields(_u32, "first_sample of_channels"), "values": _sample_digits},
    "recorded": {"samples": _u32, "why": _word},
    "fed": _fields(_u32, "id next_sample"),
    "detect": {
        **_fields(_u32, "sample window label agreed"),
        "confidence": _share,
        "latency_us": _u64,
        "score": _scale,
        "spread": _share,
    },
    "acted": {**_fields(_u32, "rule label sample window"), "action": _word, "confidence": _share},
    "keys": {"keys": _list_of(_word), "locked": _flag},
    "rules": {"rules": _list_of(_rule), **_fields(_list_of(_u32), "on ready_in_ms"), "locked": _flag},
    "selftest": _fields(_u32, "rows mismatches"),
    "ok": {"command": _text},
    "reboot": {},
    "order": {**_REFUSAL, "state": _word, "claimed": _any_u64},
    "network": {
        **_fields(_word, "state federation name"),
        **_fields(_u64, "dropped port last_order"),
        "host": _text,
        "encrypted": _flag,
    },
    "settings": {"id": _u32},
    "error": {**_REFUSAL, **_fields(_u32, "id rule expected_bytes got_bytes arena_bytes")},
}
"""Every kind of record, and of what type its fields are."""

GONE = b'{"kind":"gone"}'
"""On the topic `presence` of a board that is on a network: its last will, which nobody can mark for it."""

RAW = frozenset({"samples"})
"""Kinds that carry what a sensor measured, perhaps of a patient: `edgeward board record` takes them, nothing passes them on."""

_NEEDED: Dict[str, Tuple[str, ...]] = {
    "result": ("id", "latency_us", "out"),
    "update": ("id", "state", "next_offset"),
    "op": ("name", "op", "runs", "total_us"),
    "fed": ("id", "next_sample"),
    "samples": ("first_sample", "of_channels", "values"),
    "recorded": ("samples", "why"),
    "keys": ("keys", "locked"),
    "acted": ("rule", "label", "confidence", "sample"),
    "rules": ("rules", "on", "ready_in_ms", "locked"),
    "selftest": ("rows", "mismatches"),
}
"""Fields an answer must have."""

_HEAD: Dict[str, Check] = {
    "boot": _word,
    "seq": _u32,
    "model": lambda value: value is None or _word(value),
    "t_us": _u64,
    "order": _u64,
    "mac": _word,
    "kind": lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
    "v": _u32,
}
_NEEDED_HEAD = tuple(name for name in _HEAD if name not in ("order", "mac"))
"""A record has the others only while an order from the network is obeyed, and on the network."""

_FORWARDED: Dict[str, Check] = {
    "received_at": lambda value: _number(value) and value >= 0,
    "port": _text,
    "simulated": _flag,
}
"""What a monitor adds to a record it forwards; `simulated` once the board said it."""


def read_record(data: bytes, most_bytes: int) -> Optional[Dict[str, Any]]:
    """The record in a board's line: whole head, known kind, every field of its type; None for anything else.

    A record of another schema has its head only: nobody here knows what its fields mean.
    """
    content = parse_object(data, most_bytes)
    if content is None or not all(name in content for name in _NEEDED_HEAD):
        return None
    if not all(_HEAD[name](content[name]) for name in _HEAD if name in content):
        return None
    if content["v"] != SCHEMA:
        return {name: content[name] for name in _NEEDED_HEAD}
    return content if _typed(content, _HEAD) else None


def read_forwarded(data: bytes, most_bytes: int) -> Optional[Dict[str, Any]]:
    """The record in a message of a monitor, which may leave out parts of the head but the kind; None for anything else.

    Those of the kinds RAW are none: a gateway keeps no sample, even if some monitor sends it one.
    """
    content = parse_object(data, most_bytes)
    if content is None or "kind" not in content or content.get("v", SCHEMA) != SCHEMA:
        return None
    if content["kind"] in tuple(RAW):
        return None
    return content if _typed(content, {**_HEAD, **_FORWARDED}) else None


def measured(metrics: Mapping[str, Any]) -> Dict[str, Any]:
    """Fields of a metrics record without those of latency where nothing was inferred yet: boards write 0 there."""
    none = metrics.get("latency_count", metrics.get("inferences")) == 0
    return {name: value for name, value in metrics.items() if not (none and name in _LATENCY)}


def _typed(content: Dict[str, Any], head: Dict[str, Check]) -> bool:
    if len(content) > _MOST_FIELDS or not isinstance(content["kind"], str):
        return False
    known = KINDS.get(content["kind"])
    if known is None or any(name not in content for name in _NEEDED.get(content["kind"], ())):
        return False
    return all(any(check(value) for check in _checks(name, head, known)) for name, value in content.items())


def _checks(name: str, head: Dict[str, Check], known: Dict[str, Check]) -> List[Check]:
    """Of what type a field may be: as its kind says, else as in the kinds that have it, else any value of a field."""
    if name in head or name in known:
        return [head.get(name) or known[name]]
    if not _NAME.fullmatch(name):
        return []
    others = (fields for kind, fields in KINDS.items() if kind not in RAW)  # whose fields are in no other record
    return [fields[name] for fields in others if name in fields] or [_any_field]


def parse_object(data: bytes, most_bytes: int) -> Optional[Dict[str, Any]]:
    """The JSON object in `data`, its texts as they are; None for all else.

    Numbers are finite, and whole ones have at most 64 bits: code that computes with them, or writes them out again, can.
    """
    if len(data) > most_bytes:
        return None
    try:
        found = json.loads(data, parse_int=_whole_number, parse_float=_finite_number, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _whole_number(text: str) -> int:
    number = int(text) if len(text) <= _MOST_DIGITS else 1 << 64
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("a number of more than 64 bits")
    return number


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond all floats")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
