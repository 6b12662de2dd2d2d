"""Which records are never trained on: whole patients, by a key only the node has, and none by where it stands."""

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset, hold_out
from orchestrator.errors import DataError


def patients(count: int, each: int) -> Dataset:
    rng = np.random.default_rng(3)
    owners = np.repeat(np.arange(count), each).astype(np.int32)
    order = rng.permutation(count * each)
    x = rng.normal(size=(count * each, 2)).astype(np.float32)
    return Dataset(x[order], rng.integers(0, 2, count * each).astype(np.int32), owners[order])


def test_patients_are_held_out_whole() -> None:
    """Else records of one patient would be on both sides, and neither side's accounting would hold for it alone."""
    whole = patients(60, 5)
    train, held = hold_out(whole, 0.3, b"k" * 32)
    assert train.patients is not None
    assert held.patients is not None
    assert not set(train.patients.tolist()) & set(held.patients.tolist())
    assert train.records + held.records == 300
    assert held.records == 5 * len(set(held.patients.tolist()))
    assert 5 <= len(set(held.patients.tolist())) <= 33  # binomial (60, 0.3): beyond with a probability below 1e-4
    again, _ = hold_out(whole, 0.3, b"k" * 32)
    np.testing.assert_array_equal(train.x, again.x)
    other, _ = hold_out(whole, 0.3, b"o" * 32)
    assert other.records != train.records or (other.x != train.x).any(), "who is held out is the node's secret"


def test_whether_one_patient_is_held_out_depends_on_no_other() -> None:
    whole = patients(40, 3)
    _, held = hold_out(whole, 0.3, b"k" * 32)
    assert held.patients is not None
    assert whole.patients is not None
    for gone in range(40):
        _, rest = hold_out(whole.take(whole.patients != gone), 0.3, b"k" * 32)
        assert rest.patients is not None
        assert set(rest.patients.tolist()) == set(held.patients.tolist()) - {gone}


def test_a_record_more_moves_none_of_its_patients_others() -> None:
    """With unit record and a patient column, one row must not decide the side of all rows of its patient."""
    whole = patients(40, 3)
    assert whole.patients is not None
    held = set(hold_out(whole, 0.3, b"k" * 32)[1].x[:, 0].tolist())
    for gone in range(0, whole.records, 7):
        for order in (np.arange(whole.records), np.arange(whole.records)[::-1]):
            kept = order[order != gone]
            rest = set(hold_out(whole.take(kept), 0.3, b"k" * 32)[1].x[:, 0].tolist())
            assert rest == held - {float(whole.x[gone, 0])}


def test_records_too_few_to_split_are_an_error() -> None:
    with pytest.raises(DataError, match="cannot be split"):
        hold_out(patients(1, 30), 0.3, b"k" * 32)
    train, held = hold_out(patients(1, 30), 0.0, b"k" * 32)
    assert (train.records, held.records) == (30, 0)
