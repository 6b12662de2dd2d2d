"""Names that read from right to left stand apart on every page, so that the digits beside them keep their places."""

import json
from pathlib import Path

from chromium import Browser
from dashboards import RUN, dashboard, make_store

from orchestrator.gateway.store import Store

NAME = "קליניקה 7"
LOOSE = r"""(() => {
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const loose = [];
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        if (/[\u0590-\u08ff]/.test(node.data) && !node.parentElement.closest('bdi')) loose.push(node.data);
    }
    return loose;
})()"""
ORDER = """(() => {
    const name = document.querySelector('#tried bdi').getBoundingClientRect();
    const range = document.createRange(); const after = document.querySelector('#tried').lastChild;
    range.setStart(after, 1); range.setEnd(after, 4);
    return [name.left, name.right, range.getBoundingClientRect().left];
})()"""


def name_from_right_to_left(out: Path) -> None:
    """Writes the run's task again, with such names in it, as the gateway would have."""
    store = Store(out / "gateway.sqlite")
    found = store.find_run(RUN)
    assert found is not None
    task, graph = found
    task["name"] = NAME
    task["schema"]["label"] = "חולה"
    with store.transaction():
        store.database.execute("DELETE FROM runs")
        store._rows.put("runs", RUN, json.dumps(task), graph)
    store.close()


def test_no_name_stands_loose(chromium: Browser, tmp_path: Path) -> None:
    make_store(tmp_path)
    name_from_right_to_left(tmp_path)
    (tmp_path / "audit.jsonl").write_text(
        json.dumps({"n": 1, "event": "declined", "node": NAME, "records": 120}) + "\n"
    )
    with dashboard(tmp_path) as (client, _):
        chromium.open("about:blank")
        chromium.errors.clear()
        chromium.size(1280, 900)
        url = f"http://127.0.0.1:{client.port}"
        for address, there in (
            ("/#overview", "#overview h1"),
            ("/#log", "#audit li"),
            ("/#runs", "#runs tbody tr"),
            (f"/statement/{RUN}", ".identity"),
        ):
            chromium.open("about:blank")
            chromium.open(url + address)
            chromium.wait(f"document.querySelector('{there}')", 60)
            assert chromium.evaluate(LOOSE) == [], address
            if "runs" not in address:
                assert chromium.evaluate("document.querySelectorAll('main bdi').length") > 0, address
        chromium.evaluate(
            "import('/static/dom.js').then(({el}) => document.body.append("
            f"el('p', {{id: 'tried'}}, '{NAME} 120 records')))"
        )
        chromium.wait("document.querySelector('#tried bdi')", 60)
        left, right, digits = chromium.evaluate(ORDER)
        assert left < right <= digits, "the number beside the name has changed places with it"
        assert chromium.errors == []
