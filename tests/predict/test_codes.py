"""`edgeward predict --codes`: what the narrowest layer of an autoencoder gives, the same as its weights by hand."""

import csv
import json
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import numpy as np
import pytest
from known_bundles import Known, autoencoder_bundle

from orchestrator.cli.main import main
from orchestrator.errors import UsageError
from orchestrator.gateway.described_bundle import read_described
from orchestrator.predict.codes import codes_of

ROWS: List[Tuple[str, str, str]] = [("0.7", "a", "0.5"), ("2", "b", "0.25"), ("1.5", "?", "3"), ("0.1", "a", "1")]
WIDTHS = (5, 4, 2, 4, 5)


def write(path: Path) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("age", "ward", "lactate"), *ROWS])
    return path


def inputs() -> np.ndarray:
    return np.array([[float(age), ward == "a", ward == "b", ward == "?", float(lac)] for age, ward, lac in ROWS])


def layers(widths: Tuple[int, ...]) -> List[Tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(8)
    return [(draw.normal(0, 0.6, (a, b)), draw.normal(0, 0.2, b)) for a, b in zip(widths, widths[1:])]


def flat(made: List[Tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.concatenate([np.append(kernel.ravel(), bias) for kernel, bias in made])


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_codes_are_what_the_narrowest_layer_gives(
    activation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind its activation, whether that is an operator of its own or not."""
    made = layers(WIDTHS)
    bundle = autoencoder_bundle(tmp_path, WIDTHS[1:-1], flat(made), activation)
    functions: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "tanh": np.tanh,
        "relu": lambda values: np.maximum(values, 0),
        "linear": lambda values: values,
    }
    apply = functions[activation]
    expected = inputs()
    for kernel, bias in made[:2]:
        expected = apply(expected @ kernel + bias)
    data, out = write(tmp_path / "new.csv"), tmp_path / "codes.csv"
    words = ["predict", str(bundle), "--data", str(data), "--model", "float", "--codes"]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    found = np.array([[row["codes"]["1"], row["codes"]["2"]] for row in rows])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert main([*words, "--out", str(out)]) == 0
    with out.open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["line", "score", "code 1", "code 2"]
    assert [float(row["code 2"]) for row in table] == found[:, 1].tolist()


def test_without_the_option_there_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = autoencoder_bundle(tmp_path, (2,), flat(layers((5, 2, 5))))
    capsys.readouterr()
    assert main(["predict", str(bundle), "--data", str(write(tmp_path / "new.csv")), "--model", "float", "--json"]) == 0
    assert "codes" not in json.loads(capsys.readouterr().out)["predictions"][0]


def test_a_model_that_squeezes_nothing_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = autoencoder_bundle(tmp_path, (6, 5), flat(layers((5, 6, 5, 5))))
    assert (
        main(["predict", str(bundle), "--data", str(write(tmp_path / "new.csv")), "--model", "float", "--codes"]) == 2
    )
    assert "no layer of the model in" in (said := capsys.readouterr().err)
    assert "is narrower than its 5 inputs" in said


def test_of_other_models_it_says_why_not(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write(tmp_path / "new.csv"))
    asked = ["predict", str(known_table.bundle), "--data", data, "--codes"]
    assert main(asked) == 2
    assert "--codes: are of the float model, whose layers can be read: add --model float" in capsys.readouterr().err
    assert main([*asked, "--model", "float"]) == 2
    said = capsys.readouterr().err
    assert "predicts 'sick' ('no' or 'yes'); codes are of a model that learned target 'none'" in said


def test_a_bundle_without_its_float_model_says_so(tmp_path: Path) -> None:
    bundle = read_described(autoencoder_bundle(tmp_path, (2,), flat(layers((5, 2, 5)))))
    without = {name: said for name, said in bundle.manifest.items() if name != "float_model"}
    with pytest.raises(UsageError, match="holds no float model, whose layers codes are of"):
        codes_of(bundle._replace(manifest=without), np.zeros((1, 5), np.float32))
