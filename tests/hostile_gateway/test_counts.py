"""Attack: how many records or patients a node has, read off what it says of itself, weighs by and divides by. Promise: a node
states one noised count a run, which is charged; everything else is made of that count, and a node as the unit states no count."""

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from distinguish import tell_apart
from inside import CLASSES, DELTA, INPUTS, PARAMETERS, Inside, csv_of, joined, make_data, make_task, model, planned
from malicious import Attack, Victim

from orchestrator.data.dataset import Dataset
from orchestrator.privacy.accounting import epsilon_spent
from orchestrator.privacy.charges import charges_of
from orchestrator.privacy.own_sum import step_sum
from orchestrator.rounds.strategies import make_strategy
from orchestrator.rounds.strategy import Update
from orchestrator.wire.codec import decode_update
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Task
from orchestrator.wire.training import Training

RECORDS = 60
HEADER = [*(f"x{i}" for i in range(INPUTS)), "y", "who"]
DRAWS = 400


def strong(unit: str, **changes: Any) -> Privacy:
    """All noise declared, so that nothing is planned."""
    noise = {name: 6.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    return Privacy(**{"unit": unit, "epsilon": 50.0, "delta": 1e-4, "sampling_rate": 0.5, **noise, **changes})


@pytest.fixture(scope="module")
def node(victim: Victim, linear_graph: bytes) -> Attack:
    rows = [(*(0.01 * ((i * k) % 40) for k in (1, 3, 7)), i % 2, f"p{i}") for i in range(RECORDS)]
    attack = victim(csv_of(HEADER, rows))
    attack.gateway.graph = linear_graph
    return attack


def stated(attack: Attack, run: str, task: Task) -> Tuple[int, int]:
    gateway, process = attack
    word = gateway.offer(process.name, run, task)
    assert word["kind"] == "ready", word
    return word["records"], word["units"]


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_a_node_states_a_count_with_noise(node: Attack, unit: str) -> None:
    """One number, for records and units alike, and the true one only by chance: 8 times in a row with 1e-8."""
    counts = [stated(node, f"{unit}-{i}", make_task(privacy=strong(unit))) for i in range(8)]
    assert all(records == units for records, units in counts)
    assert {records for records, _ in counts} != {RECORDS}


def test_asking_again_gives_the_same_count(node: Attack) -> None:
    """Otherwise the noise would average away. Another run is another count, and another charge."""
    gateway, process = node
    task = make_task(privacy=strong("record"))
    first = stated(node, "again", task)
    for _ in range(3):
        gateway.offer(process.name, "in-between", make_task(privacy=strong("node")))
        assert stated(node, "again", task) == first
    node.restart()
    assert stated(node, "again", task) == first
    assert "count" in {charge.kind for charge in charges_of(task)}


def test_an_answer_says_the_count_that_was_stated_and_no_other(node: Attack) -> None:
    gateway, process = node
    task = make_task(privacy=strong("record"))
    count, _ = stated(node, "answers", task)
    answer = gateway.round(process.name, "answers", 1, model())
    assert {key: answer.header[key] for key in ("records", "units")} == {"records": count, "units": count}
    numbers = [v for v in answer.header.values() if isinstance(v, (int, float)) and not isinstance(v, bool)]
    assert RECORDS not in numbers or count == RECORDS


def test_a_node_as_the_unit_says_nothing_of_how_many_records_it_has(node: Attack) -> None:
    gateway, process = node
    task = make_task(privacy=strong("node", epsilon=50.0, delta=1e-2))
    assert stated(node, "whole", task) == (1, 1)
    answer = gateway.round(process.name, "whole", 1, model())
    assert (answer.header["records"], answer.header["units"]) == (1, 1)


def fits(update: np.ndarray, task: Task, divisor: int) -> bool:
    """Whether an update is of whole grid steps over the sampling rate times `divisor`."""
    step = step_sum(task, PARAMETERS).lattice.step
    steps = update.astype(np.float64) * task.privacy.sampling_rate * divisor / (task.training.learning_rate * step)
    return bool(np.abs(steps - np.rint(steps)).max() < 0.05)


def test_the_grid_of_an_update_is_that_of_the_stated_count(tmp_path: Path, linear_graph: bytes) -> None:
    """Values of an update are multiples of step / (rate * divisor): the divisor is what divides them all."""
    task, data = make_task(privacy=strong("record", noise_multiplier=1.0)), make_data(RECORDS)
    with_noise = 0
    for i in range(8):
        inside = Inside(tmp_path, task, linear_graph, data, run=f"run{i}")
        fields, sent = inside.answer(1, model())
        count, update = fields["records"], decode_update(sent, "float32", PARAMETERS)
        assert fits(update, task, count)
        assert not fits(update, task, count + 1)
        if count != RECORDS:
            with_noise += 1
            assert not fits(update, task, RECORDS)
    assert with_noise


def draws_of(folder: Path, task: Task, graph: bytes, data: Dataset) -> np.ndarray:
    """What DRAWS runs say of themselves in headers."""
    inside = Inside(folder, task, graph, data)
    runs = (inside.another_run().run for _ in range(DRAWS))
    return np.array([(run.stated, run.stated_units) for run in runs])


@pytest.mark.parametrize("extra", [1, 3000])
def test_counts_tell_a_patient_no_better_than_claimed(tmp_path: Path, linear_graph: bytes, extra: int) -> None:
    """One patient in or out, of one row or of 3,000."""
    task = planned(make_task(privacy=Privacy(unit="patient", epsilon=1.0, delta=DELTA)))
    data = make_data(20)
    one = make_data(extra, patients=[999] * extra)
    with_it, without = (draws_of(tmp_path, task, linear_graph, some) for some in (joined(data, one), data))
    assert tell_apart(with_it, without, DELTA) <= task.privacy.epsilon


def test_the_federated_mean_tells_a_patient_of_many_rows_no_better_than_claimed(
    tmp_path: Path, linear_graph: bytes
) -> None:
    """FedAvg of two nodes that pull apart: were nodes weighed by rows, one patient of many would move the model."""
    privacy = Privacy("patient", delta=DELTA, noise_multiplier=5.0, count_noise_multiplier=20.0)
    training = Training("fedavg", rounds=1, learning_rate=1.0, parameters=PARAMETERS)
    task = make_task(training=training, privacy=privacy)
    patients, rows = 150, 1500

    def one_sided(sign: float) -> Dataset:
        return Dataset(np.full((patients, INPUTS), sign, np.float32), np.ones(patients, np.int32), np.arange(patients))

    def models(first: Dataset) -> np.ndarray:
        nodes = [Inside(tmp_path, task, linear_graph, data, run=n) for n, data in (("a", first), ("b", one_sided(-1)))]
        found: List[np.ndarray] = []
        for _ in range(60):
            answers = [node.another_run().answer(1, model()) for node in nodes]
            weights = [fields["records"] for fields, _ in answers]
            assert max(weights) < patients + 1 + 8 * privacy.count_noise_multiplier, "a weight counts rows"
            updates = [
                Update(str(i), float(fields["records"]), decode_update(sent, "float32", PARAMETERS), 0, 1.0, 1.0)
                for i, (fields, sent) in enumerate(answers)
            ]
            strategy = make_strategy("fedavg", 1.0, {})
            found.append(strategy.aggregate(np.zeros(PARAMETERS, np.float32), iter(updates), {})[0])
        return np.array(found)

    many = Dataset(np.zeros((rows, INPUTS), np.float32), np.arange(rows, dtype=np.int32) % CLASSES, np.full(rows, 999))
    bound = tell_apart(models(joined(one_sided(1), many)), models(one_sided(1)), DELTA)
    assert bound <= epsilon_spent(task)
