"""Two runs that differ only in who was in which round leave the same artefacts, where the claim counts on a secret sample.

Compared as they are written, so that no name, count, size or time of a round can be left in them, whatever it is called.
"""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence

import numpy as np
import pytest
from stored_runs import write_bundle

from orchestrator.cli.main import main
from orchestrator.gateway import federation
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.history import History
from orchestrator.gateway.registry import find_model, keep_model
from orchestrator.gateway.run import RunResult, run_id
from orchestrator.gateway.run_store import PSEUDONYM_SECRET
from orchestrator.gateway.settings import Config
from orchestrator.gateway.simulated import MARK
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.metrics import render
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.privacy.charges import charges_of
from orchestrator.privacy.participation import public_report, secret_sample
from orchestrator.privacy.statement import statement
from orchestrator.rounds.events import Aggregated, Announce, Arrived, Joined, Left, Started
from orchestrator.wire.body import decode_body
from orchestrator.wire.frames import Chunk, decode_frame
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.post import Post
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Selection, Task, task_to_dict
from orchestrator.wire.topics import Topics
from orchestrator.wire.training import Training

DIGEST = "aa" * 8
SCHEMA = Schema("table", "y", ("a", "b"), {"0": 0}, (Feature("x", -1, 3),), standardization="range")
PRIVACY = Privacy("node", epsilon=8.0, delta=1e-2, noise="gateway", noise_multiplier=1.0)
TASK = Task("ward", SCHEMA, {"kind": "mlp", "hidden": []}, Training(rounds=3), PRIVACY, Rounds(3, 1))
TASK = replace(TASK, selection=Selection(sampling_rate=0.1))
RUN = run_id(TASK)
NODES = {"icu": 40, "er": 50, "lab": 60}
ALL_OF_THEM: List[Sequence[str]] = [("er", "icu", "lab"), ("icu", "lab"), ("er", "icu")]
WITHOUT_ICU: List[Sequence[str]] = [("er", "lab"), ("lab",), ("er",)]


def chunk_of(payload: bytes) -> bytes:
    frame = decode_frame(payload)
    assert isinstance(frame, Chunk)
    return bytes(frame.data)


def make(out: Path, task: Task, rounds: List[Sequence[str]]) -> Path:
    """A finished run whose every figure of a round depends on who was in it, and its kept model."""
    out.mkdir()
    store = Store(out / "gateway.sqlite")
    store.database.execute(
        "UPDATE secrets SET value = ?, digest = NULL WHERE run = ? AND name = ?", (b"k" * 32, *PSEUDONYM_SECRET)
    )
    store.create_run(RUN, task_to_dict(task), b"graph", np.zeros(3, np.float32))
    store.put_phase(RUN, 1000.0, "gathering", -1, "")
    store.append(RUN, Started(1000.0))
    for at, (node, records) in enumerate(NODES.items(), 1001):
        store.append(RUN, Joined(float(at), node, records))
    now = 1010.0
    for number, nodes in enumerate(rounds, 1):
        store.put_phase(RUN, now, "collecting", number, "")
        for node in nodes:
            now += len(node)
            store.append(RUN, Arrived(now, node, number, "d", 1.0))
        figures: Dict[str, Any] = {"round": number, "updates": len(nodes), "nodes": list(nodes)}
        figures.update(
            bytes_up=100 * len(nodes), bytes_down=90 * len(nodes), seconds=now - 1010.0, codec_error=0.1 / len(nodes)
        )
        figures.update(learning_rate=0.1, loss=0.5, accuracy=0.75, auc=None, a_figure_of_tomorrow=len(nodes))
        store.put_result(RUN, number, figures)
        store.append(RUN, Aggregated(now, number))
    for node in NODES:
        sent = 1000 * sum(node in nodes for nodes in rounds)
        store.put_node(
            RUN,
            node,
            {
                "memory_mib": 60.0 + sent,
                "sent_bytes": sent,
                "bytes_up_per_round": sent / 3,
                "bytes_down_per_round": 1.0,
            },
        )
        store.append(RUN, Left(2000.0, node))
    store.put_phase(RUN, 2001.0, "finished", 3, "")
    report = report_of(store, task)
    store.put_report(RUN, 2002.0, report)
    (out / "result.json").write_text(json.dumps(report))
    store.close()
    write_bundle(out, b"model")
    keep_model(out, RUN)
    return out


def report_of(store: Store, task: Task) -> Dict[str, Any]:
    """As federation.py makes it, without the bundle."""
    claim = {"epsilon": 3.5, "unit": "node", "claim": "the claim", "records_per_node": dict(NODES)}
    memory = {"gateway": 70.0 + len(store.nodes(RUN)), "broker": None}
    report = federation.run_report(RUN, task, RunResult(store, RUN, task, dict(NODES)), claim, memory)
    report.update(bundle="bundle", digest=DIGEST, arena=46, metrics={"tflm": {"accuracy": 0.8}})
    return federation.stated(report, task)


def artefacts(out: Path, capsys: pytest.CaptureFixture[str]) -> Dict[str, str]:
    """Everything that goes out with a model or to readers of exports and metrics, by name."""

    def edgeward(*words: str) -> str:
        assert main([*words, "--out", str(out)]) == 0
        return capsys.readouterr().out.replace(str(out), "OUT")

    lineage = json.loads((out / "models" / DIGEST / "lineage.json").read_text())
    for entry in (lineage, *lineage["made_by"]):
        entry.pop("kept_at", None)
        entry.pop("made_at", None)
    found = {"lineage.json": json.dumps(lineage), "result.json": (out / "result.json").read_text()}
    for verb in ("list", "show", "compare"):
        for flags in ([], ["--json"]):
            found[f"runs {verb} {flags}"] = edgeward("runs", verb, *([RUN] if verb != "list" else []), *flags)
    found["show pseudonyms"] = edgeward("runs", "show", RUN, "--json", "--pseudonyms")
    for suffix in ("csv", "json"):
        edgeward("runs", "export", RUN, "-o", str(out / f"rounds.{suffix}"))
        found[f"rounds.{suffix}"] = (out / f"rounds.{suffix}").read_text()
    found["lineage, shown"] = "\n".join(
        line for line in edgeward("model", "lineage", DIGEST).splitlines() if "training 1," not in line
    )
    model = DashboardModel(out, "test", Listener(None, "test"))
    model.curves.of = lambda view: {"state": "none"}  # type: ignore[method-assign]
    page = render(model.sections(), {})
    found["/metrics"] = "\n".join(line for line in page.splitlines() if "resident_memory" not in line)
    model.close()
    return found


def test_nothing_that_goes_out_depends_on_who_was_in_which_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_icu = artefacts(make(tmp_path / "a", TASK, ALL_OF_THEM), capsys)
    without = artefacts(make(tmp_path / "b", TASK, WITHOUT_ICU), capsys)
    assert {name for name in with_icu if with_icu[name] != without[name]} == set()


@pytest.mark.parametrize(
    "task",
    [
        replace(TASK, selection=Selection()),
        replace(TASK, selection=Selection(cohort=2)),
        replace(TASK, privacy=Privacy(noise_multiplier=1.0)),
        replace(TASK, privacy=Privacy(unit="none")),
    ],
)
def test_where_no_claim_counts_on_it_participation_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: Task
) -> None:
    """And so the test above sees what it is for."""
    with_icu = artefacts(make(tmp_path / "a", task, ALL_OF_THEM), capsys)
    without = artefacts(make(tmp_path / "b", task, WITHOUT_ICU), capsys)
    same = {name for name in with_icu if with_icu[name] == without[name]}
    assert same <= {"runs list []", "runs list ['--json']"}


def test_the_store_keeps_it_for_the_gateway_itself(tmp_path: Path) -> None:
    out = make(tmp_path / "a", TASK, ALL_OF_THEM)
    store = Store(out / "gateway.sqlite")
    assert [r["nodes"] for r in store.results(RUN)] == [list(nodes) for nodes in ALL_OF_THEM]
    with History(out) as history:
        assert all((r.nodes, r.seconds, r.bytes_up, r.ended) == (None, None, None, None) for r in history.rounds(RUN))
        assert {node.rounds for node in history.nodes(RUN)} == {()}
    assert find_model(out, DIGEST).made_by[0]["rounds"] == [{"round": 1}, {"round": 2}, {"round": 3}]


def test_a_failed_round_does_not_say_in_public_who_did_not_answer(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run(RUN, task_to_dict(TASK), b"graph", np.zeros(3, np.float32))
    store.put_phase(RUN, 1000.0, "failed", 2, "round 2: 0 of 1 updates needed; no answer from icu")
    with History(tmp_path) as history:
        assert "icu" not in history.run(RUN).reason


@pytest.mark.parametrize("unit", ["record", "node"])
@pytest.mark.parametrize("noise", ["node", "gateway"])
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_amplification_by_nodes_is_claimed_exactly_where_the_sample_is_kept_secret(
    unit: str, noise: str, rate: float
) -> None:
    if (unit, noise) == ("record", "gateway"):
        return
    privacy = Privacy(unit, delta=1e-3, noise=noise, noise_multiplier=1.0, sampling_rate=1.0)
    task = replace(TASK, privacy=privacy, selection=Selection(sampling_rate=rate))
    (charge,) = [charge for charge in charges_of(task) if charge.kind == "training"]
    assert (charge.sampling_rate < 1) == secret_sample(task)


def test_the_statement_says_towards_whom_the_sample_is_secret() -> None:
    said = statement(TASK, NODES)
    rows = {row["whom"]: row["epsilon"] for row in said["holds_against"]}
    assert "does not hold towards those who also see the gateway's" in said["claim"]
    (readers,) = [epsilon for whom, epsilon in rows.items() if "dashboard" in whom]
    assert readers == pytest.approx(statement(replace(TASK, selection=Selection()), NODES)["epsilon"])
    assert readers > 2 * said["epsilon"]
    assert any("how long rounds take" in line for line in said["not_covered"])
    everyone = statement(replace(TASK, selection=Selection()), NODES)
    assert "dashboard" not in json.dumps(everyone)


def test_a_report_holds_only_what_is_known_to_be_public() -> None:
    report = {"run": RUN, "wire": {"float32_bytes": 8, "bytes_up_per_node_round": 3.5}, "invented_later": 3}
    assert set(public_report(report)) == {"run", "per_round", "wire", "participation"}
    assert "bytes_up_per_node_round" not in public_report(report)["wire"]


def test_a_training_writes_and_returns_the_stated_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything round the report is left out: a fleet this small would be refused, and no model is made."""
    out = make(tmp_path / "a", TASK, ALL_OF_THEM)
    (out / MARK).touch()  # a simulation began it
    store = Store(out / "gateway.sqlite")

    class Ran:
        def __init__(self, *_: object, **__: object) -> None: ...

        def begin(self) -> None: ...

        def close(self) -> None: ...

        def result(self) -> RunResult:
            return RunResult(store, RUN, TASK, dict(NODES))

    made = {"bundle": str(out / "bundle"), "arena": 46, "digest": DIGEST, "metrics": {}}
    monkeypatch.setattr(federation, "Gateway", Ran)
    monkeypatch.setattr(federation, "statement_apart", lambda *_: {"epsilon": 1.0, "records_per_node": NODES})
    monkeypatch.setattr(federation, "quantize", lambda *_: made)
    monkeypatch.setattr(federation, "state_figures", lambda *_: None)
    monkeypatch.setattr(federation, "check_config", lambda *_: None)
    nodes: Any = SimpleNamespace(broker=Post(), serve=lambda gateway: None)
    returned = federation.run_federation(Config(TASK), tmp_path, out, lambda event: None, simulated=nodes)
    with History(out) as history:
        kept = history.report(RUN)
    assert returned == json.loads((out / "result.json").read_text())
    assert kept == {name: value for name, value in returned.items() if name != "per_round"}, "rounds have a table"
    assert "bytes_up" not in json.dumps(returned)
    assert returned["participation"]


def gateway_of(tmp_path: Path, task: Task) -> Gateway:
    store = Store(tmp_path / "gateway.sqlite")
    store.create_run(RUN, task_to_dict(task), b"graph", np.zeros(3, np.float32))
    gateway = Gateway(store, RUN, "test", BrokerAddress.parse("mqtt://127.0.0.1:1"))
    for node, records in NODES.items():
        gateway.coordinator.online[node] = records
    return gateway


@pytest.mark.parametrize(("rate", "together"), [(0.1, False), (0.0, True)])
def test_a_round_that_happens_to_ask_all_is_not_broadcast(tmp_path: Path, rate: float, together: bool) -> None:
    """Who declined, or is passed over, hears broadcasts too, and would learn that everybody was drawn."""
    gateway = gateway_of(tmp_path, replace(TASK, selection=Selection(sampling_rate=rate)))
    gateway.questions.ask(Announce(1, tuple(sorted(NODES))))
    sent = [message for message in iter(lambda: gateway.announcer.outbox.next(0.0), None)]
    assert {topic for topic, _ in sent} == (
        {Topics("test").all_nodes} if together else {Topics("test").down(node) for node in NODES}
    )


def test_nodes_do_not_hear_what_others_said_or_did_when_a_run_failed(tmp_path: Path) -> None:
    gateway = gateway_of(tmp_path, TASK)
    gateway.questions.end("round 2: 0 of 1 updates needed; no answer from icu; lab declined: row 3 holds 'Smith'")
    (_, payload) = gateway.announcer.outbox.next(0.0) or ("", b"")
    assert b"icu" not in payload
    header, _ = decode_body(chunk_of(payload), 1 << 20)
    assert header["reason"] == "the run failed; its gateway knows why"
