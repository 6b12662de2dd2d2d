"""Neighbours by codes of patients at four hospitals: how well they tell disease, and what an encrypted search for them costs.

    python benchmarks/similarity.py [--data FOLDER] [--searched 3] > benchmarks/results/similarity.md

Heart disease records. Of each hospital a third, drawn by a seed and by class, are asked about, and the others are what every
hospital's owner searches; the coder is learned from their sums alone, as nodes add them up. A patient's score is the share of
disease among its k nearest at all four hospitals, its own included; where nobody is near enough to be shown, it is the share
among those who are searched. Seconds are of CPU, in one process.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from orchestrator.analyses.base import Total
from orchestrator.analyses.codes import Coder
from orchestrator.analyses.hashing import Hashing
from orchestrator.analyses.registry import make
from orchestrator.data.dataset import Dataset
from orchestrator.gateway.analysed import deviation_of
from orchestrator.gateway.trial import planned
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.similar import Answerer, Querier
from orchestrator.privacy.similar_cells import DISTANCES, Near, Shown, cells_for, near_of, plainly_near, votes
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "analyses"))

from hospitals import SCHEMA, hospitals

SEEDS, BITS, NEAREST, WITHIN = range(5), (32, 64, 128), (3, 15), (8, 12, 16)
EPSILONS = 3.0, 1.0
OUTCOME, SHARE = "disease", 0.66
EVERYBODY = 256
NAMES = ("Cleveland", "Hungarian", "Switzerland", "VA")


class Split(NamedTuple):
    """known: records of each hospital that are searched; asked: those that are asked about."""

    known: List[Dataset]
    asked: List[Dataset]


def levels(data: Dataset) -> np.ndarray:
    return data.x[:, -2:].argmax(axis=1)


def split(data: List[Dataset], seed: int) -> Split:
    draw, known, asked = np.random.default_rng(seed), [], []
    for each in data:
        kept = np.zeros(each.records, bool)
        for level in (0, 1):
            own = draw.permutation(np.flatnonzero(levels(each) == level))
            kept[own[: round(SHARE * len(own))]] = True
        known.append(each.take(kept))
        asked.append(each.take(~kept))
    return Split(known, asked)


def learned(known: List[Dataset], bits: int, epsilon: float = 0.0) -> Coder:
    """With an epsilon from sums with as much noise as a run over four hospitals adds, for records, at delta 1e-5."""
    declared = {"kind": "hashing", "outcome": OUTCOME, "bits": bits, **({"bins": 16} if epsilon else {})}
    analysis, deviation, draw = make(declared, SCHEMA), 0.0, np.random.default_rng(bits)
    assert isinstance(analysis, Hashing)
    if epsilon:
        private = Privacy("record", epsilon=epsilon, delta=1e-5, clip_norm=0.0, sampling_rate=1.0, noise="distributed")
        four: Dict[str, Any] = {"rounds": Rounds(4, 4), "aggregation": Aggregation("masked", honest=4)}
        task = Task("coder", SCHEMA, {}, Training(rounds=2), privacy=private, analysis=declared, **four)
        deviation = deviation_of(planned(task)[0], 4)
    asked, state = analysis.begin(0), {}
    for _ in range(analysis.rounds):
        question = analysis.question(asked)
        sums = sum(analysis.vectors(question, each.x).sum(axis=0) for each in known)
        noised = sums + deviation * draw.standard_normal(analysis.sums.size)
        asked, folded = analysis.fold(asked, Total(noised, deviation))
        state.update(folded.state)
    return analysis.coder(state)


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    above = scores[truth == 1][:, np.newaxis] - scores[truth == 0]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def by_codes(coder: Coder, parts: Split, nearest: int, within: int = EVERYBODY) -> Tuple[float, float]:
    """(AUC, share of patients of whom nobody is shown)."""
    searched = [(coder.codes(each.x, SCHEMA), coder.levels(each.x)) for each in parts.known]
    usual = float(np.concatenate([found for _, found in searched]).mean())
    scores, alone, count = [], 0, 0
    for each in parts.asked:
        for code in coder.codes(each.x, SCHEMA):
            near = [plainly_near(code, codes, own, coder.classes) for codes, own in searched]
            voted = votes([cut(one, within) for one in near], coder.classes, nearest)
            scores.append(voted[0][coder.classes[1]] if voted else usual)
            alone, count = alone + (voted is None), count + 1
    return auc(np.array(scores), np.concatenate([levels(each) for each in parts.asked])), alone / count


def cut(near: Near, within: int) -> Near:
    kept = {label: {d: n for d, n in each.items() if d <= within} for label, each in near.items()}
    return {label: each for label, each in kept.items() if each}


def by_columns(parts: Split, nearest: int) -> float:
    """Euclid's distance of all columns as they are read, over their deviations; what is missing is at the mean."""
    known, asked = (np.concatenate([each.x[:, :-2] for each in some]) for some in parts)
    mean, spread = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    known, asked = (np.nan_to_num((x - mean) / np.where(spread > 0, spread, 1), nan=0.0) for x in (known, asked))
    truth, outcome = (np.concatenate([levels(each) for each in some]) for some in (parts.asked, parts.known))
    distances = ((asked[:, np.newaxis] - known) ** 2).sum(axis=2)
    scores = [outcome[np.argsort(row, kind="stable")[:nearest]].mean() for row in distances]
    return auc(np.array(scores), truth)


def searched(coder: Coder, parts: Split, within: int, patients: int, seed: int) -> Dict[str, Any]:
    """Encrypted searches of some patients of each hospital at the three others, held to the plain distances."""
    draw, random, found = np.random.default_rng(seed), SecureRandom(), {"searches": 0, "exact": 0, "hits": 0}
    spent: Dict[str, float] = dict.fromkeys(("keys", "ask", "answer", "read"), 0.0)
    sizes: List[int] = []
    shown = Shown(DISTANCES, within, 1, 1.0)
    codes = [coder.codes(each.x, SCHEMA) for each in parts.known]
    own = [coder.levels(each.x) for each in parts.known]

    def timed(step: str, call: Any, *arguments: Any) -> Any:
        start = time.process_time()
        result = call(*arguments)
        spent[step] += time.process_time() - start
        return result

    for hospital, each in enumerate(parts.asked):
        querier = timed("keys", Querier.make)
        for code in coder.codes(each.x[draw.choice(each.records, patients, replace=False)], SCHEMA):
            question = timed("ask", querier.ask, code)
            for other in range(len(parts.known)):
                if other == hospital:
                    continue
                answerer = timed("answer", Answerer, querier.public)
                asked = cells_for(own[other], coder.classes, shown, random)
                answer = timed("answer", answerer.answer, question, codes[other], asked.cells)
                sums = timed("read", querier.read, answer, coder.bits, len(asked.cells.patients))
                plain = cut(plainly_near(code, codes[other], own[other], coder.classes), within)
                near = near_of(sums, asked.groups)
                found["searches"] += 1
                found["exact"] += near == plain
                found["hits"] += sum(sum(at.values()) for at in near.values())
                sizes.append(len(answer))
        question_bytes = len(question) + len(querier.public)
    count = found["searches"]
    return {
        **found,
        "question": question_bytes,
        "bytes": float(np.mean(sizes)),
        **{step: seconds / (count if step in ("answer", "read") else count / 3) for step, seconds in spent.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--searched", type=int, default=3, help="patients of each hospital, for each seed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, _ = hospitals(arguments.data / "heart-disease", Path(folder))
    parts = [split(data, seed) for seed in SEEDS]
    coders = {bits: [learned(each.known, bits) for each in parts] for bits in BITS}
    sizes = ", ".join(f"{name} {each.records}" for name, each in zip(NAMES, parts[0].known))
    print(f"Searched in seed 0: {sizes}; asked about: {sum(each.records for each in parts[0].asked)}.\n")
    print("## How well neighbours tell disease (AUC)\n")
    print(
        f"| codes | k | {' | '.join(f'seed {seed}' for seed in SEEDS)} | mean |\n|---|---|{'---|' * (len(SEEDS) + 1)}"
    )
    for nearest in NEAREST:
        rows = {f"{bits} bits": [by_codes(c, p, nearest)[0] for c, p in zip(coders[bits], parts)] for bits in BITS}
        for epsilon in EPSILONS:
            noised = [learned(each.known, 64, epsilon) for each in parts]
            rows[f"64 bits, learned at epsilon {epsilon:g}"] = [
                by_codes(c, p, nearest)[0] for c, p in zip(noised, parts)
            ]
        rows["none: Euclid on the columns"] = [by_columns(each, nearest) for each in parts]
        for name, row in rows.items():
            print(f"| {name} | {nearest} | {' | '.join(f'{value:.3f}' for value in row)} | **{np.mean(row):.3f}** |")
    print("\n## How far an owner lets others see (64 bits, k = 3)\n")
    print("| within | AUC, mean | least of five seeds | patients nobody is shown of |\n|---|---|---|---|")
    for within in (*WITHIN, EVERYBODY):
        found = [by_codes(c, p, 3, within) for c, p in zip(coders[64], parts)]
        means, alone = np.array([each[0] for each in found]), np.mean([each[1] for each in found])
        print(f"| {within if within < EVERYBODY else 'all'} | {means.mean():.3f} | {means.min():.3f} | {alone:.1%} |")
    print("\n## The encrypted search\n")
    print("| bits | within | searches | distances exact | hits | question, bytes | answer, bytes | ", end="")
    print("keys s | ask s | answer s | read s |\n|---|---|---|---|---|---|---|---|---|---|---|")
    for bits, within, seeds in ((32, 6, 1), (64, 8, 1), (64, 12, len(SEEDS)), (64, 16, 1), (128, 24, 1)):
        each = [
            searched(coders[bits][seed], parts[seed], within, arguments.searched, seed) for seed in list(SEEDS)[:seeds]
        ]
        total = {name: int(sum(one[name] for one in each)) for name in ("searches", "exact", "hits")}
        mean = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        print(
            f"| {bits} | {within} | {total['searches']} | {total['exact']} | {total['hits']} | {mean['question']:,.0f} | "
            f"{mean['bytes']:,.0f} | {mean['keys']:.3f} | {mean['ask']:.3f} | {mean['answer']:.2f} | {mean['read']:.2f} |"
        )


if __name__ == "__main__":
    main()
