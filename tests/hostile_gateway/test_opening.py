"""Attack: cells that match what a gateway names, counted by the time or the memory that opening the file takes. Promise: a cell
takes the same whatever it is, rows that are left out are read like others, and figures of memory are from before that."""

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, List
from unittest.mock import patch

import numpy as np
import psutil
import pytest
from inside import INPUTS, Inside, csv_of, make_data, make_schema, make_task, model
from malicious import Attack, Victim

from orchestrator.data import cells, outcome
from orchestrator.data.dataset import load_dataset
from orchestrator.data.problems import MOST_PROBLEMS
from orchestrator.errors import DataError
from orchestrator.node.figures import FREE, MemoryFigures
from orchestrator.node.trainer import GradientTrainer
from orchestrator.wire import logarithm
from orchestrator.wire.process import peak_memory_mib
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation
from orchestrator.wire.training import Training

ROWS = 60
HEADER = ["sex", "hiv"]


def file_of(folder: Path, positive: int) -> Path:
    path = folder / f"{positive}.csv"
    path.write_text(csv_of(HEADER, [(i % 2, "pos" if i < positive else "neg") for i in range(ROWS)]))
    return path


def schema(**changes: Any) -> Schema:
    known = {"label": "hiv", "label_values": {"pos": 1, "neg": 0}, "features": (Feature("sex", 0, 1),), "patient": ""}
    return make_schema(**{**known, **changes})


PADDED = {"neg": 0, **{str(i): 1 for i in range(900)}, "pos": 1}
BY_SEX = {"label": "sex", "label_values": {"0": 0, "1": 1}}
CATEGORIES = (Feature("hiv", categories=("pos", "maybe")),)
DROPPED = {**BY_SEX, "features": CATEGORIES, "drop_missing": True, "missing_markers": ("neg",)}


def calls_of(names: List[str], work: Callable[[], Any]) -> List[int]:
    """How often each function that looks at a cell is called."""
    counts = dict.fromkeys(names, 0)

    def counting(name: str, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            counts[name] += 1
            return real(*arguments)

        return call

    patches = [patch.object(cells, name, counting(name, getattr(cells, name))) for name in names]
    for each in patches:
        each.start()
    try:
        work()
    finally:
        for each in patches:
            each.stop()
    return list(counts.values())


@pytest.mark.parametrize("asked", [{"label_values": PADDED}, DROPPED])
def test_a_cell_takes_the_same_whatever_it_is(tmp_path: Path, asked: Any) -> None:
    def read(positive: int) -> None:
        load_dataset(file_of(tmp_path, positive), schema(**asked))

    looked = [calls_of(["number", "canonical"], partial(read, n)) for n in (1, 20, 59)]
    assert looked[0] == looked[1] == looked[2]


def steps_of(values: np.ndarray) -> Counter[int]:
    """How often each line of the logarithm is run for these values."""
    counts: Counter[int] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != logarithm.__file__:
            return None
        counts[frame.f_lineno] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        logarithm.logarithm(values)
    finally:
        sys.settrace(before)
    return counts


@pytest.mark.parametrize("wanted", [np.nextafter(np.float32(2), np.float32(1)), 1.5, 3e4, 1e-30])
def test_a_logarithm_takes_the_same_whatever_it_is_of(wanted: float) -> None:
    """A range clamps all values below a threshold to one whose logarithm could be had at once: then one above it would show."""
    clamped = np.ones(ROWS, np.float32)
    assert steps_of(np.append(clamped, np.float32(1))) == steps_of(np.append(clamped, np.float32(wanted)))


def test_a_cell_that_is_not_listed_costs_no_explanation_beyond_the_first(tmp_path: Path) -> None:
    """Looking for what may have been meant takes far longer than reading does."""
    with patch.object(outcome, "no_class", wraps=cells.no_class) as explained:
        with pytest.raises(DataError, match="30 problems, the first 20"):
            load_dataset(file_of(tmp_path, 30), schema(label_values={"neg": 0}))
        assert explained.call_count <= MOST_PROBLEMS


def test_rows_that_are_left_out_are_left_out(tmp_path: Path) -> None:
    data = load_dataset(file_of(tmp_path, 20), schema(**DROPPED))
    assert (data.records, data.dropped) == (20, 40)
    np.testing.assert_array_equal(data.x, np.tile(np.array([1, 0], np.float32), (20, 1)))


@pytest.fixture(scope="module")
def node(victim: Victim, linear_graph: bytes) -> Attack:
    rows = [(*(0.01 * ((i * k) % 40) for k in (1, 3, 7)), i % 2, f"p{i}") for i in range(ROWS)]
    attack = victim(csv_of([*(f"x{i}" for i in range(INPUTS)), "y", "who"], rows))
    attack.gateway.graph = linear_graph
    return attack


def test_what_a_node_says_of_its_memory_is_from_before_it_opened_data(node: Attack) -> None:
    gateway, process = node
    noise: Dict[str, Any] = {name: 6.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    privacy = Privacy("record", epsilon=50.0, delta=1e-4, sampling_rate=0.5, **noise)
    task = make_task(privacy=privacy)
    said = gateway.offer(process.name, "run", task)
    assert said["kind"] == "ready", said
    answer = gateway.round(process.name, "run", 1, model()).header
    assert answer["memory_mib"] == said["process"]["memory_mib"], "nor what the graph's process takes"
    assert gateway.offer(process.name, "again", task)["health"][FREE] == said["health"][FREE]
    assert process.process is not None
    pids = [process.process.pid, *(child.pid for child in psutil.Process(process.process.pid).children())]
    assert sum(peak_memory_mib(str(pid)) for pid in pids) < 90, "below what README says"


def test_figures_of_memory_stay_once_data_were_opened() -> None:
    figures = MemoryFigures(lambda: ())
    figures.keep()
    said = (figures.peak_mib(), figures.health()[FREE])
    held = np.ones(64 << 20, np.uint8)
    figures.keep()
    assert (figures.peak_mib(), figures.health()[FREE]) == said
    assert held.size


def test_a_round_for_which_memory_is_too_small_is_charged_and_not_tried_again(
    tmp_path: Path, linear_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise: Dict[str, Any] = {name: 6.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    task = make_task(training=Training(rounds=1), privacy=Privacy(**noise), evaluation=Evaluation(0.2))
    inside = Inside(tmp_path, task, linear_graph, make_data(20))
    monkeypatch.setattr(GradientTrainer, "train", lambda *_: np.zeros(1 << 50))
    with pytest.raises(MemoryError):
        inside.answer(1, model())
    with pytest.raises(Exception, match="was answered before and is over"):
        inside.store.released("run", 1, "digest")
    inside.close()
