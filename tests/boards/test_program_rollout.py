"""New programs over the air, for real: a virtual board runs what came into its flash, and goes back from what is no good."""

import json
import random
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from board_sample import Sample
from cryptography.hazmat.primitives import serialization
from wireless import OPERATOR, Ward, packed, until

from model_export.model_bin import KnownAnswers, parse_model_bin
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.firmware_file import HOST, Firmware, read_image, sign_firmware
from orchestrator.boards.fleet_link import FleetLink
from orchestrator.boards.host_engine import build, firmware_dir
from orchestrator.boards.partitions import APP_B
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout, Updater, firmware_cargo
from orchestrator.cli.main import main

pytestmark = pytest.mark.slow

NAMES = [f"ward-{number}" for number in range(20)]

MORE = {
    "second": "",
    "crashes": "#include <cstdlib>\nstruct Crash { Crash() { std::abort(); } } g_crash;",
    "wrong": "",
    "deaf": "",
}
"""What is added to the firmware. `deaf` is without a network, and in `wrong` a constant of SHA-256 has another bit."""
SHA256_CONSTANT = bytes.fromhex("982f8a4291443771")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    folder = tmp_path_factory.mktemp("programs")
    plain = (firmware_dir() / "hooks/none/hooks.cpp").read_text()
    found = {}
    for name, more in MORE.items():
        hooks = folder / f"{name}.cpp"
        mark = f'__attribute__((used)) const char program_name[] = "program {name}";'
        hooks.write_text(f"{plain}\n{mark}\n{more}\n")
        found[name] = build("edgeward-board" if name == "deaf" else "edgeward-board-network", hooks=hooks)
    return found


def program(ward: Ward, images: Dict[str, Path], name: str, trial_s: int = 300) -> Firmware:
    image = read_image(images[name]).data
    if name == "wrong":
        assert image.count(SHA256_CONSTANT) == 1
        image = image.replace(SHA256_CONSTANT, bytes([SHA256_CONSTANT[0] ^ 1]) + SHA256_CONSTANT[1:])
    return sign_firmware(image, HOST, name, ward.program_key, trial_s)


def model(ward: Ward, sample: Sample) -> bytes:
    answers = KnownAnswers(sample.rows[:2], sample.outputs[:2])
    return packed(parse_model_bin(sample.model_bin).tflite, "first", answers, ward.key)


@pytest.fixture
def ward(tmp_path: Path, sample: Sample) -> Iterator[Ward]:
    with Ward(tmp_path, NAMES) as running:
        running.fleet.folder.mkdir(exist_ok=True)
        yield running


def fleet(ward: Ward, sample: Sample, count: int) -> List[str]:
    names = NAMES[:count]
    for name in names:
        ward.board(name, model(ward, sample), metrics_s=0)
    ward.fleet.write()
    return names


@contextmanager
def restarting(ward: Ward) -> Iterator[None]:
    """What a chip does by itself when its program crashes, and a virtual board does not."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for board in ward.boards.values():
                if board.process is not None and not board.running():
                    board.kill()
                    start(board)

    def start(board: Any) -> None:
        while True:
            try:
                return board.start(reset="crash")
            except Exception:  # it crashed again: the boot loader is asked once more
                if over.is_set():
                    return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def rolled_out(ward: Ward, link: FleetLink, names: List[str], firmware: Firmware, **how: Any) -> List[BoardResult]:
    rollout = Rollout(firmware.digest, **{"watch_s": 0.0, "stages": (10, 100), **how})
    updater = Updater(link, lambda name: ward.order_to(link, name), firmware_cargo(firmware), 300.0)
    until(lambda: all(link.presence(name).here for name in names))
    return rollout.run(names, updater.update, updater.still_well)


def programs_of(ward: Ward, link: FleetLink, names: List[str]) -> List[Any]:
    infos = [ward.order_to(link, name).info() for name in names]
    assert not any(info["on_trial"] for info in infos)
    assert len({info["model"] for info in infos}) == 1
    assert all(info["state"] == "ready" for info in infos)
    return [info["program"] for info in infos]


def cut_power(ward: Ward, name: str, seed: int, ended: threading.Event) -> None:
    """Once in the middle of the board's update, as its flash shows; it is back a moment later."""
    board = ward.boards[name]
    with board.flash.open("rb") as flash:
        while not ended.is_set():
            flash.seek(APP_B.offset)
            if flash.read(16) != b"\xff" * 16:
                time.sleep(random.Random(seed).uniform(0, 0.2))
                board.kill()
                time.sleep(0.2)
                board.start()
                return
            time.sleep(0.005)


def test_a_fleet_has_the_new_program_also_where_the_power_was_cut(
    ward: Ward, sample: Sample, images: Dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = fleet(ward, sample, len(NAMES))
    key, program_key = tmp_path / "models.key", tmp_path / "programs.key"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    for path, private in ((key, ward.key), (program_key, ward.program_key)):
        path.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    file = tmp_path / "second.ewfw"
    sign = ["board", "firmware", str(images["second"]), "--key", str(program_key), "--version", "2", "--json"]
    assert main([*sign, "--out", str(file)]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["chip"], made["version"], made["trial_s"]) == (HOST, "2", 300)
    ended = threading.Event()
    cuts = [threading.Thread(target=cut_power, args=(ward, names[3], 3, ended))]
    for each in cuts:
        each.start()
    address = ward.address()
    command = ["--fleet", str(ward.fleet.folder), "--broker", f"mqtts://127.0.0.1:{address.port}"]
    command += ["--identity", str(ward.identities[OPERATOR].folder)]
    update = [
        "board",
        "fleet",
        "update",
        str(file),
        "--key",
        str(key),
        "--watch",
        "0",
        "--retry",
        "300",
        "--timeout",
        "60",
    ]
    code = main([*update, *command, "--json"])
    ended.set()
    for each in cuts:
        each.join()
    report = json.loads(capsys.readouterr().out)
    assert (code, report["program"], report["counts"]["updated"]) == (0, made["program"], len(names)), report
    with ward.link() as link:
        until(lambda: all(link.presence(name).here for name in names))
        assert programs_of(ward, link, names) == [made["program"]] * len(names)
    assert main([*update, *command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["unchanged"] == len(names)
    # Off and on again: it is there to stay.
    board = ward.boards[names[3]]
    board.kill()
    board.start()
    with BoardClient(board.port, timeout_s=60.0) as client:
        assert client.info()["program"] == made["program"]


def test_power_that_goes_while_a_program_is_on_trial_says_nothing_against_it(
    ward: Ward, sample: Sample, images: Dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = fleet(ward, sample, 1)
    second = program(ward, images, "second")
    with ward.link() as link:
        until(lambda: link.presence(name).here)
        far, cuts = ward.order_to(link, name), [1]
        restarted = far.restarted

        def cut_once(before: str, timeout_s: float) -> Dict[str, Any]:
            def on_trial() -> bool:
                seen = link.presence(name).info
                return seen is not None and bool(seen.fields["on_trial"])

            if cuts.pop():
                until(on_trial)
                cuts.append(0)
                ward.boards[name].kill()
                ward.boards[name].start()
            return restarted(before, timeout_s)

        monkeypatch.setattr(far, "restarted", cut_once)
        assert far.update_firmware(second)["program"] == second.digest
        assert cuts == []


@pytest.mark.parametrize(("name", "trial_s"), [("crashes", 300), ("wrong", 300), ("deaf", 10)])
def test_a_program_that_is_no_good_gives_way_and_ends_the_rollout(
    ward: Ward, sample: Sample, images: Dict[str, Path], name: str, trial_s: int
) -> None:
    names = fleet(ward, sample, 4)
    bad, good = program(ward, images, name, trial_s), program(ward, images, "second")
    with ward.link() as link, restarting(ward):
        results = rolled_out(ward, link, names, bad, stages=(25, 100))
        assert [result.outcome for result in results if result.stage] == [Outcome.FAILED]
        assert {result.outcome for result in results if not result.stage} == {Outcome.HELD}
        assert "went back" in next(result.why for result in results if result.stage)
        assert programs_of(ward, link, names) == [""] * len(names)
        results = rolled_out(ward, link, names, good)
        assert {result.outcome for result in results} == {Outcome.UPDATED}, results
        assert programs_of(ward, link, names) == [good.digest] * len(names)


def test_a_program_over_the_cable(ward: Ward, sample: Sample, images: Dict[str, Path]) -> None:
    """A board without a network keeps what answers; one with a network waits for its owner's order."""
    (name,) = fleet(ward, sample, 1)
    second = program(ward, images, "second")
    board = ward.boards[name]
    with BoardClient(board.port, timeout_s=60.0) as client:
        with pytest.raises(BoardError, match="runs on trial"):
            client.update_firmware(second)
        assert client.info()["on_trial"]
        with ward.link() as link:
            until(lambda: link.presence(name).here)
            assert not ward.order_to(link, name).info()["on_trial"]
        assert client.reboot()["program"] == second.digest
        # A build without a network answers at the cable, and could never be replaced over the air again.
        third = program(ward, images, "deaf")
        with pytest.raises(BoardError, match="runs on trial"):
            client.update_firmware(third)
        assert client.info()["on_trial"]
        assert client.reboot()["program"] == second.digest
        other = sign_firmware(third.image, "esp32c3", "3", ward.program_key)
        with pytest.raises(BoardError, match="is for esp32c3"):
            client.update_firmware(other)
