from typing import Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import WireError
from orchestrator.wire.codec import CODECS, decode_update, encode_update


@given(st.integers(0, 3000), st.sampled_from([c for c in CODECS if c != "top10"]), st.integers(0, 1000))
def test_decoding_is_within_one_step_of_the_update(size: int, codec: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    update = (rng.standard_normal(size) * 10.0 ** rng.integers(-6, 3)).astype(np.float32)
    back = decode_update(encode_update(update, codec, rng), codec, size)
    for start in range(0, size, 1024):
        part, other = update[start : start + 1024], back[start : start + 1024]
        peak = np.abs(part).max()
        step = {"float32": 0.0, "float16": peak * 2**-10 + 1e-7, "int8": peak / 127, "int4": peak / 7}[codec]
        assert np.abs(part - other).max() <= step * 1.001


def test_int8_is_right_on_average() -> None:
    rng = np.random.default_rng(0)
    update = np.full(1, 0.3137, np.float32)
    update = np.concatenate([update, np.ones(1, np.float32)])
    mean = np.mean([decode_update(encode_update(update, "int8", rng), "int8", 2)[0] for _ in range(4000)])
    assert abs(mean - 0.3137) < 4 * (1 / 127) / np.sqrt(12) / np.sqrt(4000) * 2


@pytest.mark.parametrize(
    ("tensors", "codec", "reason"),
    [
        ({}, "int8", "missing"),
        ({"update": np.zeros(3, np.int8)}, "int8", "scales"),
        ({"update": np.zeros(4, np.int8), "scales": np.ones(1, np.float32)}, "int8", "expected int8"),
        ({"update": np.zeros(3, np.float64)}, "float32", "expected float32"),
        ({"update": np.array([1, np.nan, 0], np.float32)}, "float32", "not finite"),
        ({"update": np.ones(3, np.int8), "scales": np.array([np.inf], np.float32)}, "int8", "not finite"),
        ({"update": np.zeros(3, np.float32)}, "int3", "unknown update codec"),
    ],
)
def test_what_is_no_update_is_refused(tensors: Dict[str, np.ndarray], codec: str, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode_update(tensors, codec, 3)


def test_int4_is_half_a_byte_a_value() -> None:
    update = np.random.default_rng(0).standard_normal(1001).astype(np.float32)
    tensors = encode_update(update, "int4", np.random.default_rng(1))
    assert tensors["update"].nbytes == 501
    assert sum(t.nbytes for t in tensors.values()) < 0.14 * update.nbytes


@given(st.integers(1, 2000), st.integers(0, 1000))
def test_top10_keeps_the_largest_tenth(size: int, seed: int) -> None:
    update = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    back = decode_update(encode_update(update, "top10", np.random.default_rng(0)), "top10", size)
    kept = back != 0
    assert kept.sum() == max(1, int(np.ceil(0.1 * size)))
    np.testing.assert_allclose(back[kept], update[kept], rtol=1e-3)
    assert np.abs(update[kept]).min() >= np.abs(update[~kept]).max(initial=0)


@pytest.mark.parametrize("index", [[0, 0], [1, 0], [0, 20]])
def test_top10_indices_that_cannot_be(index: List[int]) -> None:
    tensors: Dict[str, np.ndarray] = {"index": np.array(index, np.uint32), "update": np.ones(2, np.float16)}
    with pytest.raises(WireError, match="must ascend below 20"):
        decode_update(tensors, "top10", 20)


def test_with_error_feedback_nothing_is_lost_for_good() -> None:
    rng = np.random.default_rng(0)
    updates = rng.standard_normal((60, 200)).astype(np.float32)
    carried, sent = np.zeros(200, np.float32), np.zeros(200)
    for update in updates:
        whole = update + carried
        back = decode_update(encode_update(whole, "top10", rng), "top10", 200)
        carried = whole - back
        sent += back
    np.testing.assert_allclose(sent + carried, updates.sum(axis=0), rtol=1e-3, atol=1e-3)
    assert np.abs(carried).max() < 12, "what is carried stays bounded"
