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
    """(task with its noise planned, epsilon all its runs spend). Raises PrivacyError when the budget cannot be met."""
    if not task.privacy.on:
        return task, None
    answer = _ask({"question": "plan", "task": task_to_dict(task)})
    return task_from_dict(answer["task"]), answer["epsilon"]


def statement_apart(task: Task, records: Dict[str, int], run: int = 1) -> Dict[str, Any]:
    """accounting.statement"""
    return _ask({"question": "statement", "task": task_to_dict(task), "records": records, "run": run})


def curve_apart(task: Task, records: Dict[str, int], run: int = 1) -> Dict[str, Any]:
    """{points: accounting.epsilon_by_round, statement: accounting.statement} of a task that declares its noise."""
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
    from orchestrator.privacy.accounting import (
        epsilon_by_round,
        epsilon_spent,
        evaluation_epsilon,
        plan_noise,
        statement,
    )

    task = task_from_dict(question["task"])
    if question["question"] == "statement":
        return statement(task, question["records"], question["run"])
    if question["question"] == "curve":
        points = epsilon_by_round(task, question["run"])
        return {"points": points, "statement": statement(task, question["records"], question["run"])}
    planned = plan_noise(task)
    spent = epsilon_spent(planned.privacy, planned.steps, planned.standardizes, planned.privacy.runs)
    if task.evaluation.on:
        evaluated = evaluation_epsilon(planned.privacy, planned.evaluations * planned.privacy.runs)
        if evaluated > task.privacy.epsilon:
            raise PrivacyError(
                f"the evaluation_noise_multiplier the task states spends epsilon {evaluated:.3g} on held-out records, more "
                f"than its epsilon {task.privacy.epsilon:g}: raise it, or leave it out and let the gateway plan it"
            )
        spent = max(spent, evaluated)
    if spent > task.privacy.epsilon:
        steps = f"{planned.privacy.runs} x {planned.steps} steps"
        raise PrivacyError(
            f"the noise the task states spends epsilon {spent:.3g} over {steps}, more than its epsilon "
            f"{task.privacy.epsilon:g}: raise noise_multiplier, or leave it out and let the gateway plan it"
        )
    return {"task": task_to_dict(planned), "epsilon": spent}


if __name__ == "__main__":
    try:
        print(json.dumps(_answer(json.load(sys.stdin))))
    except PrivacyError as error:
        print(json.dumps({"error": str(error)}))
