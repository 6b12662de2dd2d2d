"""Where a monitor's records go: a Prometheus page in the right format, MQTT topics on a real broker, Parquet."""

import csv
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from board_sample import Sample

from orchestrator.boards.client import BoardClient
from orchestrator.boards.exporters import CSV_HEAD, RecordFile, open_file
from orchestrator.boards.forward import MqttForward, board_name
from orchestrator.boards.monitor import Monitor, PortStatus
from orchestrator.boards.prometheus import PrometheusEndpoint, parse_address, render
from orchestrator.boards.protocol import Record
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.errors import BrokerError, UsageError
from orchestrator.gateway.broker import OwnBroker
from orchestrator.http_server import MOST_CONNECTIONS
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import Link, Message
from orchestrator.wire.topics import Topics

# One line of the text exposition format 0.0.4: name, labels, value.
SAMPLE = re.compile(
    r'([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? ([-+0-9.eE]+|NaN|[-+]Inf)'
)
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"')


def parse_page(text: str) -> Dict[str, List[Tuple[Dict[str, str], float]]]:
    """A strict reader of the format: TYPE before samples, a metric's lines together, no sample twice."""
    assert text.endswith("\n")
    found: Dict[str, List[Tuple[Dict[str, str], float]]] = {}
    current = ""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            current, kind = line.split()[2:]
            assert current not in found, f"{current} is in two places"
            assert kind in ("gauge", "counter")
            assert (kind == "counter") == current.endswith("_total")
            found[current] = []
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match[1] == current
            labels = dict(LABEL.findall(match[2] or ""))
            assert labels not in [known for known, _ in found[current]]
            found[current].append((labels, float(match[3])))
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def after_flush(forward: MqttForward) -> bool:
    """True, once `forward` sent what it could."""
    forward.flush()
    return True


def record(kind: str, **fields: object) -> Record:
    return Record("00c0ffee", 7, "0123456789abcdef", 5, kind, 1, dict(fields))


def test_the_page_follows_the_format() -> None:
    board = PortStatus('/dev/odd"\\\nname', connected=True)
    board.last["info"] = record("info", chip="host", simulated=True, engine="direct", firmware="0.1.0", state="ready")
    board.last["metrics"] = record(
        "metrics", inferences=12, latency_p99_us=50, drift_psi=0.25, classes=[3, 9], reset="power_on", Odd=1, on=True
    )
    page = parse_page(render([board, PortStatus("/dev/other")]))
    port = 'odd\\"\\\\\\\\x0aname'  # a port's name is shown as one printable line, then escaped
    assert page["edgeward_board_up"][0] == ({"port": "/dev/" + port}, 1.0)
    assert page["edgeward_board_up"][1] == ({"port": "/dev/other"}, 0.0)
    assert page["edgeward_inferences_total"][0][1] == 12
    assert page["edgeward_drift_psi"][0][1] == 0.25
    assert [value for _, value in page["edgeward_classes"]] == [3, 9]
    latency = page["edgeward_latency_microseconds"][0]
    assert latency[0]["statistic"] == "p99"
    assert latency[0]["simulated"] == "true"
    assert not {"edgeward_reset", "edgeward_Odd", "edgeward_on"} & set(page)
    assert page["edgeward_board_info"][0][0]["model"] == "0123456789abcdef"


def test_a_board_cannot_speak_for_the_monitor() -> None:
    board = PortStatus("/dev/ttyUSB0", connected=True)
    board.last["metrics"] = record(
        "metrics",
        board_up=0,
        board_info=5,
        boots_total=9,
        latency_microseconds=1,
        latency_p50_us='1\nup{a="b"} 0',
        new=4,
    )
    page = parse_page(render([board]))
    assert page["edgeward_board_up"] == [({"port": "/dev/ttyUSB0"}, 1.0)]
    assert page["edgeward_boots_total"] == [({"port": "/dev/ttyUSB0"}, 0.0)]
    assert page["edgeward_new"][0][1] == 4
    assert not {"edgeward_latency_microseconds", "edgeward_board_info"} & set(page)


def test_a_text_in_csv_is_no_formula(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "r.csv")
    file.write("=1+1", 1.0, Record("-1", 7, "@SUM(1)", 5, "+kind", 1, {"a": "=1"}))
    file.close()
    (row,) = (tmp_path / "r.csv").read_text().splitlines()[1:]
    assert row == '1.0,\'=1+1,\'-1,7,\'@SUM(1),5,\'+kind,"{""a"": ""=1""}"'


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("unfinished", ["", '{"received_at": 3', '2.0,"a', "x" * 200_000])
def test_what_an_earlier_monitor_wrote_stays(tmp_path: Path, suffix: str, unfinished: str) -> None:
    path = tmp_path / f"records{suffix}"
    for seq in range(3):
        file = open_file(path)
        file.write("a", 1.0, Record("00c0ffee", seq, None, 5, "metrics", 1, {}))
        file.close()
        with path.open("a") as torn:
            torn.write(unfinished)
    file = open_file(path)
    file.close()
    lines = path.read_text().splitlines()
    if suffix == ".csv":
        assert lines[0] == ",".join(CSV_HEAD)
        assert [row["seq"] for row in csv.DictReader(lines)] == ["0", "1", "2"]
    else:
        assert [json.loads(line)["seq"] for line in lines] == [0, 1, 2]


def test_a_head_that_was_not_finished_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_text("received_at,po")
    open_file(path).close()
    assert path.read_text().splitlines() == [",".join(CSV_HEAD)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "age,sex\n61,f\n"),
        ("a.jsonl", "[]\n"),
        ("b.csv", "\0\xff"),
        ("c.csv", ",".join(CSV_HEAD) + ",extra\n1,2\n"),
        ("d.jsonl", '{"patient": 1}\n{"patient": 2}'),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=f"{name}: is there, and not a file of records"):
        open_file(tmp_path / name)
    assert (tmp_path / name).read_text() == text


def test_the_endpoint_serves_what_the_monitor_knows(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board:
        with BoardClient(board.port) as client:
            client.infer(sample.rows[:20])
        seen: List[str] = []
        with Monitor([board.port], lambda _, __, r: seen.append(r.kind), rate_ms=20) as monitor, PrometheusEndpoint(
            ("127.0.0.1", 0), monitor.status
        ) as endpoint:
            while seen.count("metrics") < 3:
                assert monitor.wait(0.02)
            with urllib.request.urlopen(endpoint.url) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                page = parse_page(answer.read().decode())
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(endpoint.url.replace("/metrics", "/other"))
    assert page["edgeward_inferences_total"][0][1] >= 20  # a row whose answer is late on a busy machine is sent again
    assert page["edgeward_records_corrupt_total"][0][1] == 0
    assert page["edgeward_board_info"][0][0]["chip"] == "host"


def test_addresses() -> None:
    assert parse_address("0.0.0.0:9464") == ("0.0.0.0", 9464)
    assert parse_address(":9464") == parse_address("9464") == ("127.0.0.1", 9464)
    assert parse_address("[::1]:9464") == ("::1", 9464)
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_address("localhost")


@pytest.fixture
def listener(broker: OwnBroker) -> Iterator[Link]:
    link = Link(broker.address, "listener", ["edgeward/1/demo/board/+/record"])
    link.open(10.0)
    yield link
    link.close()


def test_records_reach_the_broker(broker: OwnBroker, listener: Link, tmp_path: Path) -> None:
    """The command as a user types it, against a real broker; the listener gets what is shown, and whether it is simulated."""
    with VirtualBoard() as board:
        command = [sys.executable, "-m", "orchestrator.cli.main", "monitor", board.port, "--json", "--rate", "20"]
        command += ["--seconds", "1", "--forward", str(broker.address), "--federation", "demo"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(shown) > 10
    assert f"{len(shown)} records forwarded, 0 not" in done.stderr
    received: List[Any] = []
    while len(received) < len(shown):
        event = listener.events.get(timeout=600)
        if isinstance(event, Message):
            assert event.topic == f"edgeward/1/demo/board/{board_name(board.port)}/record"
            received.append(json.loads(event.payload))
    told = [record.get("simulated") for record in received]
    assert True in told
    assert set(told[told.index(True) :]) == {True}
    assert [{**record, "simulated": told} for record, told in zip(shown, told)] == [
        {"simulated": None, **r} for r in received
    ]


def test_records_that_no_gateway_reads_are_no_success_in_silence(
    broker: OwnBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Forwarded to a federation nobody serves: said within seconds, with whom the broker shows; and when a gateway comes."""
    other = Link(broker.address, "other-gateway", [])
    other.open(30)
    other.publish(Topics("icu-north").gateway_presence, encode_body({"kind": "gateway"}), retain=True)
    assert other.flush(300)
    forward = MqttForward(str(broker.address), "icu-nort", ["/dev/ttyUSB0"])
    forward.write("/dev/ttyUSB0", 1.0, record("metrics"))
    until(lambda: after_flush(forward) and bool(caplog.messages))
    (said,) = caplog.messages
    assert "no gateway of federation 'icu-nort'" in said
    assert "those of icu-north: is --federation right?" in said
    assert "1 record forwarded" in forward.summary()
    assert "no gateway of federation 'icu-nort' was there to read them" in forward.summary()
    other.publish(Topics("icu-nort").gateway_presence, encode_body({"kind": "gateway"}), retain=True)
    until(lambda: after_flush(forward) and len(caplog.messages) == 2)
    assert "is at" in caplog.messages[1]
    assert "read them" not in forward.summary()
    forward.close()
    other.close()


def test_a_monitor_that_ends_at_once_still_says_that_nobody_listens(
    broker: OwnBroker, caplog: pytest.LogCaptureFixture
) -> None:
    forward = MqttForward(str(broker.address), "nobody", ["/dev/ttyUSB0"])
    forward.close()
    assert "no gateway of federation 'nobody'" in caplog.text
    assert "there are those of" not in caplog.text


def test_a_broker_that_goes_away_costs_records_not_memory(broker: OwnBroker) -> None:
    forward = MqttForward(str(broker.address), "demo", ["/dev/ttyUSB0"])
    try:
        forward.write("/dev/ttyUSB0", 1.0, record("metrics"))
        assert forward.forwarded == 1
        broker.stop()
        for _ in range(500):
            forward.write("/dev/ttyUSB0", 1.0, record("metrics"))
            if forward.dropped:
                break
            time.sleep(0.02)
        assert forward.dropped > 0
        assert "broker was away or too slow" in forward.summary()
    finally:
        forward.close()


def test_a_broker_that_stalls_costs_records_not_memory(broker: OwnBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = MqttForward(str(broker.address), "demo", ["/dev/ttyUSB0"])
    monkeypatch.setattr(forward.link, "_acknowledged", -500)
    forward.write("/dev/ttyUSB0", 1.0, record("metrics"))
    assert (forward.forwarded, forward.dropped) == (0, 1)
    forward.close()


def test_names_of_boards() -> None:
    assert board_name("/dev/ttyUSB0") == "ttyusb0"
    assert board_name("/dev/pts/3") == "pts-3"
    assert board_name("/dev/serial/by-id/usb-Silicon_Labs_CP2102N-if00") == "usb-silicon-labs-cp2102n-if00"
    with pytest.raises(UsageError, match="two ports"):
        MqttForward("mqtt://127.0.0.1:1", "demo", ["/dev/ttyUSB0", "/dev/TTYUSB0"])
    with pytest.raises(UsageError, match="federation"):
        MqttForward("mqtt://127.0.0.1:1", "a/b", ["/dev/ttyUSB0"])


def test_no_broker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.boards.forward.OPEN_S", 0.2)
    with pytest.raises(BrokerError, match="no MQTT broker"):
        MqttForward("mqtt://127.0.0.1:1", "demo", ["/dev/ttyUSB0"])


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="pip install pyarrow"):
        open_file(tmp_path / "records.parquet")


def test_parquet(tmp_path: Path) -> None:
    from pyarrow import parquet

    path = tmp_path / "records.parquet"

    file = open_file(path)
    for seq in range(3):
        file.write("/dev/ttyUSB0", 1.5, Record("00c0ffee", seq, None, 5, "metrics", 1, {"inferences": seq}))
    file.close()
    table = parquet.read_table(path)
    assert tuple(table.column_names) == CSV_HEAD
    assert table["seq"].to_pylist() == [0, 1, 2]
    assert json.loads(table["fields"][2].as_py()) == {"inferences": 2}
    for number in (1, 2):
        open_file(path).close()
        assert (tmp_path / f"records.{number}.parquet").exists()
    assert parquet.read_table(tmp_path / "records.1.parquet").num_rows == 3


def test_a_crowd_at_the_metrics_holds_no_threads_and_prints_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    status = PortStatus("/dev/ttyUSB0")
    before = threading.active_count()
    with PrometheusEndpoint(("127.0.0.1", 0), [status]) as endpoint:
        port = int(endpoint.url.split(":")[2].split("/")[0])
        silent = [socket.create_connection(("127.0.0.1", port), timeout=600) for _ in range(3 * MOST_CONNECTIONS)]
        for _ in range(3):  # asks for much and leaves
            with socket.create_connection(("127.0.0.1", port), timeout=600) as rude:
                rude.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 200)
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with urllib.request.urlopen(endpoint.url, timeout=600) as page:
            assert page.status == 200
        deadline = time.monotonic() + 120
        while threading.active_count() > before + 1 + MOST_CONNECTIONS:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for link in silent:
            link.close()
        status.last = None  # type: ignore[assignment]
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(endpoint.url, timeout=600)
    assert [m for m in caplog.messages if "TypeError" in m and "(prometheus.py:" in m]
    assert "Traceback" not in capfd.readouterr().err + caplog.text
