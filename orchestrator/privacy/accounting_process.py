"""The accountant in a process of its own: it and SciPy would double the gateway's memory.

`python -m orchestrator.privacy.accounting_process` answers one JSON question on stdin with one JSON object on stdout.
"""

import json
import subprocess
import sys
from typing import Any, Dict, Optional, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.wire.task import Task, task_from_dict, task_to_dict


def plan_apart(task: Task) -> Tuple[Task, Optional[float]]:
    """(task with its noise planned, epsilon all its runs spend).

    Raises PrivacyError when the budget cannot be met, or when a fleet of rounds.nodes nodes cannot learn under it.
    """
    if not task.privacy.on:
        return task, None
    answer = _ask({"question": "plan", "task": task_to_dict(task)})
    return task_from_dict(answer["task"]), answer["epsilon"]


def statement_apart(
    task: Task, records: Dict[str, int], run: int = 1, observed: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    """statement.statement"""
    return _ask(
        {"question": "statement", "task": task_to_dict(task), "records": records, "run": run, "observed": observed}
    )


def curve_apart(task: Task, records: Dict[str, int], run: int = 1) -> Dict[str, Any]:
    """{points: accounting.epsilon_by_round, statement: statement.statement} of a task that declares its noise."""
    return _ask({"question": "curve", "task": task_to_dict(task), "records": records, "run": run})


def _ask(question: Dict[str, Any]) -> Dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", __name__], input=json.dumps(question), capture_output=True, text=True)
    if done.returncode != 0:
        raise PrivacyError(f"the accountant failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    answer: Dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise PrivacyError(answer["error"])
    return answer


def _answer(question: Dict[str, Any]) -> Dict[str, Any]:
    from orchestrator.privacy.accounting import epsilon_by_round
    from orchestrator.privacy.statement import statement

    task = task_from_dict(question["task"])
    if question["question"] == "statement":
        return statement(task, question["records"], question["run"], question["observed"])
    if question["question"] == "curve":
        points = epsilon_by_round(task, question["run"])
        return {"points": points, "statement": statement(task, question["records"], question["run"])}
    planned, spent = _plan(task)
    return {"task": task_to_dict(planned), "epsilon": spent}


def _plan(task: Task) -> Tuple[Task, float]:
    from orchestrator.privacy.accounting import plan_noise
    from orchestrator.privacy.planning import budget_spent, refuse_impossible

    planned = plan_noise(task)
    refuse_impossible(planned, task.rounds.nodes)
    return planned, budget_spent(planned)


if __name__ == "__main__":
    try:
        print(json.dumps(_answer(json.load(sys.stdin))))
    except PrivacyError as error:
        print(json.dumps({"error": str(error)}))
