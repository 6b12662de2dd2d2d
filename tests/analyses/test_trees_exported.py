"""Forests and boosted trees as bundles for boards: labels and ranking of the analysis itself, on four hospitals' records."""

import csv
import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, cast

import numpy as np
import pytest
from analysed_rows import task_of
from hospitals import SCHEMA, hospitals

from model_export.bundle import verify_bundle
from model_export.errors import BundleError, ExportError
from model_export.evaluation import area_under_roc
from model_export.manifest import check_features
from model_export.model_bin import parse_model_bin
from model_export.signing import replace_manifest
from model_export.trees import Trees, parse_trees, run_trees
from orchestrator.analyses.forest import Forest
from orchestrator.analyses.grown import Grown, Split
from orchestrator.analyses.registry import make
from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import run_plan
from orchestrator.boards.rv32 import missing, run_rv32
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli.main import main
from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError
from orchestrator.gateway.analysed import report_of
from orchestrator.gateway.trees_bundle import cut_of, export_trees, integers, read_result
from orchestrator.gateway.trees_inputs import codes_of
from orchestrator.gateway.trial import try_planned
from orchestrator.wire.schema import Schema
from orchestrator.wire.targets.number import Number

pytestmark = pytest.mark.slow


pytest.importorskip("serial", reason="bundles are made at gateways, which have it")

OPTIONS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "forest": ("forest", {"outcome": "disease", "trees": 100, "depth": 4, "bins": 20}),
    "deep": ("forest", {"outcome": "disease", "trees": 60, "depth": 7, "bins": 20, "least": 2, "seed": 3}),
    "pains": ("forest", {"outcome": "cp", "trees": 40, "depth": 4, "bins": 10}),
    "boosted": ("boosted", {"outcome": "disease", "trees": 30, "depth": 3, "bins": 32}),
    "pulse": ("boosted", {"outcome": "thalach", "trees": 20, "depth": 3, "bins": 32}),
}


class Study(NamedTuple):
    """x: all records. files: of each hospital."""

    x: np.ndarray
    files: List[Path]
    results: Dict[str, Path]


@pytest.fixture(scope="module")
def study(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("trees")
    sites, _ = hospitals(shared_data("heart-disease"), folder)
    files, results = sorted(folder.glob("*.csv")), {}
    for name, (kind, options) in OPTIONS.items():
        task = task_of(kind, schema=SCHEMA, **options)
        results[name] = folder / f"{name}.json"
        results[name].write_text(
            json.dumps({"tried": True, "analysis": report_of(try_planned(task, sites).result, task)})
        )
    return Study(np.concatenate([site.x for site in sites]), files, results)


def float_scores(x: np.ndarray, path: Path) -> np.ndarray:
    """float64 (n, scores) as the analysis itself has them of every record: of a boosted number its value."""
    said = json.loads(path.read_text())["analysis"]
    tables = {table["name"]: table["rows"] for table in said["tables"]}
    analysis = make(said["of"]["analysis"], SCHEMA)
    if isinstance(analysis, Forest):
        columns = [feature for feature in SCHEMA.features if feature.name != analysis.options.outcome]
        leaf = analysis.trees.leaves(columns_read(x, analysis), np.array([bool(f.categories) for f in columns]))
        inner = 2**analysis.options.depth - 1
        shares = np.array([row[6:] for row in tables["trees"] if row[2] is None])
        shares = shares.reshape(analysis.options.trees, inner + 1, -1)
        return shares[np.arange(len(shares)), leaf].mean(axis=1)
    return np.array([walked(tables, record) for record in cells_of(x)])[:, np.newaxis]


def columns_read(x: np.ndarray, analysis: Forest) -> np.ndarray:
    from orchestrator.analyses.splits import Columns

    return Columns(SCHEMA, (), analysis.options.outcome).read(x)


def cells_of(x: np.ndarray) -> List[Dict[str, Any]]:
    """Records by column: numbers, names of categories, None where a value is missing."""
    found: List[Dict[str, Any]] = [{} for _ in x]
    at = 0
    for feature in SCHEMA.features:
        for record, cells in zip(found, x[:, at : at + feature.width].tolist()):
            if feature.categories:
                record[feature.name] = feature.categories[cells.index(1.0)] if 1.0 in cells else None
            else:
                record[feature.name] = None if math.isnan(cells[0]) else cells[0]
        at += feature.width
    return found


def walked(tables: Dict[str, List[Any]], record: Dict[str, Any]) -> float:
    """Base and leaves of a record, as the tables of the result have them."""
    figures = {row[0]: row[1] for row in tables["fit"]}
    score = figures["base" if "base" in figures else "base (log-odds)"]
    nodes = {(row[0], row[1]): row[2:] for row in tables["trees"]}
    for tree in range(1, figures["trees"] + 1):
        number = 1
        while nodes[tree, number][0] is not None:
            name, edge, level, missing, _ = nodes[tree, number]
            value = record[name]
            right = missing == "right" if value is None else value >= edge if edge is not None else value == level
            number = 2 * number + right
        score += nodes[tree, number][-1]
    return float(score)


def whole_numbers(study: Study, name: str) -> Tuple[Trees, np.ndarray, Grown, Schema]:
    """(the model, the codes of all records, the trees, the schema of its bundle)."""
    found = read_result(study.results[name])
    made = integers(found.grown, found.schema)
    records = Dataset(study.x, np.zeros(len(study.x), np.int32))
    return made.model, codes_of(records, SCHEMA, made.features), found.grown, found.schema


def outcomes(study: Study, column: str) -> np.ndarray:
    at = 0
    for feature in SCHEMA.features:
        if feature.name == column:
            cells = study.x[:, at : at + feature.width]
            return np.asarray(np.where(cells.any(axis=1), cells.argmax(axis=1), -1))
        at += feature.width
    raise AssertionError(column)


@pytest.mark.parametrize("name", ["forest", "deep", "boosted"])
def test_labels_and_ranking_are_those_of_the_analysis(study: Study, name: str) -> None:
    model, codes, _, _ = whole_numbers(study, name)
    scores, outputs = float_scores(study.x, study.results[name])[:, 0], run_trees(model, codes).astype(int)
    shares = scores if name != "boosted" else 1 / (1 + np.exp(-scores))
    np.testing.assert_array_equal(outputs.argmax(axis=1), shares > 0.5)
    assert 0.2 < (shares > 0.5).mean() < 0.8, "one label for all shows nothing"
    assert np.abs((outputs[:, 1] + 128) / 256 - shares).max() <= 1 / 256
    assert np.abs((outputs[:, 0] + 128) / 256 - (1 - shares)).max() <= 1 / 256
    ill = outcomes(study, "disease") == 1
    assert area_under_roc(outputs[:, 1], ill) == pytest.approx(area_under_roc(scores, ill), abs=1e-3)


def test_of_several_classes_each_has_its_share(study: Study) -> None:
    model, codes, _, _ = whole_numbers(study, "pains")
    shares, outputs = float_scores(study.x, study.results["pains"]), run_trees(model, codes).astype(int)
    np.testing.assert_array_equal(outputs.argmax(axis=1), shares.argmax(axis=1))
    assert np.abs((outputs + 128) / 256 - shares).max() <= 1.5 / 256


def test_a_number_is_within_half_a_step(study: Study) -> None:
    model, codes, _, schema = whole_numbers(study, "pulse")
    values, outputs = float_scores(study.x, study.results["pulse"])[:, 0], run_trees(model, codes)[:, 0].astype(int)
    found = cast(Number, schema.learned).base + model.scale * (outputs - model.zero_point)
    assert np.abs(found - np.clip(values, 60, 220)).max() <= 0.501 * model.scale
    assert model.scale < 1


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_the_host_and_rv32_give_the_bits_of_the_reference(study: Study, name: str) -> None:
    from model_export.trees import pack_trees

    model, codes, _, _ = whole_numbers(study, name)
    expected = run_trees(model, codes)
    np.testing.assert_array_equal(run_plan(pack_trees(model), b"", codes), expected.ravel())
    if name in ("forest", "boosted") and missing() is None:
        ran = run_rv32(pack_trees(model), codes[:200])
        np.testing.assert_array_equal(ran.outputs, expected[:200])
        assert ran.instructions.max() < 40 * len(model.trees) * model.depth + 1000


@pytest.mark.parametrize("name", ["forest", "boosted"])
def test_values_on_both_sides_of_every_threshold_go_where_the_analysis_sends_them(study: Study, name: str) -> None:
    """The float32 beside each cut, and numbers of one digit behind the point, among which boosted trees have their edges."""
    _, _, grown, _ = whole_numbers(study, name)
    splits = {
        node for nodes in grown.trees for node in nodes.values() if isinstance(node, Split) and node.levels is None
    }
    assert len(splits) > 20
    for split in splits:
        feature = grown.inputs[split.column]
        cut = cut_of(split, feature)
        low, high = feature.range
        if not math.isfinite(cut):
            continue
        below = np.nextafter(np.float32(cut), np.float32(-np.inf))
        assert split.beyond(float(str(np.float32(cut)))) or cut == low
        assert not split.beyond(float(str(below))) or below < low
        for tenth in range(math.ceil(10 * low), math.floor(10 * high) + 1, 3):
            value = tenth / 10
            assert (np.float32(value) >= np.float32(cut)) == split.beyond(value), (feature.name, value, cut)


def test_a_bundle_is_verified_signed_predicted_with_and_run_on_a_board(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, rows = tmp_path / "bundle", study.files[0]

    def command(*words: object) -> str:
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    said = command("model", "export", study.results["boosted"], "--out", bundle, "--representative", rows)
    assert "30 (boosted)" in said
    manifest = verify_bundle(bundle)
    assert (manifest["kind"], manifest["trees"]["of"], manifest["labels"]) == ("trees", "boosted", ["no", "yes"])
    assert sorted(path.name for path in bundle.iterdir()) == [
        *("manifest.json", "model.bin", "model.trees", "model_trees.h")
    ]
    packed = parse_model_bin((bundle / "model.bin").read_bytes())
    assert packed.known_answers is not None
    assert set(packed.known_answers.outputs.argmax(axis=1).tolist()) == {0, 1}
    command("model", "keygen", tmp_path / "key.pem")
    command("model", "sign", bundle, "--key", tmp_path / "key.pem")
    report = json.loads(command("model", "verify", bundle, "--key", tmp_path / "key.pem.pub", "--json"))
    assert report["engines"] == {"rows": 256, "direct_skipped": None}
    assert report["signed_by"]
    assert "can run on esp32c3" in command("model", "preflight", bundle, "--chip", "esp32c3")
    found = json.loads(command("predict", bundle, "--data", rows, "--json"))
    with open(rows, encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert (found["records"], found["dropped"]) == (len(table), 0)
    assert found["figures"]["auc"] > 0.8
    model = parse_trees(packed.tflite)
    _, codes, _, _ = whole_numbers(study, "boosted")
    first = sum(1 for _ in found["predictions"])
    at = [
        place
        for place in range(len(codes) - first + 1)
        if predictions(model, codes[place : place + first]) == said_of(found)
    ]
    assert len(at) == 1, "the file's records, among those of all hospitals, have the same labels and probabilities"
    with VirtualBoard((bundle / "model.bin").read_bytes()) as board, BoardClient(board.port) as client:
        np.testing.assert_array_equal(client.infer(codes[:40]).outputs, run_trees(model, codes[:40]))


def predictions(model: Trees, codes: np.ndarray) -> List[Tuple[str, float]]:
    outputs = run_trees(model, codes).astype(int)
    return [(("no", "yes")[int(row.argmax())], round((int(row[1]) + 128) / 256, 6)) for row in outputs]


def said_of(found: Dict[str, Any]) -> List[Tuple[str, float]]:
    return [(row["predicted"], round(row["probabilities"]["yes"], 6)) for row in found["predictions"]]


def test_a_number_and_several_classes_are_predicted(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, column in (("pulse", "thalach"), ("pains", "cp")):
        assert main(["model", "export", str(study.results[name]), "--out", str(tmp_path / name)]) == 0
        capsys.readouterr()
        assert main(["predict", str(tmp_path / name), "--data", str(study.files[0]), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        with open(study.files[0], encoding="utf-8") as file:
            truth = [row[column] for row in csv.DictReader(file)]
        if name == "pulse":
            off = [abs(row["predicted"] - float(true)) for row, true in zip(found["predictions"], truth) if true]
            assert np.mean(off) < 20
        else:
            assert {row["predicted"] for row in found["predictions"]} <= set("1234")


FEDERATION = """
[gateway]
federation = "hearts"
[task]
name = "heart-trees"
rounds = { nodes = 3, quorum = 3 }
analysis = { kind = "forest", outcome = "disease", trees = 20, depth = 3, held_out = 0.0 }
privacy = { unit = "record", epsilon = 4.0, delta = 1e-5 }
[task.schema]
kind = "table"
features = [
  { name = "age", minimum = 20, maximum = 90 },
  { name = "chol", minimum = 100, maximum = 600, transform = "log" },
  { name = "cp", categories = ["1", "2", "3", "4"] },
  { name = "disease", categories = ["no", "yes"] },
]
"""


def test_the_result_of_a_run_with_noise_brings_its_privacy_statement(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edgeward.toml").write_text(FEDERATION)
    data, out, bundle = [str(path) for path in study.files[:3]], tmp_path / "out", tmp_path / "bundle"
    assert main(["simulate", str(tmp_path / "edgeward.toml"), "--data", *data, "--out", str(out)]) == 0
    assert main(["model", "export", str(out), "--out", str(bundle)]) == 0
    manifest = verify_bundle(bundle)
    assert manifest["name"] == "heart-trees"
    assert manifest["privacy"]["epsilon"] == json.loads((out / "result.json").read_text())["privacy"]["epsilon"]
    assert manifest["privacy"]["simulated"] is True
    assert (bundle / "privacy.md").read_text().count("epsilon") > 0
    capsys.readouterr()
    assert main(["predict", str(bundle), "--data", data[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"]["auc"] > 0.6


def changed(path: Path, out: Path, change: Callable[[Dict[str, Any]], Optional[object]]) -> Path:
    report = json.loads(path.read_text())
    change(report)
    out.write_text(json.dumps(report))
    return out


def trees_of(report: Dict[str, Any]) -> List[List[Any]]:
    return next(table["rows"] for table in report["analysis"]["tables"] if table["name"] == "trees")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("boosted", lambda r: r["analysis"].pop("of"), "does not say of which columns"),
        ("boosted", lambda r: r["analysis"].update(kind="pca"), "is of 'pca'"),
        ("boosted", lambda r: r.pop("analysis"), "not the result of an analysis"),
        ("boosted", lambda r: trees_of(r).pop(3), "lacks node|other leads to"),
        ("boosted", lambda r: trees_of(r).append([1, 999, None, None, None, None, 0.5]), "no other leads to"),
        ("boosted", lambda r: trees_of(r)[0].__setitem__(2, "nowhere"), "splits no column"),
        ("boosted", lambda r: trees_of(r)[-1].__setitem__(6, None), "invalid row"),
        ("boosted", lambda r: r["analysis"]["of"]["analysis"].update(outcome="cp"), "has 4 categories"),
        ("forest", lambda r: r["analysis"]["of"]["analysis"].update(seed=2), "was drawn otherwise"),
        ("forest", lambda r: r["analysis"]["of"]["schema"]["features"].pop(0), "was drawn otherwise|invalid row"),
    ],
)
def test_changed_results_are_refused(study: Study, tmp_path: Path, name: str, change: Any, said: str) -> None:
    with pytest.raises(EdgewardError, match=said):
        export_trees(changed(study.results[name], tmp_path / "result.json", change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_features_of_trees_are_checked() -> None:
    good: List[Dict[str, Any]] = [{"name": "age", "cuts": [1.5, 2.0]}, {"name": "sex", "categories": ["f", "m"]}]
    assert [each["name"] for each in check_features(good, (2,), counted=True)] == ["age", "sex"]
    for change, said in (
        ({"cuts": None}, "one list"),
        ({"cuts": [2.0, 1.0]}, "do not ascend"),
        ({"cuts": [0.1]}, "a float32 holds"),
        ({"cuts": [math.nan]}, "a float32 holds"),
        ({"cuts": [1e39]}, "a float32 holds"),
        ({"cuts": [True]}, "a float32 holds"),
        ({"cuts": list(range(255))}, "up to 254"),
        ({"categories": ["a"]}, "one list"),
    ):
        with pytest.raises(ExportError, match=said):
            check_features([{**good[0], **change}, good[1]], (2,), counted=True)
    for levels in (["a", "a"], [], ["", "b"], [1, 2], [str(number) for number in range(256)]):
        with pytest.raises(ExportError, match="different texts"):
            check_features([good[0], {"name": "sex", "categories": levels}], (2,), counted=True)
    with pytest.raises(ExportError, match="these are of trees"):
        check_features(good, (2,))
    with pytest.raises(ExportError, match="needs cuts or categories"):
        check_features([good[0], {"name": "sex"}], (2,), counted=True)


def test_a_bundle_whose_manifest_says_otherwise_is_refused(study: Study, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    manifest = export_trees(study.results["boosted"], bundle)

    def verified(**changes: Any) -> None:
        replace_manifest(bundle, {**manifest, **changes})
        verify_bundle(bundle)

    def refused(said: str, **changes: Any) -> None:
        with pytest.raises(BundleError, match=said):
            verified(**changes)

    features = [dict(feature) for feature in manifest["features"]]
    features[0]["cuts"] = features[0]["cuts"][1:]
    refused("cuts of inputs", features=features)
    refused("nodes is", trees={**manifest["trees"], "nodes": manifest["trees"]["nodes"] + 1})
    refused("output", output={**manifest["output"], "zero_point": 0})
    refused("number of known answers", known_answer_rows=3)
    refused("0 features for an input", features=[])
    refused("10000000000000000000 is no number", output={**manifest["output"], "scale": 10**400})
    for change in ({"cuts": [10**400]}, {"std": 10**400}, {"cuts": None, "categories": [[1]]}):
        feature = {key: value for key, value in {**manifest["features"][0], **change}.items() if value is not None}
        refused("is no number|different texts", features=[feature, *manifest["features"][1:]])
    for wrong in ({key: value for key, value in manifest.items() if key != "kind"}, {**manifest, "kind": "forest"}):
        with pytest.raises(BundleError, match="key 'model.tflite' is missing|go together|kind is 'forest'"):
            replace_manifest(bundle, wrong)
    replace_manifest(bundle, manifest)
    assert verify_bundle(bundle)["kind"] == "trees"


def test_options_for_models_of_layers_are_refused(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (["--labels", "a,b"], ["--engine", "direct"], ["--softmax"]):
        assert main(["model", "export", str(study.results["forest"]), "--out", str(tmp_path / "out"), *option]) == 2
        assert option[0] in capsys.readouterr().err
    assert main(["model", "export", str(study.results["forest"]), "--out", str(tmp_path / "out")]) == 0
    assert main(["predict", str(tmp_path / "out"), "--data", str(study.files[0]), "--engine", "tflm"]) == 2
    assert "has trees" in capsys.readouterr().err
