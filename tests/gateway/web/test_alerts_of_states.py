"""What /metrics says of every state of a gateway and its run, and which alerts Prometheus would raise of it."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, List, Set

import pytest
from dashboards import RUN, make_store
from fleet_wards import INFO, A, B, Ward
from prometheus_client.parser import text_string_to_metric_families
from promql import Moment, Query, Sample
from stage import gateway_at_work
from test_alerts import board_speaks, rules

from orchestrator.boards.fleet_journal import Journal
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.listener import LISTENING, Listener
from orchestrator.gateway.web.metrics import render
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.rounds.events import Aggregated, Arrived, Left, Ticked
from orchestrator.wire.board_records import GONE

LATER_S = 7200.0


class Looked:
    """A dashboard of a folder, whose clock may be ahead."""

    def __init__(self, out: Path) -> None:
        self.out, self.ahead, self.held = out, 0.0, ExitStack()
        self.listener = Listener(None, "test")
        self.model = DashboardModel(out, "test", self.listener, lambda: time.time() + self.ahead)

    def works(self) -> Any:
        return self.held.enter_context(gateway_at_work(self.out))

    def happens(self, *events: Any) -> None:
        store = Store(self.out / "gateway.sqlite")
        for event in events:
            store.append(RUN, event)
        store.close()

    def finishes(self) -> None:
        self.happens(Arrived(time.time(), "b", 2, "d", 80.0), Aggregated(time.time(), 2, True))

    def samples(self) -> List[Sample]:
        sections = self.model.sections()
        text = render(sections, {}, self.model.heard_at)
        families = text_string_to_metric_families(text)
        return [
            (sample.name, {**sample.labels, "instance": "here", "job": "edgeward"}, sample.value)
            for family in families
            for sample in family.samples
        ]


def alerts(samples: List[Sample], before: List[Sample], now: float) -> Set[str]:
    """Those that look at one moment, and are not just good to know."""
    moment, found = Moment(now, samples, before), set()
    for rule in rules():
        if "[" not in rule["expr"] and rule["labels"]["severity"] != "info" and Query(rule["expr"]).answer(moment):
            found.add(rule["alert"].replace("Edgeward", ""))
    return found


def _nothing(look: Looked) -> None:
    pass


def _collects(look: Looked) -> None:
    look.works()
    make_store(look.out, at=time.time())


def _long_in_a_round(look: Looked) -> None:
    _collects(look)
    look.ahead = LATER_S


def _lacks(look: Looked) -> None:
    _collects(look)
    look.happens(Left(time.time(), "b"))


def _stands_still(look: Looked) -> None:
    process = look.works()
    make_store(look.out, at=time.time())
    process.send_signal(signal.SIGSTOP)
    look.held.callback(process.send_signal, signal.SIGCONT)
    while look.model.standing.look(time.time(), False)["heard_at"] > time.time() - 0.2:
        time.sleep(0.1)
    look.ahead = 300.0


def _interrupted(look: Looked) -> None:
    make_store(look.out)


def _stopped(look: Looked) -> None:
    make_store(look.out)
    look.model.hear({"event": "ended", "how": "stopped", "reason": ""})


def _run_failed(look: Looked) -> None:
    make_store(look.out)
    look.happens(*(Ticked(2000.0 + 100 * turn) for turn in range(9)))
    look.model.hear({"event": "ended", "how": "failed", "reason": "no answers"})


def _finished(look: Looked) -> None:
    make_store(look.out)
    look.finishes()
    look.model.hear({"event": "ended", "how": "finished", "reason": ""})


def _no_model(look: Looked) -> None:
    """After the last round, or before the first of another run: the newest run is finished either way."""
    make_store(look.out)
    look.finishes()
    look.model.hear({"event": "ended", "how": "failed", "reason": "the model could not be quantized"})


def _failed_at_first(look: Looked) -> None:
    look.model.hear({"event": "ended", "how": "failed", "reason": "no noise keeps this epsilon"})


def _board_is_silent(look: Looked) -> None:
    board_speaks(look.listener)
    look.listener.state, look.ahead = LISTENING, LATER_S


def _broker_is_gone(look: Looked) -> None:
    board_speaks(look.listener)
    look.listener.state, look.ahead = "lost the broker: it ended", LATER_S


STATES: Dict[Callable[[Looked], None], Set[str]] = {
    _nothing: set(),
    _collects: set(),
    _long_in_a_round: {"RoundStuck"},
    _lacks: {"RoundCannotSucceed"},
    _stands_still: {"GatewaySilent"},
    _interrupted: {"GatewayGone"},
    _stopped: {"GatewayGone"},
    _run_failed: {"RunFailed"},
    _finished: set(),
    _no_model: {"GatewayFailed"},
    _failed_at_first: {"GatewayFailed"},
    _board_is_silent: {"BoardSilent"},
    _broker_is_gone: set(),
}


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__.strip("_"))
def test_alerts_are_those_of_the_state(tmp_path: Path, state: Callable[[Looked], None]) -> None:
    look = Looked(tmp_path)
    with look.held:
        state(look)
        samples = look.samples()
        now = time.time() + look.ahead
        before = samples if state is _long_in_a_round else []  # an hour ago the page was the same, or not there yet
        assert alerts(samples, before, now) == STATES[state]
        phases = [value for name, _, value in samples if name == "edgeward_run_phase"]
        assert sum(phases) == bool(phases), "a run is in one phase"
        assert sum(value for name, _, value in samples if name == "edgeward_gateway_state") == 1
        seen = {name for name, _, _ in samples}
        at_work = state in (_collects, _long_in_a_round, _lacks, _stands_still)
        for name in ("nodes_online", "nodes_awaited", "round_nodes_lacking"):
            assert (f"edgeward_{name}" in seen) == at_work, (
                f"{name}: nobody looks at nodes of a run that nobody works on"
            )
    look.model.close()


def test_a_relay_that_waits_for_the_gateway_above_is_in_a_phase(tmp_path: Path) -> None:
    look = Looked(tmp_path)
    with look.held:
        look.works()
        make_store(tmp_path, begun=-1, at=time.time(), relay=True)
        page = render(look.model.sections(), {})
        assert f'edgeward_run_phase{{run="{RUN}",phase="waiting"}} 1' in page
        assert f'edgeward_nodes_online{{run="{RUN}"}} 2' in page
    look.model.close()


def test_figures_are_those_of_the_page_also_after_a_last_evaluation(tmp_path: Path) -> None:
    """Of training rounds: the evaluation after them takes no time of theirs, and one without figures hides none."""
    make_store(tmp_path, begun=3)
    look = Looked(tmp_path)
    sections = look.model.sections()
    first, *_, last = [row for row in sections["rounds"] if row["round"] > 0]
    last.update(accuracy=None, auc=None)
    sections["rounds"].append({**last, "round": 4, "accuracy": None, "seconds": 99.0, "loss": None})
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(render(sections, {}))
        for sample in family.samples
    }
    assert (found["edgeward_accuracy_ratio"], found["edgeward_last_round_seconds"]) == (first["accuracy"], 0.5)
    look.model.close()


@pytest.mark.parametrize("failed", [False, True])
def test_boards_that_went_and_a_roll_out_that_stopped_are_alerts(tmp_path: Path, failed: bool) -> None:
    ward = Ward(tmp_path, {"ward-1": A, "ward-2": B})
    ward.says("ward-1")
    ward.says("stranger")
    ward.hears("ward-2", GONE if failed else ward.message(B, **INFO))
    ward.hears("stranger", GONE)
    with Journal(ward.fleet.folder, "test", "model", Rollout("d"), ["ward-1", "ward-2"]) as journal:
        outcome = Outcome.FAILED if failed else Outcome.UPDATED
        journal.end([BoardResult("ward-1", outcome, "", 1), BoardResult("ward-2", Outcome.UPDATED, "", 1)], False)
    look = Looked(tmp_path)
    page = render(look.model.sections(), {}, None, ward.fleet_of_model())
    look.model.close()
    samples = [
        (sample.name, {**sample.labels, "instance": "here", "job": "edgeward"}, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    ]
    found = alerts(samples, [], time.time()) & {"FleetBoardGone", "RolloutStopped"}
    assert found == ({"FleetBoardGone", "RolloutStopped"} if failed else set())
    presences = {labels["presence"]: value for name, labels, value in samples if name == "edgeward_fleet_boards"}
    assert presences == {"here": 1 if failed else 2, "gone": int(failed), "unheard": 0, "unknown": 0}, "of the fleet"
    outcomes = {labels["outcome"]: value for name, labels, value in samples if name == "edgeward_rollout_boards"}
    assert (outcomes["failed"], outcomes["updated"]) == (int(failed), 2 - failed)


def test_a_dashboard_without_a_fleets_folder_has_no_figures_of_one(tmp_path: Path) -> None:
    ward = Ward(tmp_path)
    ward.says("stranger")
    look = Looked(tmp_path)
    assert "edgeward_fleet" not in render(look.model.sections(), {}, None, ward.fleet_of_model())
    look.model.close()
