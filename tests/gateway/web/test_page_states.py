"""Every state of the pages, wide and on a phone, light and dark: nothing axe-core finds, all of it by keyboard, its shape."""

import json
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

import axe_playwright_python
import pytest
from chromium import Browser
from scenes import STATES, State, open_state
from shapes import difference, shape_of
from stage import Stage

SCREENS = Path(__file__).resolve().parents[3] / "docs" / "screens"
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
VIOLATIONS = """axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations.map(
    (v) => [v.id, v.help, v.nodes.map((n) => `${n.html.slice(0, 200)} ${n.failureSummary}`)]))"""

CONTROLS = (
    "a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary, [tabindex]:not([tabindex='-1'])"
)
AT_FOCUS = """(() => {
    const at = document.activeElement;
    if (at === document.body || at === document.documentElement) return null;
    window.visited ??= new Map();
    if (visited.has(at)) return 'again';
    const box = at.getBoundingClientRect(), style = getComputedStyle(at);
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + Math.min(box.height, innerHeight) / 2);
    const whose = top && (at.contains(top) || top.contains(at) || at.parentElement.contains(top));
    visited.set(at, true);
    const name = `${at.tagName} ${at.id} ${(at.innerText ?? '').slice(0, 40)}`;
    if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) return `${name}: its focus cannot be seen`;
    if (box.bottom <= 0 || box.top >= innerHeight) return `${name}: is outside of the window`;
    return whose ? '' : `${name}: is covered by ${top?.outerHTML.slice(0, 80)}`;
})()"""
LEFT_OUT = f"""[...document.querySelectorAll("{CONTROLS}")]
    .filter((e) => e.checkVisibility({{visibilityProperty: true}}) && !visited.has(e)).map((e) => e.outerHTML.slice(0, 120))"""


class Shown(NamedTuple):
    stage: Stage
    state: State
    width: int

    @property
    def browser(self) -> Browser:
        return self.stage.browser


@pytest.fixture(scope="module", params=STATES, ids=lambda state: state.name)
def state(request: Any, stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    with request.param.shown(stage, tmp_path_factory.mktemp(request.param.name)):
        yield request.param


@pytest.fixture(scope="module", params=[1280, 390])
def shown(request: Any, stage: Stage, state: State) -> Iterator[Shown]:
    open_state(stage, state, request.param)
    yield Shown(stage, state, request.param)
    stage.browser.dark(False)


def test_it_has_its_shape(shown: Shown) -> None:
    """screens.py writes it again where the change is wanted."""
    wanted = json.loads((SCREENS / "shapes.json").read_text())[f"{shown.state.name}-{shown.width}"]
    differs = difference(wanted, shape_of(shown.browser))
    assert differs is None, shown.browser.evaluate("document.body.innerText")
    assert shown.browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_axe_finds_nothing(shown: Shown) -> None:
    """Given to the page by the debugger: its content security policy lets no page do that."""
    shown.browser.evaluate(f"{AXE}; true")
    for dark in (False, True):
        shown.browser.dark(dark)
        found: List[Any] = shown.browser.evaluate(VIOLATIONS)
        assert found == [], f"{'dark' if dark else 'light'}: {json.dumps(found, indent=1)}"
    shown.browser.dark(False)


def test_the_keyboard_alone_reaches_everything(shown: Shown) -> None:
    browser = shown.browser
    browser.evaluate("document.activeElement.blur(); scrollTo(0, 0); window.visited = new Map(); true")
    wrong, ends = [], 0
    for _ in range(400):
        browser.press("Tab")
        at = browser.evaluate(AT_FOCUS)
        ends += at is None  # it begins where the address points, and goes on from the top
        if at == "again" or ends > 1:
            break
        wrong += [at] if at else []
    else:
        pytest.fail("the keyboard does not come round")
    assert wrong == []
    assert browser.evaluate(LEFT_OUT) == []
    assert browser.evaluate("visited.size") > 0
