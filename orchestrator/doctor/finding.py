"""One finding of the doctor."""

from dataclasses import asdict, dataclass
from typing import Any, Dict

OK, WARNING, PROBLEM, NOT_CHECKED = "ok", "warning", "problem", "not checked"


@dataclass(frozen=True)
class Finding:
    """`level`: ok, warning, problem or not checked. `fix`: a command or a step; empty where nothing is wrong."""

    level: str
    check: str
    message: str
    fix: str = ""

    def as_dict(self) -> Dict[str, Any]:
        return asdict(self)
