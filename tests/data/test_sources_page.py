"""The examples of FHIR, WFDB and WAV in docs/data.md, as they stand there."""

import re
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
from fhir_samples import LOINC, PRESSURE, SYSTOLIC, coded, condition, export, observation, patient, quantity

from orchestrator.boards.recording_files import wav_bytes
from orchestrator.data.dataset import load_dataset
from orchestrator.data.described import read_description
from orchestrator.data.sources import fhir_columns
from orchestrator.data.sources.registry import service_rows
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text()


def examples() -> Dict[str, str]:
    found = re.findall(r"<!-- example: ([^>]+) -->\n\n((?:    .*\n|\n(?=    ))+)", PAGE)
    return {name: re.sub(r"^    ", "", text, flags=re.M) for name, text in found}


def written(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.write_text(examples()[name])
    return path


def test_an_export(tmp_path: Path) -> None:
    pressure = [
        {"code": coded(code, LOINC), "valueQuantity": quantity(value, "mm[Hg]")}
        for code, value in ((SYSTOLIC, 124), ("8462-4", 80))
    ]
    observations = [
        observation("o1", "a", code=coded("2339-0", LOINC), valueQuantity=quantity(5.5, "mmol/L")),
        observation("o2", "a", "2026-02-01", code=coded("2339-0", LOINC), valueQuantity=quantity(180.156, "mg/dL")),
        observation("o3", "a", code=coded(PRESSURE, LOINC), component=pressure),
    ]
    people = [patient("a", birthDate="1960"), patient("b", birthDate="2000-05-05")]
    export(tmp_path / "export", Patient=people, Condition=[condition("c", "a")], Observation=observations)
    numbers = (Feature("age", 0, 120), Feature("glucose", 0, 50), Feature("systolic", 0, 300))
    schema = Schema("table", "", (), {}, (*numbers, Feature("diabetes", categories=("no", "yes"))), patient="patient")
    data = load_dataset(written(tmp_path, "fhir.toml"), schema, gaps=True)
    np.testing.assert_allclose(data.x, np.array([[66, 10, 124, 0, 1], [26, np.nan, np.nan, 1, 0]]), rtol=1e-9)


def test_a_server(tmp_path: Path) -> None:
    path = written(tmp_path, "server.toml")
    (tmp_path / "fhir.token").write_text("secret\n")
    with pytest.raises(DataError, match=r"fhir\.token: others can read the bearer token"):
        list(service_rows(path, read_description(path).service))


def test_every_path_and_type_is_listed() -> None:
    for name in (*fhir_columns.PATHS, *fhir_columns.KINDS, *fhir_columns.TAKES):
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize(("name", "count"), [("beats.toml", 4), ("windows.toml", 8)])
def test_records(tmp_path: Path, name: str, count: int) -> None:
    wfdb = pytest.importorskip("wfdb", reason="signals of WFDB need wfdb")
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "RECORDS").write_text("r1\nr2\n")
    values = np.random.default_rng(1).normal(size=(900, 2))
    for record in ("r1", "r2"):
        form = {"fs": 360, "units": ["mV"] * 2, "sig_name": ["MLII", "V5"], "fmt": ["16"] * 2}
        wfdb.wrsamp(record, p_signal=values, write_dir=str(folder), **form)
        wfdb.wrann(record, "atr", np.array([20, 300, 400, 600]), list("N+NV"), write_dir=str(folder))
    samples, channels = (128, 1) if name == "beats.toml" else (360, 2)
    classes = ("normal", "ectopic")
    labels = {each: number for number, each in enumerate(classes)}
    schema = Schema("signal", "y", classes, labels, samples=samples, channels=channels, patient="patient")
    data = load_dataset(written(tmp_path, name), schema)
    assert data.records == count
    physical = wfdb.rdrecord(str(folder / "r1")).p_signal
    begin = 400 - 64 if name == "beats.toml" else 0
    assert data.x[0].tolist() == physical[begin : begin + samples, :channels].astype(np.float32).tolist()
    assert sorted(set(data.y.tolist())) == [0, 1]
    assert len(data.units("patient")) == (1 if name == "beats.toml" else 2)


def test_wav_files(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    values = np.random.default_rng(2).integers(-500, 500, (200, 1)).astype(np.int16)
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(wav_bytes(values, 125, {}))
    classes = ("normal", "ectopic")
    labels = {each: number for number, each in enumerate(classes)}
    data = load_dataset(
        written(tmp_path, "sounds.toml"), Schema("signal", "y", classes, labels, samples=128, patient="patient")
    )
    assert data.y.tolist() == [0, 0, 1, 1]
    assert data.x[1, :, 0].tolist() == (values[64:192, 0] / np.float32(100)).tolist()
    assert len(data.units("patient")) == 1
