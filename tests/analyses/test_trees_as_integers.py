"""Trees in whole numbers: cuts, inputs and units of trees that are written by hand, or grown over invented records."""

import json
import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from analysed_rows import SCHEMA as SMALL
from analysed_rows import task_of

from model_export.model_bin import parse_model_bin
from model_export.trees import MISSING, leaves_of, run_trees
from orchestrator.analyses.grown import Grown, Split
from orchestrator.cli.main import main
from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError
from orchestrator.gateway.analysed import report_of
from orchestrator.gateway.trees_bundle import cut_of, export_trees, integers, predicted
from orchestrator.gateway.trees_inputs import codes_of
from orchestrator.gateway.trial import try_planned
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.targets.number import Number

pytest.importorskip("serial", reason="bundles are made at gateways, which have it")


def test_a_logarithm_has_its_cuts_in_logarithms() -> None:
    feature = Feature("ferritin", 1, 5000, transform="log")
    low, high = feature.scaled_range
    for cut in (-0.5, 0.0, 0.3):
        split = Split(0, False, None, cut, low, high, scaled=True)
        found = np.float32(cut_of(split, feature))
        assert split.beyond(float(found))
        assert not split.beyond(float(np.nextafter(found, np.float32(-1))))
    assert cut_of(Split(0, False, None, math.inf), feature) == math.inf
    assert cut_of(Split(0, False, None, low - 1), feature) == float(np.float32(0.0))


def test_more_thresholds_than_an_input_tells_apart_have_inputs_of_their_own() -> None:
    """500 thresholds of one number, in as many trees: two inputs, and the same leaves."""
    feature, outcome = Feature("age", 0, 100), Feature("ill", categories=("no", "yes"))
    thresholds = np.linspace(0.1, 99.9, 500)
    trees = [{1: Split(0, at % 2 == 0, None, float(cut)), 2: (0.25,), 3: (0.5,)} for at, cut in enumerate(thresholds)]
    grown = Grown([feature], outcome, trees, ("no", "yes"), mean=True)  # type: ignore[arg-type]
    schema = Schema("table", "", (), {}, (feature, outcome))
    made = integers(grown, predicted(schema, grown))
    assert [len(each["cuts"]) for each in made.features] == [254, 246]
    ages = np.linspace(0, 100, 997)
    data = Dataset(np.append(ages, np.nan)[:, np.newaxis], np.zeros(998, np.int32))
    codes = codes_of(data, predicted(schema, grown), made.features)
    assert (codes[-1] == MISSING).all()
    right = np.stack([leaves_of(made.model, tree, codes.astype(np.int64) + 128) for tree in made.model.trees], axis=1)
    np.testing.assert_array_equal(right[:-1].sum(axis=1), (ages[:, np.newaxis] >= thresholds).sum(axis=1))
    assert right[-1].sum() == 250


def test_more_than_sixteen_categories_are_a_set() -> None:
    levels = tuple(f"l{i}" for i in range(40))
    feature, outcome = Feature("town", categories=levels), Feature("ill", categories=("no", "yes"))
    split = Split(0, False, (3, 17, 39))
    grown = Grown([feature], outcome, [{1: split, 2: (0.1,), 3: (0.9,)}], ("no", "yes"), mean=True)
    made = integers(grown, predicted(Schema("table", "", (), {}, (feature, outcome)), grown))
    codes = np.arange(-128, -87, dtype=np.int8)[:, np.newaxis]
    answers = run_trees(made.model, codes).argmax(axis=1)
    assert np.flatnonzero(answers).tolist() == [4, 18, 40]


def test_a_cut_at_the_middle_of_a_range_around_zero_is_found() -> None:
    """Below it are a thousand million float32 that the analysis cannot tell from 0: they are not walked one by one."""
    feature = Feature("base excess", -100, 100)
    split = Split(0, False, None, 0.0, -100.0, 100.0, scaled=True)
    found = np.float32(cut_of(split, feature))
    assert 0 < found < 1e-13
    assert split.beyond(float(str(found)))
    assert not split.beyond(float(str(np.nextafter(found, np.float32(0)))))


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1e15), (1e15, 2e15), (-1e12, 1e12), (0, 1e-6), (0, 1e-12), (0, 250), (-1e30, 1e30), (0, 1e-29)],
)
def test_numbers_of_any_size_are_within_half_a_step(low: float, high: float) -> None:
    """Concentrations in moles and counts in millions of millions alike: the unit of leaves is that of their sums."""
    feature, outcome, width = Feature("age", 0, 100), Feature("level", low, high), high - low
    trees = [
        {1: Split(0, False, None, edge), 2: (-share * width,), 3: (share * width / 2,)}
        for edge, share in ((50.0, 0.3), (25.0, 0.1))
    ]
    grown = Grown([feature], outcome, trees, (), mean=False, base=(low + high) / 2)  # type: ignore[arg-type]
    schema = predicted(Schema("table", "", (), {}, (feature, outcome)), grown)
    made = integers(grown, schema)
    data = Dataset(np.array([[10.0], [30.0], [70.0]]), np.zeros(3, np.int32))
    outputs = run_trees(made.model, codes_of(data, schema, made.features))[:, 0].astype(int)
    found = cast(Number, schema.learned).base + made.model.scale * (outputs - made.model.zero_point)
    wanted = (low + high) / 2 + width * np.array([-0.4, -0.25, 0.2])
    assert np.abs(found - wanted).max() <= 0.501 * made.model.scale


def drawn_splits(levels: int, trees: int) -> Grown:
    """A forest of random sets of one column's categories, 127 a tree."""
    draw = np.random.default_rng(0)
    town = Feature("town", categories=tuple(f"l{number}" for number in range(levels)))
    found = [
        {
            **{node: Split(0, False, tuple(np.flatnonzero(right).tolist())) for node, right in enumerate(each, 1)},
            **{node: (float(draw.random()),) for node in range(128, 256)},
        }
        for each in draw.random((trees, 127, levels)) < 0.5
    ]
    return Grown([town], Feature("ill", categories=("no", "yes")), found, ("no", "yes"), mean=True)  # type: ignore[arg-type]


def test_more_sets_of_categories_than_a_node_can_name_are_refused() -> None:
    for trees, fits in ((40, True), (520, False)):
        grown = drawn_splits(200, trees)
        schema = predicted(Schema("table", "", (), {}, (grown.inputs[0], grown.outcome)), grown)
        if fits:
            assert len(integers(grown, schema).model.sets) == trees * 127
        else:
            with pytest.raises(EdgewardError, match=r"need 66040 sets of categories, a board has at most 65536"):
                integers(grown, schema)


def test_a_range_that_no_float32_holds_is_refused() -> None:
    with pytest.raises(EdgewardError, match="count: its range is beyond what a float32 holds"):
        cut_of(Split(0, False, None, 1.0), Feature("count", 0, 1e300))


def small_result(folder: Path, outcome: str) -> np.ndarray:
    """Writes the result of boosted trees over invented records; returns these, as `Analysis.vectors` takes them."""
    draw = np.random.default_rng(5)
    iron = np.log(draw.uniform(1, 5000, 400)).astype(np.float32)
    sex, smoker = np.eye(2)[(iron > 6.5).astype(int)], np.eye(3)[draw.integers(0, 3, 400)]
    x = np.column_stack([draw.uniform(18, 95, 400), iron, sex, smoker])
    task = task_of("boosted", schema=SMALL, outcome=outcome, trees=8, depth=2, bins=16, least=5, held_out=0.0)
    result = try_planned(task, [Dataset(x, np.zeros(400, np.int32))]).result
    (folder / "result.json").write_text(json.dumps({"tried": True, "analysis": report_of(result, task)}))
    return x


def test_a_logarithm_is_counted_in_logarithms(tmp_path: Path) -> None:
    small_result(tmp_path, "sex")
    manifest = export_trees(tmp_path, tmp_path / "out")
    by_name = {feature["name"]: feature for feature in manifest["features"]}
    assert by_name["ferritin"]["transform"] == "log"
    assert any(6 < cut < 7 for cut in by_name["ferritin"]["cuts"])
    packed = parse_model_bin((tmp_path / "out" / "model.bin").read_bytes())
    assert packed.input_profile is not None
    assert packed.input_profile.ranges is not None


def test_a_number_whose_logarithm_is_explained_is_predicted_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = small_result(tmp_path, "ferritin")
    export_trees(tmp_path, tmp_path / "out")
    rows = [f"{row[0]},{row[2:4].argmax():d},{('no', 'yes', 'former')[int(row[4:].argmax())]}" for row in x]
    lines = ["age,sex,smoker", *(row.replace(",0,", ",f,").replace(",1,", ",m,") for row in rows)]
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
    assert main(["predict", str(tmp_path / "out"), "--data", str(tmp_path / "new.csv"), "--json"]) == 0
    found = np.array([row["predicted"] for row in json.loads(capsys.readouterr().out)["predictions"]])
    assert np.median(found[x[:, 3] == 1]) > 1000 > 400 > np.median(found[x[:, 2] == 1])


def test_a_category_that_is_called_as_missing_values_are_is_refused(tmp_path: Path) -> None:
    """A split at it and one of missing values are the same row: which was meant cannot be read back."""
    town, ill = Feature("town", categories=("(missing)", "Bonn", "Trier")), Feature("ill", categories=("no", "yes"))
    levels = np.arange(300) % 3
    x = np.concatenate([np.eye(3)[levels], np.eye(2)[(levels == 0).astype(int)]], axis=1)
    schema = Schema("table", "", (), {}, (town, ill))
    task = task_of("boosted", schema=schema, outcome="ill", trees=2, depth=1, bins=4, least=5, held_out=0.0)
    result = try_planned(task, [Dataset(x, np.zeros(300, np.int32))]).result
    (tmp_path / "result.json").write_text(json.dumps({"tried": True, "analysis": report_of(result, task)}))
    with pytest.raises(EdgewardError, match="a category '.missing.', which is also what stands for values that are"):
        export_trees(tmp_path, tmp_path / "out")
