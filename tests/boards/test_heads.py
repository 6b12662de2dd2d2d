"""A model with several heads on a board: a record has their mean and their spread, as this machine computes them."""

import dataclasses

import numpy as np
import pytest
from board_sample import Sample
from test_measures import with_profile

from model_export.errors import ExportError
from model_export.heads import mean_and_spread
from model_export.input_profile import InputProfile, make_profile, pack_profile, parse_profile
from orchestrator.boards.client import BoardClient
from orchestrator.boards.protocol import Record
from orchestrator.boards.virtual import VirtualBoard


def profile_of(heads: int) -> InputProfile:
    return dataclasses.replace(make_profile((1, 490), (), None), heads=heads)


@pytest.mark.parametrize("heads", [2, 3, 6])
def test_a_result_has_the_mean_of_the_heads_and_how_far_they_disagree(sample: Sample, heads: int) -> None:
    """The twelve outputs are taken for two to six heads' probabilities: what a board reckons does not ask what they add up to."""
    seen: list[Record] = []
    model_bin = with_profile(sample.model_bin, profile_of(heads))
    with VirtualBoard(model_bin) as board, BoardClient(board.port, on_record=seen.append) as client:
        outputs = client.infer(sample.rows).outputs.astype(float)
        metrics = client.metrics()
    shares = (outputs + 128) / 256
    mean, spread = mean_and_spread(shares.reshape(len(shares), heads, -1))
    results = sorted((r for r in seen if r.kind == "result"), key=lambda record: record.fields["id"])
    assert len(results) == len(sample.rows)
    np.testing.assert_allclose([r.fields["mean"] for r in results], mean, atol=6e-5)
    np.testing.assert_allclose([r.fields["spread"] for r in results], spread, atol=6e-5)
    assert np.ptp(spread) > 0.1
    assert metrics["classes"] == np.bincount(mean.argmax(1), minlength=12 // heads).tolist()


def test_a_plain_model_has_no_spread(sample: Sample) -> None:
    seen: list[Record] = []
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port, on_record=seen.append) as client:
        client.infer(sample.rows[:3])
    assert not any("spread" in record.fields for record in seen)


@pytest.mark.parametrize("heads", [5, 12, 64])
def test_heads_that_the_outputs_are_not_of_are_refused(sample: Sample, heads: int) -> None:
    with VirtualBoard(with_profile(sample.model_bin, profile_of(heads))) as board, BoardClient(board.port) as client:
        assert client.info()["state"] == "bad_input_profile"


def test_a_profile_with_heads_comes_back_as_it_was_written() -> None:
    packed = pack_profile(profile_of(7))
    assert parse_profile(packed).heads == 7
    assert parse_profile(pack_profile(profile_of(0))).heads == 0
    for wrong in (0, 1, 65):
        with pytest.raises(ExportError, match=f"input profile: {wrong} heads"):
            parse_profile(packed.replace((7).to_bytes(4, "little"), wrong.to_bytes(4, "little")))
