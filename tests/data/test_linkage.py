"""Two hospitals count whom both have: exactly, in every spelling, and without either learning of the others."""

import json
import random
from pathlib import Path
from typing import Any, Dict, List

import pytest

from orchestrator.cli.main import main
from orchestrator.data.dataset import load_dataset
from orchestrator.data.described import versions_of
from orchestrator.errors import DataError
from orchestrator.privacy import linkage
from orchestrator.wire.schema import Feature, Schema


class Two:
    """Hospitals A and B with a table each, and the commands between them."""

    def __init__(self, folder: Path, a: List[str], b: List[str], capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        for name, ids in (("a", a), ("b", b)):
            (folder / f"{name}.csv").write_text("id,age\n" + "".join(f"{each},50\n" for each in ids))

    def run(self, verb: str, whose: str, *more: str, study: str = "icu", code: int = 0) -> Any:
        words = ["link", verb, f"{self.folder}/{whose}.csv", "--columns", "id", "--study", study, "--json"]
        assert main([*words, *(each.replace("@", f"{self.folder}/") for each in more)]) == code
        said = self._capsys.readouterr()
        return json.loads(said.out) if code == 0 else said.err

    def ask(self, **more: Any) -> Any:
        return self.run("ask", "a", "--key", "@key", "--out", "@question.json", **more)

    def answer(self, show: str, **more: Any) -> Any:
        return self.run("answer", "b", "--question", "@question.json", "--show", show, "--out", "@answer.json", **more)

    def compare(self, *more: str, **rest: Any) -> Any:
        words = ("--key", "@key", "--question", "@question.json", "--answer", "@answer.json")
        return self.run("compare", "a", *words, *more, **rest)


def ids(start: int, stop: int) -> List[str]:
    return [f"P{number:04}" for number in range(start, stop)]


@pytest.mark.parametrize("show", ["count", "which"])
@pytest.mark.parametrize("shared", [0, 1, 37])
def test_what_is_shared_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str], show: str, shared: int) -> None:
    a, b = ids(0, 80), ids(80 - shared, 150)
    random.Random(shared).shuffle(a)
    two = Two(tmp_path, a, b, capsys)
    assert two.ask()["identifiers"] == 80
    assert two.answer(show)["asked_for"] == 80
    found = two.compare()
    assert (found["here"], found["there"], found["shared"]) == (80, 70 + shared, shared)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    if show == "which":
        two.compare("--out", "@shared.csv")
        assert sorted((tmp_path / "shared.csv").read_text().split()[1:]) == ids(80 - shared, 80)
    else:
        assert "not which" in two.compare("--out", "@shared.csv", code=2)


def test_spelling_is_no_difference_and_rows_of_one_person_count_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = [*ids(0, 12), "p0000", " P0001 ", "Zo\u00eb  M"]
    b = [*ids(50, 60), "P0000", "zoe\u0308 m"]
    two = Two(tmp_path, a, b, capsys)
    assert two.ask()["identifiers"] == 13
    two.answer("which")
    assert two.compare()["shared"] == 2


def test_neither_file_holds_or_repeats_an_identifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = Two(tmp_path, ids(0, 30), ids(20, 60), capsys)
    two.ask()
    two.answer("count")
    question, answer = (json.loads((tmp_path / name).read_text()) for name in ("question.json", "answer.json"))
    plain = {point.hex() for point in linkage.hashed([each.lower() for each in ids(0, 60)], "icu")}
    assert not plain & {*question["points"], *answer["points"], *answer["twice"]}
    assert question["points"] == sorted(question["points"]), "their order is not the table's"
    assert answer["points"] == sorted(answer["points"])
    assert answer["twice"] == sorted(answer["twice"]), "with a count nobody can say which"
    (tmp_path / "question.json").rename(tmp_path / "first.json")
    (tmp_path / "key").unlink()
    two.ask()
    again = json.loads((tmp_path / "question.json").read_text())
    assert not {*question["points"]} & {*again["points"]}, "two exchanges say nothing together"


def test_points_are_on_the_curve(tmp_path: Path) -> None:
    """One on the twist would show half of the guesses to be wrong."""
    p = (1 << 255) - 19
    for point in linkage.hashed([str(number) for number in range(200)], "s"):
        u = int.from_bytes(point, "little")
        assert u < 1 << 255
        assert pow(u**3 + 486662 * u**2 + u, (p - 1) // 2, p) == 1


def test_single_persons_are_not_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = Two(tmp_path, ids(0, 9), ids(0, 60), capsys)
    assert "fewer ask for single persons" in two.ask(code=2)
    assert not (tmp_path / "question.json").exists()
    one = linkage.raised(linkage.hashed(["p0001"], "icu"), linkage.new_key(), lambda *_: None)
    few = {"step": "question", "study": "icu", "session": "s", "points": one}
    (tmp_path / "question.json").write_bytes(linkage.written(few))
    assert "the question has 1 identifiers" in two.answer("which", code=2)
    assert not (tmp_path / "answer.json").exists()


def test_files_of_another_exchange_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = Two(tmp_path, ids(0, 30), ids(20, 60), capsys)
    two.ask()
    assert "is of study 'icu', and not of 'other'" in two.answer("count", study="other", code=2)
    two.answer("which")
    (tmp_path / "key").unlink()
    (tmp_path / "question.json").unlink()
    two.ask()
    assert "the answer is to another question" in two.compare(code=2)
    assert "this is the file of an answer, and that of a question is expected" in two.run(
        "answer", "b", "--question", "@answer.json", "--show", "count", "--out", "@x.json", code=2
    )
    (tmp_path / "a.csv").write_text("id,age\n" + "".join(f"{each},50\n" for each in ids(0, 31)))
    (tmp_path / "answer.json").unlink()
    two.answer("which")
    assert "it changed" in two.compare(code=2)


SMALL = ["00" * 32, "01" + "00" * 31, "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"]


@pytest.mark.parametrize("point", SMALL)
def test_points_of_small_order_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], point: str) -> None:
    two = Two(tmp_path, ids(0, 30), ids(20, 60), capsys)
    two.ask()
    said = json.loads((tmp_path / "question.json").read_text())
    said["points"][4] = point
    (tmp_path / "question.json").write_text(json.dumps(said))
    assert "does not follow the protocol" in two.answer("which", code=2)


WRONG: List[Any] = [
    *([], {}, 3, None, "x"),
    *(
        {"edgeward_link": 2},
        {"edgeward_link": 1},
        {"edgeward_link": 1, "step": "question", "study": "icu", "session": "s"},
    ),
]


@pytest.mark.parametrize("said", [*WRONG, "[" * 9000, "\x00"])
def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], said: Any) -> None:
    two = Two(tmp_path, ids(0, 30), ids(20, 60), capsys)
    (tmp_path / "question.json").write_text(said if isinstance(said, str) and len(said) != 1 else json.dumps(said))
    assert "no file of `edgeward link`" in two.answer("which", code=2)


@pytest.mark.parametrize(
    "change",
    [
        {"points": ["zz" * 32] * 20},
        {"points": ["00" * 31] * 20},
        {"points": "00" * 32},
        {"points": [3] * 20},
        {"study": 3},
        {"study": "a\x1b[2J"},
        {"step": "other"},
        {"session": None},
    ],
)
def test_damaged_questions_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Dict[str, Any]
) -> None:
    two = Two(tmp_path, ids(0, 30), ids(20, 60), capsys)
    two.ask()
    said = json.loads((tmp_path / "question.json").read_text())
    (tmp_path / "question.json").write_text(json.dumps({**said, **change}))
    assert "no file of `edgeward link`" in two.answer("which", code=2)


def test_whose_a_row_is_must_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = Two(tmp_path, [*ids(0, 20), "", "NA"], ids(0, 20), capsys)
    said = two.ask(code=2)
    assert ":22: column 'id': empty; every record must say whose it is" in said
    assert ":23: column 'id': 'NA' stands for no value" in said
    wrong = two.run("ask", "b", "--columns", "idd", "--key", "@k", "--out", "@q", code=2)
    assert "no column 'idd', did you mean 'id'?; the table has id, age" in wrong


def test_who_is_shared_is_left_out_of_one_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = Two(tmp_path, [*ids(0, 30), "P0025"], ids(20, 60), capsys)
    two.ask()
    two.answer("which")
    two.compare("--out", "@shared.csv")
    ward = tmp_path / "ward.toml"
    ward.write_text('[source]\nfile = "a.csv"\n[rows]\npatient = "id"\nleave_out = "shared.csv"\n')
    schema = Schema("table", "", (), {}, (Feature("age", 0, 120),), patient="id")
    assert load_dataset(ward, schema).records == 20
    assert versions_of(ward) == [ward, tmp_path / "a.csv", tmp_path / "shared.csv"]
    ward.write_text('[source]\nfile = "a.csv"\n[rows]\nleave_out = "shared.csv"\n')
    with pytest.raises(DataError, match="leave_out needs patient"):
        load_dataset(ward, schema)
