"""The owner's rules on what sums without noise tell of few people (policy.toml, [disclosure]), in the one place all of them pass.

A node sees its own records and nobody else's: the rules hold for its part of a sum, before it is masked or encrypted, as though
that part were published. What an analysis computes has no say in it: its blocks (analyses/blocks.py) name the rule of each value,
and a vector with a value that has none is refused. With noise of a multiplier of NOISE or more the rules are off, as long as it
is bounded how often that is asked, since the mean of many answers has next to none: it hides what they are about. What can be
learned from the sum of all nodes, which no node sees, is not decided here.

How many are behind a sum is (sum |a|)^2 / sum a^2 of what each person adds (Kish 1965): of a count how many are counted, and
about 1 where weights that a gateway chose leave one person of many. Two answers are compared by the records they are of, and by
cells of the same column: a record that a weight next to 0 leaves out of one of them is not seen by that.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis
from orchestrator.analyses.blocks import (
    BY_ITSELF,
    CELLS,
    LEFT_OUT,
    PRODUCTS,
    ROUNDED,
    SUMS,
    UNUSED,
    UPTO,
    Block,
    incomplete,
    parts_of,
)
from orchestrator.data.dataset import Dataset
from orchestrator.errors import DisclosureError, UsageError
from orchestrator.node.analysed import total, unit_vectors
from orchestrator.node.answered import MOST_BYTES
from orchestrator.node.between import alike, fewest_between, left_over
from orchestrator.node.disclosure import LEAVE_OUT, Disclosure
from orchestrator.node.held import digest_of_answer
from orchestrator.node.ledger import APPROVED
from orchestrator.node.seen import Division, Seen, apart_from_most, divides, levels_of, people_of, without
from orchestrator.node.store import NodeStore
from orchestrator.privacy.releases import noise_multipliers
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Task

log = logging.getLogger("edgeward.node")

NOISE = 0.5
"""Least noise multiplier that counts as noise here: with less, counts can be rounded to what they are."""

_MOST_DIVISIONS = 64
"""Ways in which an answer may divide the same records by the same columns, as trees and their levels do; all are compared."""

_CERTAIN = 1 - 1e-9
"""Of a number of people, which float64 may leave a little below a whole one."""

Rules = Callable[[], Disclosure]
Word = Callable[[str], Optional[str]]


def _silent(digest: str) -> Optional[str]:
    return None


def _bounded() -> bool:
    return True


class Broken(NamedTuple):
    """A rule that an answer would break. code: of wire/refusals.py; why: for the owner; block: what it is about, if it is one."""

    code: str
    why: str
    block: Optional[Block] = None


def _nowhere() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Passed:
    """What may be answered. data: without the columns that are left out. zero, rounded: places of what is left out by itself, and
    of tables. said: fields of the answer.
    """

    data: Dataset
    zero: np.ndarray = field(default_factory=_nowhere)
    rounded: np.ndarray = field(default_factory=_nowhere)
    multiple: int = 1
    said: Dict[str, int] = field(default_factory=dict)

    def of(self, total: np.ndarray) -> np.ndarray:
        """The sum (size,) as it may leave. What is rounded up never comes to more than there are records."""
        found = total.copy()
        most = self.data.records // self.multiple * self.multiple
        found[self.rounded] = np.minimum(np.floor(found[self.rounded] / self.multiple + 0.5) * self.multiple, most)
        found[self.zero] = 0.0
        return found


class DisclosureGuard:
    """Of one node. `rules` reads them for every answer (UsageError where it cannot); `word`: its owner's, by digest of one;
    `bounded`: whether it is bounded how often answers with noise are given.
    """

    def __init__(
        self, rules: Rules, store: NodeStore, word: Word = _silent, bounded: Callable[[], bool] = _bounded
    ) -> None:
        self._rules, self._store, self._word, self._bounded = rules, store, word, bounded

    def exact(
        self, digest: str, task: Task, analysis: Analysis, asked: np.ndarray, data: Dataset
    ) -> Tuple[np.ndarray, Dict[str, int]]:
        """(the sum (size,) of a task without noise as it may leave, fields that go with it); see `passed`."""
        passed = self.passed(digest, task, analysis, asked, data)
        vectors = unit_vectors(analysis, asked, passed.data, unit_of(task.privacy))
        return passed.of(total(vectors, analysis.sums.size)), passed.said

    def exchanged(self, digest: str, task: Task, analysis: Analysis, asked: np.ndarray, data: Dataset) -> Dataset:
        """What an exchange with neighbours may be computed from; DisclosureError as of `passed`, and where answers are held."""
        if self._read().hold:
            why = "messages to other nodes cannot wait until their owner has seen them"
            raise DisclosureError(f"[disclosure] hold: {why}", "policy.release")
        return self.passed(digest, task, analysis, asked, data).data

    def leaves(self, digest: str, task: Task, answer: np.ndarray) -> np.ndarray:
        """The answer to a task without noise; DisclosureError where it has to wait for its owner's word."""
        if self._read().hold and self._word(digest_of_answer(digest, answer)) != APPROVED:
            why = "this is not an answer that its owner released: see `edgeward node held`"
            raise DisclosureError(f"[disclosure] hold: {why}", "policy.release")
        return answer

    def scored(self, held_out: Dataset) -> None:
        """DisclosureError where a score without noise, of these records, would be of too few patients."""
        rules, patients = self._read(), len(np.unique(people_of(held_out)))
        if rules.hold:
            why = "scores of other nodes' models cannot wait until their owner has seen them"
            raise DisclosureError(f"[disclosure] hold: {why}", "policy.release")
        if patients < rules.minimum_patients:
            why = f"a score of {many(patients, 'patient')} held out, at least {rules.minimum_patients}"
            raise DisclosureError(f"[disclosure] minimum_patients: {why}", "disclosure.patients")

    def _read(self) -> Disclosure:
        try:
            return self._rules()
        except UsageError as error:
            raise DisclosureError(str(error), "policy.unreadable") from error

    def passed(self, digest: str, task: Task, analysis: Analysis, asked: np.ndarray, data: Dataset) -> Passed:
        """What may be answered from `data` where this is asked, noted as answered; DisclosureError with the rule it would break.

        digest: of the task's declaration.
        """
        rules = self._read()
        covered = noisy(task) and self._bounded()
        if rules.hold and task.privacy.on and not covered:
            why = "no [budget] epsilon_total bounds how often it is asked" if noisy(task) else "it is next to none"
            raise DisclosureError(f"[disclosure] hold: noise is another one each time, and {why}", "policy.release")
        if not rules.on or covered:
            return Passed(data)
        if analysis.probing and _guards_single_people(rules):
            why = "of what it sums, two differences that a gateway chooses may leave one person: this kind takes noise here"
            raise DisclosureError(f"[disclosure] minimum_cell: {why}", "disclosure.cell")
        blocks = analysis.blocks(analysis.question(asked))
        why = incomplete(blocks, analysis.sums.size)
        if why:
            raise DisclosureError(f"there is no rule for what this analysis sums: {why}", "internal")
        many = max(
            Counter((each.columns, each.among, each.what) for each in blocks if divides(each)).values(), default=0
        )
        if rules.minimum_cell and many > _MOST_DIVISIONS:
            why = f"{many} divisions of the same patients, of which at most {_MOST_DIVISIONS} are compared"
            raise DisclosureError(f"[disclosure] minimum_cell: {why}", "disclosure.cell")
        seen, parts = _cleared(rules, analysis, blocks, asked, data, may_leave_out=not task.privacy.on)
        self._compare(rules, digest, seen, parts)
        multiple = max(1, rules.rounding) if not task.privacy.on else 1
        zero = _places(block for block in parts if block.out == BY_ITSELF)
        # Not those that the rest is divided by, which cannot be left out either.
        tables = (block for block in blocks if block.shown and block.out is not None)
        rounded = _places(tables) if multiple > 1 else _nowhere()
        said = {LEFT_OUT: parts_of(parts)} if parts else {}
        if rounded.size:
            said[ROUNDED] = multiple
        return Passed(seen.data, zero, rounded, multiple, said)

    def _compare(self, rules: Disclosure, digest: str, seen: Seen, left_out: List[Block]) -> None:
        """Raises DisclosureError where this answer and those before tell too much together; else notes it durably."""
        if not (rules.minimum_difference or rules.questions or rules.minimum_cell):
            return
        used, answered = seen.used_lines(), self._store.answered
        summed = [used, *seen.summed_lines(but=left_out)]
        near: Set[str] = set()
        for name, before in answered.sets():
            for lines in summed:
                few = seen.patients_of(np.not_equal(*alike(lines, before, False)))
                if 0 < few < rules.minimum_difference:
                    raise _differs(f"{many(few, 'patient')} between this answer and one before it", rules)
            one, other = alike(used, before, False)
            if 2 * int((one & other).sum()) > min(int(one.sum()), int(other.sum())):
                near.update(answered.tasks(name))
        if rules.minimum_difference:
            most = rules.minimum_difference * seen.most_records
            for at, lines in enumerate(summed):
                for rest in left_over(lines, chain(summed[:at], (before for _, before in answered.sets())), most):
                    few = seen.patients_of(rest)
                    if few < rules.minimum_difference:
                        raise _differs(f"{many(few, 'patient')} between this answer and two before it", rules)
        if rules.questions and digest not in near and len(near) >= rules.questions:
            why = f"{len(near)} tasks were answered of these patients, at most {rules.questions}"
            raise DisclosureError(f"[disclosure] questions: {why}", "disclosure.questions")
        divided = seen.divisions(but=left_out) if rules.minimum_cell else []
        for at, division in enumerate(divided):
            subject = division.cells.subject
            beside = (each.cells.of_line for each in divided[:at] if each.cells.subject.meets(subject))
            for before in chain(beside, answered.cells(subject)):
                few = _between(rules, seen, division, before)
                if few:
                    least = f"at least {rules.minimum_cell}"
                    why = f"{many(few, 'patient')} between cells of this answer, or of it and one before, {least}"
                    raise DisclosureError(f"[disclosure] minimum_cell: {why}", "disclosure.difference")
        if answered.bytes() > MOST_BYTES:
            why = f"{MOST_BYTES >> 20} MiB are noted of what was answered before: see `edgeward node forget-answers`"
            raise DisclosureError(why, "disclosure.questions")
        self._store.note_answered(digest, summed, [each.cells for each in divided])


def _differs(why: str, rules: Disclosure) -> DisclosureError:
    return DisclosureError(
        f"[disclosure] minimum_difference: {why}, at least {rules.minimum_difference}", "disclosure.difference"
    )


def _guards_single_people(rules: Disclosure) -> bool:
    cells = rules.minimum_cell or rules.model_cell or rules.minimum_difference
    return bool(cells or rules.parameters or rules.dominance or rules.p_percent)


def noisy(task: Task) -> bool:
    """Whether noise that is added before anything leaves a node covers what the rules are about."""
    return task.privacy.answers_noised and min(noise_multipliers(task).values(), default=0.0) >= NOISE


def _cleared(
    rules: Disclosure, analysis: Analysis, blocks: List[Block], asked: np.ndarray, data: Dataset, may_leave_out: bool
) -> Tuple[Seen, List[Block]]:
    """(what is seen of what breaks no rule, the parts that are left out for that); DisclosureError where that cannot be."""
    parts: List[Block] = []
    while True:
        columns = [block.out for block in parts if block.out]
        seen = Seen(analysis, blocks, asked, without(data, analysis.schema, columns), bool(rules.minimum_cell))
        found = chain(_broken(rules, seen), _beside_tables(rules, seen, parts))
        broken = [each for each in found if not any(each.block is part for part in parts)]
        if not broken:
            return seen, parts
        for each in broken:
            if each.block is None or each.block.out is None or not may_leave_out or rules.small_cells != LEAVE_OUT:
                raise DisclosureError(f"[disclosure] {each.why}", each.code)
        log.warning("left out: %s", "; ".join(each.why for each in broken))
        parts += list({each.block.name: each.block for each in broken if each.block is not None}.values())


def _broken(rules: Disclosure, seen: Seen) -> Iterator[Broken]:
    """What an answer would break."""
    if seen.patients < rules.minimum_patients:
        why = f"minimum_patients: an answer of {many(seen.patients, 'patient')}, at least {rules.minimum_patients}"
        yield Broken("disclosure.patients", why)
    markers = [marker for marker in seen.schema.missing_markers if marker not in Schema.missing_markers]
    if markers and rules.model_cell:
        why = f"{', '.join(map(repr, markers))} would count as missing, of which there may be few: list what stands for no value"
        yield Broken("disclosure.cell", f"minimum_cell: {why} in the data's description, not in the task")
    for at, block in enumerate(seen.blocks):
        if block.rule == UNUSED and seen.counted[block.at.ravel()].any():
            yield Broken("internal", f"{block.name}: values that the analysis says are 0")
        for few, what in _small(rules, seen, at, block):
            why = f"minimum_cell: {what}: {few:.4g} patients, at least {_least(rules, block)}"
            yield Broken("disclosure.cell", why, block)
        if rules.parameters and block.parameters > rules.parameters * seen.patients:
            why = f"parameters: {block.parameters} of {many(seen.patients, 'patient')}, at most {rules.parameters:g} for each"
            yield Broken("disclosure.parameters", why, block)
        if block.rule == SUMS and _dominated(rules, seen, at):
            yield Broken(
                "disclosure.dominance", f"dominance: {block.name}: most of it is of one or two patients", block
            )


def _beside_tables(rules: Disclosure, seen: Seen, left_out: List[Block]) -> Iterator[Broken]:
    """Crosstabs, without those that are left out, whose margins differ in few people from cells of the same column that stay: who
    lacks the other column is the difference.
    """
    tables = [block for block in seen.blocks if block.out == BY_ITSELF]
    if not rules.minimum_cell or not tables:
        return
    stay: List[Division] = []
    for division in seen.divisions(but=left_out):
        beside = (each.cells.of_line for each in stay if each.cells.subject.meets(division.cells.subject))
        few = next(filter(None, (_between(rules, seen, division, before) for before in beside)), 0)
        table = next((each for each in tables if few and np.isin(division.block.at, each.at).any()), None)
        if table is None:
            stay.append(division)
            continue
        why = f"minimum_cell: {table.name}: {many(few, 'patient')} between it and cells of {', '.join(division.block.columns)}"
        yield Broken("disclosure.cell", f"{why}, at least {rules.minimum_cell}", table)


def _between(rules: Disclosure, seen: Seen, division: Division, before: np.ndarray) -> int:
    subject, cells = division.cells
    ways = [before]
    if subject.ordered:  # a score may fall where a number grows
        ways.append(np.where(before >= 0, before.max(initial=-1) - before, -1).astype(np.int32))
    ways = [each for each in ways if not np.array_equal(cells, each)]
    found = (fewest_between(seen, cells, each, subject.ordered, rules.minimum_cell) for each in ways)
    return next(filter(None, found), 0)


def _least(rules: Disclosure, block: Block) -> int:
    return rules.model_cell if block.rule == PRODUCTS else rules.minimum_cell


def _small(rules: Disclosure, seen: Seen, at: int, block: Block) -> Iterator[Tuple[float, str]]:
    """(how many people, in what) of the first of each sort that are some and too few."""
    least = _least(rules, block)
    if not least:
        return
    counts = (seen.counted if block.rule in (CELLS, UPTO) else seen.people)[block.at.ravel()]
    if block.rule in (CELLS, UPTO, SUMS, PRODUCTS):
        yield from _few(counts, least, block.name)
    if block.rule == UPTO:  # those that cells of other blocks add up to have as many as one of these at least
        yield from _few(seen.in_cells(at), least, block.name)
    if block.rule in (SUMS, PRODUCTS):
        for name, people in seen.within(at):
            yield from _few(people, least, f"{block.name}, {name}")
        yield from _few_by_levels(seen, block, least)


def _few(counts: np.ndarray, least: int, what: str) -> Iterator[Tuple[float, str]]:
    small = counts[(counts > 0) & (counts < least * _CERTAIN)]
    if small.size:
        yield float(small[0]), what


def _few_by_levels(seen: Seen, block: Block, least: int) -> Iterator[Tuple[float, str]]:
    """Levels of the columns that sums are of, and the first pair of them: all sums together tell how many have both."""
    for name in block.columns:
        rest = apart_from_most(seen.data, seen.schema, name) & seen.used
        yield from _few(np.array([seen.people_in(rest)]), least, f"{block.name}: {name} other than its commonest value")
    levels = [level for name in block.columns for level in levels_of(seen.data, seen.schema, name)]
    for one, other in seen.together(levels, least):
        few = seen.people_in(one.has_it & other.has_it & seen.used)
        if few < least:
            both = one.name if one is other else f"{one.name} and {other.name}"
            yield float(few), f"{block.name}: {both}"
            return


def _dominated(rules: Disclosure, seen: Seen, at: int) -> bool:
    """Whether one person's part of a sum is too large, or the two largest leave too little beside the largest."""
    whole, first, second = seen.largest(at)
    there = whole > 0
    by_one = bool(rules.dominance) & (first > rules.dominance * whole)
    by_two = bool(rules.p_percent) & (whole - first - second < rules.p_percent / 100 * first)
    return bool((there & (by_one | by_two)).any())


def _places(blocks: Iterator[Block]) -> np.ndarray:
    found = [block.at.ravel() for block in blocks]
    return np.concatenate(found) if found else np.zeros(0, np.int64)
