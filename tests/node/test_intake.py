"""What a node takes in of a gateway's messages: sizes by kind, and only tensors that a round can go on with."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from agent_at_post import AtPost, Below

from orchestrator.data.dataset import Dataset
from orchestrator.errors import WireError
from orchestrator.gateway.relay import Region, Relay
from orchestrator.node.contribution import Contributor
from orchestrator.node.intake import MAX_MESSAGE_BYTES, UNKNOWN_RUN_BYTES, most_for_key_holder, most_unpacked
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.privacy.ckks import SumPlan
from orchestrator.wire.body import MAX_HEADER_BYTES
from orchestrator.wire.post import Post
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

SIZE = 100_000
SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
TASK = Task("t", SCHEMA, {}, Training(parameters=SIZE), Privacy(unit="none"))


def test_a_message_holds_what_its_kind_can() -> None:
    def most(kind: str, run: str = "run") -> int:
        return most_unpacked({"kind": kind, "run": run}, "run", TASK)

    small = MAX_HEADER_BYTES + (1 << 16)
    assert most("step") == most("abstain") == most("hello") == most("taken") == small
    assert 8 * SIZE < most("round") == most("finished") < 8 * SIZE + (3 << 20)
    assert most("round", "another") == UNKNOWN_RUN_BYTES
    assert most_unpacked({"kind": "round"}, "", None) == UNKNOWN_RUN_BYTES
    huge = Task("t", SCHEMA, {}, Training(parameters=1 << 60), Privacy(unit="none"))
    assert most_unpacked({"kind": "round", "run": "run"}, "run", huge) == MAX_MESSAGE_BYTES
    assert most_for_key_holder({"kind": "step"}, None) == small
    assert most_for_key_holder({"kind": "step"}, SumPlan(SIZE, 3)) == small + SumPlan(SIZE, 3).ciphertext_bytes


WRONG: Dict[str, Any] = {
    "not numbers": {"weights": np.full(4, np.nan, np.float32)},
    "another type": {"weights": np.zeros(4, np.float64)},
    "text of numbers": {"mean": np.zeros(1, np.int8)},
    "no vector": {"weights": np.zeros((2, 2), np.float32)},
    "endless": {"std": np.full(1, np.inf, np.float32)},
    "another size": {"weights": np.zeros(5, np.float32)},
    "another shape": {"mean": np.zeros(2, np.float32)},
}


def model(**changed: Any) -> Dict[str, np.ndarray]:
    tensors = {"weights": np.zeros(4, np.float32), "mean": np.zeros(1, np.float32), "std": np.ones(1, np.float32)}
    return {**tensors, **changed}


@pytest.fixture
def run() -> Run:
    task = Task("t", SCHEMA, {}, Training(parameters=4), Privacy(unit="none"))
    nothing = Dataset(np.zeros((0, 1), np.float32), np.zeros(0, np.int32))
    return Run("run", "digest", task, b"graph", nothing, nothing)


@pytest.mark.parametrize("what", WRONG)
def test_a_round_that_a_model_cannot_go_on_with_is_refused(tmp_path: Path, run: Run, what: str) -> None:
    contributor = Contributor(run, NodeStore(tmp_path / "node.sqlite"), "a", lambda *_: None)  # type: ignore[arg-type]
    assert contributor.updates.round_tensors(1, model())[0].size == 4
    with pytest.raises(WireError):
        contributor.updates.round_tensors(1, model(**WRONG[what]))


@pytest.mark.parametrize("what", WRONG)
def test_nor_does_a_relay_pass_it_on(tmp_path: Path, run: Run, what: str) -> None:
    below = Below({"b": 5, "c": 6})
    relay = AtPost(Relay(Post(), "f", "a", tmp_path, Region("below", Rounds(2, 2)), lower=below))
    relay.hear({"kind": "task", "run": "run", "task": task_to_dict(run.task)}, {"graph": np.zeros(1, np.uint8)})

    def hears(number: int, tensors: Dict[str, np.ndarray]) -> List[str]:
        return [header["kind"] for header, _ in relay.hear({"kind": "round", "run": "run", "round": number}, tensors)]

    assert hears(0, model()) == hears(1, model(noise=np.zeros(9, np.int8))) == ["update"]
    assert [set(supply.tensors or {}) for supply in below.supplied] == [set(), {"weights", "mean", "std"}]
    assert hears(2, model(**WRONG[what])) == ["refused"]
    assert len(below.supplied) == 2
