"""`edgeward runs` over stores as gateways leave them."""

import csv
import json
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path
from typing import Callable

import pytest
from stored_runs import finish_run, write_run

from orchestrator.cli.main import main
from orchestrator.gateway.run_tables import differences
from orchestrator.gateway.store import Store
from orchestrator.wire.protection import Privacy
from orchestrator.wire.training import Training

DONE, OPEN = "ward-0123abcd", "ward-99887766"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two gateways' folders side by side: a finished run without privacy, and an open one with it."""
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    store = Store(tmp_path / "x" / "gateway.sqlite")
    write_run(store, DONE, 1000.0, privacy=Privacy(unit="none"), codec="int4")
    finish_run(store, DONE)
    planned = Privacy(noise_multiplier=2.0, statistics_noise_multiplier=5.0, statistics_clip_norm=0.5)
    store = Store(tmp_path / "y" / "gateway.sqlite")
    write_run(store, OPEN, 2000.0, Training(rounds=2, learning_rate=0.25), privacy=planned)
    return tmp_path


@pytest.fixture
def edgeward(out: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: object, code: int = 0) -> str:
        assert main(["runs", *map(str, words), "--out", str(out)]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run


def test_list_is_newest_first_over_several_gateways(edgeward: Callable[..., str], out: Path) -> None:
    rows = [line.split() for line in edgeward("list").splitlines()]
    assert [row[0] for row in rows] == ["run", OPEN, DONE]
    assert {"stopped", "(collecting)", "1/2"} <= set(rows[1])
    # The lock belongs to a process, so the gateway that holds it has to be another one.
    program = "import sys; from pathlib import Path; from orchestrator.gateway.running import Held\n"
    program += "with Held(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    command = [sys.executable, "-c", program, str(out / "y")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == "held\n"
        working = edgeward("list").splitlines()[1].split()
    assert "collecting" in working
    assert "stopped" not in working
    assert {"finished", "2/2", "3.5", "0.875", "00ff" * 4} <= set(rows[2])
    found = json.loads(edgeward("list", "--json"))
    assert [(r["id"], r["state"], r["out"]) for r in found] == [
        (OPEN, "open", str(out / "y")),
        (DONE, "finished", str(out / "x")),
    ]


def test_show(edgeward: Callable[..., str]) -> None:
    page = edgeward("show", "ward-0")
    assert "finished (finished), 2 of 2 rounds" in page
    assert "declined: no" in page
    assert "privacy: the claim" in page
    assert "privacy: budget epsilon 8; the statement is made" in edgeward("show", "ward-9")
    found = json.loads(edgeward("show", "ward-0", "--json", "--pseudonyms"))
    assert "icu" not in json.dumps({k: v for k, v in found.items() if k != "task"})
    assert [r["codec_error"] for r in found["rounds"]] == [0.01, 0.01]
    assert sorted(found["privacy"]["records_per_node"]) == found["rounds"][0]["nodes"].split()


def test_a_prefix_must_fit_one_run(edgeward: Callable[..., str]) -> None:
    assert f"fits {DONE} in " in edgeward("show", "ward", code=2)
    assert "'nothing' fits none" in edgeward("compare", DONE, "nothing", code=2)


def test_compare_shows_what_differs_and_nothing_else(edgeward: Callable[..., str]) -> None:
    found = json.loads(edgeward("compare", DONE, OPEN, "--json"))
    assert found["settings"]["codec"] == ["int4", "int8"]
    assert found["settings"]["training.learning_rate"] == [0.1, 0.25]
    assert "training.rounds" not in found["settings"]
    assert found["results"]["last accuracy"] == [0.875, 0.75]
    assert found["results"]["bytes up"] == [1200, 600]
    text = edgeward("compare", DONE, OPEN)
    assert "training.learning_rate" in text
    assert differences([{"a": {"b": 1}, "c": 2}, {"a": {"b": 1}}]) == {"c": [2, None]}


@pytest.mark.slow
def test_plot_draws_every_series_it_has(edgeward: Callable[..., str], tmp_path: Path) -> None:
    drawn = json.loads(edgeward("plot", DONE, OPEN, "-o", tmp_path / "x.svg", "--json"))
    assert drawn["panels"] == ["accuracy", "loss", "bytes up", "bytes down", "seconds", "epsilon"]
    xml.dom.minidom.parse(str(tmp_path / "x.svg"))
    edgeward("plot", DONE, "-o", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    assert "written as .png or .svg" in edgeward("plot", DONE, "-o", tmp_path / "x.gif", code=2)


def test_export(edgeward: Callable[..., str], tmp_path: Path) -> None:
    edgeward("export", DONE, OPEN, "-o", tmp_path / "x.csv")
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["run"], r["round"], r["accuracy"]) for r in rows] == [
        (DONE, "1", "0.75"),
        (DONE, "2", "0.875"),
        (OPEN, "1", "0.75"),
    ]
    assert rows[0]["nodes"] == "er icu"
    edgeward("export", DONE, "-o", tmp_path / "x.json", "--pseudonyms")
    hidden = json.loads((tmp_path / "x.json").read_text())
    assert all(node.startswith("node-") for row in hidden for node in row["nodes"].split())
    assert "written as .csv, .json, .parquet" in edgeward("export", DONE, "-o", tmp_path / "x.xls", code=2)
    assert "there is no folder" in edgeward("export", DONE, "-o", tmp_path / "no" / "x.csv", code=2)


def test_parquet_without_pyarrow_says_what_to_do(
    edgeward: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in edgeward("export", DONE, "-o", tmp_path / "x.parquet", code=2)


def test_parquet(edgeward: Callable[..., str], tmp_path: Path) -> None:
    from pyarrow import parquet

    edgeward("export", DONE, OPEN, "-o", tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column("round").to_pylist() == [1, 2, 1]
    assert table.column("auc").null_count == 3
