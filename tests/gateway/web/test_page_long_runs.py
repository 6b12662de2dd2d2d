"""Forty nodes, two thousand rounds, sixty-two runs: while rounds go on nothing grows in a tab, nor what an event costs."""

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest
from chromium import Browser
from crowd import Course, make_crowd
from stage import Scene, Stage, gateway_at_work

from orchestrator.gateway.web import app, epsilon
from orchestrator.wire.protection import Privacy

PRIVACY = Privacy(
    epsilon=8.0, delta=1e-3, noise_multiplier=3.0, statistics_noise_multiplier=5.0, statistics_clip_norm=0.5
)
EVENTS = 100
MOST_HEAP_BYTES = 8_000
"""An event, on average: less than what it says itself, which is kept in place of what was said before."""
COUNTED = """(() => {
    window.counted = {made: 0, changed: 0};
    for (const name of ['createElement', 'createElementNS']) {
        const make = document[name].bind(document);
        document[name] = (...given) => { counted.made += 1; return make(...given); };
    }
    new MutationObserver((found) => { counted.changed += found.length; })
        .observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
})()"""
LATER = """window.later = 0; {
    const set = setTimeout;
    window.setTimeout = (then, wait) => { later += wait > 2000; return set(() => { later -= wait > 2000; then(); }, wait); };
    window.asked = []; const get = fetch;
    window.fetch = (path, ...given) => { asked.push([String(path), performance.now()]); return get(path, ...given); };
}"""


class Long(NamedTuple):
    course: Course
    scene: Scene
    browser: Browser

    def goes_on(self, events: int) -> None:
        """So many rounds, each once the page shows the one before; a board reports with every one."""
        for _ in range(events):
            number = self.course.next_round(len(self.course.names) // 2)
            self.scene.board_says("ttyusb0", "metrics", latency_p50_us=900 + number % 7, latency_p99_us=1300, psi=0.02)
            self.browser.wait(f"document.title.endsWith('round {number}/{self.course.planned} · Edgeward')", 60)
            self.browser.drawn()

    def holds(self) -> Dict[str, float]:
        """What the tab holds on to."""
        looks = []
        for _ in range(4):  # what is being drawn, and what finalizers let go, is collected by the next
            self.browser.evaluate("new Promise((then) => requestAnimationFrame(() => setTimeout(then)))")
            self.browser.ask("HeapProfiler.collectGarbage")
            found = self.browser.ask("Performance.getMetrics")["metrics"]
            looks.append({metric["name"]: metric["value"] for metric in found})
        return {name: min(look[name] for look in looks) for name in ("JSHeapUsedSize", "Nodes", "JSEventListeners")}

    def works(self, events: int = 20) -> Dict[str, float]:
        """Elements the page makes an event, and places of it that change."""
        self.goes_on(1)
        self.browser.evaluate(COUNTED)
        self.goes_on(events)
        return {name: many / events for name, many in self.browser.evaluate("counted").items()}


def curve(task: Any, records: Any, run: int = 1) -> Dict[str, Any]:
    """Instead of the accountant, which takes half a minute."""
    points = [(number, 0.5 + 0.002 * number) for number in range(0, task.last_round + 1, 50)]
    return {"points": points, "statement": {"not_covered": ["hyperparameters"], "accountant": "PLD"}}


def epsilons(task: Any, run: int, rounds: List[int]) -> Dict[int, float]:
    return {number: 0.5 + 0.002 * number for number in rounds}


@contextmanager
def long_run(stage: Stage, out: Path, view: str = "", **size: int) -> Iterator[Long]:
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch, gateway_at_work(out):
        patch.setattr(epsilon, "curve_apart", curve)
        patch.setattr(epsilon, "epsilons_apart", epsilons)
        patch.setattr(app, "_POLL_S", 0.02)
        course = make_crowd(out, PRIVACY, **size)
        with stage.showing(out, view) as scene, ExitStack() as domains:
            scene.listener.state = "listening"
            for domain in ("Performance", "HeapProfiler"):
                stage.browser.ask(f"{domain}.enable")
                domains.callback(stage.browser.ask, f"{domain}.disable")
            yield Long(course, scene, stage.browser)


def test_nothing_grows_in_a_tab_while_rounds_go_on(stage: Stage, tmp_path: Path) -> None:
    with long_run(stage, tmp_path / "long") as long:
        long.goes_on(EVENTS)
        before = long.holds()
        long.goes_on(EVENTS)
        after = long.holds()
    grown = {name: (after[name] - before[name]) / EVENTS for name in before}
    assert grown["JSHeapUsedSize"] < MOST_HEAP_BYTES, grown
    assert grown["Nodes"] < 1, grown
    assert grown["JSEventListeners"] < 0.1, grown
    assert after["JSHeapUsedSize"] < 20e6, after


@pytest.mark.parametrize("view", ["", "runs"])
def test_an_event_is_no_more_work_with_more_rounds_and_runs(stage: Stage, tmp_path: Path, view: str) -> None:
    with long_run(stage, tmp_path / "some", view, rounds=200, runs=20) as long:
        some = long.works()
    with long_run(stage, tmp_path / "many", view, rounds=2000, runs=62) as long:
        many = long.works()
    for name, least in (("made", 300), ("changed", 20)):
        assert least < some[name]
        assert many[name] < 1.3 * some[name], f"{name}: {some[name]:.0f} an event with few, {many[name]:.0f} with many"
    assert many["changed"] < 1000


def test_a_page_that_waits_for_the_accountant_is_not_drawn_ever_more_often(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = stage.browser.ask("Page.addScriptToEvaluateOnNewDocument", source=LATER)["identifier"]
    chosen = [f"sepsis-{number:08x}" for number in range(1, 7)]
    try:
        with long_run(stage, tmp_path / "long", f"runs?choose={','.join(chosen)}", rounds=20, runs=7, before=5) as long:
            for name in chosen:
                stage.browser.wait(f"asked.some(([path]) => path === '/api/page/{name}')")
            monkeypatch.setattr(epsilon.EpsilonCurves, "of", lambda *_: {"state": "computing", "planned": 8.0})
            stage.browser.reload()
            long.goes_on(20)
            assert stage.browser.evaluate("later") <= len(chosen), "timers that draw the page"
    finally:
        stage.browser.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_a_run_compared_while_it_goes_on_is_not_asked_for_with_every_event(stage: Stage, tmp_path: Path) -> None:
    script = stage.browser.ask("Page.addScriptToEvaluateOnNewDocument", source=LATER)["identifier"]
    times = "asked.filter(([path]) => path.startsWith('/api/compare')).map(([, at]) => at)"
    try:
        with long_run(stage, tmp_path / "long", "runs", rounds=20, runs=2, before=5) as long:
            stage.browser.wait("document.querySelector('#compared')")
            long.goes_on(10)
            shown = f"{long.course.coordinator.round - 1} of {long.course.planned}"
            stage.browser.wait(f"document.querySelector('#compared').innerText.includes('{shown}')")
            asked = stage.browser.evaluate(times)
            assert all(later - one > 4900 for one, later in zip(asked, asked[1:])), asked
    finally:
        stage.browser.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
