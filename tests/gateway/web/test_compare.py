"""Runs beside each other: what they delivered and were set to, marked where it differs; charts, tables, notes, files."""

import csv
import io
import json
import sqlite3
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Iterator, List, Tuple
from xml.etree import ElementTree

import pytest
from chromium import Browser
from copies import copy_runs
from dashboards import RUN, Client, dashboard, make_store

from orchestrator.errors import UsageError
from orchestrator.gateway.notes import MOST_NOTE, checked
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.delivered import best_round

OTHER = "heart-4567cdef"
DIGEST = "0123456789abcdef"
CAPTURE = "window.saved = []; URL.createObjectURL = (blob) => { saved.push(blob); return '#'; }; true"
SAVED = "saved.at(-1).arrayBuffer().then((b) => Array.from(new Uint8Array(b)))"


def make_runs(out: Path) -> None:
    """Two runs of the same rounds, at other learning rates; the first is delivered, and its int8 model lost a little."""
    make_store(out)
    copy_runs(out, OTHER, rounds=True, learning_rate=0.25)
    store = Store(out / "gateway.sqlite")
    metrics = {
        "float": {"accuracy": 0.81, "auc": 0.9},
        "int8": {"accuracy": 0.79},
        "tflm": {"accuracy": 0.775, "auc": 0.88},
    }
    store.put_report(RUN, 2000.0, {"digest": DIGEST, "metrics": metrics, "privacy": {"unit": "none", "epsilon": None}})
    store.close()
    bundle = out / "models" / DIGEST / "bundle"
    bundle.mkdir(parents=True)
    for name in ("model.bin", "manifest.json", "privacy.md", "rows-that-are-nobody's-business.csv"):
        (bundle / name).write_text(f"this is {name}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    out = tmp_path_factory.mktemp("runs")
    make_runs(out)
    with dashboard(out) as (client, _):
        yield client


def show(browser: Browser, client: Client) -> None:
    browser.size(1280, 900)
    browser.open("about:blank")
    browser.errors.clear()
    browser.open(f"http://127.0.0.1:{client.port}/#runs?choose={RUN},{OTHER}")
    browser.wait("document.querySelector('#compared')", 60)


def table(browser: Browser) -> List[List[str]]:
    """Class and cells of each row, without the marks of those that differ."""
    return browser.evaluate(
        "[...document.querySelectorAll('#compared tbody tr')].map((row) => [row.className, "
        "...[...row.cells].map((cell) => cell.textContent.replace('≠ differs: ', ''))])"
    )


def test_what_is_delivered_and_set_stands_side_by_side_and_what_differs_is_marked(
    chromium: Browser, runs: Client
) -> None:
    show(chromium, runs)
    rows = {row[1]: (row[0], row[2:]) for row in table(chromium)}
    assert rows["accuracy, int8"] == ("differs", ["0.775", "–"]), "as a board runs it, not the float on the gateway"
    assert rows["accuracy, float"] == ("differs", ["0.810", "–"])
    assert rows["best round"] == ("", ["1 (accuracy 0.800)"] * 2)
    assert rows["training.learning_rate"] == ("differs", ["0.1", "0.25"])
    assert "1 January 1970" in rows["began"][1][0]
    for wanted in ("wall time", "epsilon", "model digest", "weights delivered"):
        assert wanted in rows
    assert "codec" not in rows, "what is the same is left out"
    chromium.evaluate("document.querySelector('#every').click()")
    chromium.wait("document.querySelector('#compared').innerText.includes('privacy.sampling_rate')", 60)
    rows = {row[1]: (row[0], row[2:]) for row in table(chromium)}
    for wanted in ("privacy.clip_norm", "privacy.sampling_rate", "seed", "codec"):
        assert rows[wanted][0] == "", wanted
    assert chromium.evaluate("location.hash").endswith("every=1")
    assert chromium.errors == []


def test_charts_are_saved_as_svg_and_png_and_tables_as_csv(chromium: Browser, runs: Client) -> None:
    show(chromium, runs)
    chromium.evaluate(CAPTURE)
    press = "[...document.querySelectorAll('{} .link')].find((b) => b.innerText === '{}').click()"
    chromium.wait(
        "document.querySelector('#runs .exportable svg[role=img]').querySelectorAll('path.line').length === 2", 60
    )
    chromium.evaluate(press.format(".exportable", "SVG"))
    chromium.wait("saved.length === 1", 60)
    picture = ElementTree.fromstring(bytes(chromium.evaluate(SAVED)))
    texts = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert any(RUN in (text or "") for text in texts), "the file has its legend"
    line = next(
        node for node in picture.iter("{http://www.w3.org/2000/svg}path") if node.get("stroke", "none") != "none"
    )
    assert line.get("stroke", "").startswith("rgb(")
    assert line.get("class") is None
    chromium.evaluate(press.format(".exportable", "PNG"))
    chromium.wait("saved.length === 2", 60)
    content = bytes(chromium.evaluate(SAVED))
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(content[16:20], "big") >= 1000
    chromium.evaluate(press.format("#comparison", "CSV"))
    chromium.wait("saved.length === 3", 60)
    rows = list(csv.reader(io.StringIO(bytes(chromium.evaluate(SAVED)).decode())))
    assert rows[0] == ["", "differs", RUN, OTHER]
    assert ["training.learning_rate", "yes", "0.1", "0.25"] in rows
    assert ["accuracy, int8", "yes", "0.775", ""] in rows
    chromium.evaluate(press.format("#all-runs", "CSV"))
    chromium.wait("saved.length === 4", 60)
    each_run = list(csv.DictReader(io.StringIO(bytes(chromium.evaluate(SAVED)).decode())))
    assert {row["run"]: row["int8_accuracy"] for row in each_run} == {RUN: "0.775", OTHER: ""}
    formula = chromium.evaluate(
        "import('/static/export.js').then((m) => m.csv([['=1+1', 'a,\"b\"', -2, null, 'a;=b']]))"
    )
    assert formula == '\'=1+1,"a,""b""",-2,,a;\'=b\r\n'
    assert chromium.errors == []


def test_a_note_is_written_found_and_kept_in_the_store(chromium: Browser, runs: Client, tmp_path: Path) -> None:
    show(chromium, runs)
    chromium.evaluate(
        "[...document.querySelectorAll('#comparison .link')].find((b) => b.innerText === 'add a note').click()"
    )
    chromium.wait("document.activeElement?.id === 'note-text'", 60)
    chromium.type("more patience <b>next</b> time")
    chromium.evaluate("document.querySelector('#note-tags').focus()")
    chromium.type("baseline, for the paper")
    chromium.press_enter()
    chromium.wait(
        "!document.querySelector('dialog') && document.querySelector('#all-runs').innerText.includes('more patience <b>')",
        60,
    )
    chromium.wait("document.querySelector('#comparison').innerText.includes('for-the-paper')", 60)
    said = {run["run"]: (run["note"], run["tags"]) for run in runs.json("/api/runs")}
    assert said[RUN] == ("more patience <b>next</b> time", ["baseline", "for-the-paper"])
    assert said[OTHER] == ("", [])
    assert chromium.errors == []


def post(client: Client, run: str, body: object, **headers: str) -> int:
    return client.ask(f"/api/notes/{run}", "POST", json.dumps(body), **{"Content_Type": "application/json", **headers})[
        0
    ]


def test_notes_are_bounded_and_no_other_site_writes_them(tmp_path: Path) -> None:
    make_runs(tmp_path)
    with dashboard(tmp_path) as (client, _):
        note = {"note": "a\u202eb", "tags": ["x", "x"]}
        assert post(client, RUN, note, Origin="https://elsewhere.example") == 403
        assert client.ask(f"/api/notes/{RUN}", "POST", json.dumps(note), Content_Type="text/plain")[0] == 403
        assert client.ask(f"/api/notes/{RUN}")[0] == 405
        wrongs: Tuple[Any, ...] = (
            [],
            {},
            {"note": 5, "tags": []},
            {"note": "", "tags": ["a b"]},
            {"note": "", "tags": "abc"},
        )
        for wrong in wrongs:
            assert post(client, RUN, wrong) == 400, wrong
        assert post(client, RUN, {"note": "x" * (MOST_NOTE + 1), "tags": []}) == 400
        assert post(client, "nothing", note) == 404
        assert [run["note"] for run in client.json("/api/runs")] == ["", ""]
        assert post(client, RUN, note) == 200
        assert client.json("/api/runs")[0]["note"] == "a\\u202eb"
        blocker = sqlite3.connect(tmp_path / "gateway.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        status, _, text = client.ask(
            f"/api/notes/{RUN}", "POST", json.dumps({"note": "", "tags": []}), Content_Type="application/json"
        )
        assert (status, "locked" in text) == (503, True)
        assert client.json("/api/runs")[0]["note"] == "a\\u202eb", "reading goes on meanwhile"
        blocker.execute("ROLLBACK")
        blocker.close()
        assert post(client, RUN, {"note": "", "tags": []}) == 200
        assert client.json("/api/runs")[0]["tags"] == []


def test_a_note_costs_a_gateway_at_work_nothing(tmp_path: Path) -> None:
    make_runs(tmp_path)
    store = Store(tmp_path / "gateway.sqlite")
    with dashboard(tmp_path) as (client, _):
        for number in range(20):
            assert post(client, RUN, {"note": f"note {number}", "tags": []}) == 200
            store.put_phase(RUN, 1.0, "collecting", 2, "")
    assert store.results(RUN)
    store.close()


def test_tags_and_notes_are_checked() -> None:
    assert checked("  two\n words ", ["b", "a", "b"]) == ("two words", ["b", "a"])
    with pytest.raises(UsageError, match="at most 8 to a run"):
        checked("", [f"t{n}" for n in range(9)])
    for tag in ("", "a b", "-a", "x" * 33, 5):
        with pytest.raises(UsageError, match="tags: expected names"):
            checked("", [tag])


def test_bundle_statement_and_report_are_linked_and_nothing_else_of_the_folder_is_served(
    chromium: Browser, runs: Client
) -> None:
    show(chromium, runs)
    links = chromium.evaluate("[...document.querySelectorAll('#comparison a')].map((a) => a.getAttribute('href'))")
    files = [f"/files/{RUN}/{name}" for name in ("bundle.zip", "privacy.md", "report.json")]
    assert links == [f"#run/{RUN}", f"/statement/{RUN}", *files, f"#run/{OTHER}", f"/statement/{OTHER}"]
    url = f"http://127.0.0.1:{runs.port}"
    with urllib.request.urlopen(url + files[0], timeout=600) as answer:
        assert answer.headers["Content-Disposition"] == f'attachment; filename="bundle-{RUN}.zip"'
        archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    assert archive.namelist() == ["model.bin", "manifest.json", "privacy.md"]
    assert runs.ask(files[1])[2] == "this is privacy.md"
    assert json.loads(runs.ask(files[2])[2])["digest"] == DIGEST
    for name in ("model.bin", "..%2f..%2fgateway.sqlite", "gateway.sqlite", "task.json"):
        assert runs.ask(f"/files/{RUN}/{name}")[0] == 404, name
    assert runs.ask(f"/files/{OTHER}/bundle.zip")[0] == 404
    assert runs.ask("/files/nothing/report.json")[0] == 404


def test_only_so_many_runs_are_compared(runs: Client) -> None:
    assert runs.ask("/api/compare")[0] == 400
    assert runs.ask("/api/compare?" + "&".join(f"run=r{n}" for n in range(7)))[0] == 400
    assert runs.ask("/api/compare?run=nothing")[0] == 404


def test_the_best_round_is_the_earliest_of_the_best() -> None:
    rows = [{"round": n, "accuracy": a, "loss": 1.0 / n} for n, a in ((1, 0.5), (2, 0.9), (3, 0.9), (4, 0.7))]
    assert best_round(rows) == "2 (accuracy 0.900)"
    assert best_round([{**row, "accuracy": None} for row in rows]) == "4 (loss 0.250)"
    assert best_round([{"round": 1, "accuracy": None, "loss": float("nan")}]) is None
