"""What somebody typed or chose is not lost: by a reload, a key too many, or a browser that lets pages keep nothing."""

from pathlib import Path

import pytest
from chromium import Browser
from dashboards import RUN, make_store
from stage import Stage

BLOCKED = """for (const name of ['localStorage', 'sessionStorage'])
    Object.defineProperty(window, name, {get() { throw new DOMException('denied', 'SecurityError'); }})"""
STREAM = """window.EventSource = class extends EventSource {
    constructor(...given) { super(...given); window.stream = this; }
}"""
TEXT = "['note-text', 'note-tags'].map((id) => document.getElementById(id)?.value)"


def open_note(page: Browser, words: str) -> None:
    page.wait(f"[...document.querySelectorAll('#comparison .link')].some((b) => b.innerText === '{words}')")
    page.evaluate(f"[...document.querySelectorAll('#comparison .link')].find((b) => b.innerText === '{words}').click()")
    page.wait("document.querySelector('dialog[open]')")


def press(page: Browser, words: str) -> None:
    page.evaluate(f"[...document.querySelectorAll('dialog button')].find((b) => b.innerText === '{words}').click()")
    page.wait("!document.querySelector('dialog')")


@pytest.mark.parametrize("blocked", [False, True], ids=["kept", "blocked"])
def test_a_note_that_is_being_written_is_kept(stage: Stage, tmp_path: Path, blocked: bool) -> None:
    make_store(tmp_path)
    page = stage.browser
    script = page.ask("Page.addScriptToEvaluateOnNewDocument", source=BLOCKED if blocked else "")["identifier"]
    try:
        with stage.showing(tmp_path, f"runs?choose={RUN}"):
            open_note(page, "add a note")
            page.evaluate("document.querySelector('#note-text').focus()")
            page.type("half a sen")
            if blocked:
                page.press("Escape")
                page.wait("!document.querySelector('dialog')")
            else:
                page.reload()
            open_note(page, "unsaved note")
            assert page.evaluate(TEXT) == ["half a sen", ""]
            assert page.evaluate("document.querySelector('#note-draft').innerText").endswith("is not saved.")
            press(page, "Cancel")
            open_note(page, "add a note")
            assert page.evaluate(TEXT) == ["", ""]
            page.evaluate("document.querySelector('#note-text').focus()")
            page.type("whole")
            press(page, "Save")
            open_note(page, "edit note")
            assert page.evaluate(TEXT) == ["whole", ""]
            press(page, "Cancel")
            before = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.evaluate("document.querySelector('#theme').click()")
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
            if not blocked:
                page.evaluate("localStorage.removeItem('edgeward-theme')")  # other tests have the system's
    finally:
        page.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_a_page_left_open_over_an_update_loads_again(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not over a mere break: nothing of what was typed is lost by either."""
    make_store(tmp_path)
    page = stage.browser
    script = page.ask("Page.addScriptToEvaluateOnNewDocument", source=STREAM)["identifier"]
    try:
        with stage.showing(tmp_path, f"runs?choose={RUN}"):
            open_note(page, "add a note")
            page.evaluate("document.querySelector('#note-text').focus(); window.first = true")
            page.type("half a sen")
            for updated in (False, True):
                if updated:
                    monkeypatch.setattr(stage.dashboard, "version", "another")
                page.evaluate("window.broken = stream; stream.close(); stream.onerror()")
                page.wait("!window.broken" if updated else "stream !== broken && stream.readyState === 1", 30)
                page.wait("document.querySelector('#link')?.innerText === 'no gateway running'", 30)
                assert page.evaluate("!window.first") == updated
            open_note(page, "unsaved note")
            assert page.evaluate(TEXT) == ["half a sen", ""]
            press(page, "Cancel")
    finally:
        page.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
