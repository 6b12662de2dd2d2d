"""Attack: tasks that are all declined read the owner's file out of the refusals. Promise: what a declined task gets is a code,
the same for every file; nothing is opened before policy, signer and approval agree, and looks at the file are counted."""

import re
import time
from dataclasses import replace
from typing import Any, Dict, List, Tuple

import pytest
from inside import LINEAR, PARAMETERS, csv_of
from malicious import Attack, MaliciousGateway, Victim
from watch import OpenWatch

from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

HEADER = ("name", "age", "ward", "lactate", "sepsis")
WARDS = ("cardiac", "surgical")
ROWS: Tuple[Tuple[Any, ...], ...] = tuple(
    (f"Zyxwv{i:03d} Qrst", 41 + i % 37, WARDS[i % 2], f"{i}.27182818", "positive" if i % 3 else "negative")
    for i in range(137)
)
SECRETS = ("Zyxwv", "Qrst", "27182818", "cardiac", "lactate", "sixty-one", "unheard-of", "urgent")
"""Cells and the column no task names: what no payload of the node may hold. Task texts hold none of them."""


def table(rows: Any = ROWS, header: Any = HEADER) -> str:
    return csv_of(header, rows)


def with_cell(column: str, value: object, row: int = 60) -> str:
    rows = [list(r) for r in ROWS]
    rows[row][HEADER.index(column)] = value
    return table(rows)


FITTING = {
    "as it is": table(),
    "one cell changed": with_cell("age", 77),
    "one row more": table((*ROWS, ROWS[0])),
    "one row less": table(ROWS[1:]),
}
FAILING = {
    "a typo": with_cell("age", "sixty-one"),
    "an empty cell": with_cell("age", ""),
    "an unknown category": with_cell("ward", "unheard-of"),
    "an unknown label": with_cell("sepsis", "urgent"),
    "a column less": table([r[:1] + r[2:] for r in ROWS], HEADER[:1] + HEADER[2:]),
    "a short row": table((*ROWS[:50], ROWS[50][:3], *ROWS[51:])),
    "no rows": table(()),
    "nothing": "",
    "not text": "\udcff\udcfe",
}


def schema(wards: Tuple[str, ...] = ("A", "B"), **changes: Any) -> Schema:
    """Names the file's columns, and wards it does not have: no file fits it, unless asked for WARDS."""
    known: Dict[str, Any] = {
        "features": (Feature("age", 0.0, 120.0), Feature("ward", categories=wards)),
        "standardization": "range",
        "label_values": {"negative": 0, "positive": 1},
    }
    return Schema("table", "sepsis", ("no", "yes"), **{**known, **changes})


def task(**changes: Any) -> Task:
    noise: Dict[str, Any] = {name: 5.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    known: Dict[str, Any] = {
        "training": Training("fedsgd", rounds=1, parameters=PARAMETERS),
        "privacy": Privacy(unit="record", epsilon=10.0, delta=1e-4, **noise),
        "rounds": Rounds(nodes=3, quorum=3),
    }
    return Task("sepsis-1", schema(), LINEAR, **{**known, **changes})


def fields_of(presence: Dict[str, Any]) -> Dict[str, Any]:
    """All a presence says but the run's name, what was said of other runs, and figures of the machine that no file changes."""
    left_out = ("run", "runs", "process", "health", "ledger")
    return {name: value for name, value in presence.items() if name not in left_out}


def only_codes(gateway: MaliciousGateway) -> None:
    """No text made from data or policy in anything heard; every code is one of the fixed ones."""
    from orchestrator.wire.refusals import TEXTS

    words = gateway.words()
    assert [secret for secret in SECRETS if secret in words] == []
    counted = {v for presence in gateway.presences for v in fields_of(presence).values() if isinstance(v, int)}
    assert not counted & {len(ROWS), len(ROWS) + 1, len(ROWS) - 1}
    for said in (*gateway.presences, *(t.header for t in gateway.transfers)):
        assert "reason" not in said, said
        assert said.get("code", "data") in TEXTS, said


@pytest.fixture(scope="module")
def strict(victim: Victim) -> Attack:
    """Its owner takes one task by name, signed."""
    return victim(table(), STRICT)


STRICT = '[allow]\ntasks = ["another-study"]\n'
REFUSED_BY_RULES: Dict[str, str] = {
    "name": STRICT,
    "unit": '[require]\nunits = ["node"]\n',
    "stage": '[require]\nstages = ["masked"]\n',
    "cohort": "[require]\nminimum_cohort = 50\n",
    "signer": "[require]\nsigned = true\n",
    "sampling": "[allow]\nsampling_rate = 0.01\n",
    "budget": "[budget]\nepsilon_total = 0.001\ndelta = 1e-7\n",
    "unreadable": "[budget\n",
    "approval": "[approval]\nrequired = true\n",
}


@pytest.mark.parametrize("rule", REFUSED_BY_RULES)
def test_a_task_the_owner_does_not_want_is_answered_without_opening_the_file(strict: Attack, rule: str) -> None:
    gateway, node = strict
    node.rule(REFUSED_BY_RULES[rule])
    answers = []
    contents = (*FITTING.values(), *FAILING.values())
    for content in contents[:: 7 if rule == "budget" else 1]:  # each answer of the accountant takes seconds
        node.data.write_bytes(content.encode("utf-8", "surrogateescape"))
        with OpenWatch(node.data) as watch:
            answers.append(fields_of(gateway.offer(node.name, f"{rule}-{len(gateway.presences)}", task())))
            assert watch.opened == 0
    if rule != "unreadable":
        node.data.unlink()
        answers.append(fields_of(gateway.offer(node.name, f"{rule}-gone", task())))
        node.write(table())
    assert answers == answers[:1] * len(answers)
    only_codes(gateway)


def test_what_a_task_asks_for_does_not_change_the_refusal(strict: Attack) -> None:
    """Columns that are there and columns that are not, known categories and others: one answer."""
    gateway, node = strict
    node.rule(STRICT)
    schemas = [
        schema(),
        schema(features=(Feature("height", 0, 3),)),
        schema(features=(Feature("name", categories=("Ann",)),)),
        replace(schema(), label="charge"),
        schema(drop_missing=True, missing_markers=("A",)),
        schema(patient="name"),
        schema(columns=("age", "ward", "sepsis")),
    ]
    asked = [replace(task(), schema=s) for s in schemas]
    answers = [fields_of(gateway.offer(node.name, f"asks-{i}", a)) for i, a in enumerate(asked)]
    assert answers == answers[:1] * len(answers)
    only_codes(gateway)


@pytest.fixture(scope="module")
def generous(victim: Victim, linear_graph: bytes) -> Attack:
    """Its owner takes these tasks, and as many looks at the file as anyone likes. Only the file speaks against a task."""
    attack = victim(table(), f'[require]\nunits = ["record"]\n{MANY_LOOKS}')
    attack.gateway.graph = linear_graph
    return attack


MANY_LOOKS = "[allow]\nschemas_a_day = 10000\n"


def test_every_file_that_does_not_fit_gets_the_same_answer(generous: Attack) -> None:
    gateway, node = generous
    answers = {}
    for name, content in FAILING.items():
        node.data.write_bytes(content.encode("utf-8", "surrogateescape"))
        answers[name] = fields_of(gateway.offer(node.name, f"fails-{name.replace(' ', '-')}", task()))
    node.data.unlink()
    answers["gone"] = fields_of(gateway.offer(node.name, "fails-gone", task()))
    node.write(table())
    assert {(a["kind"], a.get("code")) for a in answers.values()} == {("declined", "data")}, answers
    assert all(answer == answers["a typo"] for answer in answers.values())
    only_codes(gateway)


def test_cells_and_columns_are_not_in_the_answers_to_what_is_asked_about_them(generous: Attack) -> None:
    """The attack as it was: labels, categories and columns chosen so that an error would name the next cell."""
    gateway, node = generous
    node.write(table())
    three = ("~", "~~", "~~~")  # as many inputs as the graph has
    probes = [
        schema(features=(Feature("?", categories=three),)),
        *(schema(features=(Feature(column, categories=three),), label_values={"~": 0}) for column in HEADER),
        *(replace(schema(), label=column, label_values={"~": 0}) for column in HEADER),
        schema(features=tuple(Feature(column, 0, 1) for column in ("name", "age", "lactate"))),
        schema(columns=("a", "sepsis", "age", "ward")),
    ]
    answers = [
        fields_of(gateway.offer(node.name, f"probe-{i}", replace(task(), schema=s))) for i, s in enumerate(probes)
    ]
    assert answers == answers[:1] * len(answers)
    assert answers[0]["code"] == "data"
    only_codes(gateway)


def test_looks_at_the_file_are_counted_and_end(victim: Victim, linear_graph: bytes) -> None:
    """Each look is a question with a yes or a no; after the day's number of them no answer depends on the file."""
    gateway, node = victim(table(), '[require]\nunits = ["record"]\n')
    gateway.graph = linear_graph
    asked = [replace(task(), schema=schema(label_values={"negative": 0, f"v{i}": 1})) for i in range(30)]
    with OpenWatch(node.data) as watch:
        answers = [fields_of(gateway.offer(node.name, f"look-{i}", a)) for i, a in enumerate(asked)]
        assert watch.opened <= 10
    assert [a.get("code") for a in answers[10:]] == ["policy.tries"] * 20
    late = []
    for i, content in enumerate((*FITTING.values(), *FAILING.values())):
        node.data.write_bytes(content.encode("utf-8", "surrogateescape"))
        late.append(fields_of(gateway.offer(node.name, f"late-{i}", asked[-1])))
    assert late == late[:1] * len(late)
    node.stop()


def test_a_restart_gives_no_more_looks(victim: Victim, linear_graph: bytes) -> None:
    attack = victim(table(), f'[require]\nunits = ["record"]\n{MANY_LOOKS.replace("10000", "2")}')
    gateway, node = attack
    gateway.graph = linear_graph
    asked = [replace(task(), schema=schema(label_values={"negative": 0, f"v{i}": 1})) for i in range(4)]
    first = [gateway.offer(node.name, f"look-{i}", a).get("code") for i, a in enumerate(asked[:2])]
    attack.restart()
    with OpenWatch(node.data) as watch:
        second = [gateway.offer(node.name, f"look-{i}", a).get("code") for i, a in enumerate(asked[2:], 2)]
        assert watch.opened == 0
    assert (first, second) == (["data"] * 2, ["policy.tries"] * 2)


def test_a_budget_refused_says_neither_how_much_nor_why(generous: Attack) -> None:
    """Two ways over the limit: one code, no number. A delta too large for the file is an answer about the file."""
    gateway, node = generous
    node.write(table())
    limit = "[budget]\nepsilon_task = {}\nepsilon_total = {}\ndelta = 1e-6\n" + MANY_LOOKS
    answers = []
    for i, (of_task, total) in enumerate(((0.01, 0), (0, 0.01))):
        node.rule(limit.format(of_task, total))
        answers.append(fields_of(gateway.offer(node.name, f"budget-{i}", task())))
    assert {a.get("code") for a in answers} == {"policy.budget"}
    assert answers == answers[:1] * len(answers)
    node.rule(limit.format(50, 50).replace("1e-6", "0.5"))
    assert gateway.offer(node.name, "budget-delta", replace(task(), schema=schema(WARDS)))["code"] == "data"
    only_codes(gateway)


def test_delta_does_not_tell_how_many_records_there_are(generous: Attack) -> None:
    """A declared delta just below 1/n for n records, and just above it for one more. Ten such questions are a count.

    The answers may be alike, or drawn; they may not be one for n and another for n + 1.
    """
    gateway, node = generous
    node.rule(f'[require]\nunits = ["record"]\n{MANY_LOOKS}')
    between = 1 / (len(ROWS) + 0.5)
    asked = replace(task(), schema=schema(WARDS), privacy=replace(task().privacy, delta=between))
    kinds = []
    for which in ("as it is", "one row more"):
        node.write(FITTING[which])
        runs = [f"delta-{which.replace(' ', '-')}-{i}" for i in range(8)]
        kinds.append({gateway.offer(node.name, run, asked)["kind"] for run in runs})
    assert kinds[0] & kinds[1], kinds
    assert not {"waiting"} & (kinds[0] | kinds[1])


def test_messages_that_make_no_sense_get_a_code(strict: Attack) -> None:
    gateway, node = strict
    node.rule(STRICT)
    senseless: List[Dict[str, Any]] = [
        {"kind": "no such kind", "run": "r"},
        {"kind": "task", "run": 3},
        {"kind": "step", "run": "r", "round": 1, "attempt": "x", "step": "masked"},
        {"kind": "finished", "run": 4},
    ]
    for header in senseless:
        time.sleep(1.1)  # a node says "refused" once a second, so that a flood stays with it
        word = gateway.provoke(node.name, header)
        assert "reason" not in word, word
        assert re.fullmatch(r"[a-z.-]+", word["code"]), word
    assert node.alive


def test_what_a_node_keeps_for_its_owner_names_the_mistake(generous: Attack) -> None:
    """The other side of the promise: the person who fixes the file must be able to find the cell."""
    gateway, node = generous
    node.rule(f'[require]\nunits = ["record"]\n{MANY_LOOKS}')
    node.write(FAILING["a typo"])
    gateway.offer(node.name, "for-the-owner", replace(task(), schema=schema(WARDS)))
    assert re.search(r"records\.csv:62: column 'age': 'sixty-one' is not a number", node.log)
    node.write(table())


def test_a_declaration_that_is_no_task_gets_a_code(strict: Attack) -> None:
    gateway, node = strict
    declared = task_to_dict(task())
    broken = [{**declared, "format": 99}, {**declared, "schema": 3}, {**declared, "unknown": {}}, {}]
    answers = [fields_of(gateway.offer(node.name, f"broken-{i}", b)) for i, b in enumerate(broken)]
    assert answers == answers[:1] * len(answers)
    assert answers[0]["code"] == "task"
    assert "reason" not in answers[0]
