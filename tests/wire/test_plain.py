"""Texts from elsewhere reach people as printable lines, and names from elsewhere never are paths."""

import io
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError, WireError
from orchestrator.exposition import Page
from orchestrator.gateway.run import run_id
from orchestrator.wire.plain import (
    PlainFormatter,
    Sparing,
    as_run_name,
    csv_cell,
    file_name,
    many,
    plain,
    plain_fields,
    run_name,
    unprintable,
)
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task, task_from_dict, task_to_dict

TASK = Task("ward", Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", -1, 3),)), {"kind": "mlp", "hidden": []})
NASTY = [
    "a\nb",
    "a\rb",
    "\x1b[2J",
    "\u202eneddih",
    "\u2066",
    "tab\t",
    "\x85",
    "\u2028",
    "\ud800",
    "\x00",
    "\u200b",
    "\xa0",
]


@given(st.text(st.characters(), max_size=80), st.integers(3, 60))
def test_plain_is_one_bounded_printable_line_and_settles(text: str, limit: int) -> None:
    shown = plain(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert plain(shown, limit) == shown
    assert shown == text or not text.isprintable() or len(text) > limit
    shown.encode()


@pytest.mark.parametrize("text", NASTY)
def test_what_cannot_be_printed_is_shown_as_its_code_point(text: str) -> None:
    shown = plain(f"<{text}>")
    assert shown.startswith("<")
    assert "\\x" in shown or "\\u" in shown


def test_the_escapes() -> None:
    assert plain("\x1b[31mred\u202e\n\U000e0001") == "\\x1b[31mred\\u202e\\x0a\\U000e0001"
    assert plain("x" * 600) == "x" * 497 + "..."
    assert plain_fields({"a\n": ["b\x07", 1, {"c": "\r"}]}) == {"a\\x0a": ["b\\x07", 1, {"c": "\\x0d"}]}


@pytest.mark.parametrize("text", NASTY)
def test_a_record_of_the_log_cannot_pose_as_another_or_reach_the_terminal(text: str) -> None:
    record = logging.LogRecord(
        "edgeward", logging.WARNING, "f", 1, "refused %s", (f"{text}2026 INFO all is well",), None
    )
    first, *more = PlainFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert first.isprintable()
    assert all(line.isprintable() and line.startswith("    ") for line in more)


@pytest.mark.parametrize("text", NASTY)
def test_a_label_of_a_metric_stays_on_its_line(text: str) -> None:
    page = Page()
    page.add("m", "gauge", "about", {"run": f'"{text}\\'}, 1)
    lines = page.text().split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)


def declared(place: str, text: str) -> "dict[str, Any]":
    data = task_to_dict(TASK)
    if place == "name":
        data["name"] = text
    elif place == "class":
        data["schema"]["classes"] = ["a", text]
    elif place == "column":
        data["schema"]["features"][0]["name"] = text
    elif place == "label value":
        data["schema"]["label_values"] = {text: 0}
    elif place == "model":
        data["model"] = {"kind": "mlp", "hidden": [], "more": [{"deep": text}]}
    elif place == "model key":
        data["model"] = {"kind": "mlp", "hidden": [], text: 1}
    else:
        assert place == "unknown key"
        data[text] = 1
    return data


@pytest.mark.parametrize("place", ["name", "class", "column", "label value", "model", "model key", "unknown key"])
@pytest.mark.parametrize("text", ["a\nseen by: nobody", "\u202eb", "\x1b[8m"])
def test_a_declaration_that_an_owner_could_not_read_is_refused_and_quoted_plain(place: str, text: str) -> None:
    with pytest.raises(UsageError, match="cannot be printed") as caught:
        task_from_dict(declared(place, text))
    assert all(line.isprintable() for line in str(caught.value).split("\n"))


def test_letters_of_any_language_are_printable() -> None:
    data = declared("class", "größer als 38 °C")
    assert task_from_dict(data).schema.classes[1] == "größer als 38 °C"


def test_only_texts_are_escaped_in_csv() -> None:
    assert [csv_cell(value) for value in (-1, "-1", "", None, "a=b", "=a", "\ta")] == [
        -1,
        "'-1",
        "",
        None,
        "a=b",
        "'=a",
        "'\ta",
    ]
    assert [csv_cell(value) for value in ("a;=b", "a; =b", "a\t@b;-1", "a;b")] == [
        "a;'=b",
        "a; =b",
        "a\t'@b;'-1",
        "a;b",
    ]


def test_depth_costs_no_stack() -> None:
    deep: Any = ["\x1b"]
    for _ in range(100_000):
        deep = [deep]
    assert "..." in str(plain_fields(deep))
    assert plain_fields([[["\x1b"]]]) == [[["\\x1b"]]]


def test_depth_is_no_way_round_the_check() -> None:
    deep: Any = "\x1b"
    for _ in range(100_000):
        deep = [deep]
    assert len(list(unprintable(deep))) == 1


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", "a b", "a\x00", "ä", "x" * 129, "a\n", "\u2024\u2024"])
def test_a_run_of_another_name_is_refused_and_names_no_file(name: str) -> None:
    with pytest.raises(WireError, match="a run's name is"):
        run_name(name)
    with pytest.raises(WireError, match="a run's name is"):
        file_name("personal", name, "npz")


@given(st.text(max_size=200))
def test_every_task_gives_a_run_that_nodes_take(name: str) -> None:
    assert len(as_run_name(name)) <= 100
    run = run_id(Task(name, TASK.schema, TASK.model), 12)
    assert file_name("personal", run_name(run), "npz").startswith(f"personal-{run.lower()}")


def test_runs_of_readable_tasks_keep_their_names() -> None:
    assert run_id(TASK).startswith("ward-")
    assert len(run_id(TASK)) == len("ward-") + 8


def test_a_sparing_log_says_each_kind_of_line_a_few_times_and_no_traceback() -> None:
    sparing, lines = Sparing(), io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.addFilter(sparing)
    log = logging.Logger("flooded")
    log.addHandler(handler)
    for number in range(1000):
        try:
            raise ValueError(f"number {number}")
        except ValueError:
            log.exception("of a stranger")
        if number % 100 == 0:
            log.warning("of another kind")
    said = lines.getvalue().splitlines()
    assert said.count("of another kind") == 10
    of_strangers = [line.partition(" (test_plain.py:")[0] for line in said if line != "of another kind"]
    assert of_strangers == [f"of a stranger: ValueError: number {n}" for n in [*range(20), *range(99, 1000, 100)]]


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows"), (1, "1 row"), (1.0, "1 row"), (2, "2 rows"), (1234, "1,234 rows")]
)
def test_one_row_is_no_rows(number: float, said: str) -> None:
    assert many(number, "row") == said


def test_words_that_take_no_s() -> None:
    assert [many(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
