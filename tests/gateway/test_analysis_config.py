"""[task.analysis] in an edgeward.toml: each mistake is named with its place when the file is read, not by nodes that decline."""

from pathlib import Path
from typing import Dict, Tuple

import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config

GOOD = """
[gateway]
federation = "x"
[task]
name = "t"
[task.analysis]
kind = "statistics"
[task.schema]
kind = "table"
features = [{ name = "age", minimum = 0, maximum = 100 }, { name = "sex", categories = ["f", "m"] }]
[task.privacy]
unit = "none"
[task.rounds]
nodes = 3
quorum = 3
"""
KIND = 'kind = "statistics"'
PRIVATE = 'unit = "record"\nepsilon = 1.0\ndelta = 1e-5'
MASKED = '[task.aggregation]\nmethod = "masked"'
MISTAKES: Dict[str, Tuple[Tuple[str, str], str]] = {
    "no kind": ((KIND, ""), "task.analysis.kind: missing, expected one of statistics"),
    "an option alone": ((KIND, "bins = 4"), "task.analysis.kind: missing, expected one of statistics"),
    "a mistyped kind": ((KIND, 'kind = "statistic"'), "did you mean 'statistics'?"),
    "no table": ((f"[task.analysis]\n{KIND}", 'analysis = "statistics"'), "task.analysis: 'statistics' is not a table"),
    "rounds of training": (("[task.rounds]", "[task.training]\nrounds = 4\n[task.rounds]"), "task.training.rounds: 4"),
    "a clip norm": (('unit = "none"', f"{PRIVATE}\nclip_norm = 1.0"), "task.privacy.clip_norm: 1, and a vector"),
    "a label alone": (('kind = "table"', 'kind = "table"\nlabel = "died"'), "task.schema: label: of tasks that train"),
    "classes": (('kind = "table"', 'kind = "table"\nclasses = ["a"]'), "task.schema: classes: of tasks that train"),
    "a cohort": (("[task.rounds]", "[task.selection]\ncohort = 3\n[task.rounds]"), "selection.cohort: it would leave"),
    "a signal": (('kind = "table"', 'kind = "signal"\nsamples = 5'), "of tables, and the schema is of kind 'signal'"),
    "rows of its own": (("[gateway]", 'calibration = "x.csv"\n[gateway]'), "calibration: rows of the gateway's"),
    "public rows": (("[gateway]", "calibration_public = true\n[gateway]"), "calibration_public: rows of the gateway's"),
    "too few bits": (("[task.rounds]", f"{MASKED}\nbits = 16\n[task.rounds]"), "bits 16 is too few for 3 nodes"),
    "too many nodes": (
        ("[task.rounds]\nnodes = 3", f"{MASKED}\n[task.rounds]\nnodes = 40000"),
        "40000 nodes are too many",
    ),
    "more values than fit": ((KIND, f"{KIND}\nbins = 1001"), "task.analysis.bins: 1001, expected 1 to 1000"),
}


def read(folder: Path, text: str) -> None:
    path = folder / "edgeward.toml"
    path.write_text(text)
    load_config(path)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_place_and_alone(tmp_path: Path, mistake: str) -> None:
    (old, new), said = MISTAKES[mistake]
    assert old in GOOD
    with pytest.raises(UsageError) as refused:
        read(tmp_path, GOOD.replace(old, new))
    lines = str(refused.value).split("\n")[1:]
    assert said in "\n".join(lines)
    # What an analysis does without is not asked for beside it.
    assert not any(word in line for line in lines for word in ("task.model", "a signal task needs", "at least two are"))


@pytest.mark.parametrize("more", ["[task.training]\n", "[task.training]\nrounds = 1\n", "[task.model]\n"])
def test_what_says_nothing_else_may_stand(tmp_path: Path, more: str) -> None:
    read(tmp_path, GOOD + more)


def test_a_file_without_a_task_is_not_asked_for_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, '[gateway]\nfederation = "x"\n')
    assert "task.model" not in str(refused.value)
