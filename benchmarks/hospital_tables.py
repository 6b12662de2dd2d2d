"""Real tables that analyses are measured on, a list of rows a hospital, and files made of them."""

import csv
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

from orchestrator.wire.schema import Feature

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "analyses"))

from hospitals import SCHEMA as HEART_SCHEMA
from hospitals import rows_of as heart_rows_of

HIE = (
    Feature("xage", 0, 70),
    Feature("mdvis", 0, 50),
    Feature("income", 0, 40_000),
    Feature("ghindx", 0, 100),
    Feature("female", categories=("0", "1")),
    Feature("child", categories=("0", "1")),
)
VISITS = (
    Feature("age", 10, 70),
    Feature("baseline", categories=("0", "1")),
    Feature("treat", categories=("A", "P")),
    Feature("sex", categories=("F", "M")),
    Feature("outcome", categories=("0", "1")),
)
WILMS = (
    Feature("edrel", 0, 6300),
    Feature("rel", categories=("0", "1")),
    Feature("histol", categories=("1", "2")),
    Feature("age", 0, 200),
)
_HEART_NAMES = ("age", "trestbps", "chol", "thalach", "oldpeak", "sex", "cp", "exang", "slope", "thal", "disease")
_HEART_FEATURES = {feature.name: feature for feature in HEART_SCHEMA.features}
HEART = tuple(_HEART_FEATURES[name] for name in _HEART_NAMES)


class Data(NamedTuple):
    """Rows of some hospitals. patient: a column that says whose a row is, where patients have several."""

    features: Tuple[Feature, ...]
    sites: List[List[Dict[str, str]]]
    patient: str = ""

    @property
    def records(self) -> int:
        return sum(map(len, self.sites))

    @property
    def patients(self) -> int:
        return len({row[self.patient] for site in self.sites for row in site}) if self.patient else self.records


def read(path: Path) -> List[Dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def by(rows: Sequence[Dict[str, str]], column: str) -> List[List[Dict[str, str]]]:
    return [[row for row in rows if row[column] == site] for site in sorted({row[column] for row in rows})]


def data_sets(source: Path) -> Dict[str, Data]:
    visits = [
        {**row, "who": f"{row['center']}-{row['id']}"} for row in read(source / "respiratory" / "respiratory.csv")
    ]
    wilms = read(source / "nwtco" / "nwtco.csv")
    return {
        "rand-hie": Data(HIE, by(read(source / "rand-hie" / "randhie.csv"), "site")),
        "respiratory": Data(VISITS, by(visits, "center"), "who"),
        "heart-disease": Data(HEART, [rows for _, rows in heart_rows_of(source / "heart-disease")]),
        "nwtco": Data(WILMS, [wilms[start::5] for start in range(5)]),
    }


def written(data: Data, folder: Path) -> List[Path]:
    """A file for each hospital, of which secure sums need three: with fewer the rows are dealt out, patients whole."""
    names = [feature.name for feature in data.features] + ([data.patient] if data.patient else [])
    sites = [site for site in data.sites if site]
    if len(sites) < 3:
        rows = [row for site in sites for row in site]
        keys = [row[data.patient] if data.patient else str(place) for place, row in enumerate(rows)]
        place_of = {key: place % 3 for place, key in enumerate(dict.fromkeys(keys))}
        sites = [[row for row, key in zip(rows, keys) if place_of[key] == place] for place in range(3)]
    paths = [folder / f"{place}.csv" for place in range(len(sites))]
    for path, site in zip(paths, sites):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(site)
    return paths
