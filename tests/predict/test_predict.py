"""`edgeward predict`: raw rows in, labels and probabilities out, the same as the model computed by hand."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from known_bundles import Known

from model_export.manifest import FILES, FLOAT_FILES, MANIFEST, PRIVACY_PAGE, SIGNATURE, dump_manifest
from orchestrator.cli.main import main
from orchestrator.predict import engines

ROWS: List[Tuple[str, str, str, str]] = [
    ("70", "a", "3.5", "1"),
    ("20", "b", "0.5", "0"),
    ("140", "?", "12", "1"),  # beyond the range: counts as 110
    ("55.5", "b", "2", ""),
    ("61", "a", "2.25", "0"),
]


def write(path: Path, columns: str = "lactate,note,sick,ward,age") -> Path:
    """ROWS under these columns, in this order."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns.split(","))
        for age, ward, lactate, sick in ROWS:
            row = {"age": age, "ward": ward, "lactate": lactate, "sick": sick, "note": "x"}
            writer.writerow([row[name] for name in columns.split(",")])
    return path


def by_hand(known: Known) -> np.ndarray:
    """float64 (rows, classes): clamped to the range, one-hot, standardized, logistic."""
    raw = np.array([[min(float(a), 110), w == "a", w == "b", w == "?", float(lac)] for a, w, lac, _ in ROWS])
    logits = ((raw - known.mean) / known.std) @ known.kernel.astype("f8") + known.bias
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def as_json(capsys: pytest.CaptureFixture[str], *words: object) -> Dict[str, Any]:
    capsys.readouterr()
    assert main(["predict", *map(str, words), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def shares(answer: Dict[str, Any]) -> np.ndarray:
    return np.array([list(row["probabilities"].values()) for row in answer["predictions"]])


def test_every_model_gives_what_the_weights_give(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, expected = write(tmp_path / "new.csv"), by_hand(known_table)
    given = (known_table.bundle, "--data", data)
    exact = as_json(capsys, *given, "--model", "float")
    np.testing.assert_allclose(shares(exact), expected, atol=2e-6)
    tflm = as_json(capsys, *given)
    direct = as_json(capsys, *given, "--engine", "direct")
    assert tflm["predictions"] == direct["predictions"]
    assert np.abs(shares(tflm) - expected).max() < 0.03
    for answer in (exact, tflm):
        assert [row["line"] for row in answer["predictions"]] == [2, 3, 4, 5, 6]
        assert [row["predicted"] for row in answer["predictions"]] == [("no", "yes")[i] for i in expected.argmax(1)]
        assert [row["label"] for row in answer["predictions"]] == ["yes", "no", "yes", None, "no"]
    assert "column 'age': 1 of 5 values (20.00%) are beyond the task's range" in exact["warnings"][0]


def test_labelled_rows_get_figures_and_the_others_do_not_count(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, known_table.bundle, "--data", write(tmp_path / "new.csv"), "--model", "float")["figures"]
    p = by_hand(known_table)[[0, 1, 2, 4]]
    y = np.array([1, 0, 1, 0])
    assert found["records"] == 4
    assert found["accuracy"] == float((p.argmax(1) == y).mean())
    assert found["majority"] == 0.5
    assert found["auc"] == 1.0
    assert found["loss"] == pytest.approx(-np.log(p[np.arange(4), y]).mean(), abs=1e-5)


def test_the_label_may_be_absent_and_the_csv_has_a_line_for_every_record(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write(tmp_path / "new.csv", "age,ward,lactate"), tmp_path / "predictions.csv"
    assert main(["predict", str(known_table.bundle), "--data", str(data), "--out", str(out), "--model", "float"]) == 0
    said = capsys.readouterr().out
    assert f"predictions: {out}" in said
    assert "accuracy" not in said
    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["line", "predicted", "probability no", "probability yes"]
    assert [float(row["probability yes"]) for row in table] == pytest.approx(
        by_hand(known_table)[:, 1].tolist(), abs=2e-6
    )
    assert out.stat().st_mode & 0o777 == 0o600
    assert main(["predict", str(known_table.bundle), "--data", str(data), "--model", "float"]) == 0
    piped = capsys.readouterr()
    assert piped.out == out.read_text()
    assert "5 records" in piped.err


def test_a_table_without_a_header_may_lack_its_label_too(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    change(
        shutil.copytree(known_table.bundle, bundle),
        columns=["age", "sick", "ward", "lactate", "who"],
        drop_missing=True,
    )
    rows = [f"{age},{ward},{lactate},p1" for age, ward, lactate, _ in ROWS]
    (tmp_path / "bare.csv").write_text("\n".join([*rows, ",a,1,p1"]) + "\n")
    answer = as_json(capsys, bundle, "--data", tmp_path / "bare.csv", "--model", "float")
    np.testing.assert_allclose(shares(answer), by_hand(known_table), atol=2e-6)
    assert (answer["records"], answer["dropped"], answer["figures"]) == (5, 1, {})
    assert answer["warnings"][-1] == "1 row lacks a used value: there is no prediction for them"


def change(bundle: Path, **schema: Any) -> None:
    """The bundle as if its task had been declared with other words."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["data_schema"].update(schema)
    (bundle / MANIFEST).write_bytes(dump_manifest(manifest))


def test_signals_with_and_without_labels(
    signal_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(4).normal(0, 200, (12, 16, 2)).astype("f4")
    np.savez(tmp_path / "new.npz", x=x)
    float_, int8 = (
        as_json(capsys, signal_bundle, "--data", tmp_path / "new.npz", "--model", m) for m in ("float", "int8")
    )
    assert [row["record"] for row in int8["predictions"]] == list(range(12))
    assert 0 < np.abs(shares(float_) - shares(int8)).max() < 0.06
    assert len({tuple(row) for row in shares(float_)}) == 12  # the input reaches the output
    labels = np.array([("N", "V", "other").index(row["predicted"]) for row in float_["predictions"]])
    np.savez(tmp_path / "labelled.npz", x=x, beat=labels)
    figures = as_json(capsys, signal_bundle, "--data", tmp_path / "labelled.npz", "--model", "float")["figures"]
    assert (figures["records"], figures["accuracy"]) == (12, 1.0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("age,ward\n1,a\n", ":1: no column 'lactate'"),
        ("age,ward,lactate\n1,c,1\n", ":2: column 'ward': 'c' is not one of a, b, ?"),
        ("age,ward,lactate\nold,a,1\n", ":2: column 'age': 'old' is not a number"),
        ("age,ward,lactate\n1,a,\n", ":2: column 'lactate' is missing"),
        ("age,ward,lactate,sick\n1,a,1,2\n", ":2: column 'sick': label '2' is not in the task's schema"),
        ("age,ward,lactate\n", "no usable record"),
        (None, "no such file"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_their_place(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, reason: str
) -> None:
    data = tmp_path / "new.csv"
    if content is not None:
        data.write_text(content)
    assert main(["predict", str(known_table.bundle), "--data", str(data), "--out", str(tmp_path / "out.csv")]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert str(data) in said
    assert not (tmp_path / "out.csv").exists()


def test_a_bundle_that_cannot_say_how_it_is_used_is_refused(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write(tmp_path / "new.csv"))
    old = Path(shutil.copytree(known_table.bundle, tmp_path / "old"))
    manifest = json.loads((old / MANIFEST).read_text())
    for name in ("data_schema", "float_model"):
        del manifest[name]
        (old / MANIFEST).write_bytes(dump_manifest(manifest))
    assert main(["predict", str(old), "--data", data]) == 2
    assert "made by an earlier version" in capsys.readouterr().err
    other = Path(shutil.copytree(known_table.bundle, tmp_path / "other"))
    change(other, classes=["yes", "no"])
    assert main(["predict", str(other), "--data", data]) == 2
    assert "data_schema is not of this model" in capsys.readouterr().err
    change(other, standardization="wrong")
    assert main(["predict", str(other), "--data", data]) == 2
    assert "standardization 'wrong'" in capsys.readouterr().err
    for name in FLOAT_FILES:
        (other / name).write_bytes(b"damaged")
        assert main(["predict", str(other), "--data", data]) == 2
        assert f"{name}: SHA-256 is" in capsys.readouterr().err
        shutil.copy(known_table.bundle / name, other / name)
    assert main(["predict", str(tmp_path / "nowhere"), "--data", data]) == 2


@pytest.mark.parametrize("name", [*FILES, *FLOAT_FILES, MANIFEST, PRIVACY_PAGE])
def test_a_damaged_file_of_a_bundle_is_named(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Also one that this prediction has no use for: who damaged it may have changed the others in step."""
    bundle = Path(shutil.copytree(known_table.bundle, tmp_path / "b"))
    content = bytearray((bundle / name).read_bytes())
    data = str(write(tmp_path / "new.csv"))
    content[len(content) // 2] ^= 1
    for damaged in (bytes(content), bytes(content[: len(content) // 2]), b""):
        (bundle / name).write_bytes(damaged)
        assert main(["predict", str(bundle), "--data", data]) == 2
        said = capsys.readouterr()
        assert f"{name}: " in said.err
        assert said.out == ""
    (bundle / name).unlink()
    assert main(["predict", str(bundle), "--data", data]) == 2
    assert name in capsys.readouterr().err


def test_a_signed_bundle_is_whole_or_refused_and_a_key_says_whose_it_must_be(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(known_table.bundle, tmp_path / "b"))
    data, ours, theirs = str(write(tmp_path / "new.csv")), tmp_path / "ours", tmp_path / "theirs"
    for key in (ours, theirs):
        assert main(["model", "keygen", str(key)]) == 0
    words = ["predict", str(bundle), "--data", data]
    assert main([*words, "--key", f"{ours}.pub"]) == 2
    assert "is not signed" in capsys.readouterr().err
    assert main(["model", "sign", str(bundle), "--key", str(ours)]) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert "whose is yours to compare: --key" in capsys.readouterr().err
    assert main([*words, "--key", f"{ours}.pub"]) == 0
    assert "compare" not in capsys.readouterr().err
    assert as_json(capsys, bundle, "--data", data)["signed_by"]
    assert main([*words, "--key", f"{theirs}.pub"]) == 2
    assert "did not sign" in capsys.readouterr().err
    change(bundle, classes=["nein", "ja"])
    assert main(words) == 2
    assert "did not sign this manifest.json" in capsys.readouterr().err
    (bundle / SIGNATURE).unlink()
    assert main(words) == 2
    assert "signed in part" in capsys.readouterr().err
    for wrong in (data, str(tmp_path), str(tmp_path / "none")):
        assert main([*words, "--key", wrong]) == 2
        assert f"{wrong}: " in capsys.readouterr().err


def test_an_engine_is_for_the_int8_model(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(known_table.bundle), "--data", str(write(tmp_path / "new.csv")), "--model", "float"]
    assert main([*words, "--engine", "direct"]) == 2
    assert "--engine direct" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("features",), [], "features: empty"),
        (("features",), ["age"] * 5, "each must be an object with name, mean and std"),
        (("features", 0, "std"), 0.0, "std is 0.0, must be above 0"),
        (("features", 0, "mean"), "old", "mean is 'old', not a finite number"),
        (("data_schema", "features"), [{"name": "x", "minimum": 0, "maximum": 1}], "data_schema is not of this model"),
        (("data_schema", "features"), 7, "data_schema"),
        (("labels",), ["yes", "no"], "data_schema is not of this model"),
    ],
)
def test_a_manifest_that_does_not_fit_itself_is_refused(
    known_table: Known,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    path: Tuple[Any, ...],
    value: Any,
    reason: str,
) -> None:
    bundle = Path(shutil.copytree(known_table.bundle, tmp_path / "b"))
    manifest = json.loads((bundle / MANIFEST).read_text())
    place = manifest
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    (bundle / MANIFEST).write_bytes(dump_manifest(manifest))
    assert main(["predict", str(bundle), "--data", str(write(tmp_path / "new.csv"))]) == 2
    said = capsys.readouterr().err
    assert reason in said, said


def test_a_model_of_other_outputs_is_refused(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "run_graph", lambda model, calls: {"rows": np.zeros((5, 3), np.float32)})
    data = str(write(tmp_path / "new.csv"))
    assert main(["predict", str(known_table.bundle), "--data", data, "--model", "float"]) == 2
    assert "does not give 2 values a record" in capsys.readouterr().err


def test_predictions_do_not_go_where_they_do_not_belong(
    known_table: Known, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "new.csv")
    pipe, astray = tmp_path / "pipe", tmp_path / "astray"
    os.mkfifo(pipe)  # as /dev/null, it would be replaced by a file
    astray.symlink_to(tmp_path / "gone")
    for out in (data, known_table.bundle / "predictions.csv", tmp_path, astray):
        assert main(["predict", str(known_table.bundle), "--data", str(data), "--out", str(out)]) == 2
        assert f"--out {out}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:  # by the parser, as of every command
        main(["predict", str(known_table.bundle), "--data", str(data), "--out", str(pipe)])
    assert ended.value.code == 2
    assert f"--out: {pipe}: a pipe" in capsys.readouterr().err
    assert pipe.is_fifo()
