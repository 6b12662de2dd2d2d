"""Whose model a node scores, how scores become weights, and what a node that lies about them comes to."""

from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest

from orchestrator.rounds.fuala import (
    HEAD_BELOW,
    TOLERATED,
    assigned,
    generalisation,
    kept_heads,
    models_in,
    standing_in,
)
from orchestrator.rounds.strategies import make_strategy
from orchestrator.rounds.strategy import State, Update
from orchestrator.wire.training import Training

NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("nodes", [2, 3, 4, 7])
def test_nobody_scores_itself_and_all_score_all_in_a_block(nodes: int) -> None:
    names = [f"n{i}" for i in range(nodes)]
    pairs: Counter[Tuple[str, str]] = Counter()
    for number in range(2, 2 + nodes - 1):
        whose = assigned(names, names, number, b"key")
        assert sorted(whose) == sorted(whose.values()) == names
        assert all(node != owner for node, owner in whose.items())
        assert assigned(["n0"], names, number, b"key")["n0"] == whose["n0"]  # no matter which others are asked
        pairs.update(whose.items())
    assert set(pairs.values()) == {1}
    assert len(pairs) == nodes * (nodes - 1)


def test_the_draw_takes_the_runs_secret() -> None:
    drawn = {tuple(sorted(assigned(NAMES, NAMES, 2, bytes([key])).items())) for key in range(40)}
    assert len(drawn) > 10


def test_a_node_without_a_model_scores_one_and_alone_there_is_none() -> None:
    assert assigned(["new"], NAMES, 5, b"key")["new"] in NAMES
    assert assigned(NAMES, ["a"], 5, b"key") == {}


def scores(
    of: Dict[str, float], scorers: List[str], lie: Optional[Dict[Tuple[str, str], float]] = None
) -> Dict[Tuple[str, str], float]:
    """Every scorer's patients are harder by a factor of its own."""
    hard = {node: 1 + 0.5 * place for place, node in enumerate(scorers)}
    found = {(by, owner): hard[by] * g for by in scorers for owner, g in of.items() if by != owner}
    return {**found, **(lie or {})}


def test_scores_are_relative_to_what_a_scorer_gives_and_the_median_counts() -> None:
    found = generalisation(scores({"a": 0.4, "b": 0.4, "c": 0.4, "d": 1.2}, list("abcd")))
    assert found == {"a": 1.0, "b": 1.0, "c": 1.0, "d": pytest.approx(3.0)}


@pytest.mark.parametrize("lie", [1e-9, 1e-3, 50.0])
def test_one_scorer_that_lies_moves_a_model_no_further_than_to_another_scorers_word(lie: float) -> None:
    of = {"a": 0.40, "b": 0.42, "c": 0.44, "d": 1.2, "e": 0.43}
    honest = generalisation(scores(of, NAMES))
    lied = generalisation(scores(of, NAMES, {("e", owner): lie * (1 + (owner == "a")) for owner in "abcd"}))
    for owner in "abc":
        assert lied[owner] == pytest.approx(honest[owner], rel=0.15), owner
    assert lied["d"] > 2


def test_scorers_that_are_missing_for_three_count_as_the_usual_model() -> None:
    found = generalisation(scores({"a": 0.4, "b": 0.4, "c": 0.4, "d": 1.2}, list("abc")))  # d scores nobody
    assert found == {"a": 1.0, "b": 1.0, "c": 1.0, "d": pytest.approx(3.0)}
    of = {"a": 0.40, "b": 0.42, "c": 0.41, "d": 1.2}
    two = {pair: score for pair, score in scores(of, list("abcd")).items() if pair[0] in "ab" or pair[1] == "c"}
    assert generalisation(two)["d"] == pytest.approx(generalisation(scores(of, list("abcd")))["d"], rel=0.1)
    one = {("a", "b"): 0.4, ("a", "c"): 2.0, ("a", "d"): 1e-3}  # a single scorer decides nothing
    assert generalisation(one) == {"b": 1.0, "c": 1.0, "d": 1.0}


@pytest.mark.parametrize("lie", [1e-3, 50.0])
def test_of_two_scorers_one_that_lies_moves_a_model_no_further_than_between_the_other_and_the_usual(lie: float) -> None:
    of = {"a": 0.40, "b": 0.42, "c": 0.44, "d": 1.2}
    for liar in "ab":
        given = scores(of, list("ab"), {(liar, "d"): lie, (liar, "c"): lie})
        found = generalisation(given)
        assert 0.9 < found["c"] < 1.1
        assert 1.0 <= found["d"] <= 3.0


def played(
    sharpness: float, bad: str, rounds: int = 8, names: Sequence[str] = NAMES, silent: str = "", left: int = 99
) -> Tuple[np.ndarray, State]:
    """Nodes whose updates are 1, but for `bad`, whose are -1 and whose models cost three times as much.

    silent: gives no scores. left: the last round that `bad` is in; before it, it is like the others.
    """
    strategy = make_strategy("fuala", 1.0, {"sharpness": sharpness})
    weights = np.zeros(3, np.float32)
    state: Dict[str, np.ndarray] = {}
    for number in range(1, rounds + 1):
        whose = assigned(names, models_in(state), number, b"key") if models_in(state) else {}
        given = []
        for node in names:
            if node == bad and number > left:
                continue
            owner = "" if node == silent else whose.get(node, "")
            score = (1.2 if owner == bad and (left == 99 or number > left) else 0.4) if owner else None
            delta = np.full(3, -1.0 if node == bad else 1.0, np.float32)
            given.append(Update(node, 10.0, delta, scored=owner, score=score))
        weights, new = strategy.aggregate(weights, iter(given), state)
        state = {**state, **new}
    return weights, state


def test_who_does_not_generalise_counts_for_less_and_its_head_is_not_kept() -> None:
    weights, state = played(6.0, "c")
    standing = standing_in(state)
    assert standing["c"]["score"] == pytest.approx(3.0)
    assert standing["c"]["share"] == pytest.approx((TOLERATED / 3) ** 6 / (4 + (TOLERATED / 3) ** 6))
    assert sum(each["share"] for each in standing.values()) == pytest.approx(1.0)
    assert kept_heads(state) == (["a", "b", "d", "e"], ["c"])
    assert weights[0] > 6.5 > 8 * 0.6  # of 8 rounds, 0.6 each where all count alike
    alike, _ = played(0.0, "c")
    np.testing.assert_allclose(alike, 8 * 0.6, rtol=1e-6)


@pytest.mark.parametrize("silent", ["c", "a"])
def test_of_four_one_that_withholds_its_scores_saves_no_model_and_no_head(silent: str) -> None:
    """Each other model has two scorers then: neither may c be the only one that is judged, nor may it be left alone."""
    weights, state = played(6.0, "c", names=NAMES[:4], silent=silent)
    assert standing_in(state)["c"]["score"] == pytest.approx(3.0)
    assert kept_heads(state) == (["a", "b", "d"], ["c"])
    assert standing_in(state)["c"]["share"] < 0.01
    assert weights[0] > 6.0


def test_a_head_is_judged_by_scores_that_came_when_its_node_had_left() -> None:
    """Its last model is the one that counts, and nobody scored it before the node was gone."""
    _, state = played(6.0, "c", rounds=12, left=1)
    assert kept_heads(state) == (["a", "b", "d", "e"], ["c"])


def test_small_differences_do_not_count() -> None:
    strategy = make_strategy("fuala", 1.0, {})
    pairs = [(owner, by) for owner in NAMES for by in NAMES if by != owner]
    state: State = {f"scores/{owner}/{by}": np.array([0.4 + 0.03 * NAMES.index(owner)]) for owner, by in pairs}
    given = [Update(node, 10.0 * (1 + place), np.ones(2, np.float32)) for place, node in enumerate(NAMES)]
    _, new = strategy.aggregate(np.zeros(2, np.float32), iter(given), state)
    shares = [each["share"] for each in standing_in(new).values()]
    np.testing.assert_allclose(shares, np.arange(1, 6) / 15)
    assert HEAD_BELOW > TOLERATED


def test_the_newest_scores_of_a_pair_count() -> None:
    strategy = make_strategy("fuala", 1.0, {"memory": 2})
    state: State = {}
    for score in (9.0, 9.0, 0.5, 0.7):
        given = [
            Update(node, 1.0, np.ones(2, np.float32), scored="b" if node == "a" else "", score=score) for node in NAMES
        ]
        _, new = strategy.aggregate(np.zeros(2, np.float32), iter(given), state)
        state = {**state, **new}
    assert state["scores/b/a"].tolist() == [0.5, 0.7]


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("fuala", {"memory": 1.5}),
        ("krum", {"byzantine": 1.9}),
        ("multi-krum", {"keep": 0.5}),
        ("fedbuff", {"max_staleness": 2.5}),
    ],
)
def test_half_a_round_or_node_is_refused(strategy: str, options: Dict[str, float]) -> None:
    """It counted as the whole number below: one lying node less than was asked for."""
    with pytest.raises(ValueError, match="expected a whole number"):
        make_strategy(strategy, 1.0, options)


@pytest.mark.parametrize("option", ["best", "tail_average"])
def test_heads_of_the_last_round_go_on_no_body_of_another(option: str) -> None:
    declared: Dict[str, Any] = {option: True}
    with pytest.raises(ValueError, match="best and tail_average"):
        Training("fuala", **declared)
