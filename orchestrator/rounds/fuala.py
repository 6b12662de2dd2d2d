"""FUALA: updates are scored on other hospitals' held-out records, and count by how well they generalise.

After Boughorbel et al. 2019 (arXiv 1910.12191): in each round a node gets, beside the model, the model one other node came to
before, and says how well that one does on records of its own. Their exact weights were not readable to us. What follows is our
definition.

Who scores whom: a random derangement in every round (`assigned`). Orders and shifts are drawn in blocks of as many rounds as a
node has others, so that in each block every node scores every other one once.

A node's score of a model is its mean loss over the node's held-out records, each cut to a range that the task fixes (privacy/
scoring.py). What is remembered of a pair is the mean of its newest `memory` scores. Some nodes' patients are harder than others'
for any model, so scores are divided by the median of those their scorer gave. g of a model is the median of that over its
scorers: with three or more of them a single one that lies decides nothing, it can only be between two that do not. Those that are
missing for three count as 1, the usual model: so one that withholds its scores decides no more than one that lies. Then

    weight of k = n_k / max(g_k / TOLERATED, 1) ** sharpness,     n_k: its records

so that hospitals that do not differ much count as in FedAvg: on a few dozen held-out records a small difference, and any
advantage, is chance for the most part.

The head of a model whose g is above HEAD_BELOW is not among those that are kept: the mean over heads is a plain one.
"""

import hashlib
from typing import Dict, Iterable, List, Mapping, Tuple

import numpy as np

from orchestrator.rounds.strategy import (
    Begun,
    NodeHalf,
    State,
    Update,
    WeightsOnly,
    option,
    stacked,
    step,
    whole_option,
)

OWN = "model"
"""Name of the model a node came to last, as it was released."""

LEAST_NODES = 4
"""Of which each has three others: the fewest scorers of which one is out of the way of the median."""

FIRST = 2
"""The first round in which there are models to score: those of round 1."""

LEAST_SCORERS = 3
LEAST_SCORE = 1e-3

TOLERATED = 1.2
"""Of a median model's score: up to it honest hospitals' models differ by chance, and by how unlike their patients are."""

HEAD_BELOW = 1.5
"""Of a median model's score. On four hospitals honest models had up to 1.3, those of one with flipped labels 1.7 to 4."""

_LAST, _SCORES, _SCORE, _SHARE = "last/", "scores/", "score/", "share/"


def assigned(nodes: Iterable[str], owners: Iterable[str], number: int, key: bytes) -> Dict[str, str]:
    """node -> whose model it scores in round `number`: never its own. Empty while fewer than two have a model.

    A derangement of the owners; nodes that have no model yet score one by chance. key: a secret of the run's.
    """
    known = sorted(owners)
    if len(known) < 2:
        return {}
    block, turn = divmod(max(0, number - FIRST), len(known) - 1)

    def drawn(*what: object) -> bytes:
        return hashlib.sha256(key + repr((block, *what)).encode()).digest()

    order = sorted(known, key=lambda node: drawn("place", node))
    shift = sorted(range(1, len(known)), key=lambda by: drawn("shift", by))[turn]
    found = {node: order[(place + shift) % len(order)] for place, node in enumerate(order)}
    for node in set(nodes) - set(known):
        found[node] = known[int.from_bytes(drawn("new", node, number)[:8], "big") % len(known)]
    return found


def models_in(state: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """node -> float32 (P,): the model it came to last, as released."""
    return {name[len(_LAST) :]: vector for name, vector in state.items() if name.startswith(_LAST)}


def standing_in(state: Mapping[str, np.ndarray]) -> Dict[str, Dict[str, float]]:
    """node -> {score: g, share: of the last round it was in}, of those in the newest round that was aggregated."""
    shares = {name[len(_SHARE) :]: float(value[0]) for name, value in state.items() if name.startswith(_SHARE)}
    return {node: {"score": float(state[_SCORE + node][0]), "share": share} for node, share in sorted(shares.items())}


def kept_heads(state: Mapping[str, np.ndarray]) -> Tuple[List[str], List[str]]:
    """(nodes whose heads are kept, nodes whose models did not generalise), by name."""
    standing = standing_in(state)
    kept = [node for node in sorted(models_in(state)) if standing[node]["score"] <= HEAD_BELOW]
    return kept, sorted(set(models_in(state)) - set(kept))


def generalisation(scores: Mapping[Tuple[str, str], float]) -> Dict[str, float]:
    """model's node -> g, from (scorer, model's node) -> score; scorers that are missing for three count as 1."""
    given: Dict[str, Dict[str, float]] = {}
    for (scorer, owner), score in scores.items():
        given.setdefault(scorer, {})[owner] = max(score, LEAST_SCORE)
    votes: Dict[str, List[float]] = {}
    for of in given.values():
        if len(of) < 2:  # nothing to compare it with
            continue
        usual = float(np.median(list(of.values())))
        for owner, score in of.items():
            votes.setdefault(owner, []).append(score / usual)
    return {owner: float(np.median([*each, *[1.0] * (LEAST_SCORERS - len(each))])) for owner, each in votes.items()}


class Known(NodeHalf):
    """A node knows its own last model when it meets it again: it scores others' only (node/scoring.py)."""

    keeps = True

    def after(self, begun: Begun, sent: np.ndarray, travel: float) -> Dict[str, np.ndarray]:
        return {OWN: (begun.tensors["weights"] + sent).astype(np.float32)}


class Fuala(WeightsOnly):
    OPTIONS: Tuple[str, ...] = ("sharpness", "memory")
    AtNode = Known
    least_updates = 3
    takes_mean = True

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        self.server_learning_rate = server_learning_rate
        self.sharpness = option(options, "sharpness", 6.0, 0.0, 16.0)
        self.memory = whole_option(options, "memory", 10, 1, 1000)

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update], state: State) -> Tuple[np.ndarray, State]:
        given = list(updates)
        nodes, deltas = stacked(given)
        new: State = {}
        for update in given:
            if update.score is not None and update.scored:
                name = f"{_SCORES}{update.scored}/{update.node}"
                before = state.get(name, np.zeros(0))
                new[name] = np.append(before, update.score)[-self.memory :]
        found = generalisation(_means({**state, **new}))
        scores = {node: found.get(node, 1.0) for node in {*models_in(state), *nodes}}
        excess = np.maximum(np.array([scores[node] for node in nodes]), TOLERATED)
        counts = np.array([update.weight for update in given]) * (TOLERATED / excess) ** self.sharpness
        if not counts.sum() > 0:
            raise ValueError("no update with a positive weight")
        shares = counts / counts.sum()
        for node, delta, share in zip(nodes, deltas, shares):
            new[_LAST + node] = (weights + delta).astype(np.float32)
            new[_SHARE + node] = np.array([share])
        # Also of those that are not in this round: their models are scored on, and their heads may be kept.
        new.update({_SCORE + node: np.array([score]) for node, score in scores.items()})
        return step(weights, shares @ deltas.astype(np.float64), self.server_learning_rate), new


def _means(state: Mapping[str, np.ndarray]) -> Dict[Tuple[str, str], float]:
    found = {}
    for name, scores in state.items():
        if name.startswith(_SCORES):
            owner, scorer = name[len(_SCORES) :].split("/")
            found[scorer, owner] = float(np.mean(scores))
    return found
