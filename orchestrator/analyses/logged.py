"""A policy found from decisions that were made: which of some actions to take, by what was known of each person.

The policy takes an action with the probability that a softmax of weights times inputs gives it. What it is worth is estimated
from what was done: each outcome counts as many times more, or less, as the policy would have done the same more often (inverse
propensity weighting, Horvitz and Thompson 1952; shares of the sum of weights, Swaminathan and Joachims 2015; weights cut at a
largest one, Ionides 2008). Of an episode, a patient's records, the factors of all decisions multiply (Precup et al. 2000).
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Cell, Result, State, Table, interval
from orchestrator.analyses.evolution import HIDDEN, Evolution, Worth, objections_to_search
from orchestrator.analyses.inputs import Inputs, columns_of, in_units, number_of
from orchestrator.wire.bounds import near, refuse, within
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema

_LEAST_PROPENSITY = 1e-3
_MOST_EXPONENT = 50.0
_LONGEST = 20.0
"""Of the logarithm of one decision's factor: what is beyond counts as that."""


@dataclass(frozen=True)
class LoggedOptions:
    """Of kind "policy"."""

    action: str  # column of what was done, with categories [a column]
    reward: str  # column of what came of it, a number: more is better [a column]
    # column with the probability that what was done would be done, as it was then; left out: all actions were as likely, as where
    # lots were drawn [a column, or empty]
    propensity: str = ""
    lower_is_better: bool = False  # whether less of the reward is better [true, false]
    # whether all records of a patient are one episode, worth their mean reward [true, false]
    episodes: bool = False
    most_weight: float = 20.0  # no record or episode counts more; of a trial, than there are actions [1 to 1000]
    inputs: Tuple[str, ...] = ()  # columns the policy sees; left out: all others [columns]
    rounds: int = 40  # of the search [1 to 1000]
    pairs: int = 12  # of policies that are compared in a round [1 to 1024]
    spread: float = 0.3  # how far these are from the weights, in deviations of a step [0.001 to 10]
    rate: float = 20.0  # how far weights move along a slope of 1 [0 to 10000]
    # weights to begin with, in the order of the result; left out: 0, all actions as likely [-100 to 100 each]
    start: Tuple[float, ...] = ()

    def __post_init__(self) -> None:
        refuse([*objections_to_search(self), *within("most_weight", self.most_weight, 1.0, 1000.0)])


class LoggedPolicy(Evolution):
    """Measured, with w what a record counts over `most_weight`, r its reward, 0 to 1, d = r - against: w r, w, w^2, (w d)^2, r.

    Ends of steps are worth w (r - against): differences of these, over the sum of w, are those of the estimate to first order.
    """

    Options = LoggedOptions
    measures = 5

    def __init__(self, schema: Schema, options: LoggedOptions) -> None:
        apart = (options.action, options.reward, options.propensity)
        self._inputs = Inputs(schema, options.inputs, apart, intercept=True)
        self._by_name = {feature.name: feature for feature in schema.features}
        self._action = self._by_name.get(options.action, Feature("", categories=("", "-")))
        self.spare = options.pairs if options.episodes else 0
        # Of a trial nothing can count more than there are actions.
        trial = not options.propensity and not options.episodes
        self.unit = min(options.most_weight, float(len(self._action.categories))) if trial else options.most_weight
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """Actions are levels, rewards numbers, propensities within 0 and 1."""
        options: LoggedOptions = self.options
        if options.action not in self._by_name:
            yield f"action: no column {options.action!r} in the schema{near(options.action, self._by_name)}"
        elif not self._action.categories:
            yield f"action: {options.action!r} is a number, expected categories"
        reward, why = number_of("reward", options.reward, self.schema)
        if why:
            yield why
        elif reward is not None and reward.transform:
            yield f"reward: {options.reward!r} has a transform; leave it out"
        if options.propensity:
            found, why = number_of("propensity", options.propensity, self.schema)
            if why:
                yield why
            elif found is not None and (found.transform or found.range[0] < 0 or found.range[1] > 1):
                yield f"propensity: {options.propensity!r} must be within 0 and 1, and have no transform"
        if options.episodes and not self.schema.patient:
            yield "episodes: the schema does not say whose a record is: [task.schema] patient = COLUMN"
        yield from self._inputs.objections()
        yield from super().objections()

    @property
    def names(self) -> Sequence[Tuple[str, ...]]:
        """Of each action but the first an input each."""
        terms = [term.name for term in self._inputs.terms]
        return [(level, name) for level in self._action.categories[1:] for name in terms]

    @property
    def read(self) -> Tuple[str, ...]:
        """Inputs, action, reward and propensity."""
        named = [feature.name for feature in self._inputs.features]
        return tuple(
            name for name in (*named, self.options.action, self.options.reward, self.options.propensity) if name
        )

    def of_patients(self, question: np.ndarray) -> bool:
        """Episodes are, whatever privacy is of."""
        return bool(self.options.episodes)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class. Of a record in an episode, for `joined`: logarithms of factors, the reward, and whether it is used."""
        if not self.options.episodes:
            return super().vectors(question, x)
        factors, reward, used = self._decisions(self.policies(question), x)
        found = np.zeros((len(x), self.sums.size))
        found[:, : factors.shape[1]] = np.where(used[:, np.newaxis], factors / _LONGEST, 0.0)
        found[:, factors.shape[1]] = np.where(used, reward, 0.0)
        found[:, -2], found[:, -1] = used, ~used
        return found

    def joined(self, question: np.ndarray, summed: np.ndarray, records: int) -> np.ndarray:
        """Of an episode: factors of its decisions multiply, and it is left out where one of them is."""
        if not self.options.episodes:
            return super().joined(question, summed, records)
        policies = 2 * self.options.pairs + 1
        used = np.array([summed[-1] == 0])
        factors = _LONGEST * summed[np.newaxis, :policies]
        reward = np.clip(summed[policies : policies + 1] / records, 0.0, 1.0)
        worth, pairs = self._worth(factors, reward, float(question[-1]), used), self.options.pairs
        return self.assembled(worth.ends[:, :pairs] - worth.ends[:, pairs:], worth.measured, worth.used)[0]

    def worth(self, policies: np.ndarray, against: float, x: np.ndarray) -> Worth:
        """See the class."""
        factors, reward, used = self._decisions(policies, x)
        return self._worth(factors, reward, against, used)

    def _decisions(self, policies: np.ndarray, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(logarithms of how much more often each policy would do the same (n, policies), rewards (n,), which lack nothing)."""
        options: LoggedOptions = self.options
        inputs, used = self._inputs.read(x)
        columns = columns_of(x, self.schema)
        action = columns[options.action]
        used &= action.sum(axis=1) > 0.5
        reward = (columns[options.reward][:, 0] + 1) / 2
        reward = 1 - reward if options.lower_is_better else reward
        likely = np.full(len(x), 1.0 / action.shape[1])
        if options.propensity:
            likely = in_units(columns[options.propensity], self._by_name[options.propensity])
        used &= ~np.isnan(reward) & ~np.isnan(likely)
        chosen = np.argmax(action, axis=1)
        before = np.log(np.maximum(np.where(used, likely, 1.0), _LEAST_PROPENSITY))
        factors = [self._logarithm(policy, inputs, chosen) - before for policy in policies]
        return np.clip(np.stack(factors, axis=1), -_LONGEST, _LONGEST), np.where(used, reward, 0.0), used

    def _logarithm(self, policy: np.ndarray, inputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """float64 (n,): of the probability that the policy takes the action that was chosen."""
        scores = np.zeros((len(inputs), len(self._action.categories)))
        scores[:, 1:] = inputs @ policy.reshape(-1, inputs.shape[1]).T
        scores = np.clip(scores, -_MOST_EXPONENT, _MOST_EXPONENT)
        own = scores[np.arange(len(scores)), chosen]
        return np.asarray(own - np.log(np.exp(scores).sum(axis=1)))

    def _worth(self, factors: np.ndarray, reward: np.ndarray, against: float, used: np.ndarray) -> Worth:
        most = self.unit
        counts = np.minimum(np.exp(np.minimum(factors, math.log(most))) / most, 1.0)
        apart = counts * (reward - against)[:, np.newaxis]
        own = counts[:, -1]
        measured = np.stack([own * reward, own, own**2, apart[:, -1] ** 2, reward], axis=1)
        return Worth(apart[:, :-1], measured, used)

    def compared_with(self, measured: np.ndarray, people: float, noise: float) -> float:
        """What the policy is worth, or, where noise hides that, the mean reward: it changes no difference that is expected."""
        part, whole = (measured[0], measured[1]) if self._seen(measured, noise) else (measured[4], people)
        return min(1.0, max(0.0, float(part / whole)))

    def reached(self, measured: np.ndarray, people: float, noise: float) -> Optional[float]:
        """In the units of the reward."""
        seen = self._seen(measured, noise)
        return self._in_units(self.compared_with(measured, people, noise)) if seen else None

    @staticmethod
    def _seen(measured: np.ndarray, noise: float) -> bool:
        return bool(measured[1] > 0 and interval(noise) <= HIDDEN * measured[1])

    def _in_units(self, worth: float) -> float:
        low, high = self._by_name[self.options.reward].range
        return high - (high - low) * worth if self.options.lower_is_better else low + (high - low) * worth

    def result(self, state: State, units: str) -> Result:
        """Tables "worth" and "policy": what the last round measured, of the weights it measured."""
        total, noise = state["total"], float(state["deviation"][0])
        people = float(total[-2])
        measured = total[-7:-2]
        _, counts, squares, apart, rewards = map(float, measured)
        rows: List[Tuple[Cell, ...]] = []
        hides = interval(noise)
        if people > 0 and hides <= HIDDEN * people:
            done: Tuple[Cell, ...] = ("as it was done", self._in_units(rewards / people), None, None, _whole(people))
            rows.append(done)
        if self._seen(measured, noise) and squares > 0 and hides <= HIDDEN * squares:
            worth = self.compared_with(measured, people, noise)
            half = interval(math.sqrt(max(0.0, apart) + 2 * noise**2) / counts)
            ends = sorted((self._in_units(max(0.0, worth - half)), self._in_units(min(1.0, worth + half))))
            rows.insert(0, ("policy", self._in_units(worth), *ends, counts**2 / squares))
        heads = ("of", self.options.reward, "from", "to", f"as if over so many {units}")
        policy: List[Tuple[Cell, ...]] = [
            (*names, float(weight)) for names, weight in zip(self.names, state["weights"])
        ]
        tables = [Table("worth", heads, rows), Table("policy", (self.options.action, "input", "weight"), policy)]
        return Result(tables, list(self._notes(state, noise, units)))

    def _notes(self, state: State, noise: float, units: str) -> Iterator[str]:
        options: LoggedOptions = self.options
        people, left_out = float(state["total"][-2]), float(state["total"][-1])
        what = "patients, an episode each" if options.episodes else units
        yield (
            f"of {what}, {people:.6g}; an estimate from what was done: it holds where the inputs have all that both action and "
            "outcome hang on, and each action was possible for everybody. It is no trial, and no advice for a patient"
        )
        yield (
            "the policy was chosen on the records it is measured on, so it looks better than it is; nothing counts more than "
            f"{self.unit:g} times, which pulls it towards what was done"
        )
        first = self._action.categories[0]
        yield (
            f"probabilities of actions go as exp(z), z the sum of weight times input, 0 for {first!r}: a number over [-1, 1] of "
            "its range, a level 0 or 1"
        )
        if not options.propensity:
            yield "each action is taken to have been as likely as the others"
        if left_out > interval(noise):
            yield f"{left_out:.6g} {what} that lack a value were left out"
        if noise:
            yield f"every sum carries noise: with 95 % it is within {interval(noise):.3g}; so do the weights, from every round"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is computed, and from what."""
        options: LoggedOptions = self.options
        over = ", a patient's records as one episode" if options.episodes else ""
        return [
            f"which {quoted(options.action)} to choose for a better {quoted(options.reward)}, by an evolution strategy on what "
            f"was done{over}: of {2 * options.pairs + 1} policies of {many(len(self.names), 'weight')}, in "
            f"{many(options.rounds, 'round')}"
        ]


def _whole(value: float) -> Cell:
    return int(value) if value.is_integer() else value
