"""Nothing that leaves a gateway holds a row of the data: not the nodes', nor the held-out and calibration rows it was given.

One federation of real processes; then every file it wrote, but those the gateway keeps for itself in OUT/evaluation, is searched
for rows as int8, as floats and as text, and for a column in its order.
"""

import csv
import json
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np
import pytest
import tomli_w

from model_export.bundle import strays, verify_bundle
from model_export.input_profile import make_profile
from model_export.manifest import FLOAT_FILES, PRIVACY_PAGE
from model_export.model_bin import ModelBin, parse_model_bin
from model_export.tflm import Quantized
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.registry import models

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
COLUMNS = ("age", "lactate", "pressure", "pulse", "sodium", "weight")
RANGES = {
    "age": (0, 110),
    "lactate": (0, 30),
    "pressure": (20, 180),
    "pulse": (20, 220),
    "sodium": (100, 180),
    "weight": (2, 250),
}


TEXT = "a value as text"


class Made(NamedTuple):
    out: Path
    data: Dict[str, np.ndarray]
    """File -> float64 (records, columns), raw."""
    exports: Path


def write_rows(path: Path, seed: int, records: int) -> np.ndarray:
    """Invented patients, with four digits behind the point so that a value found elsewhere is no coincidence."""
    rng = np.random.default_rng(seed)
    share = rng.beta(2, 3, (records, len(COLUMNS)))
    low, high = (np.array([RANGES[c][i] for c in COLUMNS]) for i in (0, 1))
    raw = np.round(low + share * (high - low), 4)
    sick = (share[:, 1] + rng.normal(0, 0.2, records) > 0.45).astype(int)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "sick"])
        writer.writerows([*(f"{v:.4f}" for v in row), int(label)] for row, label in zip(raw, sick))
    return raw


def settings(port: int, unit: str) -> Dict[str, Any]:
    features = [{"name": c, "minimum": RANGES[c][0], "maximum": RANGES[c][1]} for c in COLUMNS]
    schema = {"kind": "table", "label": "sick", "classes": ["no", "yes"], "label_values": {"0": 0, "1": 1}}
    task = {
        "name": "rows",
        "schema": {**schema, "features": features},
        "model": {"kind": "mlp", "hidden": [6]},
        "training": {"rounds": 2, "local_steps": 2, "learning_rate": 0.5},
        "privacy": {"unit": unit, "delta": 1e-3},
        "rounds": {"nodes": 2, "quorum": 2},
    }
    given = {"calibration": "calibration.csv", "evaluation": {"held-out": "held-out.csv"}}
    return {"gateway": {"port": port}, **given, "task": task}


@pytest.fixture(scope="module", params=["record", "none"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp(f"rows-{request.param}")
    files = {"n0": 90, "n1": 70, "held-out": 60, "calibration": 40}
    data = {name: write_rows(folder / f"{name}.csv", seed, n) for seed, (name, n) in enumerate(files.items())}
    port = free_port()
    (folder / "edgeward.toml").write_text(tomli_w.dumps(settings(port, request.param)))
    nodes = []
    for name in ("n0", "n1"):
        where = ["--data", str(folder / f"{name}.csv"), "--state", str(folder / f"state-{name}")]
        command = ["node", "run", "--broker", f"mqtt://127.0.0.1:{port}", "--name", name, *where]
        nodes.append(
            subprocess.Popen([*MAIN, *command, "--once", "--connect-timeout", "250"], stdout=subprocess.DEVNULL)
        )
    out = folder / "out"
    try:
        command = [*MAIN, "gateway", "run", str(folder / "edgeward.toml"), "--out", str(out), "--json"]
        done = subprocess.run(
            [*command, "--log-file", str(out / "gateway.log")], capture_output=True, text=True, timeout=850
        )
        assert done.returncode == 0, done.stderr
    finally:
        for node in nodes:
            node.kill()
            node.wait()
    exports = folder / "exports"
    exports.mkdir()
    (exports / "stdout.jsonl").write_text(done.stdout)
    for form in ("json", "csv"):
        target = str(exports / f"run.{form}")
        run = json.loads((out / "result.json").read_text())["run"]
        ended = subprocess.run(
            [*MAIN, "runs", "export", run, "-o", target, "--out", str(out)], capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
    return Made(out, data, exports)


def leaving(made: Made) -> List[Path]:
    """Every file a gateway wrote, but its own rows for checking engines."""
    own = made.out / "evaluation"
    files = [
        p for folder in (made.out, made.exports) for p in folder.rglob("*") if p.is_file() and own not in p.parents
    ]
    names = {path.name for path in files}
    assert {
        "model.bin",
        "model.tflite",
        "manifest.json",
        *FLOAT_FILES,
        PRIVACY_PAGE,
        "result.json",
        "lineage.json",
        "run.csv",
    } <= names
    return files


def needles(bundle: Path, raw: np.ndarray) -> Dict[str, List[bytes]]:
    """What a leak of these rows would look like."""
    manifest = verify_bundle(bundle, run=False)
    mean, std = (np.array([f[key] for f in manifest["features"]]) for key in ("mean", "std"))
    standardized = ((raw - mean) / std).astype(np.float32)
    edge = manifest["input"]
    int8 = Quantized(tuple(edge["shape"]), "int8", edge["scale"], edge["zero_point"]).quantize(standardized)
    floats = [raw, raw.astype(np.float32), standardized, standardized.astype(np.float64)]
    order = ("<", ">")
    return {
        "a row as int8": [row.tobytes() for row in int8],
        "a row as floats": [
            row.astype(row.dtype.newbyteorder(o)).tobytes() for x in floats for row in x[:, :3] for o in order
        ],
        "a column in its order": [
            np.ascontiguousarray(x[:8, c]).tobytes() for x in (int8, *floats) for c in range(len(COLUMNS))
        ],
        TEXT: [text.encode() for row in raw for value in row if value >= 10 for text in written(value)],
    }


def written(value: float) -> List[str]:
    """As a file of rows has it, with more digits, and as a program shows what it kept in single precision."""
    return [*(f"{value:.{digits}f}" for digits in (4, 5, 6)), repr(float(np.float32(value)))]


def found_in(content: bytes, wanted: Dict[str, List[bytes]]) -> List[str]:
    return [what for what, parts in wanted.items() if any(_is_in(content, part, what) for part in parts)]


def _is_in(content: bytes, part: bytes, what: str) -> bool:
    """A part of a longer number, such as a time or MiB of memory, is not a value: there are thousands of both."""
    if what != TEXT or part not in content:
        return part in content
    return re.search(rb"(?<!\d)" + re.escape(part) + rb"(?!\d)", content) is not None


def contents(path: Path) -> List[bytes]:
    """What the file holds, and what is packed in it."""
    if not zipfile.is_zipfile(path):
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as packed:
        return [path.read_bytes(), *(packed.read(name) for name in packed.namelist())]


def test_no_artefact_holds_a_row(made: Made) -> None:
    for name, raw in made.data.items():
        wanted = needles(made.out / "bundle", raw)
        for path in leaving(made):
            found = [what for content in contents(path) for what in found_in(content, wanted)]
            assert not found, f"{path} holds {found} of {name}"


def test_the_search_finds_rows_where_they_are(made: Made) -> None:
    wanted = needles(made.out / "bundle", made.data["held-out"])
    rows = (made.out / "evaluation" / "eval_int8_inputs.npy").read_bytes()
    assert "a row as int8" in found_in(rows, wanted)
    packed = made.exports.parent / "packed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows", rows)
    assert "a row as int8" in found_in(contents(packed)[1], wanted)
    assert TEXT in found_in((made.out.parent / "held-out.csv").read_bytes(), wanted)
    for value in made.data["held-out"][0][:1]:
        for text in written(value):
            assert TEXT in found_in(f'{{"x": [{text}, 1]}}'.encode(), wanted), text
            assert found_in(f"1{text}, {text}1".encode(), wanted) == []


def test_kept_rows_are_the_owners_alone_and_in_no_bundle(made: Made) -> None:
    own = made.out / "evaluation"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert stat.S_IMODE((made.out / "work").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in own.iterdir()} == {0o600}
    assert not (made.out / "work" / "rows").exists()
    (kept,) = models(made.out)
    for bundle in (made.out / "bundle", kept.folder / "bundle"):
        assert strays(bundle) == []
        assert verify_bundle(bundle)["model_digest"] == kept.digest


def test_what_a_board_gets_is_drawn_from_what_was_released(made: Made) -> None:
    """Known answers and deciles of model.bin, and what the manifest says of them."""
    manifest = verify_bundle(made.out / "bundle", run=False)
    packed: ModelBin = parse_model_bin((made.out / "bundle" / "model.bin").read_bytes())
    assert packed.known_answers is not None
    assert packed.input_profile is not None
    mean, std = (np.array([f[key] for f in manifest["features"]], np.float32) for key in ("mean", "std"))
    np.testing.assert_array_equal(packed.input_profile.mean, mean)
    edge = manifest["input"]
    entry = Quantized(tuple(edge["shape"]), "int8", edge["scale"], edge["zero_point"])
    for name in ("calibration", "held-out"):
        rows = entry.quantize((made.data[name] - mean) / std)
        deciles = make_profile(edge["shape"], (), rows).edges
        assert (packed.input_profile.edges != deciles).mean() > 0.5, name
    origin = manifest["origin"]
    assert origin["known_answers"].startswith("synthetic")
    noise = "noised" if manifest["privacy"]["unit"] != "none" else "not noised, as the task has no privacy"
    assert origin["input_profile"] == (
        f"rows drawn from the federation's released means and deviations ({noise}) and public ranges"
    )
    assert origin["int8_ranges"] == "extremes over 40 calibration rows of the gateway's, which no claim covers"
