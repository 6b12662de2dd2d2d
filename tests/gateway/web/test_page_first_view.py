"""The first values of a page: whole before anything is drawn, on a slow line too, and of the run that is there."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any, Dict, List

from dashboards import RUN, Client, make_store
from stage import Stage, gateway_at_work

from orchestrator.gateway.store import Store
from orchestrator.gateway.web.parts import MOST_EVENT_BYTES, Parts, events_between, parts_of
from orchestrator.gateway.web.rounds import NEWEST
from orchestrator.gateway.web.static_files import read_static
from orchestrator.rounds.events import Aggregated, Arrived

WATCH = """window.seen = new Set();
document.addEventListener('DOMContentLoaded', () => new MutationObserver(() => {
    for (const place of document.querySelectorAll('#overview h1, #no-run, #round')) seen.add(place.innerText);
}).observe(document, {subtree: true, childList: true, characterData: true}));"""


def test_on_a_slow_line_nothing_is_drawn_before_it_is_all_there(stage: Stage, tmp_path: Path) -> None:
    page = stage.browser
    script = page.ask("Page.addScriptToEvaluateOnNewDocument", source=WATCH)["identifier"]
    page.ask("Network.enable")
    slow = {"offline": False, "latency": 150, "uploadThroughput": 20_000, "downloadThroughput": 40_000}
    page.ask("Network.emulateNetworkConditions", **slow)
    try:
        with gateway_at_work(tmp_path):
            make_store(tmp_path, rounds=100, begun=79, at=time.time())
            with stage.showing(tmp_path):
                page.wait("document.querySelector('#round')?.innerText === 'Round 79 of 100'")
                assert set(page.evaluate("[...seen]")) == {"heart", "Round 79 of 100"}
    finally:
        page.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
        page.ask(
            "Network.emulateNetworkConditions",
            **{**slow, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )


def finish(out: Path, at: float) -> None:
    """The rounds of make_store that are left."""
    store = Store(out / "gateway.sqlite")
    store.append(RUN, Arrived(at, "b", 2, "d", 80.0))
    store.append(RUN, Aggregated(at, 2, True))
    store.close()


def test_a_run_in_preparation_does_not_look_like_the_one_before(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    finish(tmp_path, 1010.0)
    with gateway_at_work(tmp_path), stage.showing(tmp_path) as scene:
        page = stage.browser
        page.wait("document.querySelector('#overview h1')?.innerText === 'A run is being prepared'")
        scene.hear({"event": "export", "message": "tracing the training graph"})
        page.wait("document.body.innerText.includes('tracing the training graph')")
        assert "Finished" not in page.text()
        assert page.evaluate("document.title") == "preparing a run · Edgeward"
        make_store(tmp_path, begun=0, at=time.time(), run="another-0123abcd")
        page.wait("document.querySelector('#round')?.innerText === 'Statistics round'")
        assert "Finished" not in page.text()


def large(rounds: int) -> Dict[str, Any]:
    """Sections of 40 nodes, so many rounds and 62 runs, with texts as long as they are in a long federation."""
    row = {
        "updates": 40,
        "bytes_up": 123456,
        "bytes_down": 234567,
        "seconds": 12.3456789012,
        "codec_error": 0.00123456789,
    }
    scores = {
        "loss": 0.6931471805599453,
        "accuracy": 0.8123456789012345,
        "auc": 0.9012345678901234,
        "at": 1795763466.12,
    }
    node = {
        "state": "training",
        "reason": None,
        "records": 1234,
        "updates": 1999,
        "joined_at": 1795763466.1,
        "seen_at": 1795763466.1,
    }
    more = {"memory_mib": 48.0, "bytes_open": 123456, "bytes_sent": 123456789, "bytes_received": 123456789}
    about = {"labels": {"site": "north", "device": "jetson-nano"}, "health": {"battery": 88.0, "temperature_c": 51.0}}
    names = [f"hospital-{n:02d}-intensive-care" for n in range(40)]
    run = {
        "task": "sepsis",
        "strategy": "fedadam",
        "codec": "int8",
        "phase": "finished",
        "state": "finished",
        "reason": "",
        **scores,
        "int8_accuracy": 0.8123456,
        "int8_auc": 0.9012345,
        "started_at": 1795763466.123,
        "wall_s": 1234.567,
        "files": ["bundle.zip", "privacy.md", "report.json"],
        "note": "n" * 100,
        "tags": ["baseline", "for-the-paper"],
    }
    live = {
        "phase": "collecting",
        "arrived": [{"node": name, "bytes": 123456} for name in names],
        "awaited": names,
        "absent": [],
    }
    points = [
        {"n": n, "at": 1795763466.123 + n, "latency_p50_us": 1234, "latency_p99_us": 2345, "psi": 0.1234}
        for n in range(240)
    ]
    return {
        "live": live,
        "nodes": [{"node": name, **node, **more, **about} for name in names],
        "rounds": [{"round": n, **(row if n >= rounds - NEWEST else {}), **scores} for n in range(rounds)],
        "runs": [{"run": f"sepsis-{n:08x}", **run} for n in range(62)],
        "privacy": {
            "state": "ready",
            "points": [(n, 1.234567890123 + n) for n in range(rounds)],
            "not_covered": ["x" * 300] * 12,
        },
        "boards": {
            "state": "listening",
            "boards": [{"board": f"ttyusb{n}", "metrics": {}, "history": points} for n in range(4)],
        },
        "activity": [
            {"at": 1795763466.1 + n // 3, "kind": "joined", "text": f"{names[n % 40]} joined with 1,234 records"}
            for n in range(60)
        ],
    }


def test_an_event_and_the_first_view_are_bounded() -> None:
    before = parts_of(large(1999))
    first = list(events_between({}, before))
    assert max(map(len, first)) <= MOST_EVENT_BYTES
    files = sum(len(file.packed) for file in read_static().values())
    assert sum(map(len, first)) + files < 300_000
    after = parts_of(large(2000))
    news = list(events_between(before, after))
    assert sum(map(len, news)) < MOST_EVENT_BYTES, "one more round costs a block of the curve, and not the curve"
    assert patched(before, news) == after
    assert list(events_between(after, after)) == []


def test_what_is_too_long_for_an_event_comes_in_pieces() -> None:
    sections = {**large(3), "scores": {"rows": [['"\\', "ü" * 20_000]]}, "runs": []}
    events = list(events_between(parts_of(large(3)), parts_of(sections)))
    assert max(map(len, events)) <= MOST_EVENT_BYTES
    assert patched(parts_of(large(3)), events) == parts_of(sections)


def patched(parts: Parts, events: List[str]) -> Parts:
    """What a page that had `parts` has after the events."""
    found, text = dict(parts), ""
    for event in events:
        head, data = event.rstrip("\n").split("\n")
        content = json.loads(data[len("data: ") :])
        if head == "event: piece":
            text += content[2]
            if content[3]:
                found[content[0], content[1]], text = text, ""
            continue
        for section, key in content["gone"]:
            del found[section, key]
        for section, key, value in content["set"]:
            found[section, key] = json.dumps(value, separators=(",", ":"))
    return found


def test_a_store_that_cannot_be_read_is_said_to_be(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "gateway.sqlite").write_bytes(b"no database, and long enough to be one" * 100)
    with stage.showing(tmp_path):
        page = stage.browser
        page.wait("document.querySelector('#link').innerText === 'nothing can be read'")
        page.wait("document.querySelector('#problem').innerText.includes('store could not be read')")
        assert page.evaluate("document.title") == "nothing can be read · Edgeward"


def test_files_travel_packed_to_who_takes_that(stage: Stage) -> None:
    client = Client(int(stage.url.rstrip("/").rpartition(":")[2]))
    status, headers, text = client.ask("/static/app.js")
    assert (status, headers.get("content-encoding"), headers["vary"]) == (200, None, "Accept-Encoding")
    assert "follows /api/events" in text
    status, headers, _ = client.ask("/static/app.js", "HEAD", Accept_Encoding="br, gzip;q=0.8")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert int(headers["content-length"]) < len(text) // 2


def test_runs_that_cannot_be_read_are_not_no_runs(stage: Stage, tmp_path: Path) -> None:
    make_store(tmp_path)
    with sqlite3.connect(tmp_path / "gateway.sqlite") as database:
        database.execute("""UPDATE runs SET task = '{"of": "1970"}'""")
    database.close()
    with stage.showing(tmp_path):
        page = stage.browser
        page.wait("document.querySelector('#no-run h1')?.innerText === 'No run can be read'")
        assert f"run {RUN} cannot be read by this version" in page.text()
