"""Boosted trees of four hospitals against those of all rows together, by the same code and by one that tries every split."""

from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import pytest
from analysed_rows import SCHEMA as SMALL
from analysed_rows import any_asked, rows, task_of
from hospitals import FEATURES, SCHEMA, halves, hospitals
from test_oracles import METHODS, computed

from orchestrator.analyses.base import Result, Total
from orchestrator.analyses.boosted import Boosted
from orchestrator.analyses.histograms import Histograms, Rule
from orchestrator.analyses.registry import analysis_of, contradictions, make
from orchestrator.data.dataset import Dataset
from orchestrator.errors import UsageError
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

CELLS = List[Dict[str, str]]
RANGES = {feature.name: feature.range for feature in FEATURES if not feature.categories}
XGBOOST = 0.8944
"""AUC of xgboost 3.2.0 (30 trees of depth 3, learning rate .3, lambda 1) on the same five halves, the mean."""


class Hearts(NamedTuple):
    sites: List[Dataset]
    cells: CELLS


@pytest.fixture(scope="module")
def hearts(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Hearts:
    return Hearts(*hospitals(shared_data("heart-disease"), tmp_path_factory.mktemp("hearts")))


def boosted_of(schema: Schema = SCHEMA, outcome: str = "disease", **options: Any) -> Boosted:
    found = make({"kind": "boosted", "outcome": outcome, **options}, schema)
    assert isinstance(found, Boosted)
    return found


def fitted(model: Boosted, parts: List[np.ndarray]) -> Tuple[Result, int]:
    """(the result, how many rounds it took)."""
    asked, rounds = model.begin(0), 0
    while True:
        sums = [model.vectors(model.question(asked), x).sum(axis=0) for x in parts]
        asked, folded = model.fold(asked, Total(np.sum(sums, axis=0)))
        rounds += 1
        if folded.done:
            return model.result(folded.state, "records"), rounds


def tables_of(result: Result) -> Dict[str, List[Tuple[Any, ...]]]:
    return {table.name: table.rows for table in result.tables}


def figures(result: Result) -> Dict[str, Any]:
    return {str(row[0]): row[1] for row in tables_of(result)["fit"]}


class Walked:
    """The model as its table has it, walked cell by cell."""

    def __init__(self, result: Result) -> None:
        self.nodes: Dict[Tuple[int, int], Tuple[Any, ...]] = {row[:2]: row[2:] for row in tables_of(result)["trees"]}
        self.base, self.trees = tables_of(result)["fit"][-1][1], figures(result)["trees"]

    def leaf(self, tree: int, row: Dict[str, str]) -> int:
        node = 1
        while self.nodes[tree, node][0] is not None:
            name, edge, level, missing, _ = self.nodes[tree, node]
            if not row[name]:
                right = missing == "right"
            else:
                numeric = edge is not None and float(np.clip(float(row[name]), *RANGES[name])) >= edge
                right = numeric or row[name] == level
            node = 2 * node + right
        return node

    def score(self, row: Dict[str, str]) -> float:
        return float(self.base + sum(self.nodes[tree, self.leaf(tree, row)][-1] for tree in range(1, self.trees + 1)))


@pytest.mark.parametrize("method", METHODS)
def test_trees_of_four_hospitals_are_those_of_all_rows_together(hearts: Hearts, method: str) -> None:
    declared = {"kind": "boosted", "outcome": "disease", "trees": 10, "shrinkage": 0.5}
    about: Dict[str, Any] = {"training": Training(rounds=32), "privacy": Privacy("none"), "rounds": Rounds(4, 4)}
    size = boosted_of(trees=10).sums.size
    task = Task("t", SCHEMA, {}, analysis=declared, **{**about, "training": Training(rounds=32, parameters=size)})
    ours = computed(task, hearts.sites, method)
    pooled, _ = fitted(boosted_of(trees=10, shrinkage=0.5), [np.concatenate([site.x for site in hearts.sites])])
    for table, same in zip(ours.tables, pooled.tables):
        assert table.columns == same.columns
        assert len(table.rows) == len(same.rows)
        for row, other in zip(table.rows, same.rows):
            for cell, theirs in zip(row, other):
                assert cell == (pytest.approx(theirs, rel=1e-9, abs=1e-9) if isinstance(theirs, float) else theirs), (
                    table.name
                )
    assert figures(ours)["trees"] == 10


Split = Tuple[str, Optional[float], Optional[str], np.ndarray, np.ndarray]


def every_split(cells: CELLS, bins: int, least: int) -> List[Split]:
    """(column, edge, level, who goes right, who lacks it) of each split there can be, in the order of the columns."""
    found: List[Split] = []
    for feature in FEATURES:
        column = [row[feature.name] for row in cells]
        lacking = np.array([not cell for cell in column])
        found.append((feature.name, None, "(missing)", np.zeros(len(cells), bool), lacking))
        if feature.categories:
            for level in feature.categories:
                found.append((feature.name, None, level, np.array([cell == level for cell in column]), lacking))
            continue
        values = np.array([float(np.clip(float(cell or 0), *RANGES[feature.name])) for cell in column])
        for edge in np.linspace(*RANGES[feature.name], bins + 1)[1:-1]:
            found.append((feature.name, float(edge), None, (values >= edge) & ~lacking, lacking))
    return found


def test_every_split_is_the_best_of_all_that_there_are(hearts: Hearts) -> None:
    """From raw cells, by trying each of them on the records of each node (Chen and Guestrin 2016, equations 6 and 7)."""
    bins, least, penalty, shrinkage = 8, 20, 1.5, 0.4
    model = boosted_of(trees=4, depth=3, bins=bins, least=least, penalty=penalty, shrinkage=shrinkage, held_out=0.0)
    result, rounds = fitted(model, [site.x for site in hearts.sites])
    assert rounds == 1 + 4 * 3
    walked, outcome = Walked(result), np.array([row["disease"] == "yes" for row in hearts.cells], float)
    score = np.full(len(outcome), np.log(outcome.mean() / (1 - outcome.mean())))
    assert walked.base == pytest.approx(score[0])
    splits = every_split(hearts.cells, bins, least)
    gains: Dict[str, float] = {}
    for tree in range(1, 5):
        chance = 1 / (1 + np.exp(-score))
        slope, curve = chance - outcome, chance * (1 - chance)

        def worth(who: np.ndarray, slope: np.ndarray = slope, curve: np.ndarray = curve) -> float:
            return float(slope[who].sum() ** 2 / (curve[who].sum() + penalty))

        inside = {1: np.ones(len(outcome), bool)}
        for node in range(1, 8):
            if node not in inside:
                continue
            best = 1e-9
            for _, _, _, right, lacking in splits:
                for beyond in (right, right | lacking):
                    sides = inside[node] & ~beyond, inside[node] & beyond
                    if min(side.sum() for side in sides) >= least:
                        best = max(best, worth(sides[0]) + worth(sides[1]) - worth(inside[node]))
            name, edge, level, missing, _ = walked.nodes[tree, node]
            if name is None:
                assert best == 1e-9
                continue
            right, lacking = next(
                each[3:]
                for each in splits
                if each[0] == name and each[2] == level and each[1] == (None if edge is None else pytest.approx(edge))
            )
            beyond = right | lacking if missing == "right" else right
            inside[2 * node], inside[2 * node + 1] = inside[node] & ~beyond, inside[node] & beyond
            gain = worth(inside[2 * node]) + worth(inside[2 * node + 1]) - worth(inside[node])
            assert gain == pytest.approx(best, rel=1e-8)
            gains[name] = gains.get(name, 0.0) + gain
        for node, who in inside.items():
            if walked.nodes[tree, node][0] is None:
                value = -shrinkage * slope[who].sum() / (curve[who].sum() + penalty)
                assert walked.nodes[tree, node][-1] == pytest.approx(value, rel=1e-7)
                assert who.sum() >= least
                score[who] += value
    shares = {name: share for name, share in tables_of(result)["importances"] if share}
    assert shares == pytest.approx({name: gain / sum(gains.values()) for name, gain in gains.items()}, rel=1e-6)


def test_it_ranks_as_well_as_a_program_that_has_all_rows(hearts: Hearts) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    x, areas = np.concatenate([site.x for site in hearts.sites]), []
    for seed in range(5):
        on = halves(len(x), seed)
        walked = Walked(fitted(boosted_of(held_out=0.0), [x[on]])[0])
        out = [row for row, used in zip(hearts.cells, on) if not used]
        areas.append(
            metrics.roc_auc_score([row["disease"] == "yes" for row in out], [walked.score(row) for row in out])
        )
    assert np.mean(areas) > XGBOOST - 0.005


def test_it_is_measured_on_records_that_no_tree_has_seen(hearts: Hearts) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    model, x = boosted_of(trees=8), np.concatenate([site.x for site in hearts.sites])
    result, _ = fitted(model, [x])
    first = model.vectors(model.question(model.begin(0)), x)
    held = first[:, 2] > 0
    assert 0.2 < held.mean() < 0.3
    assert not (held & (first[:, 0] > 0)).any()
    walked = Walked(result)
    out = [row for row, apart in zip(hearts.cells, held) if apart]
    truth = np.array([row["disease"] == "yes" for row in out])
    chance = 1 / (1 + np.exp([-walked.score(row) for row in out]))
    area = next(row for row in tables_of(result)["fit"] if row[0] == "AUC of yes")
    assert area[1] == pytest.approx(metrics.roc_auc_score(truth, chance), abs=0.003)
    assert area[2] < area[1] < area[3]
    assert figures(result)["Brier score"] == pytest.approx(np.mean((chance - truth) ** 2), rel=1e-9)
    shown = tables_of(result)["held out"]
    expected = [
        [((chance * 10).astype(int) == k).sum(), truth[(chance * 10).astype(int) == k].sum()] for k in range(10)
    ]
    assert [list(row[2:4]) for row in shown] == expected
    assert figures(result)["records fitted on"] + len(out) == len(x)


def test_a_number_is_explained_by_its_own_loss(hearts: Hearts) -> None:
    """Maximum heart rate: errors of records that are held out, from predictions walked through the table."""
    model, x = (
        boosted_of(outcome="thalach", trees=15, inputs=("age", "exang", "cp", "oldpeak")),
        np.concatenate([s.x for s in hearts.sites]),
    )
    result, _ = fitted(model, [x])
    walked = Walked(result)
    first = model.vectors(model.question(model.begin(0)), x)
    held = [row for row, apart in zip(hearts.cells, first[:, 2] > 0) if apart]
    truth = np.array([float(row["thalach"]) for row in held])
    guess = np.array([walked.score(row) for row in held])
    assert figures(result)["root mean squared error"] == pytest.approx(np.sqrt(((truth - guess) ** 2).mean()), rel=1e-9)
    assert figures(result)["R squared"] == pytest.approx(
        1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    )
    assert 0.2 < figures(result)["R squared"] < 0.7
    assert figures(result)["records left out"] == sum(not row["thalach"] for row in hearts.cells)
    fit_on = [float(row["thalach"]) for row, used in zip(hearts.cells, first[:, 0] > 0) if used]
    assert walked.base == pytest.approx(np.mean(fit_on), rel=1e-9)


def test_missing_values_go_to_the_side_where_they_belong() -> None:
    schema = Schema("table", "", (), {}, (Feature("a", 0, 10), Feature("y", categories=("n", "y"))))
    x = np.zeros((400, 3))
    x[:, 0] = np.repeat([2.0, 8.0, np.nan, np.nan], 100)
    for of_missing in (0, 1):
        event = np.concatenate([np.zeros(100), np.ones(100), np.full(200, of_missing)]).astype(int)
        x[:, 1:] = np.eye(2)[event]
        result, _ = fitted(boosted_of(schema, "y", trees=1, depth=1, held_out=0.0), [x])
        (root, *leaves) = tables_of(result)["trees"]
        assert root[2] == "a"
        assert root[5] == ("right" if of_missing else "left")
        assert leaves[0][-1] < 0 < leaves[1][-1]


@pytest.mark.parametrize("larger", [2.0, 8.0])
def test_where_nobody_lacked_a_value_later_ones_that_do_go_where_more_are(larger: float) -> None:
    schema = Schema("table", "", (), {}, (Feature("a", 0, 10), Feature("y", categories=("n", "y"))))
    x = np.zeros((400, 3))
    x[:, 0] = np.concatenate([np.full(100, 10 - larger), np.full(300, larger)])
    x[:, 1:] = np.eye(2)[(x[:, 0] > 5).astype(int)]
    result, _ = fitted(boosted_of(schema, "y", trees=1, depth=1, held_out=0.0), [x])
    assert tables_of(result)["trees"][0][5] == ("right" if larger > 5 else "left")


def test_of_splits_that_are_alike_but_for_rounding_the_first_is_chosen() -> None:
    """Sums of several nodes round otherwise than sums of all: they would not agree on trees."""
    features = (Feature("a", categories=("0", "1")), Feature("b", categories=("0", "1")))
    histograms = Histograms(Schema("table", "", (), {}, features), features, 4)
    side, other = np.array([30.0, 20.0, 100.0]), np.array([-20.0, 15.0, 80.0])
    for rounding in (0.0, 1e-13, -1e-13):
        sums = np.zeros((6, 3))
        sums[0], sums[1], sums[3], sums[4] = side, other, side * (1 + rounding), other
        found = histograms.best(sums, Rule(0.3, 1.0, 10))
        assert found is not None
        assert (found.column, found.code) == (0, 2), (
            "of the first column the first level, missing values to the larger side"
        )


def test_it_ends_where_nothing_is_to_be_learned() -> None:
    schema = Schema("table", "", (), {}, (Feature("a", 0, 10), Feature("y", categories=("n", "y"))))
    draw = np.random.default_rng(1)
    x = np.concatenate([draw.uniform(0, 10, (300, 1)), np.repeat([[1.0, 0.0]], 300, axis=0)], axis=1)
    result, rounds = fitted(boosted_of(schema, "y", trees=50, held_out=0.0, penalty=0.0), [x])
    assert figures(result)["trees"] == 0
    assert rounds == 2
    assert any("no split" in note for note in result.notes)
    nobody, _ = fitted(boosted_of(schema, "y", held_out=0.0), [np.zeros((5, 3))])
    assert figures(nobody)["records left out"] == 5


@pytest.mark.parametrize("outcome", ["sex", "age"])
def test_a_vector_is_within_its_bound_whatever_trees_are_announced(outcome: str) -> None:
    model, data = boosted_of(SMALL, outcome, trees=3, depth=2, bins=4), rows(80, 3)
    reached = 0.0
    for seed in range(200):
        asked = any_asked(model, seed)
        asked[:3], asked[asked.size // 2 :][:3] = (seed % 3, seed % 2, seed % 2), 0.0  # phase, tree, level
        vectors = model.vectors(model.question(asked), data.x)
        assert np.isfinite(vectors).all()
        assert np.abs(vectors).max() <= 1
        lengths = np.linalg.norm(vectors, axis=1)
        assert lengths.max() <= model.sums.bound * (1 + 1e-12)
        reached = max(reached, lengths.max())
    assert reached > 0.8 * model.sums.bound, "a gateway that lies can make it nearly as long as is declared"


def test_noise_is_refused() -> None:
    task = task_of("boosted", Privacy(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=0.0))
    assert any(
        "noise would leave nothing" in why for why in contradictions(analysis_of(task), task.training, task.privacy)
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outcome": "smoker"}, "has 3 categories"),
        ({"outcome": "smokr"}, "did you mean 'smoker'"),
        ({"inputs": ("sex",)}, "is what is explained"),
        ({"least": 1}, "least: 1, expected 5"),
        ({"shrinkage": 0.0}, "shrinkage: 0"),
        ({"penalty": -1.0}, "penalty: -1"),
        ({"held_out": 0.9}, "held_out: 0.9"),
        ({"depth": 9}, "depth: 9"),
        ({"depth": 8, "bins": 256}, "at most 65536"),
    ],
)
def test_mistakes_are_named(options: Dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make({"kind": "boosted", "outcome": "sex", **options}, SMALL)
