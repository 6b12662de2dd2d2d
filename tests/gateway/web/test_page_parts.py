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
