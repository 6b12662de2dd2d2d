"""What readers do is not lost: the keyboard's place in a row that moves, the view they skip into, the tab they glance at."""

import time
from pathlib import Path

from dashboards import RUN, make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Joined

ROWS = "[...document.querySelectorAll('#nodes tbody a')]"
NAMES = f"{ROWS}.map((link) => link.innerText).join(' ')"
SELECT = f"""(() => {{
    const range = document.createRange();
    range.selectNodeContents({ROWS}.find((link) => link.innerText === 'ward-2'));
    getSelection().removeAllRanges(); getSelection().addRange(range);
}})()"""
HIDE = """(() => {
    Object.defineProperty(document, 'hidden', {value: true});
    window.requestAnimationFrame = () => 0; // a hidden tab has no frames
})()"""


def wards(out: Path) -> Store:
    make_store(out, at=time.time())
    store = Store(out / "gateway.sqlite")
    for number in range(6):
        store.append(RUN, Joined(time.time(), f"ward-{number}", 10 + number))
    return store


def test_a_row_that_moves_keeps_focus_and_selection(stage: Stage, tmp_path: Path) -> None:
    store = wards(tmp_path)
    with gateway_at_work(tmp_path), stage.showing(tmp_path, "overview?nodes.sort=-records") as _:
        page = stage.browser
        for hold, held in (
            (f"{ROWS}.find((link) => link.innerText === 'ward-2').focus()", "document.activeElement.innerText"),
            (SELECT, "getSelection().toString()"),
        ):
            for records, names in (
                (9000, "ward-2 a b ward-5 ward-4 ward-3 ward-1 ward-0 c"),
                (12, "a b ward-5 ward-4 ward-3 ward-2 ward-1 ward-0 c"),
            ):
                page.wait(f"{ROWS}.length === 9", 60)
                page.evaluate(hold)
                store.append(RUN, Joined(time.time(), "ward-2", records))
                page.wait(f"{NAMES} === '{names}'", 60)
                assert page.evaluate(held) == "ward-2"
    store.close()


def test_who_skips_to_the_content_stays_in_the_view(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    with stage.showing(tmp_path, f"runs?choose={RUN}&every=1"):
        page = stage.browser
        page.wait("document.querySelector('#compared')", 60)
        page.evaluate("document.querySelector('.skip').focus()")
        page.press_enter()
        page.wait("document.activeElement === document.querySelector('#runs h1')", 60)
        assert page.evaluate("location.hash") == f"#runs?choose={RUN}&every=1"
        assert page.evaluate("document.querySelector('#runs').checkVisibility()")


def test_the_title_of_a_tab_in_the_background_goes_on(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path) as gateway:
        make_store(tmp_path, at=time.time())
        with stage.showing(tmp_path):
            page = stage.browser
            page.wait("document.title === 'round 2/3 · Edgeward'", 60, whole=False)
            page.evaluate(HIDE)
            gateway.kill()
            page.wait("document.title === 'interrupted in round 2/3 · Edgeward'", 60, whole=False)
