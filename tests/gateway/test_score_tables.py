"""Figures as people read them: in tables, in progress, and by site."""

import json

import numpy as np

from orchestrator.cli.tables import scores
from orchestrator.gateway.counts import of_sums
from orchestrator.gateway.evaluation import score
from orchestrator.gateway.progress import describe
from orchestrator.gateway.score_tables import TOO_NOISY, chosen, page, renamed, site_rows
from orchestrator.gateway.scores import figures
from orchestrator.wire.evaluation import count

RNG = np.random.default_rng(0)
Y = (RNG.random(300) < 0.2).astype(int)
_POSITIVE = 1 / (1 + np.exp(3.0 - RNG.normal(1.5 * Y - 0.7, 1.0)))
P = np.stack([1 - _POSITIVE, _POSITIVE], axis=1)
FEDERATED = {"round": 4, "federated": figures(of_sums(count(Y[:67], P[:67], 20), 2, 20, 30.0), ("no", "yes"))}
REPORT = {"metrics": {"tflm": score(Y, P, ["a"] * 150 + ["b"] * 150, ("no", "yes"))}, "per_round": [FEDERATED]}


def test_a_table_has_every_figure_with_its_interval_or_says_that_noise_hides_it() -> None:
    text = scores(chosen(REPORT), ("no", "yes"))
    lines = {line.split("  ")[0]: line for line in text.split("\n")}
    for label in (
        "accuracy",
        "base rate",
        "sensitivity",
        "specificity",
        "AUC",
        "PR-AUC",
        "macro-F1",
        "calibration slope",
    ):
        assert lines[label].count("[") == 1, label
        assert lines[label].endswith(TOO_NOISY), label
    assert "threshold by Youden's index" in lines
    assert "by site:\nsite  records" in text
    assert "warning: int8 model, gateway's rows: accuracy" in text
    assert json.loads(json.dumps(page(REPORT, ("no", "yes"))))["sites"][0]["rows"][1][0] == "a"


def test_sites_go_by_their_pseudonyms() -> None:
    found = renamed(chosen(REPORT), {"a": "node-1", "b": "node-2"})
    assert [row[0] for row in site_rows(found["int8 model, gateway's rows"])] == ["site", "node-1", "node-2"]


def test_progress_gives_intervals_and_says_what_is_too_noisy() -> None:
    said = describe({"event": "evaluated", "round": 4, **FEDERATED})
    assert said is not None
    assert "too noisy to show: " in said
    assert "accuracy" in said.split("too noisy to show: ")[1]
    exact = {"event": "evaluated", "round": 4, "federated": figures(of_sums(count(Y, P, 20), 2, 20))}
    assert f"accuracy {(P.argmax(1) == Y).mean():.3f} [" in str(describe(exact))


def test_what_earlier_versions_stored_is_still_shown() -> None:
    old = {"accuracy": 0.8125, "auc": 0.7, "per_node": {"icu": 0.5, "er": 1.0}}
    assert "0.812" in scores(chosen({"metrics": {"tflm": old}, "per_round": [{"accuracy": 0.5}]}), ())
