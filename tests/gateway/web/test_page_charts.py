"""Charts anyone can read: colours that stay apart, dashes and names, a scale that shows every run, axes with names, by touch."""

import itertools
import json
import math
import re
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest
from colours import VISIONS, ciede2000, contrast, difference
from dashboards import RUN, make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.store import Store
from orchestrator.gateway.web.static_files import STATIC

CSS = (STATIC / "style.css").read_text()
PALETTES = [re.findall(r"#[0-9a-f]{6}", line) for line in CSS.splitlines() if line.strip().startswith("--c1")]
GROUNDS = ["#ffffff", "#162026", "#162026"]


def test_the_difference_is_that_of_the_paper() -> None:
    """Pairs 1, 7, 17 and 25 of Sharma, Wu and Dalal's table."""
    for one, other, expected in (
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ):
        assert ciede2000(one, other) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("theme", [0, 1, 2])
@pytest.mark.parametrize("vision", VISIONS)
def test_colours_of_lines_stay_apart(theme: int, vision: str) -> None:
    assert len(PALETTES) == 3
    palette = PALETTES[theme]
    assert len(palette) == 6
    for one, other in itertools.combinations(palette, 2):
        assert difference(one, other, vision) > 15, f"{one} and {other} are hard to tell apart with {vision}"
    for colour in palette:
        assert contrast(colour, GROUNDS[theme]) >= 3, f"{colour} is hard to see"


def test_every_line_has_a_dash_of_its_own() -> None:
    dashes = dict(re.findall(r"\.(d[2-6]) \{ stroke-dasharray: ([^;]+);", CSS))
    assert len(set(dashes.values())) == 5


def give_losses(out: Path, run: str, losses: List[Any], auc: Any = 0.9, **more: Any) -> None:
    store = Store(out / "gateway.sqlite")
    for number, loss in enumerate(losses, 1):
        figures: Dict[str, Any] = {"bytes_up": 200, "bytes_down": 300, "seconds": 0.5, "codec_error": None}
        scores = {"accuracy": 0.8, "loss": loss, "auc": auc}
        store.put_result(run, number, {"round": number, "updates": 2, "nodes": ["a", "b"], **figures, **scores, **more})
    store.close()


def series(stage: Stage, card: str) -> Any:
    return stage.browser.evaluate(f"document.querySelector('#{card} .chart').chart.series.map((s) => s.name)")


def test_a_chart_without_figures_cannot_be_saved(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path, rounds=8, begun=1)
    can = (
        "(card) => [...document.querySelectorAll(`#${card} .exports button`)].filter((b) => b.checkVisibility()).length"
    )
    with stage.showing(tmp_path):
        page = stage.browser
        page.wait("document.querySelector('#accuracy .chart-empty')")
        assert page.evaluate(f"({can})('accuracy')") == 0
        give_losses(tmp_path, "heart-0123abcd", [0.7])
        page.wait("document.querySelector('#accuracy svg[role]')")
        assert page.evaluate(f"({can})('accuracy')") == 2


def test_a_run_that_diverges_flattens_no_other(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path, rounds=8, begun=6)
    make_store(tmp_path, rounds=8, begun=6, at=2000.0, run="wild-0123abcd")
    give_losses(tmp_path, "heart-0123abcd", [0.7, 0.6, 0.55, 0.5, 0.48])
    give_losses(tmp_path, "wild-0123abcd", [0.7, 30.0, 900.0, 40_000.0, float("nan")])
    with stage.showing(tmp_path, "runs"):
        page = stage.browser
        page.wait("document.querySelectorAll('#compare-loss svg[role] path.line').length === 2")
        assert (
            page.evaluate("document.querySelector('#compare-loss .axis').textContent")
            == "loss (cross-entropy, nats), logarithmic"
        )
        heights = page.evaluate(
            "[...document.querySelectorAll('#compare-loss svg[role] path.line')].map((p) => p.getBBox().height)"
        )
        assert min(heights) > 3, f"one line is flat: {heights}"
        assert page.evaluate("document.querySelectorAll('#compare-loss .odd').length") == 1, "NaN is marked"
        # Names and dashes: no line is told by its colour alone.
        classes = page.evaluate(
            "[...document.querySelectorAll('#compare-loss svg[role] path.line')].map((p) => p.getAttribute('class'))"
        )
        assert len({c.split()[-1] for c in classes}) == 2
        assert sorted(
            page.evaluate("[...document.querySelectorAll('#compare-loss .label-end')].map((t) => t.textContent)")
        ) == ["A", "B"]
        legend = page.evaluate("document.querySelector('#compare-loss .legend').innerText")
        assert re.search(r"A (heart|wild)-0123abcd", legend)
        page.evaluate("document.querySelector('#compare-loss button').click()")
        page.wait("document.querySelector('#compare-loss .axis').textContent === 'loss (cross-entropy, nats)'")
        row = "[...document.querySelectorAll('#all-runs tbody tr')].find((r) => r.innerText.includes('wild'))"
        assert "NaN" in page.evaluate(f"{row}.innerText"), "a loss that is no number is not one that was not measured"


def test_nan_is_not_the_same_as_not_measured(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, rounds=8, begun=6, at=time.time())
        sites = {
            "accuracy": float("nan"),
            "per_node": {"a": {"accuracy": float("nan"), "auc": 0.5}, "b": {"accuracy": 0.5}},
        }
        losses = [0.7, 0.6, float("inf"), float("nan"), float("nan")]
        give_losses(tmp_path, "heart-0123abcd", losses, auc=None, federated=sites)
        with stage.showing(tmp_path):
            page = stage.browser
            page.wait("document.querySelector('#loss svg[role]')")
            assert page.evaluate("document.querySelectorAll('#loss .odd').length") == 3
            assert series(stage, "accuracy") == ["accuracy"], "what was not measured has no line"
            page.evaluate("document.querySelector('#loss .chart').chart.point(4)")
            assert page.evaluate("document.querySelector('#loss .readout').innerText") == "round 4: loss NaN"
            assert "NaN" in page.evaluate("document.querySelector('#loss svg[role]').getAttribute('aria-label')")
            cells = "[...document.querySelectorAll('#scores tbody tr')].map((row) => [...row.children].map((c) => c.innerText))"
            assert page.evaluate(cells) == [["accuracy", "NaN"], ["a", "NaN", "0.500"], ["b", "0.500", "–"]]


def test_axes_have_names_and_areas_stand_on_zero(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, rounds=8, begun=6, at=time.time())
        give_losses(tmp_path, "heart-0123abcd", [0.72, 0.71, 0.7, 0.7, 0.69])
        with stage.showing(tmp_path) as scene:
            page = stage.browser
            for at in range(3):
                scene.board_says(
                    "ttyusb0",
                    "metrics",
                    time.time() - 3 + at,
                    latency_p50_us=900 + at,
                    latency_p99_us=1900,
                    inferences=9,
                    psi=0.1,
                )
            page.wait("document.querySelectorAll('#boards .chart svg[role]').length === 2")
            names = page.evaluate(
                "[...document.querySelectorAll('.chart')].map((c) => [...c.querySelectorAll('.axis')].map((t) => t.textContent))"
            )
            assert all(len(pair) == 2 and all(pair) for pair in names), names
            assert ["loss (cross-entropy, nats)", "round"] in names
            floors = page.evaluate(
                "[...document.querySelectorAll('.chart')].filter((c) => c.querySelector('.area')).map((c) => c.chart.ticks[0])"
            )
            assert floors == [0]


def test_a_finger_reads_a_chart(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, rounds=8, begun=6, at=time.time())
        give_losses(tmp_path, "heart-0123abcd", [0.72, 0.71, 0.7, 0.7, 0.69])
        page = stage.browser
        page.ask("Emulation.setTouchEmulationEnabled", enabled=True)
        try:
            with stage.showing(tmp_path, width=390, height=844, scale=2.0, mobile=True):
                page.wait("document.querySelector('#loss svg[role]')")
                page.evaluate("document.querySelector('#loss').scrollIntoView()")
                box = page.evaluate(
                    "(({x, y, width, height}) => [x, y, width, height])"
                    "(document.querySelector('#loss svg[role]').getBoundingClientRect())"
                )
                for share in (0.25, 0.6):
                    point = [{"x": box[0] + share * box[2], "y": box[1] + 0.5 * box[3]}]
                    page.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=point)
                    page.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
                    page.wait("document.querySelector('#loss .readout').innerText.startsWith('round ')")
                    said = page.evaluate("document.querySelector('#loss .readout').innerText")
                assert json.dumps(said) == '"round 5: loss 0.690"', "it stays when the finger is lifted"
        finally:
            page.ask("Emulation.setTouchEmulationEnabled", enabled=False)


@pytest.mark.parametrize(
    "ends",
    [
        "0.9999999999999999, 1",
        "0.6931471805599453, 0.6931471805599454",
        "1e17, 1e17 + 16",
        "1e300, 1.0000000000000002e300",
        "-1e308, 1e308",
        "0, 1.7e308",
        "1e-320, 1e-318",
    ],
)
def test_any_values_have_ticks(stage: Stage, tmp_path: Path, ends: str) -> None:
    """A few, that can be told apart and have places; values that differ by the last bit once held up the page for ever."""
    with stage.showing(tmp_path):
        ticks, steps, places, powers = stage.browser.evaluate(
            "(async () => { const { linear, logarithmic, logTicks, niceTicks, wholeTicks } = await import('/static/scales.js');"
            f"const [low, high] = [{ends}]; const ticks = niceTicks(low, high, 4);"
            "const of = (scale, all) => [low, high].map(scale(all[0], all[all.length - 1], 0, 100));"
            "const powers = low > 0 ? of(logarithmic, logTicks(low, high)) : [];"
            "return [ticks, wholeTicks(low, high, 7), of(linear, ticks), powers]; })()"
        )
        assert 2 <= len(set(ticks)) == len(ticks) <= 8
        assert len(steps) <= 8
        assert all(place is not None and -20 <= place <= 120 for place in places + powers), (ticks, places, powers)


def test_scores_that_differ_by_the_last_bit_are_drawn(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path, rounds=30, begun=5)
    give_losses(tmp_path, RUN, [math.log(2), math.nextafter(math.log(2), 1)], auc=0.5)
    with stage.showing(tmp_path, "runs"):
        stage.browser.wait("document.querySelector('#compare-loss .line') && document.querySelector('#compared')", 60)
