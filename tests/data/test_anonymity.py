"""An anonymous table has what was asked for, counted from its texts, keeps its detail, and says what it does not promise."""

import json
import random
import sys
import tracemalloc
from collections import defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from anonymous_tables import NAMES, PLACES, RULES, rows_of, run, setting

from orchestrator.cli.main import main
from orchestrator.data.anonymity.cuts import shared_cuts
from orchestrator.data.anonymity.domains import Hierarchy
from orchestrator.data.anonymity.measures import measure
from orchestrator.demo import heart


def classes(written: Sequence[List[str]], columns: int = 3) -> Dict[Tuple[str, ...], List[List[str]]]:
    found: Dict[Tuple[str, ...], List[List[str]]] = defaultdict(list)
    for row in written[1:]:
        found[tuple(row[:columns])].append(row)
    return found


def holds(written: str, value: str) -> bool:
    """Whether a text that is written covers a value, as a reader of the table understands it."""
    if written == value:
        return True
    if written.startswith("["):
        low, high = written[1:-1].split("-")
        return float(low) <= float(value) and (
            float(value) <= float(high) if written.endswith("]") else float(value) < float(high)
        )
    if written.startswith("{"):
        return value in written[1:-1].split("|")
    return any(value == line.split(",")[0] and written in line.split(",") for line in PLACES.split())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "more",
    [
        "",
        "l_diversity = 2",
        'l_diversity = 1.8\ndiversity = "entropy"',
        "t_closeness = 0.25",
        'patient = "who"',
        'patient = "who"\nl_diversity = 3\nt_closeness = 0.4',
    ],
)
def test_every_class_has_what_was_asked_for(tmp_path: Path, seed: int, more: str) -> None:
    table, rules = setting(tmp_path, 220, seed, more, k=4 + seed)
    report, written = run(table, rules)
    assert written[0] == ["age", "sex", "place", "ill"]
    found = classes(written)
    after = report["after"]
    assert sum(map(len, found.values())) == 220
    assert after["classes"] == len(found) > 3
    if "who" not in more:
        assert after["k"] == min(map(len, found.values())) >= 4 + seed
    whole = (
        np.array([sum(row[4] == value for row in rows_of(220, seed)) for value in ("no", "flu", "cold", "gout")]) / 220
    )
    for rows in found.values():
        shares = np.array([sum(row[3] == value for row in rows) for value in ("no", "flu", "cold", "gout")]) / len(rows)
        there = shares[shares > 0]
        assert len(there) >= (3 if "= 3" in more else 2 if "= 2" in more else 1)
        assert np.exp(-(there * np.log(there)).sum()) >= (1.8 - 1e-9 if "entropy" in more else 1)
        assert np.abs(shares - whole).sum() / 2 <= (0.25 if "0.25" in more else 0.4 if "0.4" in more else 1) + 1e-9


@pytest.mark.parametrize("mode", ["strict", "relaxed"])
def test_every_row_is_in_a_class_that_covers_it(tmp_path: Path, mode: str) -> None:
    table, rules = setting(tmp_path, 300, 3, f'mode = "{mode}"')
    if mode == "relaxed":
        rules.write_text(rules.read_text().replace('place = { hierarchy = "places.csv" }', ""))
    columns = 2 if mode == "relaxed" else 3
    _, written = run(table, rules)
    found = classes(written, columns)
    for row in rows_of(300, 3):
        covering = [each for texts, each in found.items() if all(map(holds, texts, row[1 : 1 + columns]))]
        assert any(row[4] in [one[columns] for one in each] for each in covering)
    assert sum(map(len, found.values())) == 300


def test_persons_are_counted_not_rows(tmp_path: Path) -> None:
    lines = ["who,age,sex,place,ill,note", *(f"p{n % 3},{20 + n % 2},f,Bonn,no,x" for n in range(30))]
    table, rules = setting(tmp_path, 10, 1, 'patient = "who"')
    table.write_text("\n".join(lines) + "\n")
    assert main(["anonymize", str(table), str(rules), "--out", str(tmp_path / "o.csv")]) == 2
    rules.write_text(rules.read_text().replace('patient = "who"\n', ""))
    report, _ = run(table, rules)
    assert report["after"]["k"] == 15, "thirty rows, of three persons, would pass"


def test_what_no_rule_names_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, rules = setting(tmp_path, 100, 2)
    report, written = run(table, rules)
    assert report["left_out"] == ["who", "note"]
    assert "left out, since the rules do not name them: who, note" in capsys.readouterr().out
    assert not any("free text" in cell or cell.startswith("p") for row in written[1:] for cell in row)
    assert [row[:3] for row in written[1:]] == sorted(row[:3] for row in written[1:]), (
        "the order of the rows says nothing"
    )
    rules.write_text(rules.read_text().replace("[quasi]", 'keep = ["note"]\n[quasi]'))
    assert run(table, rules)[1][0] == ["age", "sex", "place", "ill", "note"]


def test_it_says_what_is_not_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, rules = setting(tmp_path, 100, 2)
    report, _ = run(table, rules)
    said = capsys.readouterr().out
    assert any("no epsilon" in line for line in report["not_promised"])
    assert "no differential privacy" in said


def test_a_picture_of_the_classes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the gateway, not on a node")
    table, rules = setting(tmp_path, 100, 2)
    run(table, rules, "--plot", str(tmp_path / "p.svg"))
    assert (tmp_path / "p.svg").read_text().lstrip().startswith("<?xml")


def test_without_matplotlib_a_picture_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, rules = setting(tmp_path, 100, 2)
    monkeypatch.setattr("orchestrator.cli.anonymize.find_spec", lambda name: None)
    out = tmp_path / "o.csv"
    assert main(["anonymize", str(table), str(rules), "--out", str(out), "--plot", str(tmp_path / "p.svg")]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not out.exists()


def test_the_risk_and_what_a_model_still_learns(tmp_path: Path) -> None:
    draw = random.Random(5)
    table, rules = setting(tmp_path, 10, 1, 'label = "ill"')
    ages = [draw.randrange(20, 90) for _ in range(400)]
    rows = [f"p{n},{age},f,Bonn,{'flu' if draw.random() < age / 100 else 'no'},x" for n, age in enumerate(ages)]
    table.write_text("\n".join([",".join(NAMES), *rows]) + "\n")
    report, _ = run(table, rules)
    assert report["before"]["unique"] >= 0
    assert report["after"]["risk"]["greatest"] == 1 / report["after"]["k"] <= 0.2
    assert report["auc"]["before"] > 0.6
    assert abs(report["auc"]["before"] - report["auc"]["after"]) < 0.05


def test_real_rows_keep_their_detail(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    lines = [
        line
        for site in heart.HOSPITALS
        for line in shared_data(f"heart-disease/{heart.file_of(site)}").read_text().split()
    ]
    kept = [line for line in lines if line.split(",")[3] != "?" and line.split(",")[7] != "?"]
    assert len(kept) == 861
    table, rules = tmp_path / "heart.csv", tmp_path / "rules.toml"
    table.write_text("\n".join([",".join(heart.COLUMNS), *kept]) + "\n")
    rules.write_text(
        'k = 5\nsensitive = "num"\n[quasi]\nage = { minimum = 28, maximum = 77 }\nsex = { levels = ["0", "1"] }\n'
        'cp = { levels = ["1", "2", "3", "4"] }\ntrestbps = { minimum = 0, maximum = 200 }\n'
    )
    report, written = run(table, rules)
    assert len(written) == 862
    assert report["before"]["unique"] == pytest.approx(0.67, abs=0.005)
    assert report["after"]["k"] == 5
    assert report["ncp"] <= 0.051
    assert report["suppressed"] == 0
    assert report["discernibility"] < 6251, "what another program comes to on these rows"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("k = 5", "k = 1"), "k: 1"),
        (('sensitive = "ill"', "l_diversity = 2"), "are of `sensitive`"),
        (("minimum = 0, maximum = 120", "minimum = 0"), "minimum and maximum: two numbers"),
        (("minimum = 0, maximum = 120", "minimum = 0, maximum = 120, cuts = [50, 40]"), "cuts: expected to rise"),
        (('levels = ["f", "m"]', 'levels = ["f"]'), "levels: two or more"),
        (('levels = ["f", "m"]', 'levels = ["f", "m"], minimum = 0'), "either minimum and maximum"),
        (('"places.csv"', '"nowhere.csv"'), "nowhere.csv"),
        (("[quasi]", 'patient = "age"\n[quasi]'), "'age': is in [quasi], and named otherwise too"),
        (("[quasi]", 'label = "sex"\n[quasi]'), "'sex': is in [quasi], and named otherwise too"),
        (('levels = ["f", "m"]', 'levels = ["1", "1.0"]'), "1 and 1.0 are the same"),
        (("[quasi]", 'keep = ["notes"]\n[quasi]'), "no column 'notes', did you mean 'note'?"),
        (("[quasi]", 'mode = "relaxed"\n[quasi]'), "neither cuts nor hierarchies"),
        (("maximum = 120", "maximum = 60"), "is not a number from 0 to 60"),
        (('levels = ["f", "m"]', 'levels = ["f", "w"]'), "'m' is not one of f, w"),
        (("k = 5", "k = 500"), "as a whole it has fewer than k = 500 rows"),
        (("k = 5", "k = nan"), "k:"),
        (
            ("[quasi]", 'diversity = "entropy"\n[quasi]'),
            "diversity 'entropy': how l_diversity counts, which is not given",
        ),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: "tuple[str, str]", said: str
) -> None:
    table, rules = setting(tmp_path, 120, 4)
    assert change[0] in rules.read_text()
    rules.write_text(rules.read_text().replace(*change))
    out = tmp_path / "out.csv"
    assert main(["anonymize", str(table), str(rules), "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ("a\nb,R\n", ":1: expected a value and what it belongs to"),
        ("a,X,R\nb,X,S\n", "'X' belongs to"),
        ("a,R\nb,S\n", "expected one root"),
        ("a,R\na,R\n", "expected two or more leaves"),
        ("a,X,R\nX,R\n", "none above another: X"),
    ],
)
def test_a_hierarchy_is_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str], tree: str, said: str) -> None:
    table, rules = setting(tmp_path, 50, 1)
    (tmp_path / "places.csv").write_text(tree)
    assert main(["anonymize", str(table), str(rules), "--out", str(tmp_path / "o.csv")]) == 2
    assert said in capsys.readouterr().err


def test_a_hierarchy_is_read_in_time_that_grows_as_its_rows(tmp_path: Path) -> None:
    def calls(leaves: int) -> int:
        path = tmp_path / "tree.csv"
        path.write_text("".join(f"leaf {n},group {n // 10},root\n" for n in range(leaves)))
        counted = 0

        def count(*_: Any) -> None:
            nonlocal counted
            counted += 1

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            Hierarchy(path)
        finally:
            sys.setprofile(before)
        return counted

    assert calls(800) < 3 * calls(400)


def test_rows_without_a_value_are_suppressed_as_far_as_that_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, rules = setting(tmp_path, 100, 2)
    lines = table.read_text().splitlines()
    cells = lines[5].split(",")
    lines[5] = ",".join([cells[0], "", *cells[2:]])
    table.write_text("\n".join(lines) + "\n")
    assert main(["anonymize", str(table), str(rules), "--out", str(tmp_path / "o.csv")]) == 2
    assert "1 of 100 rows lack a value" in capsys.readouterr().err
    rules.write_text(rules.read_text().replace("k = 5", "k = 5\nsuppression = 0.01"))
    report, written = run(table, rules)
    assert (report["suppressed"], len(written)) == (1, 100)


def test_parts_are_of_cuts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, rules = setting(tmp_path, 50, 1)
    assert main(["anonymize", str(table), str(rules), "--out", str(tmp_path / "o.csv"), "--parts", "4"]) == 2
    assert "--parts: says into how many --cuts cuts" in capsys.readouterr().err


def test_hospitals_cut_at_the_same_values(tmp_path: Path) -> None:
    rows = [[10 * n, 10 * n + 10, 50 - abs(n - 5) * 8 - 0.5] for n in range(12)]
    histogram = {"name": "histogram age", "columns": ["from", "to", "records"], "rows": rows}
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"analysis": {"kind": "statistics", "tables": [histogram], "notes": []}}))
    edges = set()
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        table, rules = setting(folder, 300, seed)
        _, written = run(table, rules, "--cuts", str(result), "--parts", "6")
        edges |= {edge for row in written[1:] for edge in row[0].strip("[])").split("-")}
        assert all(row[0].startswith("[") for row in written[1:])
    shared = shared_cuts([10 * n for n in range(13)], [row[2] for row in rows], 6)
    allowed = {str(edge) for edge in (0, *shared, 120)}
    assert edges <= allowed, "no edge is a hospital's own"
    assert 4 < len(allowed) <= 7
    assert shared_cuts([0, 1, 2, 3], [-5.0, -1.0, 0.0], 4) == [], "noise alone is no histogram"


def of_one_person(column: int, spellings: Sequence[str]) -> str:
    """A table in whose column every row is one value, in several spellings."""
    rows = [[f"p{n}", str(20 + n % 2), "f", "Bonn", "no", "x"] for n in range(24)]
    for n, row in enumerate(rows):
        row[column] = spellings[n % len(spellings)]
    return "\n".join([",".join(NAMES), *map(",".join, rows)]) + "\n"


@pytest.mark.parametrize("spellings", [("p7", "P7"), ("7", "7.0", "7e0")])
def test_a_person_in_many_spellings_is_one(tmp_path: Path, spellings: Tuple[str, ...]) -> None:
    table, rules = setting(tmp_path, 10, 1, 'patient = "who"', k=2)
    table.write_text(of_one_person(0, spellings))
    assert main(["anonymize", str(table), str(rules), "--out", str(tmp_path / "o.csv")]) == 2


@pytest.mark.parametrize("spellings", [("flu", "Flu", "FLU"), ("flu", "1", "1.0", "Flu")])
def test_a_sensitive_value_in_many_spellings_is_no_diversity(tmp_path: Path, spellings: Tuple[str, ...]) -> None:
    values = len({cell.casefold().replace("1.0", "1") for cell in spellings})
    table, rules = setting(tmp_path, 10, 1, f"l_diversity = {values + 1}", k=2)
    table.write_text(of_one_person(4, spellings))
    assert main(["anonymize", str(table), str(rules), "--out", str(tmp_path / "o.csv")]) == 2
    rules.write_text(RULES.format(k=2, more=f"l_diversity = {values}"))
    report, _ = run(table, rules)
    assert report["after"]["l_distinct"] == values


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "NULL", "nan", "#N/A"])
@pytest.mark.parametrize("column", [0, 1, 4])
def test_no_value_is_none_in_any_spelling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: str, column: int
) -> None:
    table, rules = setting(tmp_path, 60, 1, 'patient = "who"')
    lines = table.read_text().splitlines()
    cells = lines[5].split(",")
    cells[column] = cell
    table.write_text("\n".join([*lines[:5], ",".join(cells), *lines[6:]]) + "\n")
    assert main(["anonymize", str(table), str(rules), "--out", str(tmp_path / "o.csv")]) == 2
    said = capsys.readouterr().err
    assert "lack a value" in said if column == 1 else ":6: column" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 10, float("nan")]],
        [[0, float("inf"), 4]],
        [[10, 0, 4], [0, 5, 4]],
        [[0, 10]],
        [["0", "ten", 4]],
        [],
        {"low": 3},
    ],
)
def test_a_histogram_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: Any) -> None:
    table, rules = setting(tmp_path, 60, 1)
    result = tmp_path / "result.json"
    histogram = {"name": "histogram age", "columns": ["from", "to", "records"], "rows": rows}
    result.write_text(json.dumps({"analysis": {"kind": "statistics", "tables": [histogram], "notes": []}}))
    assert main(["anonymize", str(table), str(rules), "--out", str(tmp_path / "o.csv"), "--cuts", str(result)]) == 2
    assert "no result.json of a `statistics` analysis" in capsys.readouterr().err


def test_classes_are_measured_one_by_one(tmp_path: Path) -> None:
    """As many sensitive values as rows: the shares of all classes at once would take 64 MB."""
    rows = 8000
    quasi, sensitive = [(str(row // 8),) for row in range(rows)], [str(row) for row in range(rows)]
    tracemalloc.start()
    try:
        found = measure(quasi, sensitive, [])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16e6
    assert (found.k, found.l_distinct, found.classes) == (8, 8, 1000)
    assert found.l_entropy == pytest.approx(8)
