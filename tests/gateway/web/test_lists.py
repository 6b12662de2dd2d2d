"""Forty nodes on a phone and sixty-two runs: short, searchable, sortable lists; what was chosen is in the link."""

import time
from pathlib import Path
from typing import Iterator

import pytest
from chromium import Browser
from copies import copy_runs
from dashboards import RUN, Client, dashboard, make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.store import Store
from orchestrator.gateway.web import parts
from orchestrator.rounds.events import Declined, Joined

NODES, RUNS = 40, 62
ROWS = "document.querySelectorAll('#{} tbody tr').length"


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A dashboard of 62 runs, the newest with 40 more nodes, of which every tenth declined."""
    out = tmp_path_factory.mktemp("crowd")
    with gateway_at_work(out):
        make_store(out, at=time.time())
        store = Store(out / "gateway.sqlite")
        for number in range(NODES):
            name, at = f"clinic-{number:02d}", time.time()
            gone = number % 10 == 9
            store.append(RUN, Declined(at, name, "no column 'age'") if gone else Joined(at, name, 100 + number))
        store.close()
        copy_runs(out, *(f"heart-{number:08d}" for number in range(1, RUNS)))
        with dashboard(out) as (client, _):
            yield client


def show(browser: Browser, client: Client, place: str, phone: bool = False) -> None:
    browser.size(390 if phone else 1280, 844, 1.0, mobile=phone)
    browser.open("about:blank")
    browser.errors.clear()
    browser.open(f"http://127.0.0.1:{client.port}/#{place}")


def search(browser: Browser, field: str, text: str) -> None:
    browser.evaluate(
        f"(() => {{ const field = document.querySelector('#{field}'); field.value = '{text}';"
        " field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def test_forty_nodes_on_a_phone_are_a_short_list_that_can_be_opened(chromium: Browser, crowd: Client) -> None:
    show(chromium, crowd, "overview", phone=True)
    chromium.wait(f"{ROWS.format('nodes')} === 5", 60)
    assert chromium.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert chromium.evaluate("document.querySelector('#nodes').offsetHeight") < 2 * 844
    assert "declined" in chromium.evaluate("document.querySelector('#nodes tbody tr').innerText"), (
        "those not well come first"
    )
    chromium.evaluate("document.querySelector('#nodes-all').click()")
    chromium.wait(f"{ROWS.format('nodes')} === {NODES + 3}", 60)
    chromium.reload()
    chromium.wait(f"{ROWS.format('nodes')} === {NODES + 3}", 60)
    assert chromium.errors == []


def test_nodes_are_searched_sorted_and_narrowed_to_those_not_well(chromium: Browser, crowd: Client) -> None:
    show(chromium, crowd, "overview")
    chromium.wait(f"{ROWS.format('nodes')} === 12", 60)
    search(chromium, "nodes-search", "clinic-1")
    chromium.wait(f"{ROWS.format('nodes')} === 10", 60)
    assert "10 of 43 nodes shown" in chromium.text()
    chromium.evaluate("document.querySelector('#nodes-unwell').click()")
    chromium.wait(
        f"{ROWS.format('nodes')} === 1 && document.querySelector('#nodes tbody').innerText.includes('clinic-19')", 60
    )
    chromium.reload()
    chromium.wait(f"{ROWS.format('nodes')} === 1", 60)
    chromium.evaluate("document.querySelector('#nodes-unwell').click()")
    search(chromium, "nodes-search", "")
    chromium.wait(f"{ROWS.format('nodes')} === 12", 60)
    press = "[...document.querySelectorAll('#nodes .sorts')].find((b) => b.innerText.startsWith('records')).click()"
    chromium.evaluate(press)
    chromium.wait("document.querySelector('#nodes [aria-sort=ascending]')", 60)
    chromium.evaluate(press)
    chromium.wait("document.querySelector('#nodes [aria-sort=descending]')", 60)
    first = "[...document.querySelectorAll('#nodes tbody tr')].slice(0, 3).map((r) => r.cells[2].innerText)"
    assert chromium.evaluate(first) == ["138", "137", "136"]
    assert chromium.errors == []


def test_the_choice_of_runs_is_in_the_link_and_survives_a_reload(chromium: Browser, crowd: Client) -> None:
    boxes = "[...document.querySelectorAll('#all-runs tbody input:checked')]"
    checked = f"{boxes}.map((box) => box.closest('tr').querySelector('a').innerText)"
    show(chromium, crowd, "runs", phone=True)
    chromium.wait(f"{ROWS.format('all-runs')} === 5 && {checked}.length === 3", 60)
    top = chromium.evaluate(
        "document.querySelector('#all-runs').nextElementSibling.getBoundingClientRect().top + scrollY"
    )
    assert top < 3 * 844, f"the first chart begins at {top:.0f} px"
    search(chromium, "runs-search", "00000017")
    chromium.wait("document.querySelector('#all-runs tbody').innerText.includes('heart-00000017')", 60)
    chromium.evaluate(
        "[...document.querySelectorAll('#all-runs tbody tr')].find((r) => r.innerText.includes('heart-00000017'))"
        ".querySelector('input').click()"
    )
    chromium.wait("location.hash.includes('heart-00000017')", 60)
    link = chromium.evaluate("location.href")
    for again in ("reload", "another"):
        chromium.reload() if again == "reload" else show(chromium, crowd, link.partition("#")[2])
        chromium.wait(f"{checked}.includes('heart-00000017')", 60)
    search(chromium, "runs-search", "")
    chromium.wait(f"{checked}.length === 4", 60)
    assert "heart-00000017" in chromium.evaluate(checked), "a chosen run is shown in a short list"
    assert chromium.errors == []


def test_what_a_link_names_and_the_store_lacks_is_left_out_and_said(chromium: Browser, crowd: Client) -> None:
    show(chromium, crowd, f"runs?choose={RUN},nothing")
    chromium.wait("document.querySelectorAll('#all-runs tbody input:checked').length === 1", 60)
    assert chromium.evaluate("document.querySelector('#missing').innerText").endswith("names it: nothing.")
    assert chromium.errors == []


def test_a_list_of_the_newest_runs_says_of_how_many(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path)
    copy_runs(tmp_path, "heart-00000001", "heart-00000002")
    monkeypatch.setattr(parts, "MOST_RUNS", 2)
    with stage.showing(tmp_path, "runs"):
        stage.browser.wait("document.querySelector('#runs .heading').innerText.includes('the newest 2 of 3 runs')", 60)


def test_a_run_that_a_link_names_twice_is_drawn_once(stage: Stage, tmp_path: Path) -> None:
    """And no other is left out for it."""
    make_store(tmp_path)
    copy_runs(tmp_path, "another-0123abcd", rounds=True)
    names = [*[RUN] * 6, "another-0123abcd", "gone", "gone"]
    with stage.showing(tmp_path, f"runs?choose={','.join(names)}"):
        page = stage.browser
        page.wait("document.querySelectorAll('#compared thead th').length > 1")
        page.wait("document.querySelectorAll('#compare-accuracy svg[role] path.line').length > 1")
        legend = "[...document.querySelectorAll('#compare-accuracy .legend li')].map((name) => name.innerText)"
        shown = page.evaluate(legend)
        assert len(shown) == 2, shown
        assert page.evaluate("document.querySelector('#missing').innerText").endswith("names it: gone.")


def test_who_turns_pages_by_keyboard_stays_at_the_button(stage: Stage, tmp_path: Path) -> None:
    """Also where it is the last page, or the list is opened or closed."""
    make_store(tmp_path, at=time.time())
    store = Store(tmp_path / "gateway.sqlite")
    for number in range(130):
        store.append(RUN, Joined(time.time(), f"ward-{number:03d}", 10))
    store.close()
    with stage.showing(tmp_path):
        page = stage.browser
        page.wait("document.querySelector('#nodes-all')")
        for button, rows in (
            ("all", 100),
            ("next", 33),
            ("next", 33),
            ("previous", 100),
            ("previous", 100),
            ("all", 12),
        ):
            page.evaluate(f"document.querySelector('#nodes-{button}').focus()")
            page.press_enter()
            page.wait(f"{ROWS.format('nodes')} === {rows}")
            page.evaluate("new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))")
            assert page.evaluate("document.activeElement.id") == f"nodes-{button}", rows


def test_who_turns_to_the_oldest_entries_by_keyboard_stays_at_the_button(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    (tmp_path / "audit.jsonl").write_text("".join(f'{{"n": {n}, "event": "joined", "at": 1.0}}\n' for n in range(450)))
    named = "[...document.querySelectorAll('#log-audit .pager button')].find((b) => b.innerText === '{}')"
    with stage.showing(tmp_path, "log"):
        page = stage.browser
        for name, newest in (("Oldest", 200), ("Oldest", 200), ("Newer", 400), ("Newest", 450), ("Newest", 450)):
            page.wait(named.format(name))
            page.evaluate(f"{named.format(name)}.focus()")
            page.press_enter()
            page.wait(f"document.querySelector('#audit-shown').innerText.includes(' to {newest} of 450')")
            page.evaluate("new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))")
            assert page.evaluate("document.activeElement.innerText") == name
