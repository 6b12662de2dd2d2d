"""Whose model a node scores, how scores become weights, and what a node that lies about them comes to."""

from collections import Counter
from typing import Dict, List, Optional, Tuple

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


def test_with_fewer_than_three_scorers_a_model_has_no_score() -> None:
    assert generalisation(scores({"a": 0.4, "b": 0.5, "c": 9.0}, list("abc"))) == {}


def played(sharpness: float, bad: str, rounds: int = 8) -> Tuple[np.ndarray, State]:
    """Five nodes whose updates are 1, but for `bad`, whose are -1 and whose models cost three times as much."""
    strategy = make_strategy("fuala", 1.0, {"sharpness": sharpness})
    weights = np.zeros(3, np.float32)
    state: Dict[str, np.ndarray] = {}
    for number in range(1, rounds + 1):
        whose = assigned(NAMES, models_in(state), number, b"key") if models_in(state) else {}
        given = []
        for node in NAMES:
            owner = whose.get(node, "")
            score = (1.2 if owner == bad else 0.4) if owner else None
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
