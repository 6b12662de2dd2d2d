"""Names that mean something to JavaScript are names like any other: of boards, of what nodes report, in addresses."""

import time
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser
from dashboards import RUN, make_store
from scenes import Ward
from stage import Stage, gateway_at_work

from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Joined

INHERITED = ("constructor", "valueof", "tostring")
HEALTH = {"constructor": 1.0, "__defineGetter__": 2.0, "__proto__": 3.0, "battery": 80.4}


def presence_of(stage: Stage, health: Any) -> None:
    stage.scene.node_says("a", kind="hello", labels={"__proto__": "x"}, health=health)


def test_boards_and_figures_may_have_any_name(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    with stage.showing(tmp_path) as scene:
        for name in INHERITED:
            for turn in range(3):
                scene.board_says(name, "metrics", latency_p50_us=90 + turn, latency_p99_us=300, inferences=7)
        presence_of(stage, HEALTH)
        page = stage.browser
        page.wait("document.querySelectorAll('#boards .board .chart svg[role]').length === 3")
        shown = page.evaluate("[...document.querySelectorAll('#boards .board h3')].map((name) => name.innerText)")
        assert shown == sorted(INHERITED)
        page.wait("document.querySelector('#nodes .about')")
        said = page.evaluate("document.querySelector('#nodes .about').innerText")
        for wanted in ("__proto__=x", "constructor 1", "battery 80 %"):
            assert wanted in said


@pytest.mark.parametrize("place", ["constructor", "toString?q=1", "%E0%A4%A"])
def test_an_address_of_no_view_shows_the_first(stage: Stage, tmp_path: Path, place: str) -> None:
    make_store(tmp_path)
    with stage.showing(tmp_path, place):
        stage.browser.wait("document.querySelector('#overview:not([hidden]) #now')")


def test_an_address_of_no_run_says_so_and_goes_on_asking(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    page = stage.browser
    with stage.showing(tmp_path, "run/constructor"):
        page.wait("document.querySelector('#overview').innerText.includes(\"the store has no run 'constructor'\")")
        stage.skip(6.0)  # until it may ask again
        make_store(tmp_path, run="constructor")
        page.wait("document.querySelector('#overview').innerText.includes('run constructor')")
        forget_refusals(page)


@pytest.mark.parametrize("path", [f"node/{RUN}/100%", "statement/100%"])
def test_a_path_that_is_not_encoded_as_it_should_be_is_answered(stage: Stage, tmp_path: Path, path: str) -> None:
    make_store(tmp_path)
    page = stage.browser
    with stage.showing(tmp_path):
        page.open(stage.url + path)
        page.wait("document.querySelector('#problem')?.innerText.includes(\"'100%'\")")
        forget_refusals(page)


def test_the_longest_name_fits_on_the_narrowest_screen(stage: Stage, tmp_path: Path) -> None:
    """320 pixels, as of a page at 400 % on a screen of 1280; and what a link narrows a short list by can be taken back."""
    name = "z" * 64
    make_store(tmp_path)
    store = Store(tmp_path / "gateway.sqlite")
    store.append(RUN, Joined(2000.0, name, 10))
    store.close()
    fits = "document.documentElement.scrollWidth <= 320"
    page = stage.browser
    with stage.showing(tmp_path, "overview?nodes.q=zz", width=320, height=700):
        page.wait("document.querySelectorAll('#nodes tbody tr').length === 1")
        assert page.evaluate(fits)
        assert page.evaluate("document.querySelector('#nodes-search').value") == "zz"
        page.open(f"{stage.url}node/{RUN}/{name}")
        page.wait("document.querySelector('#node-state')")
        assert page.evaluate(fits)


def forget_refusals(page: Browser) -> None:
    """Chromium writes down every answer that is not 2xx."""
    page.errors[:] = [error for error in page.errors if "404" not in error]


def test_long_names_of_nodes_are_whole_on_a_phone(stage: Stage, tmp_path: Path) -> None:
    """A list that scrolls to the side could not be read by keyboard."""
    with gateway_at_work(tmp_path):
        run = Ward(tmp_path, at=time.time())
        run.joins({f"intensive-care-{'-and-recovery' * 4}-{number}": 200 for number in range(4)})
        run.close()
        with stage.showing(tmp_path, width=390, height=844, mobile=True):
            page = stage.browser
            page.wait("document.querySelectorAll('#chips .chip').length === 4")
            hidden = "((list) => [list.scrollWidth - list.clientWidth, list.scrollHeight - list.clientHeight])"
            assert page.evaluate(f"{hidden}(document.querySelector('#chips'))") == [0, 0]
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
