"""The models a gateway made stay, and say where they come from without naming a hospital."""

import json
from pathlib import Path

import pytest
from stored_runs import finish_run, write_bundle, write_run

from orchestrator.cli.main import main
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.gateway.registry import find_model, keep_model, models, prune, set_tag
from orchestrator.gateway.store import Store

FIRST, SECOND = "ward-0123abcd", "ward-0123abcd-2"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two trainings, the second from the first's result, each with a bundle that was kept."""
    store = Store(tmp_path / "gateway.sqlite")
    for i, (run, digest) in enumerate(((FIRST, "aa" * 8), (SECOND, "bb" * 8)), 1):
        write_run(store, run, 1000.0 * i)
        finish_run(store, run, 1000.0 * i + 10, digest)
        write_bundle(tmp_path, b"model %d" % i)
        keep_model(tmp_path, run)
    store.close()
    return tmp_path


def test_retraining_keeps_the_earlier_bundle_and_points_to_it(out: Path) -> None:
    second, first = models(out)
    assert (first.folder / "bundle" / "model.bin").read_bytes() == b"model 1"
    assert (second.folder / "bundle" / "model.bin").read_bytes() == b"model 2"
    assert (first.made_by[0]["parent_run"], first.made_by[0]["parent_model"]) == (None, None)
    assert (second.made_by[0]["parent_run"], second.made_by[0]["parent_model"]) == (FIRST, "aa" * 8)
    assert [r["round"] for r in second.made_by[0]["rounds"]] == [1, 2]
    assert second.made_by[0]["versions"]["numpy"]


def test_a_lineage_names_no_node(out: Path) -> None:
    """Names short enough to guess must not be found by hashing them; the key is in the store alone."""
    first = find_model(out, "aa")
    text = (first.folder / "lineage.json").read_text()
    assert not {"icu", "er", "lab"} & set(text.replace('"', " ").split())
    nodes = first.made_by[0]["rounds"][0]["nodes"]
    assert len(set(nodes)) == 2
    assert sorted(first.made_by[0]["privacy"]["records_per_node"]) == nodes
    assert nodes == find_model(out, "bb").made_by[0]["rounds"][0]["nodes"], "one node, one pseudonym"
    assert first.made_by[0]["metrics"] == {"tflm": {"accuracy": 0.8125}}


def test_keeping_again_after_a_crash_changes_nothing(out: Path) -> None:
    half = out / "models" / f".new-{'cc' * 8}"
    half.mkdir()
    (half / "junk").write_text("killed here")
    keep_model(out, SECOND)
    assert [len(m.made_by) for m in models(out)] == [1, 1]
    store = Store(out / "gateway.sqlite")
    write_run(store, "other-99999999", 5000.0)
    finish_run(store, "other-99999999", 5010.0, "bb" * 8)
    keep_model(out, "other-99999999")
    assert [e["run"] for e in find_model(out, "bb").made_by] == [SECOND, "other-99999999"]
    finish_run(store, FIRST, 6000.0, "cc" * 8)
    keep_model(out, FIRST)
    assert not list((out / "models").glob(".*"))
    assert len(models(out)) == 3


def test_a_run_without_a_result_has_nothing_to_keep(out: Path) -> None:
    write_run(Store(out / "gateway.sqlite"), "new-11111111")
    with pytest.raises(EdgewardError, match="run new-11111111 has no result"):
        keep_model(out, "new-11111111")


def test_tags_move_and_protect_from_pruning(out: Path) -> None:
    set_tag(out, "production", "aa" * 8)
    assert [m.digest for m in prune(out, 0)] == ["bb" * 8]
    assert find_model(out, "production").digest == "aa" * 8
    with pytest.raises(UsageError, match="'aa': is the beginning of a digest"):
        set_tag(out, "aa", "aa" * 8)
    with pytest.raises(UsageError, match="use 1 to 64"):
        set_tag(out, "../x", "aa" * 8)
    with pytest.raises(UsageError, match="'bb' is not one of"):
        find_model(out, "bb")
    with pytest.raises(UsageError, match="0 or more"):
        prune(out, -1)


def test_the_commands(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def edgeward(*words: str) -> str:
        assert main(["model", *words, "--out", str(out)]) == 0
        return capsys.readouterr().out

    assert json.loads(edgeward("tag", "bb", "production", "--json"))["tags"] == ["production"]
    listed = edgeward("list").splitlines()
    assert listed[1].startswith("bb" * 8)
    assert listed[1].endswith("production")
    shown = edgeward("lineage", "production")
    assert f"went on from run {FIRST}, model {'aa' * 8}" in shown
    assert "privacy: the claim" in shown
    assert json.loads(edgeward("lineage", "aa", "--json"))["made_by"][0]["run"] == FIRST
    assert json.loads(edgeward("prune", "--keep", "0", "--json")) == {"removed": ["aa" * 8], "kept": ["bb" * 8]}
    edgeward("tag", "bb", "production", "--remove")
    assert json.loads(edgeward("list", "--json"))[0]["tags"] == []
    assert main(["model", "tag", "bb", "production", "--remove", "--out", str(out)]) == 2
