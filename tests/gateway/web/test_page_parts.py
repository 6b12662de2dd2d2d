"""A long view is drawn a card at a time: between two of them the page answers, and a card that fails leaves the others theirs."""

import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from chromium import Browser
from copies import copy_runs
from dashboards import RUN, Client, dashboard, make_store
from stage import gateway_at_work

RUNS = 6
# Counts frames and notes that in which each card came. By this clock a card takes longer than a turn of drawing has.
SLOW = """
let frame = 0, clock = 0;
window.came = {};
performance.now = () => (clock += 20);
(function next() { frame += 1; requestAnimationFrame(next); })();
new MutationObserver((changes) => {
    for (const { target } of changes) if (target.matches?.('article.card[id]')) came[target.id] ??= frame;
}).observe(document, {subtree: true, attributes: true, childList: true});
"""
BROKEN = """
const real = Array.prototype.slice;
Array.prototype.slice = function (...given) {
    if (this.some?.((line) => line?.key !== undefined && line?.text !== undefined)) throw new Error('no such card');
    return real.apply(this, given);
};
"""

# What is there as soon as another run was opened. By this clock no turn of drawing has time for a second card.
AT_ONCE = """(async () => {
    const real = performance.now;
    let clock = performance.now();
    performance.now = () => (clock += 20);
    location.hash = '#run/heart-00000001';
    await new Promise((next) => addEventListener('hashchange', next, {once: true}));
    performance.now = real;
    const texts = (of) => [...document.querySelectorAll(`#overview ${of}`)].map((node) => node.innerText);
    return {heading: texts('.heading').join(), cards: texts('.card h2')};
})()"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    out: Path = tmp_path_factory.mktemp("parts")
    with gateway_at_work(out):
        make_store(out, rounds=30, begun=20, at=time.time())
        copy_runs(out, *(f"heart-{number:08d}" for number in range(1, RUNS)))
        with dashboard(out) as (client, _):
            yield client


@pytest.fixture
def scripted(chromium: Browser) -> Iterator[Any]:
    """Has a script run before those of a page."""
    added: List[str] = []

    def add(source: str) -> None:
        added.append(chromium.ask("Page.addScriptToEvaluateOnNewDocument", source=source)["identifier"])

    chromium.size(1280, 900)
    chromium.open("about:blank")
    chromium.errors.clear()
    yield add
    for script in added:
        chromium.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    chromium.open("about:blank")
    chromium.errors.clear()


CHOSEN = ",".join([RUN, *(f"heart-{number:08d}" for number in range(1, RUNS))])
VIEWS = {
    f"#runs?choose={CHOSEN}&every=1": [
        "all-runs",
        *(f"compare-{name}" for name in ("accuracy", "auc", "loss", "epsilon")),
        "comparison",
    ],
    "#overview": ["now", "privacy", "accuracy", "loss", "nodes", "boards", "task", "traffic"],
    "#log": ["log-activity", "log-audit"],
    f"node/{RUN}/a": ["node-seconds", "node-rounds"],
}


@pytest.mark.parametrize("address", VIEWS)
def test_each_card_has_a_frame_of_its_own(chromium: Browser, runs: Client, scripted: Any, address: str) -> None:
    scripted(SLOW)
    chromium.open(f"http://127.0.0.1:{runs.port}/{address}")
    cards = VIEWS[address]
    chromium.wait(" && ".join(f"came['{card}']" for card in cards), 60)
    frames = chromium.evaluate("came")
    assert len({frames[card] for card in cards}) == len(cards), frames
    assert [card for card in sorted(cards, key=lambda card: int(frames[card]))] == cards, "in the order of the view"
    assert chromium.errors == []


def test_a_card_that_cannot_be_drawn_leaves_the_others_theirs(chromium: Browser, runs: Client, scripted: Any) -> None:
    scripted(BROKEN)
    chromium.open(f"http://127.0.0.1:{runs.port}/#overview")
    chromium.wait("document.querySelector('#traffic tbody tr')", 60)
    assert chromium.evaluate("document.querySelector('#now')") is None
    assert chromium.errors, "and an error of the page"
    assert "This card could not be drawn: no such card." in chromium.text()


def test_a_card_that_can_no_longer_be_drawn_shows_nothing_old(chromium: Browser, runs: Client, scripted: Any) -> None:
    """`scripted` forgets the errors."""
    chromium.open(f"http://127.0.0.1:{runs.port}/#overview")
    chromium.wait("document.querySelector('#phase')?.innerText === 'Collecting updates'", 60)
    chromium.evaluate(f"(() => {{ window.whole = Array.prototype.slice; {BROKEN} }})()")
    chromium.evaluate("location.hash = '#overview?nodes.sort=state'")
    chromium.wait("document.querySelector('#overview .problem')?.innerText.includes('no such card')", 60)
    assert chromium.evaluate("document.querySelector('#phase')") is None
    assert chromium.evaluate("document.querySelector('#overview .card h2').innerText") == "Now"
    chromium.evaluate("Array.prototype.slice = whole")
    chromium.evaluate("location.hash = '#overview'")
    chromium.wait("document.querySelector('#phase')?.innerText === 'Collecting updates'", 60)
    assert chromium.evaluate("document.querySelector('#overview .problem')") is None


def test_no_card_of_a_run_stands_under_another_s_name(chromium: Browser, runs: Client, scripted: Any) -> None:
    chromium.open(f"http://127.0.0.1:{runs.port}/#overview")
    for number in (1, 2):
        chromium.evaluate(f"location.hash = '#run/heart-{number:08d}'")
        chromium.wait(f"document.querySelector('#overview .heading')?.innerText.includes('heart-{number:08d}')", 60)
        chromium.wait("document.querySelector('#traffic')", 60)
        chromium.drawn()
    seen = chromium.evaluate(AT_ONCE)
    assert "heart-00000001" in seen["heading"]
    assert "Task" not in seen["cards"], "it is drawn long after the heading"
    chromium.wait("document.querySelector('#task dt')", 60)
    assert chromium.errors == []
