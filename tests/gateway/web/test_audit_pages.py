"""The audit log on a page: of how many entries how many are shown, and all of them can be had."""

import json
import os
from pathlib import Path
from typing import Any, Dict, List

from chromium import Browser
from dashboards import dashboard, make_store

from orchestrator.gateway.web.audit_pages import AuditPages


def write(path: Path, numbers: range, about: str = "") -> None:
    lines = [
        json.dumps({"n": n, "at": 1e9 + n, "event": "joined", "node": f"node-{n}", "about": about}) for n in numbers
    ]
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def numbers(page: Dict[str, Any]) -> List[int]:
    return [entry["n"] for entry in page["entries"]]


def test_pages_together_are_the_whole_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    pages = AuditPages(path)
    assert pages.page(10)["present"] is False
    write(path, range(1, 3724))
    seen, page = [], pages.page(200)
    assert (page["first"], page["last"], page["total"]) == (3524, 3723, 3723)
    while page["entries"]:
        assert numbers(page) == list(range(page["last"], page["first"] - 1, -1))
        seen += numbers(page)
        page = pages.page(200, page["first"])
    assert seen == list(range(3723, 0, -1))
    assert (page["first"], page["last"]) == (0, 0)


def test_a_log_that_grows_is_torn_or_is_written_again_is_counted_right(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    pages = AuditPages(path)
    write(path, range(1, 301))
    assert pages.page(1)["total"] == 300
    write(path, range(301, 601))
    with path.open("a") as file:
        file.write('{"n": 601, "event": "torn')
    page = pages.page(3)
    assert (page["total"], page["entries"][0]) == (601, {"unreadable": '{"n": 601, "event": "torn'})
    assert numbers({"entries": page["entries"][1:]}) == [600, 599]
    path.write_text(path.read_text().rpartition("{")[0])
    write(path, range(601, 603))
    assert numbers(pages.page(2)) == [602, 601]
    other = tmp_path / "other"
    write(other, range(1, 900))
    os.replace(other, path)
    assert numbers(pages.page(2, 513)) == [512, 511]


def test_long_entries_make_short_pages(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, range(1, 6), "x" * 100_000)
    page = AuditPages(path).page(5)
    assert (page["first"], page["last"], numbers(page)) == (4, 5, [5, 4])
    write(path, range(6, 7), "x" * 1_000_000)
    assert numbers(AuditPages(path).page(5)) == [6]


def test_a_reader_sees_how_many_there_are_and_reaches_the_first(chromium: Browser, tmp_path: Path) -> None:
    make_store(tmp_path)
    write(tmp_path / "audit.jsonl", range(1, 450))
    with dashboard(tmp_path) as (client, _):
        chromium.open("about:blank")
        chromium.errors.clear()
        chromium.size(1280, 900)
        shown = "document.querySelector('#audit-shown').innerText"
        press = "[...document.querySelectorAll('.pager button')].find((b) => b.innerText === '{}').click()"
        chromium.open(f"http://127.0.0.1:{client.port}/#log")
        chromium.wait(f"{shown} === 'entries 250 to 449 of 449, newest first'", 60)
        chromium.evaluate(press.format("Older"))
        chromium.wait(f"{shown} === 'entries 50 to 249 of 449, newest first'", 60)
        assert chromium.evaluate("location.hash") == "#log?before=250"
        chromium.reload()
        chromium.wait(f"{shown} === 'entries 50 to 249 of 449, newest first'", 60)
        chromium.evaluate(press.format("Older"))
        chromium.wait(f"{shown} === 'entries 1 to 49 of 449, newest first'", 60)
        assert chromium.evaluate("document.querySelector('#audit li:last-child').innerText").endswith("node-1: joined")
        chromium.evaluate(press.format("Newest"))
        chromium.wait(f"{shown} === 'entries 250 to 449 of 449, newest first'", 60)
        assert chromium.errors == []
