"""Rules of a board, what it does by itself about what its model says (firmware/core/rules.h), in the words of `rule set`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Sequence

from orchestrator.boards.conversation import BoardError, Conversation
from orchestrator.errors import UsageError

MOST_RULES = 8
MOST_AGREE = 1000
ACTIONS = RECORD, HOOK, LEVEL, PULSE, PWM = "record", "hook", "level", "pulse", "pwm"
_LEVELS = HIGH, LOW = "high", "low"
_WORDS = {RECORD: 6, HOOK: 6, LEVEL: 9, PULSE: 9, PWM: 11}


@dataclass(frozen=True)
class Rule:
    """number: 1 to MOST_RULES. label: a class; of a model with a threshold 1 is over it. hold_ms: how long a pulse is on, and
    level and pwm at the latest after the last window that agreed. The board says what it refuses.
    """

    number: int
    label: int
    least_of_256: int
    agree: int
    cool_ms: int
    action: str
    pin: int = 0
    active: str = HIGH
    hold_ms: int = 0
    hz: int = 0
    duty_percent: int = 0

    @property
    def has_pin(self) -> bool:
        return self.action in (LEVEL, PULSE, PWM)

    def words(self) -> str:
        """What `rule set` takes."""
        head = f"{self.number} {self.label} {self.least_of_256} {self.agree} {self.cool_ms} {self.action}"
        pin = f" {self.pin} {self.active} {self.hold_ms}" if self.has_pin else ""
        return head + pin + (f" {self.hz} {self.duty_percent}" if self.action == PWM else "")

    def as_dict(self) -> Dict[str, Any]:
        """Without what its action does not have."""
        fields = asdict(self)
        lacks = [] if self.action == PWM else ["hz", "duty_percent"]
        lacks += [] if self.has_pin else ["pin", "active", "hold_ms"]
        return {name: value for name, value in fields.items() if name not in lacks}


@dataclass(frozen=True)
class Standing:
    """A rule on a board: whether its output is on, and in how many milliseconds its cool-down is over."""

    rule: Rule
    on: bool
    ready_in_ms: int


@dataclass(frozen=True)
class Rules:
    """locked: nothing over serial changes them."""

    standing: Sequence[Standing]
    locked: bool

    def free_number(self) -> int:
        """Raises UsageError where the board has no room for another."""
        used = {each.rule.number for each in self.standing}
        for number in range(1, MOST_RULES + 1):
            if number not in used:
                return number
        raise UsageError(f"the board has {MOST_RULES} rules, as many as it can: remove one, or name the one to replace")


def parse_rule(words: str) -> Rule:
    """Of a board's list. ValueError for what no board says."""
    parts = words.split(" ")
    if len(parts) < 6 or len(parts) != _WORDS.get(parts[5]):
        raise ValueError(f"no rule: {words}")
    number, label, least_of_256, agree, cool_ms = map(int, parts[:5])
    rule = Rule(number, label, least_of_256, agree, cool_ms, action=parts[5])
    if rule.has_pin:
        if parts[7] not in _LEVELS:
            raise ValueError(f"no rule: {words}")
        rule = replace(rule, pin=int(parts[6]), active=parts[7], hold_ms=int(parts[8]))
    return replace(rule, hz=int(parts[9]), duty_percent=int(parts[10])) if rule.action == PWM else rule


def read_rules(board: Conversation) -> Rules:
    """Those of the model in use. Raises BoardError, also of firmware without rules."""
    return _asked(board, "rule list")


def set_rule(board: Conversation, rule: Rule) -> Rules:
    """Adds a rule, or replaces the one with its number; all rules afterwards. BoardError with the board's reason."""
    return _asked(board, f"rule set {rule.words()}")


def remove_rule(board: Conversation, number: int) -> Rules:
    return _asked(board, f"rule remove {number}")


def clear_rules(board: Conversation) -> Rules:
    return _asked(board, "rule clear")


def _asked(board: Conversation, command: str) -> Rules:
    fields = board.ask(command, "rules").fields
    found: List[Standing] = []
    try:
        if not len(fields["rules"]) == len(fields["on"]) == len(fields["ready_in_ms"]):
            raise ValueError("lists of several lengths")
        for words, on, ready_in_ms in zip(fields["rules"], fields["on"], fields["ready_in_ms"]):
            found.append(Standing(parse_rule(words), bool(on), ready_in_ms))
    except ValueError as error:
        raise BoardError(f"{board.port}: its rules cannot be read ({error}): is its firmware newer?") from error
    return Rules(found, fields["locked"])
