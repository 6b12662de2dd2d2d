"""The page for a data protection officer: on two sheets of A4 which run and model, when, what is claimed and what is not."""

import base64
import json
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
from chromium import Browser
from dashboards import RUN, Client, dashboard, make_store
from pdf import Pdf
from stage import Stage

from orchestrator.gateway.store import Store
from orchestrator.gateway.web.officer import blocks
from orchestrator.privacy.statement_page import NOTHING, markdown
from orchestrator.rounds.events import Aggregated, Arrived, Ticked
from orchestrator.wire.protection import Privacy

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "tasks.json").read_text())
DIGEST = "0123456789abcdef"


def longest_statements() -> List[Dict[str, Any]]:
    """Those that take most room of what declared tasks of every kind state, and one without privacy."""
    found = sorted((task["statement"] for task in GOLDEN.values()), key=lambda said: len(markdown(said)))
    return [*found[-3:], found[0], {"unit": "none", "claim": NOTHING}]


def state(out: Path, statement: Dict[str, Any]) -> None:
    store = Store(out / "gateway.sqlite")
    store.put_report(RUN, 2000.0, {"digest": DIGEST, "privacy": statement})
    store.close()


def open_page(browser: Browser, client: Client, run: str = RUN) -> None:
    browser.open("about:blank")
    browser.errors.clear()
    browser.open(f"http://127.0.0.1:{client.port}/statement/{run}")
    browser.wait("document.querySelector('#statement .identity, #statement #problem[role=alert]:not([hidden])')")


def printed(browser: Browser) -> Pdf:
    answer = browser.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    return Pdf(base64.b64decode(answer["data"]))


def test_it_prints_to_two_sheets_that_say_all(chromium: Browser, tmp_path: Path) -> None:
    make_store(tmp_path)
    with dashboard(tmp_path) as (client, _):
        chromium.dark(True)  # paper is white all the same
        chromium.ask("Emulation.setTimezoneOverride", timezoneId="Europe/Berlin")
        for said in longest_statements():
            others = [
                {
                    "run": f"sepsis-{n:08x}",
                    "nodes": 4,
                    "epsilon": 1.25,
                    "delta": 1e-5,
                    "unit": "record",
                    "finished": False,
                }
                for n in range(60)
            ]
            said = {
                **said,
                "other_runs": others,
                "clipped": "in the last round 12 % of the gradients were clipped, " * 3,
            }
            state(tmp_path, said)
            open_page(chromium, client)
            pdf = printed(chromium)
            first, second = pdf.pages()
            assert pdf.sizes_mm() == [(210, 297), (210, 297)]
            for wanted in (
                RUN,
                DIGEST,
                "Task heart",
                "Federation test",
                "1 January 1970 at 01:16:",
                "GMT+01:00 (Europe/Berlin)",
            ):
                assert wanted in first, wanted
            assert f"Run {RUN} · model {DIGEST} · " in second, "each sheet says what it is of"
            assert re.search(r"This page is of \d+ \w+ 20\d\d at \d\d:\d\d:\d\d GMT", first)
            assert "← the run" not in first
            whole = f"{first} {second}"
            for block in blocks(markdown({**said, "other_runs": others[:3]})):
                texts = (
                    [block.get("text", "")] + block.get("items", []) + [c for row in block.get("rows", []) for c in row]
                )
                for text in texts:
                    assert squeezed(text) in squeezed(whole), text
            assert "and 54 more runs" in whole
        chromium.dark(False)
        chromium.ask("Emulation.setTimezoneOverride", timezoneId="")
        assert chromium.errors == []


def squeezed(text: str) -> str:
    """Without spaces: where a line ends is up to the printer."""
    return "".join(text.split())


def test_what_is_not_covered_is_open_and_conditions_stand_beside_the_claim(chromium: Browser, tmp_path: Path) -> None:
    make_store(tmp_path)
    state(tmp_path, GOLDEN["bands"]["statement"])
    with dashboard(tmp_path) as (client, _):
        open_page(chromium, client)
        assert chromium.evaluate("document.querySelectorAll('#statement details').length") == 0
        text = chromium.text()
        for wanted in (
            "What is claimed",
            "Against whom it holds, and on which conditions",
            "What is not covered",
            "What was trained",
        ):
            assert wanted in text, wanted
        assert chromium.evaluate("document.querySelector('#notice').hidden")


def test_of_an_unfinished_run_it_says_that_nothing_is_stated_yet(chromium: Browser, tmp_path: Path) -> None:
    privacy = Privacy(
        epsilon=8.0, delta=1e-3, noise_multiplier=1.5, statistics_noise_multiplier=3.0, statistics_clip_norm=0.5
    )
    make_store(tmp_path, privacy=privacy)
    with dashboard(tmp_path) as (client, _):
        open_page(chromium, client)
        chromium.wait("document.querySelector('#notice').innerText.startsWith('This run is not finished')")
        assert "Model digest none yet" in " ".join(chromium.text().split())
        assert "What is not covered" in chromium.text()
        open_page(chromium, client, "another")
        assert "the store has no run 'another'" in chromium.text()


@pytest.mark.parametrize(
    ("events", "notice", "digest"),
    [
        ([Ticked(2000.0 + 100 * turn) for turn in range(9)], "This run failed: there is no model", "none"),
        (
            [Arrived(2000.0, "b", 2, "d", 80.0), Aggregated(2000.0, 2, True)],
            "All rounds are done, and no model",
            "none yet",
        ),
    ],
    ids=["failed", "no model yet"],
)
def test_a_run_that_is_over_without_a_model_is_not_called_unfinished(
    stage: Stage, tmp_path: Path, events: List[Any], notice: str, digest: str
) -> None:
    make_store(tmp_path)
    store = Store(tmp_path / "gateway.sqlite")
    for event in events:
        store.append(RUN, event)
    store.close()
    with stage.showing(tmp_path):
        page = stage.browser
        page.open(f"{stage.url}statement/{RUN}")
        page.wait("document.querySelector('#statement .identity')")
        assert page.evaluate("document.querySelector('#notice').innerText").startswith(notice)
        assert "not finished" not in page.text()
        assert page.evaluate("[...document.querySelectorAll('.identity dd')][3].innerText") == digest


def test_blocks_lose_nothing_of_a_page() -> None:
    for name, task in GOLDEN.items():
        found = blocks(task["page"])
        told = json.dumps(found, ensure_ascii=False)
        for line in task["page"].splitlines()[1:]:
            for cell in line.strip("|").split("|"):
                text = cell.strip().lstrip("#- ").replace("**", "")
                assert json.dumps(text, ensure_ascii=False)[1:-1] in told, (name, line)
