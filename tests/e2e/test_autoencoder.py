"""A linear autoencoder that five sites train together finds the plane of principal components of all their rows (rand-hie)."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import tomli_w

from orchestrator.gateway.described_bundle import read_described, read_rows
from orchestrator.predict.codes import codes_of
from orchestrator.predict.engines import outputs_of

COLUMNS = {
    "xage": (0, 70),
    "educdec": (0, 25),
    "income": (0, 40_000),
    "num": (0, 15),
    "disea": (0, 60),
    "ghindx": (0, 100),
    "lfam": (0, 3),
}
COMPONENTS = 3


def declaration(nodes: int) -> Dict[str, Any]:
    features = [{"name": name, "minimum": low, "maximum": high} for name, (low, high) in COLUMNS.items()]
    return {
        "task": {
            "name": "codes",
            "schema": {"kind": "table", "features": features, "target": {"kind": "none"}},
            "model": {"kind": "mlp", "hidden": [COMPONENTS], "activation": "linear"},
            "training": {"rounds": 40, "local_steps": 20, "batch_size": 64, "learning_rate": 0.5, "schedule": "cosine"},
            "privacy": {"unit": "none"},
            "evaluation": {"share": 0.1, "every": 40},
            "rounds": {"nodes": nodes, "quorum": nodes},
        }
    }


def sites(path: Path, folder: Path) -> List[Path]:
    """A file for each site, of the rows that have all columns."""
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if all(row[name] for name in COLUMNS)]
    found = []
    for site in sorted({row["site"] for row in rows}):
        found.append(folder / f"{site}.csv")
        with found[-1].open("w", newline="") as file:
            own = [[row[name] for name in COLUMNS] for row in rows if row["site"] == site]
            csv.writer(file).writerows([list(COLUMNS), *own])
    return found


def test_a_linear_autoencoder_finds_the_plane_of_principal_components(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn.decomposition", reason="scikit-learn comes with the gateway, not on a node")
    from sklearn.decomposition import PCA

    files = sites(shared_data("rand-hie") / "randhie.csv", tmp_path)
    config, out = tmp_path / "edgeward.toml", tmp_path / "out"
    config.write_text(tomli_w.dumps(declaration(len(files))))
    words = ["simulate", str(config), "--data", *map(str, files), "--out", str(out), "--json"]
    done = subprocess.run([sys.executable, "-m", "orchestrator.cli.main", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bundle = read_described(out / "bundle")
    rows = np.concatenate([bundle.inputs(read_rows(path, bundle.schema)) for path in files])
    x = rows - rows.mean(axis=0)

    pooled = PCA(COMPONENTS).fit(x)
    least = float(((x - pooled.inverse_transform(pooled.transform(x))) ** 2).mean())
    reached = float(outputs_of(bundle, rows, "float").mean())
    assert least * 0.999 < reached < least * 1.01

    codes = codes_of(bundle, rows).astype(np.float64)
    assert codes.shape == (len(rows), COMPONENTS)
    plane = np.linalg.lstsq(x, codes - codes.mean(axis=0), rcond=None)[0]  # codes are these combinations of columns
    np.testing.assert_allclose(x @ plane, codes - codes.mean(axis=0), atol=1e-4)
    back = np.linalg.lstsq(codes - codes.mean(axis=0), x, rcond=None)[0]
    for spanned in (plane, back.T):
        cosines = np.linalg.svd(np.linalg.qr(spanned)[0].T @ pooled.components_.T, compute_uv=False)
        assert np.degrees(np.arccos(np.clip(cosines.min(), 0, 1))) < 6, "the largest principal angle"
