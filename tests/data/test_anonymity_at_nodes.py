"""A node whose data description names rules computes on the anonymous table, and makes no report of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anonymous_tables import setting

from orchestrator.data.anonymity import anonymize
from orchestrator.data.dataset import load_dataset
from orchestrator.data.described import versions_of
from orchestrator.data.table import every_row
from orchestrator.wire.schema import Feature, Schema


def test_a_node_computes_on_the_anonymous_table(tmp_path: Path) -> None:
    table, _ = setting(tmp_path, 200, 6, "l_diversity = 2")
    ward = tmp_path / "ward.toml"
    ward.write_text('anonymize = "rules.toml"\n[source]\nfile = "table.csv"\n')
    schema = Schema(
        "table",
        "ill",
        ("no", "yes"),
        {"no": 0, "flu": 1, "cold": 1, "gout": 1},
        (Feature("age", 0, 120), Feature("sex", categories=("f", "m"))),
    )
    plain, anonymous = load_dataset(table, schema), load_dataset(ward, schema)
    assert anonymous.records == plain.records == 200
    assert np.array_equal(np.bincount(anonymous.y), np.bincount(plain.y)), "labels stay"

    def smallest(x: np.ndarray) -> int:
        return int(np.unique(x, axis=0, return_counts=True)[1].min())

    assert smallest(plain.x) < 5 <= smallest(anonymous.x)
    assert anonymous.places is not None
    assert anonymous.places.tolist() == list(range(2, 202)), "problems are named by lines of the file"


def described(folder: Path) -> Path:
    """A description that asks for the rules of `setting`."""
    ward = folder / "ward.toml"
    ward.write_text('anonymize = "rules.toml"\n[source]\nfile = "table.csv"\n')
    return ward


def test_a_node_makes_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which nobody reads there, and which takes longer than the classes do."""
    setting(tmp_path, 200, 6, 'label = "ill"')

    def called(*_: Any) -> Any:
        raise AssertionError("measured for nobody")

    monkeypatch.setattr(anonymize, "measure", called)
    monkeypatch.setattr(anonymize, "area", called)
    assert len(list(every_row(described(tmp_path)))) == 201


def test_a_changed_hierarchy_is_another_version_of_the_data(tmp_path: Path) -> None:
    setting(tmp_path, 10, 0)
    ward = described(tmp_path)
    named = {path.name for path in versions_of(ward)}
    assert named == {"ward.toml", "table.csv", "rules.toml", "places.csv"}
    (tmp_path / "rules.toml").write_text("k = 1")
    assert {path.name for path in versions_of(ward)} == {"ward.toml", "table.csv", "rules.toml"}, "rules that are none"
