import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import WireError
from orchestrator.wire.codec import BLOCK, CODECS, decode_update, encode_update


@given(st.integers(0, 3000), st.sampled_from(CODECS), st.integers(0, 1000))
def test_decoding_is_within_one_step_of_the_update(size: int, codec: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    update = (rng.standard_normal(size) * 10.0 ** rng.integers(-6, 3)).astype(np.float32)
    back = decode_update(encode_update(update, codec, rng), codec, size)
    for start in range(0, size, BLOCK):
        part, other = update[start : start + BLOCK], back[start : start + BLOCK]
        step = {"float32": 0.0, "float16": np.abs(part).max() * 2**-10 + 1e-7, "int8": np.abs(part).max() / 127}[codec]
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
        ({}, "int8", "none"),
        ({"update": np.zeros(3, np.int8)}, "int8", "scales"),
        ({"update": np.zeros(4, np.int8), "scales": np.ones(1, np.float32)}, "int8", "expected int8"),
        ({"update": np.zeros(3, np.float64)}, "float32", "expected float32"),
        ({"update": np.array([1, np.nan, 0], np.float32)}, "float32", "not finite"),
        ({"update": np.ones(3, np.int8), "scales": np.array([np.inf], np.float32)}, "int8", "not finite"),
        ({"update": np.zeros(3, np.float32)}, "int3", "unknown update codec"),
    ],
)
def test_what_is_no_update_is_refused(tensors: dict, codec: str, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode_update(tensors, codec, 3)
