"""While values come, what somebody selected, scrolled, focused or points at stays: only what changed is drawn again."""

import time
from pathlib import Path

from dashboards import RUN, make_store
from stage import Scene, Stage, gateway_at_work

from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Declined, Joined

SELECT = """(() => {
    const cell = [...document.querySelectorAll('#nodes tbody td')].find((td) => td.innerText === 'a');
    const range = document.createRange();
    range.selectNodeContents(cell); getSelection().removeAllRanges(); getSelection().addRange(range);
})()"""


def changes_go_by(stage: Stage, scene: Scene, times: int = 4) -> None:
    """A board reports once a second, by the page's own count of what it drew."""
    for turn in range(times):
        scene.board_says("ttyusb0", "metrics", latency_p50_us=100 + turn, latency_p99_us=300, inferences=1000 + turn)
        stage.browser.wait(f"document.querySelector('#boards').innerText.includes('{1000 + turn:,}')")


def test_a_stuck_round_at_1_hz_disturbs_nobody(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, rounds=30, begun=20, at=time.time())
        store = Store(tmp_path / "gateway.sqlite")
        for number in range(40):
            store.append(RUN, Joined(time.time(), f"node-{number:02d}-of-a-hospital-with-a-long-name", 10))
        with stage.showing(tmp_path) as scene:
            page = stage.browser
            page.wait("document.querySelectorAll('.chip').length > 2")
            scene.board_says("ttyusb0", "metrics", latency_p50_us=90, latency_p99_us=300, inferences=7)
            page.wait("document.querySelector('#boards .facts')")
            page.evaluate(SELECT)
            page.evaluate("document.querySelector('#privacy').scrollIntoView()")
            page.evaluate("document.querySelector('#loss svg').focus()")
            page.press("ArrowLeft")
            page.press("ArrowLeft")
            readout = page.evaluate("document.querySelector('#loss .readout').innerText")
            assert readout.startswith("round 18"), readout
            before = page.evaluate("[scrollY, getSelection().toString()]")
            changes_go_by(stage, scene)
            assert page.evaluate("[scrollY, getSelection().toString()]") == before
            assert before[1] == "a"
            assert page.evaluate("document.activeElement === document.querySelector('#loss svg')")
            assert page.evaluate("document.querySelector('#loss .readout').innerText") == readout
            assert page.evaluate("document.querySelector('#loss .cross').getAttribute('visibility')") == "visible"
            # What is new is there all the same.
            store.append(RUN, Declined(time.time(), "b", "no column 'age'"))
            page.wait("document.querySelector('#nodes').innerText.includes(\"no column 'age'\")")
            assert page.evaluate("getSelection().toString()") == "a"
        store.close()


def test_the_log_keeps_its_place(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    (tmp_path / "audit.jsonl").write_text("".join(f'{{"n": {n}, "event": "joined", "at": 1.0}}\n' for n in range(150)))
    with stage.showing(tmp_path, "log") as scene:
        page = stage.browser
        page.wait("document.querySelectorAll('#audit li').length === 150")
        page.evaluate("document.querySelector('#audit').scrollTop = 900")
        page.evaluate("window.first = document.querySelector('#audit li')")
        for turn in range(3):
            scene.hear({"event": "export", "message": f"step {turn}"})
            page.wait(f"document.querySelector('#activity').innerText.includes('step {turn}')")
        assert page.evaluate("document.querySelector('#audit').scrollTop") == 900
        assert page.evaluate("first === document.querySelector('#audit li')"), "an unchanged line was drawn again"


def test_what_a_list_is_narrowed_by_is_what_its_fields_say(stage: Stage, tmp_path: Path) -> None:
    """Also where the address changes under a field that somebody typed in: by a link, or the way back."""
    make_store(tmp_path, at=time.time())
    store = Store(tmp_path / "gateway.sqlite")
    for number in range(9):
        store.append(RUN, Joined(time.time(), f"ward-{number}", 10))
    store.close()
    fields = "['search', 'sort'].map((name) => document.querySelector(`#nodes-${name}`).value)"
    rows = "document.querySelectorAll('#nodes tbody tr').length"
    with stage.showing(tmp_path, "overview"):
        page = stage.browser
        page.wait("document.querySelector('#nodes-search')")
        page.evaluate("document.querySelector('#nodes-search').focus()")
        page.type("ward-3")
        page.evaluate(
            "(() => { const sort = document.querySelector('#nodes-sort'); sort.value = 'records';"
            " sort.dispatchEvent(new Event('change')); })()"
        )
        page.wait(f"{rows} === 1")
        page.evaluate("document.querySelector('[data-view=overview]').click()")
        page.wait(f"{rows} === 12")
        assert page.evaluate(fields) == ["", ""]
        page.evaluate("history.back()")
        page.wait(f"{rows} === 1")
        assert page.evaluate(fields) == ["ward-3", "records"]


def test_what_could_not_be_read_is_asked_for_again(stage: Stage, tmp_path: Path) -> None:
    """A comparison and a page of the audit log, which nothing else makes the page ask for."""
    make_store(tmp_path)
    (tmp_path / "audit.jsonl").write_text("".join(f'{{"n": {n}, "event": "joined", "at": 1.0}}\n' for n in range(250)))
    with stage.showing(tmp_path):
        page = stage.browser
        page.wait("document.querySelector('#now')")
        with stage.offline():
            for place, problem in (("runs", "#comparison .problem"), ("log?before=30", "#log-problem")):
                page.evaluate(f"location.hash = '#{place}'")
                page.wait(f"document.querySelector('{problem}')")
        page.wait("document.querySelectorAll('#audit li').length === 29 && !document.querySelector('#log-problem')")
        page.evaluate("location.hash = '#runs'")
        page.wait("document.querySelector('#compared')")
