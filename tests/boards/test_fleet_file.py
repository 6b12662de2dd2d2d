"""The file of an owner's boards, what may be ordered, and what a broker can make of `edgeward board fleet`."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.boards import connect
from orchestrator.boards.client import BoardClient
from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.fleet_journal import Rollouts
from orchestrator.boards.fleet_link import MOST_STRANGERS, FleetLink
from orchestrator.boards.rollout import BoardResult, Outcome, model_cargo
from orchestrator.cli.main import main
from orchestrator.cli.tables import next_command
from orchestrator.errors import UsageError
from orchestrator.wire.link import BrokerAddress, Message


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    found = Fleet(tmp_path / "fleet", "icu", {"ward-1": bytes(32), "ward-2": bytes(range(32))})
    found.write()
    return found


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", '{"version": 1}', '{"version": 1, "federation": "f", "boards": [[]]}']
)
def test_a_damaged_file_is_said_to_be_damaged(fleet: Fleet, content: str) -> None:
    (fleet.folder / "fleet.json").write_text(content)
    with pytest.raises(UsageError, match="fleet.json: is damaged"):
        Fleet.read(fleet.folder)


def test_secrets_that_others_can_read_are_not_used(fleet: Fleet) -> None:
    (fleet.folder / "fleet.json").chmod(0o640)
    with pytest.raises(UsageError, match="others can read .* chmod 600"):
        Fleet.read(fleet.folder)


def test_boards_that_are_connected_at_once_are_all_kept(fleet: Fleet) -> None:
    names = [f"bed-{number}" for number in range(12)]
    both = [threading.Thread(target=Fleet.keep, args=(fleet.folder, "icu", name, bytes(32))) for name in names]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(Fleet.read(fleet.folder).secrets) == sorted([*names, "ward-1", "ward-2"])
    Fleet.keep(fleet.folder, "icu", "bed-3", None)
    assert "bed-3" not in Fleet.read(fleet.folder).secrets


class FakeBoard:
    """At a port; its name on the network is `name`."""

    def __init__(self, name: Optional[str]) -> None:
        self.name, self.port, self.written = name, "/dev/ttyUSB0", 0

    def __enter__(self) -> "FakeBoard":
        return self

    def __exit__(self, *_: object) -> None: ...
    def keys(self) -> Any:
        return {"keys": ["k"]}

    def wait_for(self, *_: Any) -> None: ...


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    board = FakeBoard("ward-1")

    def state(_: Any) -> Any:
        return {"state": "connected", "dropped": 0, **({} if board.name is None else {"name": board.name})}

    def written(*_: Any) -> None:
        board.written += 1

    monkeypatch.setattr("orchestrator.boards.client.BoardClient", lambda *_, **__: board)
    monkeypatch.setattr(connect, "network_state", state)
    monkeypatch.setattr(connect, "write_settings", written)
    assert BoardClient is not None
    return board


def test_a_board_is_not_taken_out_in_anothers_place(
    fleet: Fleet, far: FakeBoard, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one at the port is ward-1: without its secret ward-2 would get no order any more."""
    there = ["board", "disconnect", far.port, "--fleet", str(fleet.folder), "--name"]
    assert main([*there, "ward-2"]) == 2
    assert "the board at /dev/ttyUSB0 is ward-1" in capsys.readouterr().err
    assert (far.written, sorted(Fleet.read(fleet.folder).secrets)) == (0, ["ward-1", "ward-2"])
    assert main([*there, "ward-1"]) == 0
    far.name = None  # one whose flash was erased, say
    assert main([*there, "ward-2"]) == 0
    assert not Fleet.read(fleet.folder).secrets


@pytest.mark.parametrize(("before", "replaces"), [("ward-2", False), ("ward-1", True), (None, True)])
def test_a_name_that_another_board_has_is_not_given_in_silence(
    fleet: Fleet, far: FakeBoard, capsys: pytest.CaptureFixture[str], before: Optional[str], replaces: bool
) -> None:
    far.name = before
    there = ["--federation", "icu", "--broker", "mqtt://127.0.0.1", "--fleet", str(fleet.folder)]
    assert main(["board", "connect", far.port, "--name", "ward-2", *there]) == 0
    assert ("takes the place of another ward-2" in capsys.readouterr().out) is replaces
    far.name = before
    assert main(["board", "connect", far.port, "--name", "ward-2", *there, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["replaces"] is replaces


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "models.key"
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(*pem))
    return path


@pytest.mark.parametrize(
    "order", ["größe", "inof", "key lock", "metrics rate", "metrics rate -5", "drift rows", "update ab", " "]
)
def test_what_is_no_order_is_refused_before_a_broker_is_asked(
    fleet: Fleet, key: Path, capsys: pytest.CaptureFixture[str], order: str
) -> None:
    there = ["--fleet", str(fleet.folder), "--broker", "mqtt://127.0.0.1:1"]
    assert main(["board", "fleet", "order", "ward-1", *order.split(" "), "--key", str(key), *there]) == 2
    assert "is no order" in capsys.readouterr().err


def test_a_fleet_without_a_board_is_not_updated(fleet: Fleet, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.cli.board_fleet import _chosen

    with pytest.raises(UsageError, match="has no board: `edgeward board connect"):
        _chosen(SimpleNamespace(boards=None, fleet=fleet.folder), Fleet(fleet.folder, "icu"))  # type: ignore[arg-type]


def test_names_that_a_broker_makes_up_take_no_memory(fleet: Fleet) -> None:
    link = FleetLink(fleet, BrokerAddress("127.0.0.1", 1))
    for number in range(3 * MOST_STRANGERS):
        link.read_message(Message(f"edgeward/1/icu/board/b{number}/record", b"{}"))
    assert len(link.strangers) == MOST_STRANGERS
    assert link.strangers["b0"] == 1
    link.strangers.clear()
    link.read_message(Message("edgeward/1/icu/board/ward-9/presence", b'{"kind":"gone"}'))  # one that was there once
    assert not link.strangers


class Nowhere:
    """A link to boards that are all there."""

    def __init__(self, fleet: Fleet, _: Any) -> None:
        self.fleet: Fleet = fleet
        self.foreign: Any = {}

    def __enter__(self) -> "Nowhere":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_a_roll_out_reads_what_became_of_each_board(
    fleet: Fleet,
    key: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    number: signal.Signals,
) -> None:
    """Asked to end in the middle of the first board's update, which goes on; the second does not begin."""

    def update(_: Any, name: str) -> BoardResult:
        time.sleep(0.5)  # for the main thread to wait
        os.kill(os.getpid(), number)
        time.sleep(0.5)
        return BoardResult(name, Outcome.UPDATED)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    monkeypatch.setattr("orchestrator.boards.fleet_link.FleetLink", Nowhere)
    monkeypatch.setattr("orchestrator.boards.rollout.Updater.update", update)
    monkeypatch.setattr("orchestrator.cli.board_fleet._cargo", lambda *_: model_cargo(b"", "d"))
    monkeypatch.setattr("orchestrator.cli.board_fleet.time", SimpleNamespace(sleep=lambda _: None))
    there = ["--fleet", str(fleet.folder), "--broker", "mqtt://127.0.0.1:1", "--key", str(key)]
    assert main(["board", "fleet", "update", "m.bin", *there, "--stages", "50,100", "--watch", "60", "--json"]) == 1
    out = capsys.readouterr()
    assert json.loads(out.out)["counts"] == {"updated": 1, "unchanged": 0, "failed": 0, "absent": 0, "held": 1}
    assert "no further board begins" in out.err
    (entry,) = Rollouts(fleet.folder).read(time.time())
    assert (entry["state"], entry["why"], entry["counts"]["held"]) == ("halted", "it was asked to end", 1)


NEXT: List[Any] = [
    ("board:ward-1", "board connect PORT"),
    ("fleet:boss", "board fleet list"),
    ("monitor:m", "monitor PORT"),
    ("ward-a", "node run --data FILE"),
]


@pytest.mark.parametrize(("name", "words"), NEXT)
def test_who_is_enrolled_hears_what_its_identity_is_for(name: str, words: str) -> None:
    assert f"edgeward {words}" in next_command(name, Path("i"))
