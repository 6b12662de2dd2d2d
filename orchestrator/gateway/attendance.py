"""Who is here: what the presence of nodes makes happen to a run, and who is put out of it."""

import logging
from collections import Counter
from dataclasses import replace
from typing import Any, Callable, Dict, Sequence, Set, Tuple

from orchestrator.gateway.announcer import Announcer
from orchestrator.gateway.course import Course
from orchestrator.gateway.exchanged import named_in
from orchestrator.gateway.figures import Figures
from orchestrator.gateway.ledgers import CODE as LOST
from orchestrator.gateway.ledgers import LedgerWatch
from orchestrator.gateway.names import Names
from orchestrator.gateway.refused import Refused
from orchestrator.gateway.selection import Standings
from orchestrator.rounds.events import Declined, Left, Rated, Waits
from orchestrator.rounds.state import GATHERING
from orchestrator.wire.announcing import NameTaken
from orchestrator.wire.body import PRESENCE_BYTES, decode_body, encode_body
from orchestrator.wire.cbor import NARROW
from orchestrator.wire.presence import Present, RunDeclined, RunWaiting, Standing, word_on
from orchestrator.wire.refusals import code_in, text_of
from orchestrator.wire.transfer import Inbox

log = logging.getLogger("edgeward.gateway")

MOST_PASSED_OVER = 100
"""Of nodes that are named as not asked."""

MOST_DECLINED = 10
"""Times a node may decline, or give another reason, and still come back: each is two entries of the journal."""

MOST_WAITING = 100
"""Nodes of which it is known that they wait: invented names fill no journal."""

SendDown = Callable[[str, bytes], None]
"""(node, body): sends a small message to one node, once."""


class Attendance:
    """Of one run, in one gateway process."""

    def __init__(
        self,
        course: Course,
        announcer: Announcer,
        inbox: Inbox,
        refused: Refused,
        figures: Figures,
        send: SendDown,
        sites: Sequence[str] = (),
    ) -> None:
        """sites: nodes that are asked and no others; empty for all that come, or for those that the task names."""
        self.goodbyes: Set[str] = set()  # nodes that know that the run is over
        self._course, self._announcer, self._inbox = course, announcer, inbox
        self._refused, self._figures, self._send = refused, figures, send
        self._sites = frozenset(sites or named_in(course.task))
        self._passed_over: Set[str] = set()  # nodes that are here and are not asked
        self._names = Names()
        self._standings = Standings(course.task.selection)
        self.ledgers = LedgerWatch(course.store)
        self._asked_again: Set[str] = set()  # nodes that had declined before the run stopped and went on
        self._by_own_word: Set[str] = set()  # nodes that declined, and may come back as long as nodes gather
        self._declined_often: Counter[str] = Counter()
        self._waiting: Dict[
            str, Tuple[str, str]
        ] = {}  # node -> (digest of the task, code) of what its owner decides on

    def take(self, node: str, payload: bytes) -> None:
        """Acts on a presence message; WireError for one that makes no sense."""
        if self._sites and node not in self._sites:
            self._pass_over(node)
            return
        header, _ = decode_body(payload, PRESENCE_BYTES, NARROW)
        said = Present.read(header)
        kind, instance = said.kind, said.instance
        if kind == "gone":
            if self._names.left(node, instance):
                self.leave(node)
                second = self._names.waiting(node)
                if second is not None:
                    self.take(node, second)
            return
        if kind == "refused":
            code = code_in(header)
            if self._refused.says_more(node):
                self._course.tell("node_refused", node=node, code=code, reason=text_of(code))
            return
        coordinator = self._course.coordinator
        at_work = node in coordinator.cohort and node not in coordinator.arrived
        if not self._names.heard(
            node, instance, self._course.clock.monotonic(), at_work and node in coordinator.online
        ):
            self._refuse_second(node, instance, payload)
            return
        self._figures.heard(node, header.get("process"))
        self._standings.heard(node, header, self._course.clock.monotonic())
        self.rate(node)
        if kind != "health":
            self._take_word(node, header)

    def _pass_over(self, node: str) -> None:
        """Says once of each that it is not asked; of so many that invented names fill no journal."""
        if node not in self._passed_over and len(self._passed_over) < MOST_PASSED_OVER:
            self._passed_over.add(node)
            self._course.tell("passed_over", node=node)

    def _take_word(self, node: str, header: Dict[str, Any]) -> None:
        course = self._course
        header = word_on(header, course.run)
        said = Standing.read(header)
        kind, this_run = said.kind, said.run == course.run
        # What makes no sense is refused before its silence on the ledger is held against the node.
        joined = course.joining(node, header) if kind == "ready" and this_run else None
        lost = self.ledgers.objection(node, header)
        if lost:
            self._by_own_word.discard(node)
            self.decline(node, LOST, lost)
            return
        if joined is not None:
            out = node in course.coordinator.declined
            joined = replace(joined, back=out and node in self._by_own_word and course.coordinator.phase == GATHERING)
            if out and not joined.back:
                return  # it is no member: not in the journal, nor in what is said of the run's nodes and their records
            course.note_counts(joined)
            if node not in course.coordinator.online:
                course.tell("joined", node=node, records=joined.records)
            course.happen(joined)
        elif kind == "declined" and this_run:
            if course.coordinator.again and node not in self._asked_again:
                self._asked_again.add(node)  # an owner may have thought better of it
                self._announcer.task(node)
                return
            self._decline_by_own_word(node, RunDeclined.read(header).code)
        elif kind == "waiting" and this_run:
            waits = RunWaiting.read(header)
            asked, code = waits.digest, waits.code
            if self._waiting.get(node) != (asked, code):
                self._waiting[node] = asked, code
                if len(course.coordinator.waits) < MOST_WAITING and not course.coordinator.waits.get(node):
                    course.happen(Waits(course.now(), node, text_of(code)))
                if self._refused.says_more(node):
                    course.tell("waiting", node=node, code=code, digest=asked, reason=text_of(code))
        elif said.finished == course.run:
            self.goodbyes.add(node)
        elif not course.coordinator.over:
            self._announcer.task(node)

    def _decline_by_own_word(self, node: str, code: str) -> None:
        """A node that declines may come back as long as nodes gather, and may give another reason, but not for ever."""
        before, reason = self._course.coordinator.declined.get(node), text_of(code)
        if before == reason:
            return
        self._declined_often[node] += 1
        often = self._declined_often[node] > MOST_DECLINED
        if before is None and often:
            self._by_own_word.discard(node)
        elif before is None:
            self._by_own_word.add(node)
        elif often:
            return  # it is out; its reasons fill no journal
        self.decline(node, code, reason)

    def _refuse_second(self, node: str, instance: str, presence: bytes) -> None:
        """Answers a second node under a name in use; the first one hears it too, and says again that it is here."""
        new, due = self._names.hold(node, instance, presence, self._course.clock.monotonic())
        if new:
            log.error("refused a second node that calls itself %s: the first one goes on", node)
            self._course.tell("name_in_use", node=node)
        if due:
            self._send(node, encode_body(NameTaken(self._course.run, instance, self._course.now()).written()))

    def put_out(self, node: str, code: str) -> None:
        """Out of the run, by name; who was never in it is only named, so that invented names fill no journal."""
        reason = text_of(code)
        self._by_own_word.discard(node)
        log.error("%s is out of the run: %s", node, reason)
        if node in self._course.coordinator.online or node in self._course.records:
            self._forget(node)
            self.decline(node, code, reason)
        else:
            self._course.tell("declined", node=node, code=code, reason=reason)

    def decline(self, node: str, code: str, reason: str) -> None:
        if self._course.coordinator.declined.get(node) != reason:
            self._course.tell("declined", node=node, code=code, reason=reason)
            self._course.happen(Declined(self._course.now(), node, reason, code))

    def leave(self, node: str) -> None:
        self._forget(node)
        if node in self._course.coordinator.online:
            self._course.tell("left", node=node)
            self._course.happen(Left(self._course.now(), node))
        elif node in self._course.coordinator.waits:
            self._waiting.pop(node, None)
            self._course.happen(Waits(self._course.now(), node, ""))

    def _forget(self, node: str) -> None:
        self._inbox.forget(node)
        self._announcer.forget(node)

    def rate_all(self) -> None:
        """Looks for nodes that were silent for too long, where the task asks for that."""
        if self._course.task.selection.seen_within_s:
            for node in sorted(self._course.coordinator.online):
                self.rate(node)

    def rate(self, node: str) -> None:
        """Tells the coordinator when a node begins or ceases to fit the task's selection."""
        objection = self._standings.objection(node, self._course.clock.monotonic())
        before = self._course.coordinator.objections.get(node, "")
        # Figures in an objection move all the time; the journal needs the change, not every degree.
        if bool(objection) != bool(before):
            self._course.tell("rated", node=node, objection=objection)
            self._course.happen(Rated(self._course.now(), node, objection))
