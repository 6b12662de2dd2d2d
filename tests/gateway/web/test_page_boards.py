"""What is said of boards: simulated or not or unknown, silent when they are, and no latency where nothing was inferred."""

import time
from pathlib import Path

import pytest
from dashboards import make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.web.boards import Board
from orchestrator.gateway.web.metrics import render

METRICS = {"latency_p50_us": 100, "latency_p99_us": 300, "latency_count": 5, "inferences": 5}
NONE_YET = {"latency_p50_us": 0, "latency_p99_us": 0, "latency_count": 0, "inferences": 0}


def test_a_board_is_what_its_newest_record_says() -> None:
    board = Board("ttyusb0")
    board.take({"kind": "metrics", "boot": "a", "simulated": True, **METRICS}, 1.0)
    assert board.shown()["simulated"] is True
    board.take({"kind": "metrics", "boot": "a", **METRICS}, 2.0)
    assert board.shown()["simulated"] is True
    board.take({"kind": "metrics", "boot": "b", **METRICS}, 3.0)
    assert board.shown()["simulated"] is None


def test_a_slow_monitor_is_not_a_silent_board() -> None:
    board = Board("ttyusb0")
    board.take({"kind": "metrics"}, 0.0)
    assert board.silent_s == 15.0
    board.take({"kind": "metrics"}, 60.0)
    assert board.silent_s == 180.0
    for second in range(61, 90):
        board.take({"kind": "metrics"}, float(second))
    assert board.silent_s == 15.0


def test_a_board_falls_silent_with_time_alone(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent meanwhile: the page draws it again by itself."""
    make_store(tmp_path)
    with stage.showing(tmp_path) as scene, monkeypatch.context() as patch:
        page = stage.browser
        scene.board_says("quiet", "metrics", time.time() - 8, simulated=True, **METRICS)
        page.wait("document.querySelectorAll('#boards .board').length === 1")
        last = scene.sections()
        patch.setattr(scene, "sections", lambda: last)
        stage.skip(8.0)
        page.wait("document.querySelectorAll('#boards .pill.bad').length === 1", 60)


def test_the_page_says_what_a_board_is(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, at=time.time())
        with stage.showing(tmp_path) as scene:
            page = stage.browser
            for at in range(3):
                scene.board_says("known", "metrics", time.time() - 2 + at, simulated=True, **METRICS)
                scene.board_says("unknown", "metrics", time.time() - 2 + at, **METRICS)
                scene.board_says("idle", "metrics", time.time() - 2 + at, simulated=False, **NONE_YET)
            page.wait("document.querySelectorAll('#boards .board').length === 3")
            page.wait("document.querySelectorAll('#boards .chart svg[role]').length === 2")
            of = {
                name: page.evaluate(f"document.querySelector('[data-key=\"board {name}\"]').innerText")
                for name in ("known", "unknown", "idle")
            }
            assert "host’s, not a chip’s" in of["known"]
            assert "Latency, simulated" in of["known"]
            assert "unknown whether simulated" in of["unknown"]
            assert "a chip’s or a host’s: unknown" in of["unknown"]
            assert "– / –" in of["idle"], "nothing was inferred: there is no latency, and none of 0 µs"
            notes = page.evaluate("[...document.querySelectorAll('.figures > div')].pop().innerText")
            assert "1 simulated, 1 of unknown kind" in notes
            ticks = page.evaluate(
                "[...document.querySelectorAll('[data-key=\"board known\"] .chart .tick')].map((t) => t.textContent)"
            )
            assert not any(tick.startswith("-") for tick in ticks), ticks
            text = stage.client.ask("/metrics")[2]
            assert 'edgeward_board_latency_seconds{board="known",simulated="true",statistic="p50"} 0.0001' in text
            assert 'edgeward_board_latency_seconds{board="unknown",simulated="unknown"' in text
            assert 'edgeward_board_latency_seconds{board="idle"' not in text
            scene.skipped += 16.0  # nothing comes for so long
            page.wait("document.querySelectorAll('#boards .pill.bad').length === 3")
            assert "3 of 3 boards silent" in page.text()
            assert "live" not in page.evaluate("document.querySelector('#boards').innerText")
            text = stage.client.ask("/metrics")[2]
            assert 'edgeward_board_reporting{board="known",simulated="true"} 0' in text
            assert "edgeward_board_latency_seconds{" not in text


def test_where_nobody_listens_nothing_is_said_of_boards(stage: Stage, tmp_path: Path) -> None:
    """Neither that none reports, nor that one is silent: the broker is gone, and not the board."""
    figure = "[...document.querySelectorAll('.figures > div')].pop().innerText.replace(/\\s+/g, ' ')"
    make_store(tmp_path)
    with stage.showing(tmp_path) as scene:
        page = stage.browser
        page.wait(f"{figure} === 'Boards – not listening'")
        scene.listener.state = "listening"
        page.wait(f"{figure} === 'Boards 0 reporting'")
        scene.board_says("ttyusb0", "metrics", time.time() - 60, simulated=True, **METRICS)
        page.wait(f"{figure} === 'Boards 0 reporting 1 silent, 1 simulated'")
        scene.listener.state = "lost the broker: it ended"
        page.wait(f"{figure} === 'Boards 0 reporting 1 unknown, 1 simulated'")
        said = page.evaluate("document.querySelector('#boards').innerText")
        assert "unknown, last record" in said
        assert "Not listening: lost the broker" in said
        assert "silent" not in said


def test_a_chart_of_zeros_has_no_negative_axis(stage: Stage, tmp_path: Path) -> None:
    with stage.showing(tmp_path) as scene:
        page = stage.browser
        for at in range(3):
            scene.board_says("ttyusb0", "drift", time.time() - 3 + at, psi=0.0)
            scene.board_says(
                "ttyusb0", "metrics", time.time() - 3 + at, **{**METRICS, "latency_p50_us": 0, "latency_p99_us": 0}
            )
        page.wait("document.querySelectorAll('#boards .chart svg[role]').length === 2")
        ticks = page.evaluate("[...document.querySelectorAll('#boards .chart .tick')].map((t) => t.textContent)")
        assert not any(tick.startswith("-") for tick in ticks), ticks


def test_metrics_of_no_boards_are_no_error(tmp_path: Path) -> None:
    from orchestrator.gateway.web.listener import Listener
    from orchestrator.gateway.web.model import DashboardModel

    model = DashboardModel(tmp_path, "test", Listener(None, "test"))
    assert "edgeward_board_" not in render(model.sections(), {})
    model.close()
