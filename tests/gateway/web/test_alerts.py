"""Alerts and the Grafana dashboard in deploy/ ask for metrics, labels and values that /metrics really has."""

import itertools
import json
import re
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest
from dashboards import RUN, make_store
from prometheus_client.parser import text_string_to_metric_families
from promql import Metrics, Query
from stage import gateway_at_work

from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.fleet_journal import Journal
from orchestrator.boards.fleet_owner import FleetOwner
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.metrics import render
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.wire.link import Message
from orchestrator.wire.protection import Privacy
from orchestrator.wire.topics import Topics

yaml = pytest.importorskip("yaml", reason="no YAML reader; it comes with the gateway's own broker")

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""


def board_speaks(listener: Listener) -> None:
    head = {"boot": "b", "model": "m1", "t_us": 5, "seq": 1}
    for record in (
        {"kind": "info", "simulated": True, "engine": "direct"},
        {"kind": "metrics", "latency_p50_us": 10, "latency_p99_us": 20, "inferences": 3},
        {"kind": "drift", "psi": 0.3},
    ):
        listener.take(
            Message(Topics("test").board_record("ttyusb0"), json.dumps({**head, **record}).encode()), time.time()
        )


def fleet_owner(folder: Path) -> FleetOwner:
    """Of three boards, one of which failed in the newest roll-out."""
    boards = ["ward-1", "ward-2", "ward-3"]
    Fleet(folder, "test", dict.fromkeys(boards, bytes(32))).write()
    with Journal(folder, "test", "model", Rollout("d"), boards) as journal:
        journal.end([BoardResult("ward-1", Outcome.FAILED, "why", 1)], False)
    return FleetOwner(folder, "test")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """Of a private run with a delivered round and a board, as a scraper reads them."""
    out = tmp_path_factory.mktemp("metrics")
    privacy = Privacy(
        epsilon=8.0, delta=1e-3, noise_multiplier=1.5, statistics_noise_multiplier=3.0, statistics_clip_norm=0.5
    )
    listener = Listener(None, "test", fleet_owner(out / "fleet"))
    model = DashboardModel(out, "test", listener)
    with gateway_at_work(out):
        make_store(out, privacy=privacy, at=time.time())
        deadline = time.monotonic() + 300
        while model.sections()["privacy"]["state"] == "computing":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        board_speaks(listener)
        sections = model.sections()
    assert sections["run"]["run"] == RUN
    for row in sections["rounds"]:
        row["loss"] = 0.5
    found: Metrics = {"up": {}}
    for family in text_string_to_metric_families(render(sections, {}, model.heard_at, model.fleet())):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    model.close()
    return found


def check(text: str, metrics: Metrics) -> Set[str]:
    """Labels a result may have. Asserts that all it asks for exists."""
    query = Query(text)
    assert query.selectors, text
    for selector in query.selectors:
        assert selector.metric in metrics, f"{text}: no metric {selector.metric}"
        labels = metrics[selector.metric]
        for label, operator, value in selector.matchers:
            assert label in {*labels, *SCRAPED}, f"{text}: {selector.metric} has no label {label}"
            if label in labels and not value.startswith("$"):
                alternatives = value.split("|") if operator == "=~" else [value]
                assert set(alternatives) <= labels[label], f"{text}: {label} is one of {sorted(labels[label])}"
        for label in query.labels:
            assert any(label in {*metrics[s.metric], *SCRAPED} for s in query.selectors), f"{text}: no label {label}"
    return {label for selector in query.selectors for label in metrics[selector.metric]} | SCRAPED


def rules() -> List[Dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "edgeward-rules.yml").read_text())["groups"]
    assert len({group["name"] for group in groups}) == len(groups)
    return [rule for group in groups for rule in group["rules"]]


def test_every_alert_asks_for_what_there_is_and_says_what_to_do(metrics: Metrics) -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found) >= 12
    for rule in found:
        labels = check(rule["expr"], metrics)
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "description"}
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels, rule["alert"]
            assert text.count("{{") == text.count("}}")


def test_a_round_that_cannot_succeed_is_an_alert_of_its_own() -> None:
    """Long before a round is found stuck, and soon enough to help: nothing else watches what it lacks."""
    found = {rule["alert"]: rule for rule in rules()}
    watching = [name for name, rule in found.items() if "edgeward_round_nodes_lacking" in rule["expr"]]
    assert watching == ["EdgewardRoundCannotSucceed"]
    rule = found["EdgewardRoundCannotSucceed"]
    assert (rule["expr"], rule["labels"]["severity"]) == ("edgeward_round_nodes_lacking > 0", "critical")
    minutes = {
        name: int(found[name]["for"].rstrip("m")) for name in ("EdgewardRoundCannotSucceed", "EdgewardRoundStuck")
    }
    assert minutes["EdgewardRoundCannotSucceed"] < minutes["EdgewardRoundStuck"]


def panels() -> Iterator[Dict[str, Any]]:
    yield from json.loads((DEPLOY / "grafana" / "edgeward-dashboard.json").read_text())["panels"]


def test_every_panel_asks_for_what_there_is(metrics: Metrics) -> None:
    for panel in panels():
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            labels = check(target["expr"], metrics)
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, panel["title"]
            assert target["datasource"]["uid"] == "${datasource}", "the one who imports it chooses the source"


def test_the_dashboard_is_whole(metrics: Metrics) -> None:
    found = json.loads((DEPLOY / "grafana" / "edgeward-dashboard.json").read_text())
    names = {variable["name"]: variable for variable in found["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(found["panels"]) + json.dumps(found["annotations"])))
    assert used == set(names), "each variable is declared, and used"
    for name in sorted(set(names) - {"datasource"}):
        asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", names[name]["query"]["query"])
        assert asked is not None
        assert asked[2] in {*metrics[asked[1]], *SCRAPED}
    check(found["annotations"]["list"][0]["expr"], metrics)
    boxes = [panel["gridPos"] for panel in found["panels"]]
    assert len({panel["id"] for panel in found["panels"]}) == len(boxes)
    assert all(box["x"] >= 0 and box["x"] + box["w"] <= 24 for box in boxes)
    for one, other in itertools.combinations(boxes, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart = apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart, f"panels cover each other: {one} {other}"


@pytest.mark.parametrize(
    "wrong",
    [
        "a >",
        "increase(a)",
        "a[5m]",
        "rate(a[5m]) > b[1m]",
        "nope(a)",
        "a{b=c}",
        "(a",
        "a b",
        "time(1)",
        "a[5]",
        "a{b='c'}",
    ],
)
def test_what_prometheus_would_refuse_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Query(wrong)


def test_a_wrong_name_label_or_value_is_found(metrics: Metrics) -> None:
    for wrong in (
        "edgeward_rounds > 1",
        'edgeward_round{phase="failed"} > 1',
        'edgeward_run_phase{phase="fialed"} == 1',
        "edgeward_round == 1 and on (bored) edgeward_round",
    ):
        with pytest.raises(AssertionError):
            check(wrong, metrics)
