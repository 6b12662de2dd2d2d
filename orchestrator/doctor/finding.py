"""One finding of the doctor."""

from dataclasses import asdict, dataclass
from typing import Any, Dict

from orchestrator.errors import exit_code_of

OK, WARNING, PROBLEM, NOT_CHECKED = "ok", "warning", "problem", "not checked"


@dataclass(frozen=True)
class Finding:
    """`level`: ok, warning, problem or not checked. `fix`: a command or a step; empty where nothing is wrong."""

    level: str
    check: str
    message: str
    fix: str = ""
    exit_code: int = 1
    """Of a problem: 2 where what the doctor was given is wrong, such as edgeward.toml."""

    def as_dict(self) -> Dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "exit_code"}


def problem_of(check: str, error: BaseException, fix: str) -> Finding:
    """What a command would end with."""
    return Finding(PROBLEM, check, str(error), fix, exit_code_of(error))
