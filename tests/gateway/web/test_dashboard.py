"""The dashboard over HTTP: what it shows of a real run, who may see it, and that it never disturbs the rounds."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

import pytest
from dashboards import MAIN, NOWHERE, RUN, Client, dashboard, make_store, parse_metrics
from stage import gateway_at_work

from orchestrator.errors import UsageError
from orchestrator.gateway.broker import OwnBroker, free_port
from orchestrator.gateway.running import Held, holder
from orchestrator.gateway.store import Store
from orchestrator.gateway.web import child
from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.rounds.events import Arrived
from orchestrator.wire.link import Link
from orchestrator.wire.protection import Privacy
from orchestrator.wire.topics import Topics


def test_an_open_round_is_shown_as_the_journal_has_it(tmp_path: Path) -> None:
    with gateway_at_work(tmp_path), dashboard(tmp_path) as (client, _):
        at = time.time()
        make_store(tmp_path, at=at)
        page = client.json("/api/overview")
        live = page["live"]
        assert (live["phase"], live["round"], live["rounds"], live["kind"]) == ("collecting", 2, 3, "training")
        assert (live["arrived"], live["awaited"]) == ([{"node": "a", "bytes": 77}], ["b"])
        assert live["deadline_at"] == pytest.approx(at + 5.7 + 60)
        nodes = {row["node"]: row for row in page["nodes"]}
        assert [nodes[name]["state"] for name in "abc"] == ["arrived", "training", "declined"]
        assert nodes["c"]["reason"] == "no column 'age'"
        assert (nodes["a"]["records"], nodes["a"]["updates"]) == (120, 3)
        assert [row["round"] for row in page["rounds"]] == [0, 1]
        assert page["rounds"][1]["loss"] == "nan", "a number that is not finite is no JSON, and not the same as none"
        assert page["privacy"]["state"] == "none"
        assert "age (0 to 110)" in page["run"]["words"][0]["text"]
        assert page["gateway"]["running"] is True
        assert any("c declined" in line["text"] for line in page["activity"])
        assert client.json(f"/api/runs/{RUN}")["live"] == live
        assert client.json("/api/runs")[0]["rounds_done"] == 1
        assert client.ask("/api/runs/nothing")[0] == 404
        # What the journal gains is seen, without asking the gateway.
        store = Store(tmp_path / "gateway.sqlite")
        store.append(RUN, Arrived(at + 10.0, "b", 2, "d", 80.0))
        store.close()
        assert client.json("/api/overview")["live"]["phase"] == "aggregating"


def test_before_any_run_and_without_boards_it_says_so(tmp_path: Path) -> None:
    with dashboard(tmp_path) as (client, _):
        page = client.json("/api/overview")
        assert (page["run"], page["runs"], page["boards"]["boards"]) == (None, [], [])
        assert client.json("/api/audit") == {"present": False, "total": 0, "first": 0, "last": 0, "entries": []}
        assert client.ask("/metrics")[0] == 200
        (tmp_path / "audit.jsonl").write_text('{"what": "first"}\n{"what": "last"}\nbroken')
        assert client.json("/api/audit?limit=2")["entries"] == [{"unreadable": "broken"}, {"what": "last"}]
        assert client.ask("/api/audit?limit=x")[0] == 400


def test_epsilon_is_a_curve_that_ends_where_the_statement_does(tmp_path: Path) -> None:
    privacy = Privacy(
        epsilon=8.0,
        delta=1e-3,
        noise_multiplier=1.5,
        statistics_noise_multiplier=3.0,
        statistics_clip_norm=0.5,
    )
    make_store(tmp_path, privacy=privacy)
    from orchestrator.privacy.charges import Charge, epsilon_of

    with dashboard(tmp_path) as (client, _):
        deadline = time.monotonic() + 120
        while (shown := client.json("/api/overview")["privacy"])["state"] == "computing":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert shown["state"] == "ready", shown
        assert [number for number, _ in shown["points"]] == [0, 1, 2, 3]
        for number, epsilon in shown["points"]:
            charges = [Charge("statistics", 3.0), Charge("count", 7.5)]
            charges += [Charge("training", 1.5, privacy.sampling_rate, number)]
            assert epsilon == pytest.approx(epsilon_of(charges, privacy.delta), rel=1e-3)
        assert shown["spent"] == shown["points"][2][1], "round 2 is open: its answers may be out"
        assert shown["unit"] == "record"
        assert shown["not_covered"]
        metrics = parse_metrics(client)
        assert metrics["edgeward_privacy_epsilon_spent"] == pytest.approx(shown["spent"])


def test_prometheus_reads_the_metrics(tmp_path: Path) -> None:
    with gateway_at_work(tmp_path), dashboard(tmp_path) as (client, process):
        make_store(tmp_path, at=time.time())
        process.tell({"event": "refused", "node": "a", "reason": "unsigned"})
        deadline = time.monotonic() + 300
        while not (metrics := parse_metrics(client))["edgeward_messages_refused_total"]:
            assert time.monotonic() < deadline
        assert metrics["edgeward_rounds_completed_total"] == 1
        assert metrics["edgeward_round_bytes_total"] == 400
        assert metrics["edgeward_nodes_online"] == 2
        assert metrics["edgeward_nodes_declined"] == 1
        assert metrics["edgeward_updates_total"] == 2
        assert metrics["edgeward_accuracy_ratio"] == 0.8
        assert metrics["edgeward_last_round_seconds"] == 0.5
        assert metrics["edgeward_process_resident_memory_bytes"] > 1e6
        assert any("unsigned" in line["text"] for line in client.json("/api/overview")["activity"])


def test_records_of_boards_are_heard_and_strange_ones_passed_over(tmp_path: Path) -> None:
    with OwnBroker("embedded") as broker, dashboard(tmp_path, broker=broker.address) as (client, _):
        deadline = time.monotonic() + 600
        while client.json("/api/boards")["state"] != "listening":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        link = Link(broker.address, "board", ())
        link.open(20)
        topic = Topics("test").board_record("ttyusb0")
        head = {"boot": "b", "model": "m1", "t_us": 5}
        link.publish(topic, b"no json")
        link.publish(topic, b'{"kind": "metrics", "latency_p50_us": NaN}')
        link.publish(
            topic, json.dumps({**head, "seq": 0, "kind": "info", "simulated": True, "engine": "direct"}).encode()
        )
        for seq in (1, 4):
            record = {**head, "seq": seq, "kind": "metrics", "latency_p50_us": 10 * seq, "inferences": seq}
            link.publish(topic, json.dumps(record).encode())
        while not (boards := client.json("/api/boards")["boards"]) or boards[0]["received"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        link.close()
        (board,) = boards
        assert (board["simulated"], board["model"], board["lost"]) == (True, "m1", 2)
        assert [point["latency_p50_us"] for point in board["history"]] == [10, 40]
        assert 'simulated="true"' in client.ask("/metrics")[2]


def test_events_are_pushed_as_they_happen(tmp_path: Path) -> None:
    make_store(tmp_path)
    with dashboard(tmp_path) as (client, _), socket.create_connection(("127.0.0.1", client.port), timeout=600) as link:
        link.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_until(link, b'"phase":"collecting"')
        store = Store(tmp_path / "gateway.sqlite")
        store.append(RUN, Arrived(1010.0, "b", 2, "d", 80.0))
        store.close()
        read_until(link, b'"phase":"aggregating"')


def read_until(link: socket.socket, wanted: bytes) -> None:
    heard = b""
    while wanted not in heard:
        part = link.recv(65536)
        assert part, f"the stream ended before {wanted!r}"
        heard += part


# Strangers


def test_a_killed_dashboard_comes_back_and_one_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    make_store(tmp_path)
    with dashboard(tmp_path) as (client, process):
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 600
        while process.restarts == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.wait()
        assert client.json("/api/overview")["live"]["round"] == 2
        assert process.pid != first
        os.kill(process.pid or 0, signal.SIGSTOP)
        before = time.monotonic()
        for _ in range(5000):  # far more than the channel holds
            process.tell({"event": "refused", "node": "a", "reason": "x" * 1000})
        assert time.monotonic() - before < 60, "telling a dashboard that hangs must not wait for it"
    assert not Path(f"/proc/{process.pid}").exists() or "zombie" in Path(f"/proc/{process.pid}/status").read_text()


def test_a_store_that_cannot_be_read_is_named_and_read_again_when_it_can(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path)
    path = tmp_path / "gateway.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with dashboard(tmp_path) as (client, _):
        of_runs = [f"/api/{page}/{RUN}" for page in ("runs", "page", "statement")]
        for page in (
            "/api/overview",
            "/metrics",
            "/api/runs",
            *of_runs,
            f"/api/compare?run={RUN}",
            f"/api/nodes/{RUN}/icu",
        ):
            status, _, text = client.ask(page)
            assert status == 503, (page, text)
            assert f"{path}: " in text
            assert "restore it from a backup" in text
        assert client.ask("/healthz")[0] == 200
        path.write_bytes(whole)
        assert client.json("/api/overview")["run"]["run"] == RUN
        # A fault of ours is one line as well, and the page after it works.
        (tmp_path / "audit.jsonl").mkdir()
        assert client.ask("/api/audit")[0] == 500
        assert client.ask("/api/runs")[0] == 200
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.count("malformed") <= 2
    assert f"{tmp_path / 'audit.jsonl'}: Is a directory" in said


def test_a_dashboard_that_cannot_be_started_now_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with dashboard(tmp_path) as (client, process):
        failures: List[Any] = []
        start = DashboardProcess._start

        def sometimes(self: DashboardProcess) -> None:
            if len(failures) < 2:
                failures.append(1)
                raise OSError(11, "Resource temporarily unavailable")
            start(self)

        monkeypatch.setattr(child, "_RESTART_S", 0.1)
        monkeypatch.setattr(DashboardProcess, "_start", sometimes)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        client.wait()
        assert process.restarts == 1
    assert caplog.text.count("starts no further process") == 2


def test_a_taken_port_and_a_second_gateway_are_refused(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}: another program listens there"):
            DashboardProcess(tmp_path, WebSettings("127.0.0.1", port), "test", NOWHERE)
    assert holder(tmp_path) is None
    program = "import sys; from pathlib import Path; from orchestrator.gateway.running import Held\n"
    program += "with Held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    held = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    assert holder(tmp_path) == held.pid
    with pytest.raises(UsageError, match=f"process {held.pid} runs a gateway"), Held(tmp_path):
        pass
    held.kill()
    held.communicate()
    with Held(tmp_path):
        pass


def test_the_dashboard_of_a_folder_alone(tmp_path: Path) -> None:
    make_store(tmp_path)
    port = free_port()
    command = [*MAIN, "gateway", "dashboard", str(tmp_path), "--listen", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        client = Client(port).wait()
        page = client.json("/api/overview")
        assert page["boards"]["state"] == "not configured"
        assert page["gateway"]["running"] is False
    finally:
        process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=600)
    assert "Traceback" not in told
