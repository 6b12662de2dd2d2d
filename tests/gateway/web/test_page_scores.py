"""Where nodes score each other's models, the list of nodes says how each one's do and what its updates count for."""

import time
from pathlib import Path

import pytest
from dashboards import RUN, make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.store import Store

STANDING = {"a": {"score": 1.0, "share": 0.61}, "b": {"score": 2.345, "share": 0.02}}
TABLE = "[...document.querySelectorAll('#nodes thead th')].map((cell) => cell.innerText.trim().toLowerCase())"
CELLS = (
    "Object.fromEntries([...document.querySelectorAll('#nodes tbody tr')].map((row) => "
    "[row.innerText.trim().split(/\\s/)[0], [...row.cells].map((cell) => cell.innerText.trim())]))"
)


@pytest.mark.parametrize("scored", [True, False])
def test_scores_and_weights_stand_beside_their_nodes(stage: Stage, tmp_path: Path, scored: bool) -> None:
    with gateway_at_work(tmp_path):
        make_store(tmp_path, begun=3, at=time.time())
        store = Store(tmp_path / "gateway.sqlite")
        if scored:
            store.add_to_result(RUN, 2, {"generalisation": STANDING})
        store.close()
        with stage.showing(tmp_path):
            page = stage.browser
            page.wait("document.querySelector('#nodes tbody tr')")
            columns = page.evaluate(TABLE)
            assert [any(name in column for column in columns) for name in ("score", "weight")] == [scored, scored]
            rows = page.evaluate(CELLS)
            assert ("2.35" in rows["b"] or "2.34" in rows["b"]) is scored
            assert ("61 %" in rows["a"]) is scored
            assert {len(cells) for cells in rows.values()} == {len(columns)}
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
