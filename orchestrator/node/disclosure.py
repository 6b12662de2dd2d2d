"""`[disclosure]` of policy.toml: how much of few people sums without noise may tell. What holds to it: node/guard.py."""

from dataclasses import dataclass
from typing import List

REFUSE, LEAVE_OUT = "refuse", "leave-out"


@dataclass(frozen=True)
class Disclosure:
    """`[disclosure]`: what answers of analyses without noise may not tell of few patients (node/guard.py); 0: no rule.

    All of it is of this node's own records, and counts patients where the schema names them, else records. minimum_patients: that
    an answer is of. minimum_cell: behind each count, and each sum of a number, that is not 0; also between cells of one column in
    two answers. minimum_model_cell: behind each sum that a model is computed from (0: as minimum_cell). small_cells: whether an
    answer with a smaller cell is refused, or left out where a table or a column can be. parameters: of a model, as a share of
    patients at most. dominance: share of a sum that may be one patient's at most. p_percent: what the two largest parts leave of
    a sum, in percent of the largest one, at least. minimum_difference: of the sets of patients two answers are of. questions:
    tasks answered of the same patients. rounding: counts in tables are multiples of it. hold: an answer
    leaves when its owner has released it (node/held.py), and tasks with more rounds than one are declined.
    """

    minimum_patients: int = 0
    minimum_cell: int = 0
    minimum_model_cell: int = 0
    small_cells: str = REFUSE
    parameters: float = 0.0
    dominance: float = 0.0
    p_percent: float = 0.0
    minimum_difference: int = 0
    questions: int = 0
    rounding: int = 0
    hold: bool = False

    def __post_init__(self) -> None:
        for name in _COUNTED:
            if not 0 <= getattr(self, name) <= 1_000_000_000:
                raise ValueError(f"{name}: {getattr(self, name)}, expected 0 (no rule) or more")
        if not 0 <= self.parameters <= 1 or not 0 <= self.dominance <= 1 or not 0 <= self.p_percent <= 100:
            raise ValueError("parameters and dominance: expected 0 (no rule) to 1; p_percent: 0 (no rule) to 100")
        if self.small_cells not in (REFUSE, LEAVE_OUT):
            raise ValueError(f"small_cells: {self.small_cells!r}, expected {REFUSE!r} or {LEAVE_OUT!r}")

    @property
    def on(self) -> bool:
        """Whether there is any rule."""
        return any(getattr(self, name) for name in (*_COUNTED, "parameters", "dominance", "p_percent"))

    @property
    def model_cell(self) -> int:
        """The rule for sums of models."""
        return self.minimum_model_cell or self.minimum_cell


_COUNTED = ("minimum_patients", "minimum_cell", "minimum_model_cell", "minimum_difference", "questions", "rounding")


def rules_in_words(rules: Disclosure, bounds_noise: bool) -> List[str]:
    """One line a rule, for people. bounds_noise: whether it is bounded how often answers with noise are given."""
    if not rules.on and not rules.hold:
        return ["analyses without noise: no rule on what they may tell of few patients"]
    whose = {
        "patients in an answer": rules.minimum_patients,
        "patients in a cell": rules.minimum_cell,
        "patients in a sum of a model": rules.model_cell,
        "patients between two answers": rules.minimum_difference,
    }
    lines = [f"{what}: at least {least}" for what, least in whose.items() if least]
    lines += [f"small cells: {'their table or column is left out' if rules.small_cells == LEAVE_OUT else 'refused'}"]
    lines += [f"parameters of a model: at most {rules.parameters:g} for each patient"] if rules.parameters else []
    lines += [f"a sum may be one patient's by {rules.dominance:.0%} at most"] if rules.dominance else []
    lines += (
        [f"a sum without its two largest parts: at least {rules.p_percent:g} % of the largest"]
        if rules.p_percent
        else []
    )
    lines += [f"tasks of the same patients: at most {rules.questions}"] if rules.questions else []
    lines += [f"counts in tables: rounded to multiples of {rules.rounding}"] if rules.rounding > 1 else []
    lines += ["answers wait for `edgeward node release`, and are to tasks of one round"] if rules.hold else []
    said = [f"analyses without noise: {line}" for line in lines]
    often = (
        "analyses with noise: the same rules, since without [budget] epsilon_total they are asked as often as one likes"
    )
    return said if bounds_noise else [*said, often]
