"""The page of a privacy statement that a hospital's data protection officer can read: privacy.md of every bundle."""

import math
from typing import Any, Dict

from orchestrator.analyses.registry import exchange_of
from orchestrator.privacy.scoring import score_range
from orchestrator.privacy.terms import units_of, whole
from orchestrator.wire.plain import many
from orchestrator.wire.task import Task

NOTHING = "Trained without differential privacy: updates can reveal records. Records themselves stay on the nodes."
NOTHING_ANALYSED = (
    "Computed without differential privacy: sums can reveal records, and small cells of a table do. Records themselves stay on "
    "the nodes."
)
EXCHANGED = (
    "Computed without differential privacy, by messages between nodes: each neighbour of a node in the task's graph learned up "
    "to {messages} times {what}, which are functions of that node's records and can reveal them; the gateway learned what each "
    "node came to, and sums. Records themselves stay on the nodes."
)
"""Of an analysis in which nodes send each other what they compute."""
RESULT = "result"
"""What comes of an analysis, where a task that trains has a model."""
ELSEWHERE = "What else was spent on the same records"
"""Heading of what other runs of the gateway spent: the only part of the page without a bound."""


def cross_scored_in(task: Task, run: int = 1) -> Dict[str, str]:
    """What is said of models that nodes score for each other, and to whom they go; nothing of other tasks."""
    if not task.training.cross_scored:
        return {}
    noised, multiplier = task.privacy.on, task.privacy.score_noise_multiplier
    units = units_of(task.privacy) if noised else "records"
    own = "with all of its noise" if noised else "without noise"
    noise = f", released with noise multiplier {multiplier:g}, included" if noised else ""
    text = (
        f"In each round but the first, each node was given the model that one other node had come to in the round before (what "
        f"that node had sent, {own}, added to the round's model), by chance and without its name. It gave back a score: the "
        f"mean, over the {units} it holds out, of a loss between 0 and {score_range(task):.3g}; {task.scorings * run} scores a "
        f"node{noise}. The gateway saw whose model it was. The output layers of nodes' last models are kept with the model as "
        "its heads: who has the model has them, without names."
    )
    return {"cross_scored": text}


def nothing_claimed(task: Task) -> Dict[str, Any]:
    """The statement of a task without differential privacy."""
    claim = NOTHING if task.trains else NOTHING_ANALYSED
    exchange = exchange_of(task)
    if exchange is not None:
        claim = EXCHANGED.format(messages=exchange.messages, what=exchange.what)
    return {**made_of(task), "unit": "none", "epsilon": None, "delta": None, "claim": claim, **cross_scored_in(task)}


def made_of(task: Task) -> Dict[str, Any]:
    """What a statement is of, where it is no model."""
    return {} if task.trains else {"of": RESULT}


SIMULATED = (
    "**Simulated.** All nodes ran in the one process of `edgeward simulate`, which read the records of all of them: nothing was "
    "protected from its user, and no owner was asked. The page below is what a run of the same task among real nodes would "
    "state; noise was drawn as there."
)


def markdown(said: Dict[str, Any]) -> str:
    """One page, for people, of what `statement` gave. Names no node."""
    page = _page(said)
    if not said.get("simulated"):
        return page
    title, rest = page.split("\n", 1)
    return f"{title}\n\n{SIMULATED}\n{rest}"


def _page(said: Dict[str, Any]) -> str:
    if said["unit"] == "none":
        claim = f"**No differential privacy.** {said['claim']}"
        return f"# Privacy of this {_noun(said)}\n\n{claim}\n{_scores(said)}{_elsewhere(said)}"
    noun, epsilon, delta, unit = _noun(said), said["epsilon"], said["delta"], said["unit"]
    data = _data(said)
    lines = [
        f"# Privacy of this {noun}",
        "",
        said["claim"],
        "",
        "## What is protected",
        "",
        f"{data}The unit is {whole(unit)}: everything below compares the {noun} with the one that would have been made "
        "without it.",
        "",
        "## By how much",
        "",
        f"- epsilon {epsilon:.3g} at delta {delta:g}, computed by {said['accountant']}; budget {said['epsilon_target']:g}.",
        f"- In words: whatever anyone concludes from the {noun}, they would conclude without that {unit} with a probability "
        f"that differs by a factor of at most e^epsilon = {_factor(epsilon)}, but for a remainder of {delta:g}.",
        f"- Somebody who guesses by a coin whether a given {unit} took part is right half of the time. Somebody who has the "
        f"{noun}, and knows all the rest, is right at most {100 * best_guess(epsilon, delta):.4g} % of the time.",
        f"- {_made_in(said)}{_planned(said)}.",
        "",
        "## Against whom",
        "",
        "| who | epsilon | why |",
        "|---|---|---|",
    ]
    for row in said["holds_against"]:
        value = "none" if row["epsilon"] is None else f"{row['epsilon']:.3g}"
        lines.append(f"| {row['whom']} | {value} | {row['why']} |")
    lines += [
        "",
        "## How",
        "",
        f"- {said['mechanism'][0].upper()}{said['mechanism'][1:]}.",
        f"- Noise multiplier {said['noise_multiplier']:.4g}, clip norm {said['clip_norm']:g}.",
        f"- Sampling: {said['sampling']}.",
        f"- {_beside(said)}Counts: {said['counts']}.",
        f"- Composition: {said['composition']}.",
    ]
    if "cross_scored" in said:
        lines.append(f"- Scores: {said['cross_scored']}")
    if said.get("clipped"):
        lines.append(f"- Clipping: {said['clipped']}.")
    if said["honest_survivors"]:
        lines.append(f"- {_survivors(said['honest_survivors'])}")
    if "personal" in said:
        lines.append(f"- Personal part: {said['personal']}")
    if said["local"]:
        lines.append(f"- {said['local']['text']}")
    audit = said["audit"]
    measured = (
        f"Not measured for this {noun}."
        if not audit
        else "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in sorted(audit.items())) + "."
    )
    lines += ["", "## Measured", "", measured, "", "## What is not covered", ""]
    lines += [f"- {what}" for what in said["not_covered"]]
    return "\n".join(lines) + "\n" + _elsewhere(said)


def _scores(said: Dict[str, Any]) -> str:
    return f"\n{said['cross_scored']}\n" if "cross_scored" in said else ""


def _noun(said: Dict[str, Any]) -> str:
    return str(said.get("of", "model"))


def _made_in(said: Dict[str, Any]) -> str:
    if "of" in said:
        return f"{_some(said['rounds'], 'round')} at most, one noised sum in each"
    return f"Training {said['run']}: {_some(said['rounds'], 'round')}, {_some(said['steps'], 'noised step')} in all"


def _beside(said: Dict[str, Any]) -> str:
    return "" if "of" in said else f"Standardization: {said['statistics']}. Evaluation: {said['evaluation']}. "


def _elsewhere(said: Dict[str, Any]) -> str:
    """What else of the gateway's runs was spent on the same records."""
    others = said.get("other_runs", [])
    if not others:
        return ""
    lines = ["", f"## {ELSEWHERE}", ""]
    lines.append(
        f"All of the above is of this {_noun(said)}'s run. Nodes of it were in these runs of its gateway, too; epsilons add up:"
    )
    for other in others:
        spent = "without differential privacy"
        if other["epsilon"] is not None:
            at = "" if other["delta"] is None else f" at delta {other['delta']:g}"
            spent = f"epsilon {other['epsilon']:.3g}{at} per {other['unit']}"
        state = "" if other["finished"] else ", as planned: it is not finished"
        lines.append(f"- {other['run']}: {other['nodes']} of the nodes, {spent}{state}")
    lines.append("\nRuns of other gateways are in the nodes' own ledgers.")
    return "\n".join(lines) + "\n"


def _data(said: Dict[str, Any]) -> str:
    counts = list(said["records_per_node"].values())
    if not counts:
        return ""
    if said["unit"] == "node":
        return f"{many(len(counts), 'node')}. "
    return f"About {sum(counts):,} {said['unit']}s on {many(len(counts), 'node')} (each node's number carries noise). "


def best_guess(epsilon: float, delta: float) -> float:
    """How often the best guess of whether a unit took part can be right, even odds before (Kairouz, Oh, Viswanath 2015)."""
    if epsilon > 700:
        return 1.0
    return (math.exp(epsilon) + delta) / (1 + math.exp(epsilon))


def _factor(epsilon: float) -> str:
    return f"{math.exp(epsilon):.3g}" if epsilon < 700 else "more than 1e300"


def _planned(said: Dict[str, Any]) -> str:
    runs = said["runs_planned"]
    skipped = said["rounds_skipped"]
    text = f"; the budget was planned for {runs} trainings" if runs > 1 else ""
    given_up = f"{_some(skipped, 'round')} {'was' if skipped == 1 else 'were'} given up"
    return text + (f"; {given_up}, and charged all the same" if skipped else "")


def _some(number: Any, word: str) -> str:
    """A number of a statement, which a file may hold anything in the place of: `many` is for numbers that are."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def _survivors(honest: Dict[str, Any]) -> str:
    least = honest["least_in_a_sum"]
    found = "" if least is None else f"; the smallest sum that was opened was over {least}"
    return (
        f"Secure aggregation: no sum over fewer than {honest['declared'] + honest['colluding']} nodes is opened "
        f"({honest['declared']} honest ones and {honest['colluding']} that may work with the gateway){found}."
    )
