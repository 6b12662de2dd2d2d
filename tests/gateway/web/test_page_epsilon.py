"""Epsilon is one number for the open round: in headline, card, chart and /metrics; and it comes, also for runs compared."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from dashboards import RUN, make_store, parse_metrics
from stage import Stage, gateway_at_work

from orchestrator.gateway.web import epsilon
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.privacy.accounting import epsilon_by_round, epsilon_of_rounds
from orchestrator.privacy.accounting_process import curve_apart
from orchestrator.wire.protection import Privacy

PRIVACY = Privacy(
    epsilon=8.0, delta=1e-3, noise_multiplier=1.5, statistics_noise_multiplier=3.0, statistics_clip_norm=0.5
)
ROUNDS = 50
"""Of a run, more than the accountant's curve has points."""
AT_END = "document.querySelector('#privacy .chart').chart.spec.series.find((s) => s.name === 'spent').points.at(-1)"


@pytest.mark.usefixtures("remembering")
def test_one_number_for_the_open_round_everywhere(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, rounds=ROUNDS, begun=20, privacy=PRIVACY, at=time.time())
        with stage.showing(tmp_path) as scene:
            page = stage.browser
            page.wait("document.querySelector('#privacy .line.dashed')")
            view = scene.view(RUN)
            assert view is not None
            wanted = epsilon_of_rounds(view.task, 1, [20])[0][1]
            # Until the accountant has the round, all say that it is at most that of a later one.
            page.wait("document.querySelector('#privacy .card-head .muted').innerText.slice(0, 1) !== '≤'")
            assert page.evaluate(AT_END) == [20, pytest.approx(wanted, rel=1e-6)]
            headline = page.evaluate(
                "document.querySelector('[data-key=\"figure Epsilon\"]').innerText.replace(/\\s+/g, ' ')"
            )
            assert f"{wanted:.3g} / 8" in headline
            assert "with round 20" in headline
            assert page.evaluate("document.querySelector('#privacy .card-head .muted').innerText").startswith(
                f"{wanted:.3g} of 8"
            )
            page.evaluate("document.querySelector('#privacy svg[role]').focus()")
            page.evaluate("document.querySelector('#privacy .chart').chart.point(20)")
            assert (
                page.evaluate("document.querySelector('#privacy .readout').innerText")
                == f"round 20: planned {wanted:.3g}, spent {wanted:.3g}"
            )
            assert parse_metrics(stage.client)["edgeward_privacy_epsilon_spent"] == pytest.approx(wanted, rel=1e-6)
            shown = scene.sections()["privacy"]
            assert (shown["exact"], shown["round"]) == (True, 20)
            known = dict(shown["points"])
            assert all(number in known for number in range(20, 28)), "the next rounds are asked for in time"


def test_until_a_round_is_known_it_is_at_most_a_later_one(
    stage: Stage, tmp_path: Path, remembering: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epsilon, "epsilons_apart", lambda *_: {})
    with gateway_at_work(tmp_path):
        make_store(tmp_path, rounds=ROUNDS, begun=20, privacy=PRIVACY, at=time.time())
        with stage.showing(tmp_path):
            page = stage.browser
            page.wait("document.querySelector('#privacy .card-head .muted')?.innerText.startsWith('≤ ')")
            spent = parse_metrics(stage.client)["edgeward_privacy_epsilon_spent"]
            assert page.evaluate(AT_END) == [20, pytest.approx(spent)]
            assert (
                page.evaluate("document.querySelector('[data-key=\"figure Epsilon\"] .value').innerText")
                == f"≤ {spent:.3g}"
            )


def test_the_epsilon_of_a_run_compared_comes_after_computing(
    stage: Stage, tmp_path: Path, remembering: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()

    def slow(*question: Any) -> Any:
        done.wait(300)
        return curve_apart(*question)

    monkeypatch.setattr(epsilon, "curve_apart", slow)
    make_store(tmp_path, privacy=PRIVACY)
    make_store(tmp_path, privacy=PRIVACY, at=2000.0, run="another-0123abcd")
    with stage.showing(tmp_path, "runs"):
        page = stage.browser
        page.wait("document.querySelectorAll('#compare-accuracy svg[role] path.line').length === 2")
        page.wait("document.querySelector('#compare-epsilon').innerText.match(/being computed/g)?.length === 2")
        done.set()
        page.wait("document.querySelectorAll('#compare-epsilon svg[role] path.line').length === 2")
        page.wait("document.querySelector('#compare-epsilon').innerText.match(/spent of 8/g)?.length === 2")


def test_points_of_the_page_do_not_grow_with_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epsilon, "curve_apart", lambda *_: {"points": [(0, 0.5), (3000, 8.0)], "statement": {}})
    monkeypatch.setattr(epsilon, "epsilons_apart", lambda task, run, rounds: {n: 0.5 + 0.002 * n for n in rounds})
    monkeypatch.setattr(epsilon, "_REST", 0.0)
    make_store(tmp_path, rounds=3000, privacy=PRIVACY)
    model = DashboardModel(tmp_path, "test", Listener(None, "test"))
    view = model.view(RUN)
    assert view is not None
    for number in range(1, 400):
        view.coordinator.round = number
        deadline = time.monotonic() + 600
        while not (found := model.curves.of(view)).get("exact"):
            assert time.monotonic() < deadline
        assert (found["round"], found["spent"]) == (number, 0.5 + 0.002 * number)
    assert len(found["points"]) < 80
    model.close()


def test_points_of_single_rounds_are_those_of_the_curve(tmp_path: Path) -> None:
    make_store(tmp_path, rounds=30, privacy=PRIVACY)
    model = DashboardModel(tmp_path, "test", Listener(None, "test"))
    view = model.view(RUN)
    assert view is not None
    curve = dict(epsilon_by_round(view.task))
    single = dict(epsilon_of_rounds(view.task, 1, [30, 7]))
    assert single == {number: pytest.approx(curve[number], rel=1e-6) for number in (7, 30)}
    model.close()
