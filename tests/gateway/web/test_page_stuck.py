"""A round that cannot succeed is said at once: in the page, to those who listen, in the title and in /metrics."""

import time
from pathlib import Path

from dashboards import RUN, make_store, parse_metrics
from stage import Stage, gateway_at_work

from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Joined, Left


def test_a_round_that_lacks_a_node(stage: Stage, tmp_path: Path) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, at=time.time())
        store = Store(tmp_path / "gateway.sqlite")
        with stage.showing(tmp_path):
            page = stage.browser
            page.wait("document.querySelector('#phase')?.innerText === 'Collecting updates'")
            assert page.evaluate("document.querySelector('#stuck')") is None
            assert parse_metrics(stage.client)["edgeward_round_nodes_lacking"] == 0
            store.append(RUN, Left(time.time(), "b"))
            page.wait("document.querySelector('#stuck')")
            text = page.evaluate("document.querySelector('#stuck').innerText")
            assert "Round 2 cannot succeed as things are: it needs 2 updates, and at most 1 can come." in text
            assert "It helps if b comes back" in text
            assert "c declined: no column 'age'." in text
            assert "cannot succeed" in page.evaluate("document.querySelector('#alarm').innerText")
            assert page.evaluate("document.title") == "⚠ round 2/3 cannot succeed · Edgeward"
            assert parse_metrics(stage.client)["edgeward_round_nodes_lacking"] == 1
            page.evaluate("location.hash = 'runs'")
            page.wait("document.title === 'Runs · ⚠ round 2/3 cannot succeed · Edgeward'")
            store.append(RUN, Joined(time.time(), "b", 80))
            page.wait("document.title === 'Runs · round 2/3 · Edgeward'")
            assert page.evaluate("document.querySelector('#alarm').innerText") == ""
        store.close()


def test_where_the_system_sets_the_colours_bars_and_places_are_seen(stage: Stage, tmp_path: Path) -> None:
    page = stage.browser
    style = "getComputedStyle(document.querySelector('{}'))"
    with gateway_at_work(tmp_path):
        make_store(tmp_path, at=time.time())
        with stage.showing(tmp_path):
            page.wait("document.querySelector('.fill')")
            page.ask("Emulation.setEmulatedMedia", features=[{"name": "forced-colors", "value": "active"}])
            try:
                ground = page.evaluate(f"{style.format('.bar')}.backgroundColor")
                assert page.evaluate(f"{style.format('.fill')}.backgroundColor") != ground
                assert page.evaluate(f"{style.format('.bar')}.borderTopWidth") == "1px"
                assert page.evaluate(f"{style.format('.arrived .mark')}.backgroundColor") != ground
                lines = [
                    f"{style.format(place)}.textDecorationLine" for place in ("nav a", "nav a:not([aria-current])")
                ]
                assert [page.evaluate(line) for line in lines] == ["underline", "none"]
            finally:
                page.dark(False)
