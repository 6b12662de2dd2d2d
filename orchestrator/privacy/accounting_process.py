"""The accountant in a process of its own: it and SciPy would double the gateway's memory.

`main` answers one JSON question on stdin with one JSON object on stdout.
"""

import json
import os
import subprocess
import sys
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.privacy.statement_page import nothing_claimed
from orchestrator.wire.json_text import from_json
from orchestrator.wire.process import ends_with, own_program
from orchestrator.wire.task import Task, task_from_dict, task_to_dict

LIMIT_S = 900.0
"""Seconds for one answer: a plan takes some seconds, and a busy machine is many times slower."""

_AGAIN = "is the machine out of memory or processes, or is it being debugged? Give the same command again"

running: "List[subprocess.Popen[str]]" = []  # of this process; ended with it


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
    """statement.statement; what claims nothing needs no accountant, and no process that takes a second to start."""
    if not task.privacy.on:
        return nothing_claimed(task)
    return _ask(
        {"question": "statement", "task": task_to_dict(task), "records": records, "run": run, "observed": observed}
    )


def curve_apart(task: Task, records: Dict[str, int], run: int = 1) -> Dict[str, Any]:
    """{points: accounting.epsilon_by_round, statement: statement.statement} of a task that declares its noise."""
    return _ask({"question": "curve", "task": task_to_dict(task), "records": records, "run": run})


def epsilons_apart(task: Task, run: int, rounds: List[int]) -> Dict[int, float]:
    """round -> epsilon spent once its answers are out (accounting.epsilon_of_rounds), for a task that declares its noise."""
    answer = _ask({"question": "rounds", "task": task_to_dict(task), "run": run, "rounds": rounds})
    return {int(number): float(epsilon) for number, epsilon in answer["points"]}


def _ask(question: Dict[str, Any]) -> Dict[str, Any]:
    try:
        process = subprocess.Popen(
            own_program("orchestrator.privacy.accounting_process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=ends_with(os.getpid()),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PrivacyError(f"the accountant cannot be started: {error}; {_AGAIN}") from error
    running.append(process)
    try:
        said, complaint = process.communicate(json.dumps(question), timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        _kill(process)
        raise PrivacyError(f"the accountant has not answered for {LIMIT_S:g} s; {_AGAIN}") from error
    except BaseException:  # the caller is being stopped: nobody waits for the answer
        _kill(process)
        raise
    finally:
        running.remove(process)
    if process.returncode < 0:
        raise PrivacyError(f"the accountant was ended by signal {-process.returncode}; {_AGAIN}")
    answer = _read(said)
    if process.returncode or answer is None:
        raise PrivacyError(f"the accountant failed: {(complaint.strip().splitlines() or ['it gave no answer'])[-1]}")
    if "error" in answer:
        raise PrivacyError(answer["error"])
    return answer


def _read(said: str) -> Optional[Dict[str, Any]]:
    """None where it is no answer: of a process that ended early."""
    try:
        answer = from_json(said)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def end() -> None:
    """Ends the accountants at work, of whatever thread: a process that stops does not wait for them."""
    for process in list(running):
        process.kill()


def _answer(question: Dict[str, Any]) -> Dict[str, Any]:
    from orchestrator.privacy.accounting import epsilon_by_round, epsilon_of_rounds
    from orchestrator.privacy.statement import statement

    task = task_from_dict(question["task"])
    if question["question"] == "statement":
        return statement(task, question["records"], question["run"], question["observed"])
    if question["question"] == "curve":
        points = epsilon_by_round(task, question["run"])
        return {"points": points, "statement": statement(task, question["records"], question["run"])}
    if question["question"] == "rounds":
        return {"points": epsilon_of_rounds(task, question["run"], question["rounds"])}
    planned, spent = _plan(task)
    return {"task": task_to_dict(planned), "epsilon": spent}


def _plan(task: Task) -> Tuple[Task, float]:
    from orchestrator.privacy.accounting import plan_noise
    from orchestrator.privacy.planning import budget_spent, refuse_impossible

    planned = plan_noise(task)
    refuse_impossible(planned, task.rounds.nodes)
    return planned, budget_spent(planned)


def main() -> None:
    try:
        print(json.dumps(_answer(json.load(sys.stdin))))
    except PrivacyError as error:
        print(json.dumps({"error": str(error)}))
