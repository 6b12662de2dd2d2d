"""`edgeward privacy`: exit codes, numbers and mistakes, through the command line."""

import hashlib
import json
from pathlib import Path
from typing import Any, List

import pytest

from orchestrator.cli.main import main

pytest.importorskip("dp_accounting")

HOSPITALS = [
    "--unit",
    "node",
    "--noise",
    "gateway",
    "--nodes",
    "4",
    "--parameters",
    "14",
    "--rounds",
    "30",
    "--delta",
    "0.01",
]
HEART = ["--nodes", "4", "--rows", "486", "--parameters", "14", "--rounds", "30", "--rate", "1"]

TOML = """
[task]
name = "t"
model = { kind = "mlp", hidden = [3] }
privacy = { epsilon = 5.0, delta = 1e-4, sampling_rate = 1.0 }
training = { rounds = 4 }
rounds = { nodes = 3 }
[task.schema]
kind = "table"
label = "y"
classes = ["a", "b"]
label_values = { "0" = 0, "1" = 1 }
features = [{ name = "x", minimum = 0, maximum = 1 }]
"""


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code = main(["privacy", "plan", *words, "--json"])
    found = json.loads(capsys.readouterr().out)
    found["code"] = code
    return found


def test_four_hospitals_are_refused_and_told_what_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "plan", *HOSPITALS]) == 1
    shown = capsys.readouterr().out
    assert shown.count("impossible") >= 3
    assert "epsilon 8: 16 nodes a round would make it possible" in shown
    found = plan(capsys, *HOSPITALS)
    assert found["code"] == 1
    assert [each["epsilon"] for each in found["plans"]] == [1.0, 3.0, 8.0]
    assert found["plans"][-1]["noise_multiplier"] == pytest.approx(2.24, abs=0.02)
    again = plan(capsys, *HOSPITALS, "--nodes", "16")
    assert again["code"] == 0
    assert again["plans"][-1]["verdict"] == "possible"


def test_records_of_four_hospitals_are_possible(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, *HEART, "--noise", "distributed", "--epsilon", "2")
    assert found["code"] == 0
    assert [each["epsilon"] for each in found["plans"]] == [1.0, 2.0, 3.0, 8.0]
    assert {each["delta"] for each in found["plans"]} == {0.0011}
    for each in found["plans"]:
        assert each["node_multiplier"] == pytest.approx(each["noise_multiplier"] / 3**0.5)


def test_a_file_says_the_rest_and_options_go_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edgeward.toml"
    path.write_text(TOML)
    found = plan(capsys, str(path), "--rows", "900")
    assert (found["nodes"], found["steps"], found["parameters"]) == (3, 4, 14)
    assert [each["epsilon"] for each in found["plans"]] == [1.0, 3.0, 5.0, 8.0]
    assert {each["delta"] for each in found["plans"]} == {1e-4}
    assert plan(capsys, str(path), "--rows", "900", "--rounds", "9")["steps"] == 9


def test_the_plan_says_what_evaluation_will_be_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "edgeward.toml").read_text()
    (tmp_path / "edgeward.toml").write_text(text)
    assert main(["privacy", "plan", str(tmp_path / "edgeward.toml"), "--rows", "300"]) in (0, 1)
    out = " ".join(capsys.readouterr().out.split())
    assert "evaluated on about 60 held out, noise alone moves accuracy by" in out
    assert (
        "accuracy, loss and AUC will be too noisy to show; best and patience cannot go by accuracy, loss or AUC" in out
    )
    assert main(["privacy", "plan", str(tmp_path / "edgeward.toml"), "--rows", "90000", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["evaluation"]
    assert [row["accuracy"] for row in rows] == sorted((row["accuracy"] for row in rows), reverse=True)
    assert rows[-1]["accuracy"] < 0.05
    assert rows[-1]["enough"] < 21_000


def test_delta_that_lets_a_record_leak_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "plan", *HEART, "--delta", "0.01"]) == 1
    assert "delta 0.01 is not below 1/486" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--nodes", "4", "--parameters", "9"], "needs --rows"),
        (["--unit", "patient", "--nodes", "4"], "needs --patients, --parameters"),
        (["--unit", "node"], "needs --nodes, --parameters"),
        ([*HEART, "--noise", "gateway"], "noise 'gateway' with unit 'record'"),
        ([*HEART, "--plot", "x.pdf"], "a plot is a .png or .svg"),
        (["missing.toml", "--rows", "9"], "missing.toml"),
    ],
)
def test_mistakes_are_named(words: List[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["privacy", "plan", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_the_plot_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plan.svg"
    assert plan(capsys, *HOSPITALS, "--plot", str(path))["code"] == 1
    assert "<svg" in path.read_text()[:1000]


def test_the_statement_of_a_bundle_is_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from model_export.manifest import FILES, MANIFEST, SCHEMA, dump_manifest

    assert main(["privacy", "statement", str(tmp_path)]) == 2
    assert "neither a bundle" in capsys.readouterr().err
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    tensor = {"shape": [1, 1], "dtype": "int8", "scale": 1.0, "zero_point": 0}
    arena = {key: 1 for key in ("tflm_bytes", "tflm_measured_bytes", "tflm_estimate_32bit_bytes", "direct_bytes")}
    manifest = {
        "schema": SCHEMA,
        "name": "n",
        "created_by": "t",
        "model_digest": "0",
        "files": {name: {"sha256": "0", "bytes": 0} for name in FILES},
        "input": tensor,
        "output": tensor,
        "labels": [],
        "features": [],
        "operators": [],
        "arena": {**arena, "tflm_measured_on": "t", "direct_refused": None},
        "known_answer_rows": 0,
        "accuracy": {},
        "privacy": {"unit": "none", "epsilon": None, "delta": None, "claim": "Nothing is claimed."},
    }
    (bundle / MANIFEST).write_bytes(dump_manifest(manifest))
    for place in (tmp_path, bundle):
        assert main(["privacy", "statement", str(place)]) == 0
        assert "Nothing is claimed." in capsys.readouterr().out
    assert main(["privacy", "statement", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == manifest["privacy"]
    page = b"# The page\n"
    digest = hashlib.sha256(page).hexdigest()
    (bundle / MANIFEST).write_bytes(dump_manifest({**manifest, "privacy": {"page_sha256": digest}}))
    (bundle / "privacy.md").write_bytes(page)
    assert main(["privacy", "statement", str(tmp_path)]) == 0
    assert capsys.readouterr().out == page.decode()
    (bundle / "privacy.md").write_bytes(page + b"and more\n")
    assert main(["privacy", "statement", str(tmp_path)]) == 2
    assert "not the page the manifest records" in capsys.readouterr().err
    (bundle / MANIFEST).write_bytes(dump_manifest({**manifest, "privacy": None}))
    assert main(["privacy", "statement", str(tmp_path)]) == 2
    assert "not made by a federation" in capsys.readouterr().err
