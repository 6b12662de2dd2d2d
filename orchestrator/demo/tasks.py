"""The demo tasks, one after another: where their data comes from, how it is split over nodes, and what is trained.

Each task writes one file per node (that node's private training data) and, apart from them, test rows nobody trains on.
Splits are drawn per seed, stratified by label; shares are uneven on purpose.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.demo import heart
from orchestrator.errors import DataError, UsageError
from orchestrator.wire.plain import many
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training


@dataclass(frozen=True)
class Prepared:
    """A task ready to run. `calibration`: rows without private content for quantization; None: drawn from statistics."""

    task: Task
    node_files: Dict[str, Path]
    test_files: Dict[str, Path]
    calibration: Optional[Path]
    about: str


@dataclass(frozen=True)
class Request:
    nodes: Optional[int]
    rounds: Optional[int]
    epsilon: float
    seed: int
    data: Optional[Path]
    out: Path
    secure: bool = False


def stratified_split(y: np.ndarray, test_share: float, random: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
    """(train, test) indices, each class split alike."""
    train: List[int] = []
    test: List[int] = []
    for label in np.unique(y):
        members = random.permutation(np.flatnonzero(y == label))
        cut = round(test_share * len(members))
        test.extend(members[:cut])
        train.extend(members[cut:])
    return np.array(sorted(train)), np.array(sorted(test))


def uneven_parts(y: np.ndarray, nodes: int, random: np.random.Generator) -> List[np.ndarray]:
    """Splits indices over nodes: the first has about twice the records of the last, and class shares differ."""
    weights = np.linspace(2.0, 1.0, nodes)
    parts: List[List[int]] = [[] for _ in range(nodes)]
    for label in np.unique(y):
        shares = random.dirichlet(8.0 * weights / weights.mean())
        members = random.permutation(np.flatnonzero(y == label))
        cuts = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for part, chosen in zip(parts, np.split(members, cuts)):
            part.extend(chosen)
    if min(len(part) for part in parts) < 8:
        raise UsageError(
            f"{many(len(y), 'training record')}: too few for {many(nodes, 'node')}, choose fewer with --nodes"
        )
    return [np.array(sorted(part)) for part in parts]


def safe_delta(records: int) -> float:
    """Below 1/records of the whole federation, hence of every node: records^-1.1, two digits, rounded down."""
    value = records**-1.1
    scale = 10.0 ** np.floor(np.log10(value))
    return float(f"{np.floor(value / scale * 10) / 10 * scale:.2g}")


def _privacy(request: Request, records: int, clip_norm: float, sampling_rate: float) -> Privacy:
    if np.isinf(request.epsilon):
        return Privacy(unit="none")
    return Privacy(epsilon=request.epsilon, delta=safe_delta(records), clip_norm=clip_norm, sampling_rate=sampling_rate)


def under_secure_sums(task: Task) -> Task:
    """The same task with masked sums; with privacy on, every node adds a share of the noise, so a round is one step."""
    nodes = task.rounds.nodes
    if nodes < 3:
        raise UsageError(
            f"--secure with {many(nodes, 'node')}: a sum over two shows each what the other sent; it takes three"
        )
    honest = max(3, nodes - 1)
    training, privacy = task.training, task.privacy
    if privacy.on:
        training = replace(training, local_steps=1, rounds=training.rounds * training.local_steps)
        privacy = replace(privacy, noise="distributed")
    rounds = replace(task.rounds, quorum=honest)
    secure = Aggregation("masked", honest=honest)
    return replace(task, training=training, privacy=privacy, rounds=rounds, aggregation=secure)


def _step(request: Request, learning_rate: float) -> float:
    """Smaller steps under more noise: the rates were found at epsilon 8."""
    return learning_rate * min(1.0, float(np.sqrt(request.epsilon / 8)))


def _rounds(nodes: int) -> Rounds:
    return Rounds(nodes=nodes, quorum=max(1, (nodes + 1) // 2), deadline_s=60, weights="int8")


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def _table_from_sklearn(
    request: Request, x: np.ndarray, y: np.ndarray, columns: Sequence[str], test_share: float
) -> Tuple[Dict[str, Path], Dict[str, Path], int]:
    """Node files and a test file from one array; returns them and the number of training records."""
    random = np.random.default_rng(request.seed)
    train, test = stratified_split(y, test_share, random)
    header = [*columns, "label"]

    def rows(indices: np.ndarray) -> List[List[object]]:
        return [[*(f"{v:.10g}" for v in x[i]), int(y[i])] for i in indices]

    parts = uneven_parts(y[train], request.nodes or 4, random)
    nodes = {
        f"node-{i + 1}": _write_rows(request.out / "nodes" / f"node-{i + 1}.csv", header, rows(train[part]))
        for i, part in enumerate(parts)
    }
    tests = {"held-out": _write_rows(request.out / "test" / "held-out.csv", header, rows(test))}
    return nodes, tests, len(train)


# Public ranges of the Wisconsin measurements: round numbers that hold any plausible nucleus, not read off the data set.
_NUCLEUS = {
    "radius": (5, 40),
    "texture": (5, 55),
    "perimeter": (30, 270),
    "area": (80, 4500),
    "smoothness": (0.04, 0.25),
    "compactness": (0, 1.1),
    "concavity": (0, 1.3),
    "concave points": (0, 0.3),
    "symmetry": (0.08, 0.7),
    "fractal dimension": (0.03, 0.22),
}
_NUCLEUS_ERROR = {
    "radius": (0, 3),
    "texture": (0, 5),
    "perimeter": (0, 25),
    "area": (0, 600),
    "smoothness": (0, 0.035),
    "compactness": (0, 0.15),
    "concavity": (0, 0.4),
    "concave points": (0, 0.06),
    "symmetry": (0, 0.08),
    "fractal dimension": (0, 0.03),
}


def breast_cancer(request: Request) -> Prepared:
    """Wisconsin diagnostic breast cancer, shipped with scikit-learn: 569 records, 30 measurements, two classes."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    columns = [str(name) for name in data.feature_names]
    nodes, tests, records = _table_from_sklearn(request, data.data, data.target, columns, 0.25)
    halved = ("area", "compactness", "concavity")  # a mean stays well below the worst nucleus
    mean_range = {k: (low, 0.6 * high if k in halved else high) for k, (low, high) in _NUCLEUS.items()}

    def feature(name: str) -> Feature:
        if name.endswith(" error"):
            return Feature(name, *_NUCLEUS_ERROR[name[: -len(" error")]])
        table = mean_range if name.startswith("mean ") else _NUCLEUS
        return Feature(name, *table[name.split(" ", 1)[1]])

    task = Task(
        "breast-cancer",
        Schema("table", "label", ("malignant", "benign"), {"0": 0, "1": 1}, tuple(feature(n) for n in columns)),
        {"kind": "mlp", "hidden": [16], "activation": "relu"},
        Training("fedavg", request.rounds or 20, local_steps=2, learning_rate=_step(request, 0.5), tail_average=True),
        _privacy(request, records, 1.0, 0.25),
        _rounds(len(nodes)),
        seed=request.seed,
    )
    return Prepared(task, nodes, tests, None, "Wisconsin breast cancer (scikit-learn), split unevenly")


def digits(request: Request) -> Prepared:
    """8x8 handwritten digits, shipped with scikit-learn: 1,797 records, ten classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    columns = [f"pixel_{i // 8}_{i % 8}" for i in range(64)]
    nodes, tests, records = _table_from_sklearn(request, data.data, data.target, columns, 0.25)
    names = tuple(str(i) for i in range(10))
    task = Task(
        "digits",
        Schema(
            "table",
            "label",
            names,
            {n: int(n) for n in names},
            tuple(Feature(c, 0, 16) for c in columns),
            standardization="range",  # pixels are grey levels: their scale is public
        ),
        {"kind": "mlp", "hidden": [32], "activation": "relu"},
        Training("fedavg", request.rounds or 30, local_steps=4, learning_rate=_step(request, 0.5), tail_average=True),
        _privacy(request, records, 1.0, 0.1),
        _rounds(len(nodes)),
        seed=request.seed,
    )
    return Prepared(task, nodes, tests, None, "8x8 digits (scikit-learn), split unevenly")


def heart_disease(request: Request) -> Prepared:
    """UCI heart disease, one node a hospital.

    Rows as in FLamby (740 remain): those lacking a value in any column but slope, ca and thal are dropped. Unlike FLamby,
    which drops these three columns, they are used, with `?` as a category of its own.
    """
    folder = _data_folder(request, "heart-disease", "the four processed.*.data files of UCI heart disease")
    if request.nodes not in (None, len(heart.HOSPITALS)):
        raise UsageError(f"--nodes {request.nodes}: heart-disease has one node for each of its four hospitals")
    schema = Schema(
        "table",
        "num",
        ("no disease", "disease"),
        {"0": 0, "1": 1, "2": 1, "3": 1, "4": 1},
        (
            Feature("age", 20, 90),
            Feature("sex", categories=("0", "1")),
            Feature("cp", categories=("1", "2", "3", "4")),
            Feature("trestbps", 80, 220),
            Feature("chol", 0, 600),
            Feature("fbs", categories=("0", "1")),
            Feature("restecg", categories=("0", "1", "2")),
            Feature("thalach", 60, 220),
            Feature("exang", categories=("0", "1")),
            Feature("oldpeak", -3, 7),
            # Three hospitals rarely took these; that a value was not measured is itself known to the doctor.
            Feature("slope", categories=("1", "2", "3", "?")),
            Feature("ca", categories=("0", "1", "2", "3", "?")),
            Feature("thal", categories=("3", "6", "7", "?")),
        ),
        columns=heart.COLUMNS,
        drop_missing=True,
    )
    random = np.random.default_rng(request.seed)
    nodes, tests, records = {}, {}, 0
    for hospital in heart.HOSPITALS:
        rows = _complete_heart_rows(folder / heart.file_of(hospital), schema)
        disease = np.array([float(row[-1]) > 0 for row in rows])
        train, test = stratified_split(disease, 0.34, random)
        nodes[hospital] = _write_rows(request.out / "nodes" / f"{hospital}.csv", (), [rows[i] for i in train])
        tests[hospital] = _write_rows(request.out / "test" / f"{hospital}.csv", (), [rows[i] for i in test])
        records += len(train)
    task = Task(
        "heart-disease",
        schema,
        {"kind": "mlp", "hidden": [], "activation": "relu"},
        Training("fedsgd", request.rounds or 30, learning_rate=0.5, tail_average=True),
        _privacy(request, records, 1.0, 0.25),
        _rounds(len(nodes)),
        seed=request.seed,
    )
    return Prepared(task, nodes, tests, None, "UCI heart disease, one node a hospital")


def _complete_heart_rows(path: Path, schema: Schema) -> List[List[str]]:
    """Raw rows of one hospital that have every value the schema uses; the full check is the node's."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; --data names the folder with the four processed.*.data files")
    needed = [f.name for f in schema.features if "?" not in f.categories] + [schema.label]
    used = [heart.COLUMNS.index(name) for name in needed]
    rows = []
    with path.open(newline="") as file:
        for line, row in enumerate(csv.reader(file), 1):
            if not row:
                continue
            if len(row) != len(heart.COLUMNS):
                raise DataError(f"{path}:{line}: {len(row)} values, expected {len(heart.COLUMNS)}")
            if all(row[i].strip() not in schema.missing_markers for i in used):
                rows.append(row)
    return rows


_ECG_CALIBRATION_RECORD = 106
"""A training patient set aside for quantization: removed from every node, so no claim covers these beats."""


def ecg_beats(request: Request) -> Prepared:
    """MIT-BIH beats N/S/V, patients spread over the nodes; tested on other patients (de Chazal's DS2 without 202)."""
    folder = _data_folder(request, "ecg-beats", "beats.npz and records.csv of MIT-BIH beats")
    beats_path, records_path = folder / "beats.npz", folder / "records.csv"
    for path in (beats_path, records_path):
        if not path.is_file():
            raise DataError(f"{path}: no such file; --data names the folder with beats.npz and records.csv")
    split = {}
    with records_path.open(newline="") as file:
        for row in csv.DictReader(file):
            split[int(row["record"])] = row["split"]
    with np.load(beats_path, allow_pickle=False) as beats:
        keep = beats["y"] < 3
        x, y, record = beats["x"][keep], beats["y"][keep], beats["record"][keep].astype(int)
    patients = [r for r in sorted(set(record.tolist())) if split.get(r) == "DS1" and r != _ECG_CALIBRATION_RECORD]
    # Record 202 (DS2) is the same person as 201 (DS1).
    test_mask = np.array([split.get(r) == "DS2" and r != 202 for r in record])
    random = np.random.default_rng(request.seed)
    count = request.nodes or 4
    if count > len(patients):
        raise UsageError(f"--nodes {count}: there are {len(patients)} training patients")
    shares = np.linspace(2.0, 1.0, count)
    cuts = np.maximum(np.arange(1, count), np.round(np.cumsum(shares / shares.sum())[:-1] * len(patients))).astype(int)
    nodes, records = {}, 0
    for i, members in enumerate(np.split(random.permutation(patients), cuts)):
        mask = np.isin(record, members)
        records += int(mask.sum())
        nodes[f"node-{i + 1}"] = _write_beats(request.out / "nodes" / f"node-{i + 1}.npz", x[mask], y[mask])
    tests = {"DS2": _write_beats(request.out / "test" / "DS2.npz", x[test_mask], y[test_mask])}
    reserved = record == _ECG_CALIBRATION_RECORD
    calibration = _write_beats(request.out / "calibration.npz", x[reserved], y[reserved])
    task = Task(
        "ecg-beats",
        Schema("signal", "y", ("N", "S", "V"), {"0": 0, "1": 1, "2": 2}, samples=128, channels=1, unit_scale=200.0),
        {"kind": "cnn1d", "filters": [16, 32], "kernel": 7, "pool": 2, "dense": []},
        Training("fedavg", request.rounds or 20, local_steps=20, learning_rate=_step(request, 1.0), tail_average=True),
        _privacy(request, records, 4.0, 0.03),
        _rounds(count),
        seed=request.seed,
    )
    return Prepared(
        task, nodes, tests, calibration, "MIT-BIH beats, patients spread over nodes, tested on other patients"
    )


def regression(request: Request) -> Prepared:
    """Diabetes (Efron et al. 2004, Annals of Statistics 32:407), shipped with scikit-learn: 442 patients, ten measurements.

    Learned is a number: how far the disease went in a year.
    """
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    random = np.random.default_rng(request.seed)
    train, test = stratified_split(np.zeros(len(data.target), int), 0.25, random)
    header = [*_DIABETES, "progression"]

    def rows(indices: np.ndarray) -> List[List[object]]:
        return [[*(f"{v:.10g}" for v in data.data[i]), f"{data.target[i]:g}"] for i in indices]

    parts = uneven_parts(np.zeros(len(train), int), request.nodes or 4, random)
    nodes = {
        f"node-{i + 1}": _write_rows(request.out / "nodes" / f"node-{i + 1}.csv", header, rows(train[part]))
        for i, part in enumerate(parts)
    }
    tests = {"held-out": _write_rows(request.out / "test" / "held-out.csv", header, rows(test))}
    features = tuple(
        Feature(name, categories=("1", "2")) if limits is None else Feature(name, *limits)
        for name, limits in _DIABETES.items()
    )
    task = Task(
        "regression",
        Schema("table", "progression", (), {}, features, target={"kind": "number", "minimum": 0, "maximum": 400}),
        {"kind": "mlp", "hidden": [], "activation": "relu"},
        Training("fedsgd", request.rounds or 40, learning_rate=_step(request, 0.05), tail_average=True),
        _privacy(request, len(train), 1.0, 0.25),
        _rounds(len(nodes)),
        seed=request.seed,
    )
    return Prepared(task, nodes, tests, None, "diabetes progression (scikit-learn), a number, split unevenly")


# Public ranges, not read off the data set: what such values can be in adults.
_DIABETES: Dict[str, Optional[Tuple[float, float]]] = {
    "age": (18, 90),
    "sex": None,
    "bmi": (15, 50),
    "blood pressure": (50, 150),
    "total cholesterol": (80, 320),
    "low density": (30, 260),
    "high density": (15, 110),
    "total over high": (1, 10),
    "log triglycerides": (3, 6.5),
    "glucose": (50, 150),
}


def _write_beats(path: Path, x: np.ndarray, y: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=x, y=y)
    return path


def _data_folder(request: Request, task: str, what: str) -> Path:
    if request.data is None:
        raise UsageError(f"--task {task} needs --data DIR, the folder with {what}")
    if not request.data.is_dir():
        raise DataError(f"--data {request.data}: no such folder")
    return request.data


TASKS: Dict[str, Callable[[Request], Prepared]] = {
    "breast-cancer": breast_cancer,
    "digits": digits,
    "heart-disease": heart_disease,
    "ecg-beats": ecg_beats,
    "regression": regression,
}
