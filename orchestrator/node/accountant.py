"""The node's own accountant: epsilon of what its ledger holds, by dp-accounting, in a process of its own.

It and SciPy take about 115 MiB for a few seconds; the agent never imports them. `main` answers
one JSON question on stdin with one JSON object on stdout.
"""

import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.node.reservation import OLD_SIDES, Reservation
from orchestrator.privacy.charges import Charge, epsilon_at
from orchestrator.privacy.closeness import Correction, correction
from orchestrator.wire.json_text import from_json
from orchestrator.wire.plain import plain
from orchestrator.wire.process import ends_with, own_program

INSTALL = (
    "pip install dp-accounting"
    if sys.version_info >= (3, 9)
    else "pip install scipy mpmath absl-py dm-tree && pip install --no-deps dp-accounting==0.4.0"
)
"""0.4.0 is the last that runs on Python 3.8; it pins older packages than it needs."""

LIMIT_S = 300.0
_MOST_CPU_S, _MOST_BYTES = 40, 2 << 30
"""A declaration can be made to take for ever, or all of a machine's memory: a gateway chooses rounds and rates."""

_MOST_SIDES = 64
_DISCRETIZATION = 1e-3
"""Coarser than the gateway's: it overstates epsilon a little, and a node's processor is slow."""


def available() -> bool:
    return importlib.util.find_spec("dp_accounting") is not None


def epsilon_apart(reservations: Sequence[Reservation], delta: float) -> float:
    """Epsilon at `delta` of all these runs together for the record that is worst off; inf where something has no noise.

    Units are added up whatever a task calls them, so that no mix of them is spent beside another. Raises PrivacyError
    without dp-accounting.
    """
    return epsilons_apart([reservations], delta)[0]


def epsilons_apart(sets: Iterable[Sequence[Reservation]], delta: float) -> List[float]:
    """epsilon_apart of each of `sets`, with one process for all."""
    cases = [[[c.to_dict() for c in charges] for charges in sides_of(reservations)] for reservations in sets]
    if not any(case for of_set in cases for case in of_set):
        return [0.0 for _ in cases]
    if not available():
        raise PrivacyError(f"dp-accounting is not installed here, so nothing can be counted: {INSTALL}")
    question = json.dumps({"cases": cases, "delta": delta})
    try:
        done = subprocess.run(
            own_program("orchestrator.node.accountant"),
            input=question,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            preexec_fn=ends_with(os.getpid()),
        )
    except subprocess.TimeoutExpired:
        raise PrivacyError(
            f"counting epsilon took longer than {LIMIT_S:g} s: the declaration is too large, or the machine too busy"
        ) from None
    except (OSError, subprocess.SubprocessError) as error:  # no further process, or no memory for one
        raise PrivacyError(f"this machine cannot start the accountant now: {plain(error, 200)}") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        why = last or f"it was ended by signal {-done.returncode}, by its own limits of memory and time or from outside"
        raise PrivacyError(f"the accountant failed: {plain(why)}")
    try:
        epsilons = [float(value) for value in from_json(done.stdout, finite=False)["epsilons"]]
    except (ValueError, KeyError, TypeError) as error:
        raise PrivacyError(f"the accountant's answer cannot be read: {plain(error, 200)}") from error
    if len(epsilons) != len(cases) or any(math.isnan(value) or value < 0 for value in epsilons):
        raise PrivacyError("the accountant's answer is not one epsilon for each question")
    return epsilons


def sides_of(reservations: Sequence[Reservation]) -> List[Tuple[Charge, ...]]:
    """What a record may have been part of, one list for each place it may have between trained and held out.

    A record is held out of a run when its hash is below the run's share, and runs with the same `sides` hash alike. So for each
    of those hashes there are as many places as there are shares. Beyond 64 places, one list with both sides of everything.
    """
    shares: Dict[str, Set[float]] = {}
    whole = [r.sides for r in reservations if len(r.sides) > OLD_SIDES]
    # A reservation of an earlier version splits like the first whose digest begins so: with no two of them at once.
    begun = {sides[:OLD_SIDES]: sides for sides in reversed(whole)}
    reservations = [replace(r, sides=begun.get(r.sides, r.sides)) for r in reservations]
    for reservation in reservations:
        shares.setdefault(reservation.sides, {0.0}).add(reservation.share)
    names = sorted(shares)
    places = [sorted(shares[name]) for name in names]
    if _product(len(p) for p in places) > _MOST_SIDES:
        return [_merged(c for r in reservations for c in r.counted)]
    found = []
    for place in itertools.product(*places):
        at = dict(zip(names, place))
        found.append(_merged(c for r in reservations for c in r.counted if _meets(r, c, at[r.sides])))
    return sorted(set(found), key=str)


def _meets(reservation: Reservation, charge: Charge, hashed: float) -> bool:
    """Whether a record whose hash is `hashed` is of the charge's group. Without within-node units all are "trained"."""
    if reservation.unit == "node":
        return True
    return (charge.group == "held-out") == (hashed < reservation.share)


def _merged(charges: Iterable[Charge]) -> Tuple[Charge, ...]:
    """One charge for each mechanism, all of one group: what is listed here falls on one record."""
    counts: Counter[Charge] = Counter()
    for charge in charges:
        counts[replace(charge, kind="training", group="trained", count=0)] += charge.count
    merged = (replace(charge, count=count) for charge, count in counts.items() if count)
    return tuple(sorted(merged, key=lambda c: (c.noise_multiplier, c.sampling_rate)))


def _product(numbers: Iterable[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


def epsilon_of(charges: Sequence[Charge], delta: float) -> float:
    """With what the grids of whole numbers give away beyond Gaussian noise (privacy/closeness.py), as the gateway states it."""
    eta = extra = 0.0
    for charge in charges:
        if charge.grid is not None and charge.noise_multiplier > 0:
            mechanism, std, _, parties, values = charge.grid
            one = correction(mechanism, std, parties, values * charge.count, log10_delta=-40)
            eta, extra = eta + one.eta, math.exp(one.eta) * extra + one.delta
    return Correction(eta, extra, math.nan).epsilon(epsilon_at(charges, _DISCRETIZATION), delta)


def _confine() -> None:
    """Limits this process: what a declaration asks it to count may have been chosen to be too much."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_CPU_S, _MOST_CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))


def answer(question: Dict[str, Any]) -> Dict[str, Any]:
    delta, cache = question["delta"], {}
    epsilons = []
    for of_set in question["cases"]:
        worst = 0.0
        for case in of_set:
            key = json.dumps(case)
            if key not in cache:
                cache[key] = epsilon_of([Charge.from_dict(c) for c in case], delta)
            worst = math.inf if math.isnan(cache[key]) else max(worst, cache[key])  # max() passes over a NaN
        epsilons.append(worst)
    return {"epsilons": epsilons}


def main() -> None:
    _confine()
    print(json.dumps(answer(json.load(sys.stdin))))
