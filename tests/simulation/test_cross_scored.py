"""Strategy fuala over four hospitals in this process: one with its labels flipped counts for little; else it costs nothing."""

import random
import secrets
import sys
from pathlib import Path
from typing import Callable, List

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from cut_off import CutOffError, cut_off_in_round_two
from four_hospitals import STEPS, hospitals

from orchestrator.gateway.cross_scores import STANDING
from orchestrator.gateway.memory_store import MemoryStore
from orchestrator.node.ledger import LEDGER_FILE, Ledger
from orchestrator.node.store import NodeStore
from orchestrator.privacy.releases import releases_of
from orchestrator.wire.protection import Privacy

Shared = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which records are held out, and who scores whom, is drawn with secrets: here the same in every run of the test."""
    drawn = random.Random(1)
    monkeypatch.setattr(secrets, "token_bytes", lambda size=32: drawn.randbytes(size))


def test_a_hospital_with_flipped_labels_does_not_carry_the_model_away(shared_data: Shared, tmp_path: Path) -> None:
    data, found = shared_data("heart-disease"), {}
    for strategy in ("fedavg", "fuala"):
        for flipped in ("", "cleveland"):
            here = hospitals(data, tmp_path / f"{strategy}{flipped}", strategy, flipped=flipped)
            result = here.run()
            found[strategy, flipped] = here.auc(result)
    assert found["fedavg", "cleveland"] < 0.62, found
    assert found["fuala", "cleveland"] > 0.82, found
    assert found["fuala", ""] > found["fedavg", ""] - 0.01, found
    standing = result.rounds[-1][STANDING]  # of the last: fuala with Cleveland's flipped
    assert standing["cleveland"]["share"] < 0.1 < standing["va"]["share"]
    assert standing["cleveland"]["score"] > 1.5 > max(standing[n]["score"] for n in standing if n != "cleveland")


def test_with_noise_a_run_costs_held_out_records_what_it_says(shared_data: Shared, tmp_path: Path) -> None:
    privacy = Privacy("record", 3.0, 1e-3, 1.0, 0.25)
    here = hospitals(shared_data("heart-disease"), tmp_path, "fuala", privacy=privacy, rounds=4, local_steps=STEPS)
    score = next(release for release in releases_of(here.task) if release.kind == "score")
    assert (score.count, score.group) == (3, "held-out")
    assert score.noise_multiplier > 1.0
    result = here.run(folder=tmp_path / "nodes")
    assert len(result.rounds) == 4
    for node in here.data:
        ledger = Ledger(tmp_path / "nodes" / node / LEDGER_FILE, [])
        known = ledger.reservation("run")
        ledger.close()
        assert known is not None
        assert known.used["score"] == 3, node


def test_a_run_that_was_cut_off_gives_each_node_the_same_model_again(shared_data: Shared, tmp_path: Path) -> None:
    rounds: List[int] = []
    here, store, nodes = (
        hospitals(shared_data("heart-disease"), tmp_path, "fuala", rounds=4),
        MemoryStore(),
        tmp_path / "state",
    )
    cut_off = cut_off_in_round_two(rounds)
    with pytest.raises(CutOffError):
        here.run(store, nodes, cut_off)
    result = here.run(store, nodes, cut_off)
    assert rounds == [0, 1, 2, 3, 4, 5]
    for name in here.data:
        assert NodeStore(nodes / name / "node.sqlite").kept("run", "model") is not None
    assert len(result.rounds[-1][STANDING]) == 4
    assert not any("misscored" in each for each in result.rounds)
