"""The heart disease records of four hospitals, as nodes read them and as plain cells."""

import csv
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import numpy as np

from orchestrator.data.dataset import Dataset, load_dataset
from orchestrator.demo.heart import COLUMNS, HOSPITALS, file_of
from orchestrator.wire.schema import Feature, Schema

_NUMBERS = {
    "age": (20, 90),
    "trestbps": (80, 200),
    "chol": (100, 600),
    "thalach": (60, 220),
    "oldpeak": (-3, 7),
    "ca": (0, 3),
}
_LEVELS = {"sex": "01", "cp": "1234", "fbs": "01", "restecg": "012", "exang": "01", "slope": "123", "thal": "367"}
FEATURES = tuple(
    Feature(name, categories=tuple(_LEVELS[name])) if name in _LEVELS else Feature(name, *_NUMBERS[name])
    for name in COLUMNS[:-1]
)
SCHEMA = Schema("table", "", (), {}, (*FEATURES, Feature("disease", categories=("no", "yes"))))


def rows_of(source: Path) -> Iterator[Tuple[str, List[Dict[str, str]]]]:
    """(hospital, its records as cells; an empty one is missing): a cholesterol of 0 was not measured."""
    for hospital in HOSPITALS:
        rows = []
        for line in (source / file_of(hospital)).read_text().split():
            row = dict(zip(COLUMNS, ("" if value == "?" else value for value in line.split(","))))
            row.update({name: str(int(float(row[name]))) for name in _LEVELS if row[name]})
            row["chol"] = "" if row["chol"] and float(row["chol"]) == 0 else row["chol"]
            row["disease"] = "no" if row.pop("num") == "0" else "yes"
            rows.append(row)
        yield hospital, rows


def hospitals(source: Path, folder: Path) -> Tuple[List[Dataset], List[Dict[str, str]]]:
    """(records of each hospital, all of them as `rows_of` has them)."""
    datasets, cells = [], []
    for hospital, rows in rows_of(source):
        path = folder / f"{hospital}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*COLUMNS[:-1], "disease"])
            writer.writeheader()
            writer.writerows(rows)
        datasets.append(load_dataset(path, SCHEMA, gaps=True))
        cells += rows
    return datasets, cells


def halves(records: int, seed: int) -> np.ndarray:
    """bool (records,): seven in ten, to fit on; the others are to measure with."""
    return np.asarray(np.random.default_rng(seed).random(records) < 0.7)
