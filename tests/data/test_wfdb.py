"""WFDB records as signals: values are those of the package wfdb; a channel, unit, rate or symbol not declared is named."""

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pytest

from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.data.described import versions_of
from orchestrator.data.table import patient_number
from orchestrator.errors import DataError
from orchestrator.wire.schema import Feature, Schema

wfdb = pytest.importorskip("wfdb", reason="signals of WFDB need wfdb")


def described(path: Path, **said: Any) -> Path:
    """A description at `path`; tables are written inline."""

    def toml(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(each)}" for key, each in value.items()) + " }"
        return json.dumps(value)

    lines = ["[source]", 'kind = "wfdb"', *(f"{key} = {toml(value)}" for key, value in said.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def schema(
    samples: int, channels: int = 1, patient: str = "patient", labels: Optional[Dict[str, int]] = None
) -> Schema:
    values = labels or {"N": 0, "V": 1}
    names = tuple(sorted(values, key=lambda each: values[each]))
    return Schema("signal", "y", names, values, samples=samples, channels=channels, patient=patient)


def write(folder: Path, name: str = "r1", length: int = 40, beats: str = "", **said: Any) -> np.ndarray:
    """A record of two channels at 100 Hz, with annotations at 5, 10, 15 ...; returns its values as read by wfdb."""
    folder.mkdir(exist_ok=True)
    values = np.random.default_rng(len(name) + length).normal(size=(length, 2)).round(3)
    options: Dict[str, Any] = {"fs": 100, "units": ["mV", "mV"], "sig_name": ["I", "V5"], "fmt": ["16", "16"], **said}
    wfdb.wrsamp(name, p_signal=values, write_dir=str(folder), **options)
    if beats:
        wfdb.wrann(name, "atr", np.arange(1, len(beats) + 1) * 5, list(beats), write_dir=str(folder))
    return np.asarray(wfdb.rdrecord(str(folder / name)).p_signal)


DECLARED: Dict[str, Any] = {
    "folder": "records",
    "records": ["r1"],
    "channels": ["I", "V5"],
    "units": ["mV", "mV"],
    "rate": 100,
}
BEATS: Dict[str, Any] = {**DECLARED, "annotator": "atr", "symbols": {"N": "N", "V": "V"}, "leave_out": ["+"]}


def load(tmp_path: Path, samples: int = 10, said: Optional[Dict[str, Any]] = None, **also: Any) -> Dataset:
    path = described(tmp_path / "ward.toml", **{**(said or {**DECLARED, "labels": {"r1": "N"}}), **also})
    channels = len(said["channels"]) if said else 2
    return load_dataset(path, schema(samples, channels))


@pytest.mark.parametrize(
    ("name", "rate", "channels", "units", "length"),
    [
        ("100_3chan", 360, ["III", "I"], ["mV", "mV"], 999),
        ("a103l", 250, ["PLETH", "II", "V"], ["NU", "mV", "mV"], 82500),
    ],
)
def test_values_are_the_physical_ones(
    tmp_path: Path,
    shared_data: Callable[[str], Path],
    name: str,
    rate: int,
    channels: List[str],
    units: List[str],
    length: int,
) -> None:
    folder, samples = shared_data("wfdb"), 120
    said = {
        "folder": str(folder),
        "records": [name],
        "channels": channels,
        "units": units,
        "rate": rate,
        "labels": {name: "N"},
    }
    data = load_dataset(described(tmp_path / "w.toml", **said), schema(samples, len(channels)))
    record = wfdb.rdrecord(str(folder / name))
    places = [record.sig_name.index(each) for each in channels]
    count = length // samples
    physical = record.p_signal[: count * samples, places].reshape(count, samples, len(channels))
    assert len(record.p_signal) == length
    assert data.x.dtype == np.float32
    assert data.x.tobytes() == physical.astype(np.float32).tobytes()
    assert np.abs(physical).max() > 0.5
    assert data.y.tolist() == [0] * count
    assert data.patients is not None
    assert set(data.patients.tolist()) == {patient_number(name)}


def test_windows_may_overlap(tmp_path: Path) -> None:
    values = write(tmp_path / "records")
    data = load(tmp_path, 16, step=7)
    assert data.x.tolist() == [values[start : start + 16].astype(np.float32).tolist() for start in (0, 7, 14, 21)]


def test_windows_round_annotations(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    values = write(tmp_path / "records", beats="NV+NVNN")  # at 5, 10, 15, 20, 25, 30, 35
    data = load(tmp_path, 12, BEATS)
    assert data.x.tolist() == [values[at - 6 : at + 6].astype(np.float32).tolist() for at in (10, 20, 25, 30)]
    assert data.y.tolist() == [1, 0, 1, 0]
    assert "left out: 2 windows beyond an end of their record" in caplog.text
    assert "left out: 1 annotations '+'" in caplog.text
    early = load(tmp_path, 12, BEATS, before=2, symbols={"N": "V", "V": "N"})
    assert early.x.tolist() == [values[at - 2 : at + 10].astype(np.float32).tolist() for at in (5, 10, 20, 25, 30)]
    assert early.y.tolist() == [1, 0, 1, 0, 1]


def test_patients_are_records_or_what_is_declared(tmp_path: Path) -> None:
    for name in ("r1", "r2", "r3"):
        write(tmp_path / "records", name, beats="NN")
    (tmp_path / "records" / "RECORDS").write_text("r1\nr2\n\nr3\n")
    said = {key: value for key, value in BEATS.items() if key != "records"}
    plain = load(tmp_path, 6, said)
    assert [len(unit) for unit in plain.units("patient")] == [2, 2, 2]
    same = load(tmp_path, 6, said, patients={"r1": "p", "r3": "p"})
    assert same.patients is not None
    assert [patient_number(each) for each in ("p", "p", "r2", "r2", "p", "p")] == same.patients.tolist()


def test_without_labels(tmp_path: Path) -> None:
    write(tmp_path / "records")
    path = described(tmp_path / "w.toml", **DECLARED)
    assert load_dataset(path, schema(10, 2), unlabelled=True).y.tolist() == [-1] * 4
    with pytest.raises(DataError, match=r"w\.toml: source\.labels: missing; record = label says what each record is"):
        load_dataset(path, schema(10, 2))


def test_windows_in_which_a_value_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    values = np.ones((40, 2))
    values[13, 1] = np.nan
    (tmp_path / "records").mkdir()
    names = {
        "units": ["mV", "mV"],
        "sig_name": ["I", "V5"],
        "fmt": ["16", "16"],
        "adc_gain": [200, 200],
        "baseline": [0, 0],
    }
    wfdb.wrsamp("r1", fs=100, p_signal=values, write_dir=str(tmp_path / "records"), **names)
    with pytest.raises(
        DataError, match=r"records/r1\.hea: channel 'V5' has no value at sample 13; invalid = \"leave out\""
    ):
        load(tmp_path, 10)
    assert load(tmp_path, 10, invalid="leave out").records == 3
    assert "1 windows in which a channel has no value" in caplog.text
    assert load(tmp_path, 10, {**DECLARED, "channels": ["I"], "units": ["mV"], "labels": {"r1": "N"}}).records == 4


def damaged(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return damage


def header(old: str, new: str) -> Callable[[Path], None]:
    return damaged("r1.hea", lambda said: said.replace(old.encode(), new.encode()))


WRONG: Dict[str, Any] = {
    "unit": (header("/mV", "/uV"), r"r1\.hea:2: channel 'I' is in 'uV', expected 'mV'; correct `units`"),
    "rate": (header(" 100 ", " 125 "), r"r1\.hea:1: 125 Hz, expected 100; resample it"),
    "channel": (header(" V5", " v5"), r"r1\.hea: channel 'V5' is not there, did you mean 'v5'\?; it has I, v5"),
    "channel twice": (header(" V5", " I"), r"r1\.hea: channel 'I' is twice; which one is meant"),
    "a frame": (header("dat 16", "dat 16x2"), r"r1\.hea:2: channel 'I' has 2 samples a frame"),
    "another file": (header("r1.dat", "../r1.dat"), r"r1\.hea.*(its signal is in|not read as a WFDB file)"),
    "an address": (header("r1.dat", "s3://x/r1.dat"), r"r1\.hea.*(its signal is in|not read as a WFDB file)"),
    "no signal": (
        lambda folder: (folder / "r1.dat").unlink(),
        r"r1\.hea:2: channel 'I': its signal is in 'r1\.dat', and no such",
    ),
    "half a signal": (
        damaged("r1.dat", lambda said: said[:50]),
        r"r1\.hea: (not read as a WFDB file|its signal is not)",
    ),
    "no header": (lambda folder: (folder / "r1.hea").unlink(), r"r1\.hea: no such file"),
    "no header in it": (damaged("r1.hea", lambda said: b"<html>"), r"r1\.hea: not read as a WFDB file"),
    "an empty header": (damaged("r1.hea", lambda said: b""), r"r1\.hea: not read as a WFDB file"),
    "a very long record": (
        header(" 40", " 99999999999999"),
        r"r1\.hea:1: 99999999999999 samples a channel; a node reads 1 to",
    ),
    "no length": (header("100 40", "100"), r"r1\.hea:1: None samples a channel"),
    "segments": (damaged("r1.hea", lambda said: b"r1/1 2 100 40\nr2 40\n"), r"r1\.hea:1: a record of several segments"),
    "another symbol": (
        lambda folder: write(folder, beats="NFNFQ") is None,
        r"r1\.atr: symbols that are not declared: 'F' 2 times, 'Q' 1 times; add each to symbols or to leave_out",
    ),
    "no annotations": (lambda folder: (folder / "r1.atr").unlink(), r"r1\.atr: no such file"),
    "half an annotation": (damaged("r1.atr", lambda said: said[:3]), r"r1\.atr: not read as a WFDB file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_record_that_is_not_what_is_declared(tmp_path: Path, what: str) -> None:
    damage, why = WRONG[what]
    write(tmp_path / "records", beats="NVN")
    damage(tmp_path / "records")
    with pytest.raises(DataError, match=why):
        load(tmp_path, 4, BEATS)


def test_a_channel_without_a_gain_is_not_calibrated(tmp_path: Path) -> None:
    write(tmp_path / "records")
    path = tmp_path / "records" / "r1.hea"
    first, one, other = path.read_text().splitlines()[:3]
    words = one.split()
    for gain in ("0/mV", "0(5)/mV", "0"):
        path.write_text("\n".join([first, " ".join([*words[:2], gain, *words[3:]]), other]) + "\n")
        with pytest.raises(DataError, match=r"r1\.hea:2: channel 'I' has no gain: it was not calibrated"):
            load(tmp_path, 10)


SAID: Dict[str, Any] = {
    "channels": ({"channels": ["I"], "units": ["mV"]}, r"source\.channels: 1, and the task's signals have 2"),
    "units": ({"units": ["mV"]}, "units: 1 for 2 channels"),
    "a channel twice": ({"channels": ["I", "I"]}, "channels: one or more names are expected, each once"),
    "rate": ({"rate": 0}, "rate: 0.*expected a positive number"),
    "a path": ({"records": ["../r1"]}, r"records: '\.\./r1' is no name of a record"),
    "an address": ({"records": ["s3://x/r1"]}, "'s3://x/r1' is no name of a record"),
    "a record twice": ({"records": ["r1", "r1"]}, "records: 'r1' occurs twice"),
    "a label of none": ({"labels": {"R1": "N"}}, r"source\.labels: no record 'R1', did you mean 'r1'"),
    "a patient of none": ({"patients": {"x": "N"}}, r"source\.patients: no record 'x'"),
    "symbols": ({"symbols": {"N": "N"}}, "belong to an `annotator`"),
    "no symbols": ({"annotator": "atr", "labels": {}}, "symbols: those that get a window"),
    "both": ({"annotator": "atr", "symbols": {"N": "N"}}, "labels and step: are for consecutive windows"),
    "before": (
        {"annotator": "atr", "symbols": {"N": "N"}, "labels": {}, "before": 10},
        r"source\.before: 10 of 10 samples",
    ),
    "an ending": (
        {"annotator": "../x", "symbols": {"N": "N"}, "labels": {}},
        "expected the ending of annotation files",
    ),
    "a folder": ({"folder": "nowhere"}, r"nowhere/r1\.hea: no such file"),
    "a label": ({"labels": {"r1": "X"}}, "record 0 of y: label 'X' is not in"),
    "a slip": ({"annotater": "atr"}, "annotater: unknown, did you mean 'annotator'"),
}


@pytest.mark.parametrize("what", SAID)
def test_a_mistake_in_a_description(tmp_path: Path, what: str) -> None:
    said, why = SAID[what]
    write(tmp_path / "records", beats="N")
    path = described(tmp_path / "ward.toml", **{**DECLARED, "labels": {"r1": "N"}, **said})
    with pytest.raises(DataError, match=why):
        load_dataset(path, schema(10, 2))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("r1\n/etc/r2\n", r"RECORDS:2: '/etc/r2' is no name of a record"),
        ("r1\nr1\n", r"RECORDS:2: 'r1' is there twice"),
        ("\n", "RECORDS: names no record"),
        (None, "RECORDS: cannot be read"),
    ],
)
def test_a_list_of_records(tmp_path: Path, lines: Optional[str], why: str) -> None:
    write(tmp_path / "records")
    if lines is not None:
        (tmp_path / "records" / "RECORDS").write_text(lines)
    with pytest.raises(DataError, match=why):
        load(tmp_path, 10, {key: value for key, value in DECLARED.items() if key != "records"}, labels={"r1": "N"})


def test_records_may_be_in_folders(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    values = write(tmp_path / "records" / "a", "r1")
    data = load(tmp_path, 10, {**DECLARED, "records": ["a/r1"], "labels": {"a/r1": "V"}})
    assert data.x.tolist() == values.astype(np.float32).reshape(4, 10, 2).tolist()


def test_a_changed_record_is_another_version(tmp_path: Path) -> None:
    write(tmp_path / "records")
    path = described(tmp_path / "w.toml", **DECLARED)
    assert versions_of(path) == [path, tmp_path / "records" / "r1.dat", tmp_path / "records" / "r1.hea"]


def test_signals_are_no_table(tmp_path: Path) -> None:
    path = described(tmp_path / "w.toml", **DECLARED)
    table = Schema("table", "", (), {}, (Feature("a", 0, 1),))
    with pytest.raises(DataError, match="source.kind 'wfdb' holds signals, and the task's records are rows of a table"):
        load_dataset(path, table)
    (tmp_path / "f.toml").write_text('[source]\nfile = "x.csv"\n')
    with pytest.raises(DataError, match=r"f\.toml: source\.file names a table, and the task's records are signals"):
        load_dataset(tmp_path / "f.toml", schema(4))
    path.write_text(path.read_text() + '[rows]\npatient = "p"\nkeep = "first"\n')
    with pytest.raises(DataError, match=r"w\.toml: columns, rows, tables and anonymize: belong to a table"):
        load_dataset(path, schema(4, 2))


def test_there_are_as_many_windows_as_a_node_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "records")
    monkeypatch.setattr("orchestrator.data.dataset.MOST_VALUES", 80)
    assert load(tmp_path, 10).records == 4
    with pytest.raises(DataError, match=r"r1\.hea: more than 4 windows, as many as a node reads"):
        load(tmp_path, 10, step=5)
