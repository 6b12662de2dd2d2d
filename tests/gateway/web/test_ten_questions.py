"""Ten questions people come with, each answered by one screen without opening anything (docs/dashboard.md lists them)."""

import re
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from scenes import DIGEST, STATES, open_state
from stage import Stage

DOCS = Path(__file__).resolve().parents[3] / "docs" / "dashboard.md"
BY_NAME = {state.name: state for state in STATES}

ANSWERS: Dict[str, List[Tuple[str, str, str]]] = {
    "Did it end well?": [
        ("finished", "#now", "Finished: model"),
        ("failed", "#now", "round 3: 1 of 3 updates needed after 3 announcements"),
        ("interrupted", "#standing", "No gateway works on this run"),
        ("no-news", "#standing", "No news since"),
    ],
    "Which model?": [("finished", "#now", DIGEST), ("statement", ".identity", DIGEST)],
    "What is wrong now?": [
        ("lacking", "#stuck", "cannot succeed as things are"),
        ("lacking", "#nodes", "budget.delta"),
    ],
    "Which node is slow?": [("training", "#nodes .card-head", "slowest: neuro, 9.5 s")],
    "What was spent, and what is left?": [("training", ".figures", "3.15 left"), ("training", "#privacy", "4.85 of 8")],
    "May this be published?": [
        ("statement", "#statement", "What is claimed"),
        ("statement", "#statement", "What is not covered"),
    ],
    "What changed between two runs?": [("runs", "#compared tr.differs:last-child", "training.learning_rate 0.5 0.25")],
    "Is this board real?": [
        ("training", "[data-key='board ttyusb0']", "simulated"),
        ("training", "[data-key='board ttyacm1']", "hardware"),
        ("training", "[data-key='board ttyusb2']", "unknown whether simulated"),
    ],
    "Who approved what?": [
        ("log", "#audit", "cardiac: joined"),
        ("log", "#audit", "emergency: declined"),
        ("log", "#audit", "signed by release-2026"),
    ],
    "What do I do next?": [
        ("finished", "#next", "edgeward flash"),
        ("failed", "#next", "give the same command again"),
        ("interrupted", "#standing", "The same command continues it"),
        ("lacking", "#stuck", "It helps if"),
        ("no-run", "#no-run", "edgeward gateway run"),
    ],
}
SCREENS = sorted({screen for answers in ANSWERS.values() for screen, _, _ in answers}, key=list(BY_NAME).index)


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_answers_its_questions(stage: Stage, tmp_path: Path, screen: str) -> None:
    state = BY_NAME[screen]
    with state.shown(stage, tmp_path):
        open_state(stage, state, 1280)
        for question, answers in ANSWERS.items():
            for _, place, wanted in (answer for answer in answers if answer[0] == screen):
                text = stage.browser.evaluate(
                    f"[...document.querySelectorAll({place!r})].map((e) => e.innerText.replace(/\\s+/g, ' ')).join(' ')"
                )
                assert wanted in text, f"{question} {place} of {screen} says {text!r}"


def test_the_list_is_that_of_the_documentation() -> None:
    listed = re.findall(r"^\| (.*\?) \|", DOCS.read_text(), re.MULTILINE)
    assert listed == list(ANSWERS)
