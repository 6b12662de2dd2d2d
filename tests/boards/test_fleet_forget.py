"""A board that is lost leaves the fleet's file, one that is gone is marked, and no way to a broker has a remedy of its own."""

import hmac
import json
import re
from pathlib import Path
from typing import Any, List

import pytest

from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.fleet_link import FleetLink, Presence
from orchestrator.cli.main import main
from orchestrator.errors import BrokerError, NoBrokerError
from orchestrator.wire.board_records import GONE
from orchestrator.wire.link import BrokerAddress, Message, check_reachable

INFO = b'{"boot":"b","seq":1,"model":"m","t_us":5,"kind":"info","v":1,"name":"ecg"'


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    found = Fleet(tmp_path / "fleet", "icu", {f"ward-{n}": bytes([n]) * 32 for n in (1, 2, 3)})
    found.write()
    return found


def test_a_lost_board_leaves_the_file_without_its_port(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["board", "fleet", "forget", "ward-2", "--fleet", str(fleet.folder)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "`edgeward gateway revoke board:ward-2 --identity .` ends its connection" in said
    assert "in the folder of its identity" in said
    assert "still has its place and its certificate" in said
    left = Fleet.read(fleet.folder)
    assert left.secrets == {name: fleet.secrets[name] for name in ("ward-1", "ward-3")}
    assert (fleet.folder / "fleet.json").stat().st_mode & 0o777 == 0o600
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "ward-2: " in error
    assert "has no such board" in error
    assert not {"ward-1", "ward-3"} & set(re.findall(r"ward-\d", error)), "no other one to remove is named"
    assert main(["board", "fleet", "forget", "ward-3", "--fleet", str(fleet.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "board": "ward-3",
        "federation": "icu",
        "boards": 1,
        "next": "edgeward gateway revoke board:ward-3 --identity .",
    }
    assert main([*words[:3], "ward-1", "--fleet", str(fleet.folder / "nowhere")]) == 2


def marked(secret: bytes) -> bytes:
    return INFO + b',"mac":"' + hmac.new(secret, INFO, "sha256").hexdigest()[:32].encode() + b'"}'


def test_a_board_that_left_is_not_one_that_never_came(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def enter(link: FleetLink) -> FleetLink:
        for name in ("ward-1", "ward-2"):
            link.read_message(Message(f"edgeward/1/icu/board/{name}/presence", marked(fleet.secrets[name])))
        link.read_message(Message("edgeward/1/icu/board/ward-2/presence", GONE))
        assert link.presence("ward-2").gone
        assert link.presence("ward-3") == Presence(here=False)
        return link

    monkeypatch.setattr(FleetLink, "__enter__", enter)
    monkeypatch.setattr(FleetLink, "__exit__", lambda *_: None)
    words = [
        "board",
        "fleet",
        "list",
        "--wait",
        "0.001",
        "--fleet",
        str(fleet.folder),
        "--broker",
        "mqtt://127.0.0.1:1",
    ]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["boards"]
    assert [row["presence"] for row in rows] == ["here", "gone", "unheard"]
    assert [row["connected"] for row in rows] == [True, False, False]
    assert rows[1]["name"] == "ecg", "what it last said stays"
    assert main(words) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("ward")] == [
        ["ward-1", "here"],
        ["ward-2", "gone"],
        ["ward-3", "unheard"],
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mqtts://127.0.0.1:1", "add --identity DIR, of `edgeward node enroll` as fleet:NAME"),
        ("mqtt://127.0.0.1:1", "Start one there, or name another with --broker; one with certificates is mqtts://HOST"),
    ],
)
def test_without_a_broker_it_says_what_helps_here(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, said: str
) -> None:
    monkeypatch.setattr("orchestrator.boards.fleet_link.OPEN_S", 0.05)
    assert main(["board", "fleet", "list", "--fleet", str(fleet.folder), "--broker", url]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "--broker embedded" not in error, "which none of these commands has"


def test_others_are_still_advised_to_let_the_gateway_run_one() -> None:
    with pytest.raises(BrokerError, match="--broker embedded") as raised:
        check_reachable(BrokerAddress("127.0.0.1", 1), 0.05)
    assert isinstance(raised.value, NoBrokerError)
    assert "refused" in raised.value.reason


TOGETHER: List[Any] = [
    (["--broker", "mqtts://gateway"], "takes --identity DIR, .* `edgeward gateway invite board:ward-9`"),
    (["--broker", "mqtt://gateway", "--identity", "ward"], "to mqtts:// only: --broker mqtts://gateway"),
]


@pytest.mark.parametrize(("given", "said"), TOGETHER)
def test_a_board_s_certificate_and_its_broker_go_together(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], given: List[str], said: str
) -> None:
    place = ["--name", "ward-9", "--federation", "icu", "--fleet", str(fleet.folder)]
    assert main(["board", "connect", "/dev/none", *place, *given]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_what_forget_says_comes_next_works_as_it_is_printed(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gateway"
    assert main(["gateway", "init", str(folder), "--federation", "icu", "--host", "127.0.0.1"]) == 0
    for name in ("ward-1", "ward-2"):
        assert main(["gateway", "invite", f"board:{name}", "--identity", str(folder)]) == 0
    monkeypatch.chdir(folder)
    capsys.readouterr()
    forget = ["board", "fleet", "forget", "--fleet", str(fleet.folder)]
    assert main([*forget, "ward-1", "--json"]) == 0
    begin, *words = json.loads(capsys.readouterr().out)["next"].split()
    assert (begin, main(words)) == ("edgeward", 0)
    assert main([*forget, "ward-2"]) == 0
    (printed,) = re.findall("`edgeward (gateway revoke .*)`", capsys.readouterr().out)
    assert main(printed.split()) == 0
    with pytest.raises(SystemExit):
        main(["board", "fleet", "forget", "--help"])
    helped = " ".join(capsys.readouterr().out.split())
    assert "`edgeward gateway revoke board:NAME --identity .` ends its connection" in helped
