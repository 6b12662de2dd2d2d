"""What somebody typed or chose is not lost: by a reload, a key too many, or a browser that lets pages keep nothing."""

from pathlib import Path

import pytest
from chromium import Browser
from dashboards import RUN, make_store
from stage import Stage

BLOCKED = """for (const name of ['localStorage', 'sessionStorage'])
    Object.defineProperty(window, name, {get() { throw new DOMException('denied', 'SecurityError'); }})"""
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
