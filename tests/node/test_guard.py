"""The owner's rules on disclosure: each lets pass what a count by hand allows, and refuses what is one person less."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from guarded import AGE, COST, LINEAR, SEX, STATISTICS, WARD, Node, data_of, even, tables, task_of

from orchestrator.analyses.base import Analysis, as_pairs, from_pairs
from orchestrator.analyses.blocks import RULES, Block
from orchestrator.analyses.registry import analysis_of
from orchestrator.cli.main import main
from orchestrator.data.dataset import Dataset
from orchestrator.errors import DisclosureError, UsageError
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.held import digest_of_answer
from orchestrator.node.store import NodeStore
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature
from orchestrator.wire.task import Task


def test_without_rules_all_of_it_leaves_and_nothing_is_noted(tmp_path: Path) -> None:
    node, data = Node(tmp_path), data_of([0] * 30 + [1], [0] * 31)
    np.testing.assert_array_equal(node.answer(task_of(STATISTICS), data), tables(task_of(STATISTICS), data))
    assert node.store.answered.bytes() == 0


def test_an_answer_that_breaks_nothing_is_what_it_would_be_without_rules(tmp_path: Path) -> None:
    rules: Dict[str, Any] = {"minimum_patients": 20, "minimum_cell": 5, "parameters": 0.4, "dominance": 0.5}
    node = Node(tmp_path, **rules, p_percent=10, minimum_difference=5, questions=3)
    for declared in (STATISTICS, LINEAR, {"kind": "compare", "by": "sex"}, {"kind": "pca"}):
        if declared["kind"] != "pca":
            np.testing.assert_array_equal(
                node.answer(task_of(declared), even()), tables(task_of(declared), even()), declared["kind"]
            )
    assert "disclosure.questions" in node.refusal(task_of({"kind": "pca"}), even())


def test_thirty_rows_of_four_patients_are_four(tmp_path: Path) -> None:
    node, rows = Node(tmp_path, minimum_patients=10), [i % 2 for i in range(30)]
    assert "disclosure.patients" in node.refusal(
        task_of(STATISTICS), data_of(rows, rows, patients=[i % 4 for i in rows])
    )
    node.passed(task_of(STATISTICS), data_of(rows, rows, patients=range(30)))


SMALL: Dict[str, Any] = {
    "a level": (STATISTICS, data_of([0] * 40 + [1] * 4, [i % 3 for i in range(44)])),
    "a level of ten rows of one patient": (
        STATISTICS,
        data_of([0] * 40 + [1] * 10, [i % 3 for i in range(50)], patients=[*range(40), *[99] * 10]),
    ),
    "a cell of a crosstab": (STATISTICS, data_of([0] * 20 + [1] * 20, [0] * 10 + [1] * 10 + [0] * 18 + [1] * 2)),
    "a bin": (STATISTICS, data_of([0] * 40, [0] * 40, age=[10.0] * 37 + [90.0] * 3)),
    "a group": ({"kind": "compare", "by": "sex"}, data_of([0] * 40 + [1] * 2, [0] * 42)),
    "a level of a group": (
        {"kind": "compare", "by": "sex"},
        data_of([0] * 20 + [1] * 20, [0] * 10 + [1] * 10 + [0] * 18 + [1] * 2),
    ),
    "few with a number": (STATISTICS, data_of([0] * 40, [0] * 40, age=[np.nan] * 36 + [50.0] * 4)),
    "a level in a model": (LINEAR, data_of([0] * 40 + [1] * 4, [0] * 44)),
    "the reference of a model": (LINEAR, data_of([1] * 40 + [0] * 4, [0] * 44)),
    "two levels together": (LINEAR, data_of([0] * 20 + [1] * 20, [0] * 10 + [1] * 10 + [0] * 18 + [1] * 2)),
    "two references together": (LINEAR, data_of([1] * 20 + [0] * 20, [0] * 10 + [1] * 10 + [1] * 18 + [0] * 2)),
    "the event of a model": (
        {"kind": "regression", "family": "logistic", "outcome": "sex", "inputs": ["age"]},
        data_of([0] * 40 + [1] * 4, [0] * 44),
    ),
    "a number that is one of two": ({"kind": "pca"}, data_of([0] * 40, [0] * 40, age=[0.0] * 37 + [100.0] * 3)),
    "a number that is one of three": (
        {"kind": "statistics", "bins": 1},
        data_of([0] * 40, [0] * 40, age=[0.0] * 20 + [50.0] * 17 + [90.0] * 3),
    ),
    "few that a range leaves over": (
        {"kind": "pca"},
        data_of([0] * 40, [0] * 40, age=[0.0] * 36 + [40.0, 50.0, 60.0, 100.0]),
    ),
    "a cluster": (
        {"kind": "kmeans", "clusters": 2, "start": [[10, 100], [90, 100]]},
        data_of([0] * 40, [0] * 40, age=[5.0, 6.0] * 19 + [90.0, 91.0], cost=[100.0] * 40),
    ),
    "a leaf": ({"kind": "forest", "outcome": "sex", "trees": 4, "depth": 4, "held_out": 0.0}, even()),
    "a bin of survival": ({"kind": "survival", "time": "age", "event": "sex", "steps": 50}, even()),
    "a step of a Cox model": ({"kind": "cox", "time": "age", "event": "sex", "steps": 50}, even()),
    "a bin of scores": ({"kind": "performance", "outcome": "sex", "score": "cost", "bins": 50}, even()),
    "a bin of quantiles": ({"kind": "quantiles", "columns": ["age"], "bins": 50}, even()),
}


def scored(digest: str, edge: float, data: Dataset) -> Tuple[Task, Dataset]:
    """By a model file that says 1 of who is older than `edge`, and 0 of all others."""
    model = {"file": "m.tflite", "sha256": digest * 64, "size": 9, "inputs": ("age",)}
    task = task_of({"kind": "performance", "outcome": "sex", "bins": 2, "model": model})
    return task, data._replace(x=np.column_stack([data.x, data.x[:, 0] > edge]))


def test_a_model_file_tells_few_apart_neither_alone_nor_with_another(tmp_path: Path) -> None:
    """The gateway chooses its scores: what holds for a histogram of the columns that it takes holds for those."""
    data = even()
    node = Node(tmp_path, minimum_cell=5)
    assert "disclosure.cell" in node.refusal(*scored("1", 79, data))
    node.passed(*scored("2", 50, data))
    assert "disclosure.difference" in node.refusal(*scored("3", 52, data)), "one of each sex lies between these models"
    Node(tmp_path / "free", minimum_cell=1).passed(*scored("3", 52, data))


@pytest.mark.parametrize("what", SMALL)
def test_fewer_than_the_minimum_in_a_cell_are_refused_and_as_many_are_not(tmp_path: Path, what: str) -> None:
    declared, data = SMALL[what]
    task = task_of(declared)
    assert "disclosure.cell" in Node(tmp_path, minimum_cell=5).refusal(task, data)
    Node(tmp_path, minimum_cell=1).passed(task, data)


def test_as_many_as_the_minimum_are_enough(tmp_path: Path) -> None:
    data = data_of([0] * 40 + [1] * 5, [0] * 45, age=[10.0] * 45)
    assert Node(tmp_path, minimum_cell=5).passed(task_of({"kind": "statistics", "bins": 3}), data).said == {}
    assert "5 patients, at least 6" in Node(tmp_path, minimum_cell=6).refusal(task_of(STATISTICS), data)


def test_no_value_is_made_a_missing_one(tmp_path: Path) -> None:
    """Missing values are no cells: a task that lists a diagnosis among its markers would have those with it counted."""
    task = task_of(STATISTICS)
    marked = replace(task, schema=replace(task.schema, missing_markers=("", "NA", "hiv")))
    for rule in ("minimum_cell", "minimum_model_cell"):
        rules: Dict[str, Any] = {rule: 1}
        Node(tmp_path, **rules).passed(task, even())
        assert "disclosure.cell: [disclosure] minimum_cell: 'hiv' would" in Node(tmp_path, **rules).refusal(
            marked, even()
        )
    Node(tmp_path, small_cells="leave-out", minimum_patients=5).passed(marked, even())


def test_a_model_may_have_a_minimum_of_its_own(tmp_path: Path) -> None:
    data = data_of([0] * 40 + [1] * 4, [0] * 44)
    node = Node(tmp_path, minimum_cell=5, minimum_model_cell=3)
    node.passed(task_of(LINEAR), data)
    assert "disclosure.cell" in node.refusal(task_of(STATISTICS), data)


def test_weights_that_leave_one_record_of_many_count_as_one(tmp_path: Path) -> None:
    """A gateway announces coefficients at which the information is that of the oldest alone: all others add next to nothing."""
    task = task_of({"kind": "regression", "family": "poisson", "outcome": "cost", "inputs": ["age"]})
    data = data_of([0] * 40, [0] * 40, age=[*np.linspace(20, 60, 39), 100.0])
    asked = from_pairs(analysis_of(task).begin(0))
    node = Node(tmp_path, minimum_cell=5)
    node.passed(task, data, as_pairs(asked))
    asked[0], asked[1] = -25.0, 30.0
    assert "sums of the model" in node.refusal(task, data, as_pairs(asked))


def test_sums_over_patients_are_held_to_them(tmp_path: Path) -> None:
    """In the round for clustered errors a vector is of all records of a patient."""
    task = task_of({"kind": "regression", "outcome": "cost", "inputs": ["sex"], "errors": "clustered"})
    analysis, data = analysis_of(task), even()._replace(patients=np.arange(60) // 6)
    scored = from_pairs(analysis.begin(0))
    scored[-2] = 1.0
    node = Node(tmp_path, minimum_cell=5)
    for asked in (analysis.begin(0), as_pairs(scored)):
        assert node.passed(task, data, asked).data.records == 60
    assert "disclosure.cell" in Node(tmp_path, minimum_cell=11).refusal(task, data, as_pairs(scored))


def test_models_have_no_more_parameters_than_a_share_of_the_patients(tmp_path: Path) -> None:
    task, share = task_of(LINEAR), 0.2  # intercept, age, sex, two of ward
    Node(tmp_path, parameters=share).passed(task, even(30))
    assert "5 of 24 patients" in Node(tmp_path, parameters=share).refusal(task, even(24))
    one = even(30)._replace(patients=np.arange(30) // 2)
    assert "disclosure.parameters: [disclosure] parameters: 5 of 15" in Node(tmp_path, parameters=share).refusal(
        task, one
    )


@pytest.mark.parametrize("rule", [{"dominance": 0.5}, {"p_percent": 20.0}])
def test_a_sum_that_is_mostly_one_persons_is_refused(tmp_path: Path, rule: Dict[str, Any]) -> None:
    """Of costs 10, ..., 10, 900: one part is 900 of 1,190; what is left without the two largest is 280 - 10 of 900, a third."""
    task = task_of({"kind": "pca"})
    costs = [10.0] * 29 + [900.0]
    shares = {"dominance": 900 / 1190, "p_percent": 100 * 280 / 900}
    (name, least) = next(iter(rule.items()))
    breaks = shares[name] > least if name == "dominance" else shares[name] < least
    data = data_of([0] * 30, [0] * 30, cost=costs)
    assert breaks == (name == "dominance")
    if breaks:
        assert "disclosure.dominance" in Node(tmp_path, **rule).refusal(task, data)
    else:
        Node(tmp_path, **rule).passed(task, data)
        assert "disclosure.dominance" in Node(tmp_path, p_percent=32.0).refusal(task, data)
    of_one = data._replace(patients=np.array([*range(28), 28, 28]))
    assert "disclosure.dominance" in Node(tmp_path, dominance=0.76).refusal(task, of_one)
    Node(tmp_path, dominance=0.76).passed(task, data)


def test_dominance_is_of_what_a_number_says_and_not_of_its_range(tmp_path: Path) -> None:
    wide = replace(COST, minimum=-1e6, maximum=1e6) if hasattr(COST, "minimum") else Feature("cost", -1e6, 1e6)
    task = task_of({"kind": "pca"}, (AGE, wide, SEX, WARD))
    data = data_of([0] * 30, [0] * 30, cost=[10.0] * 29 + [900.0])
    assert "disclosure.dominance" in Node(tmp_path, dominance=0.5).refusal(task, data)


def test_noise_takes_the_place_of_the_rules_where_there_is_some(tmp_path: Path) -> None:
    data = data_of([0] * 40 + [1], [0] * 41)
    node = Node(tmp_path, minimum_cell=5, small_cells="leave-out")

    def with_noise(multiplier: float) -> Task:
        task = task_of(STATISTICS)
        bound = analysis_of(task).sums.bound
        return replace(
            task,
            privacy=Privacy(
                noise_multiplier=multiplier, count_noise_multiplier=1.0, sampling_rate=1.0, clip_norm=bound
            ),
        )

    assert node.passed(with_noise(2.0), data).said == {}
    assert "disclosure.cell" in node.refusal(with_noise(0.01), data), "that is none"
    often = Node(tmp_path / "other-1", bounded=False, minimum_cell=5, small_cells="leave-out")
    assert "disclosure.cell" in often.refusal(with_noise(2.0), data), "asked a thousand times, its mean is next to none"
    often.passed(with_noise(2.0), even())
    held = Node(tmp_path / "other-2", bounded=False, hold=True)
    assert "policy.release" in held.refusal(with_noise(2.0), data)
    Node(tmp_path / "other-3", hold=True).passed(with_noise(2.0), data)


def test_what_has_a_small_cell_is_left_out_as_if_it_were_missing(tmp_path: Path) -> None:
    """Of sex and of the crosstab nothing is left; age and ward are as they are."""
    task, data = task_of(STATISTICS), data_of([0] * 40 + [1] * 4, [i % 3 for i in range(44)])
    node = Node(tmp_path, minimum_cell=5, small_cells="leave-out")
    passed, found = node.passed(task, data), node.answer(task, data)
    blind = data_of([-1] * 44, [i % 3 for i in range(44)])
    np.testing.assert_array_equal(found, tables(task, blind))
    assert passed.said == {"left_out": 2}


def test_a_crosstab_is_left_out_by_itself(tmp_path: Path) -> None:
    task, data = task_of(STATISTICS), data_of([0] * 20 + [1] * 20, [0] * 10 + [1] * 10 + [0] * 18 + [1] * 2)
    found = Node(tmp_path, minimum_cell=5, small_cells="leave-out").answer(task, data)
    whole = tables(task, data)
    np.testing.assert_array_equal(found[:-6], whole[:-6])
    assert whole[-6:].sum() == 40
    np.testing.assert_array_equal(found[-6:], np.zeros(6))


def test_what_cannot_be_left_out_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path, minimum_cell=5, small_cells="leave-out")
    few = data_of([0] * 40 + [1] * 2, [0] * 42)
    assert "groups of sex" in node.refusal(task_of({"kind": "compare", "by": "sex"}), few)
    assert "disclosure.cell" in node.refusal(task_of(LINEAR), few)


def test_tables_are_rounded_and_sums_are_not(tmp_path: Path) -> None:
    task, data = task_of(STATISTICS), data_of([0] * 27 + [1] * 16, [0] * 43)
    node = Node(tmp_path, rounding=5)
    found, whole = node.answer(task, data), tables(task, data)
    places = np.concatenate([b.at.ravel() for b in analysis_of(task).blocks(np.zeros(0)) if b.shown])
    assert (found[places] % 5 == 0).all()
    assert np.abs(found - whole)[places].max() <= 3  # 43 of 43 are 40: not more than there are
    rest = np.setdiff1d(np.arange(whole.size), places)
    np.testing.assert_array_equal(found[rest], whole[rest])
    assert node.passed(task, data).said == {"rounded": 5}
    groups = task_of({"kind": "compare", "by": "sex"})
    np.testing.assert_array_equal(
        node.answer(groups, data)[[0, 1, 2]], tables(groups, data)[[0, 1, 2]], "means are of these"
    )


def test_what_was_answered_is_known_to_the_next_process_until_its_owner_forgets_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.node.anchor import StoreAnchor
    from orchestrator.node.ledger import Ledger

    task = task_of({"kind": "pca"})
    node = Node(tmp_path, minimum_difference=5)
    Ledger(tmp_path / "ledger.sqlite", [StoreAnchor(node.store)]).close()
    node.passed(task, even())
    node.store.close()
    again = Node(tmp_path, minimum_difference=5)
    assert "disclosure.difference" in again.refusal(task, even(61))
    again.store.close()
    assert main(["node", "forget-answers", "--state", str(tmp_path)]) == 0
    assert "1 set of records" in capsys.readouterr().out
    Node(tmp_path, minimum_difference=5).passed(task, even(61))


def test_a_value_that_no_rule_is_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.analyses.statistics import Statistics

    whole = Statistics.blocks

    def lacking(self: Analysis, question: np.ndarray) -> List[Block]:
        return whole(self, question)[1:]  # type: ignore[arg-type]

    monkeypatch.setattr(Statistics, "blocks", lacking)
    assert "no rule for what this analysis sums" in Node(tmp_path, minimum_cell=2).refusal(task_of(STATISTICS), even())


def test_rules_that_cannot_be_read_let_nothing_pass(tmp_path: Path) -> None:
    def unreadable() -> Disclosure:
        raise UsageError("policy.toml: damaged")

    task = task_of(STATISTICS)
    guard = DisclosureGuard(unreadable, NodeStore(tmp_path / "node.sqlite"))
    with pytest.raises(DisclosureError) as refused:
        guard.passed("digest", task, analysis_of(task), analysis_of(task).begin(0), even())
    assert refused.value.code == "policy.unreadable"


def test_an_answer_that_is_held_leaves_as_it_was_released_and_not_otherwise(tmp_path: Path) -> None:
    task, answer = task_of(STATISTICS), tables(task_of(STATISTICS), even())
    words: Dict[str, str] = {}
    guard = DisclosureGuard(lambda: Disclosure(hold=True), NodeStore(tmp_path / "node.sqlite"), words.get)
    digest = digest_of_answer("task", answer)
    for word in ("", "denied"):
        words[digest] = word
        with pytest.raises(DisclosureError, match="hold"):
            guard.leaves("task", task, answer)
    words[digest] = "approved"
    np.testing.assert_array_equal(guard.leaves("task", task, answer), answer)
    for name, other in (("another", answer), ("task", answer + np.eye(1, answer.size)[0])):
        with pytest.raises(DisclosureError, match="hold"):
            guard.leaves(name, task, other)


def test_an_owner_who_holds_answers_gives_none_with_noise_that_is_none(tmp_path: Path) -> None:
    noise: Dict[str, Any] = {"noise_multiplier": 0.01, "count_noise_multiplier": 0.01}
    task = replace(task_of(STATISTICS), privacy=Privacy(sampling_rate=1.0, clip_norm=5.0, **noise))
    assert "policy.release" in Node(tmp_path, hold=True).refusal(task, even())


def test_every_rule_of_a_block_is_one_the_guard_knows() -> None:
    assert set(RULES) == {"cells", "sums", "products", "up to", "margins", "aside", "unused"}
