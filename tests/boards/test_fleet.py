"""A hundred virtual boards at one broker: a new model in stages, with power cuts, a bad model, and the command line."""

import json
import random
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from board_sample import Sample
from cryptography.hazmat.primitives import serialization
from wireless import Ward, digest_of, packed, until

from model_export.model_bin import HEADER_BYTES, KnownAnswers, parse_model_bin
from orchestrator.boards.fleet_link import FleetLink
from orchestrator.boards.partitions import SLOTS
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout, Updater, model_cargo
from orchestrator.cli.main import main

pytestmark = pytest.mark.slow

NAMES = [f"ward-{number}" for number in range(100)]
CUT = 5


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Iterator[Ward]:
    """All boards with the model `first`."""
    with Ward(tmp_path_factory.mktemp("fleet"), NAMES) as running:
        running.fleet.folder.mkdir(exist_ok=True)
        first = model(running, sample, "first", 0)
        for name in NAMES:
            running.board(name, first, metrics_s=0)
        running.fleet.write()
        yield running


def model(ward: Ward, sample: Sample, name: str, row: int, wrong: int = 0) -> bytes:
    tflite = parse_model_bin(sample.model_bin).tflite
    answers = KnownAnswers(sample.rows[row : row + 1], sample.outputs[row : row + 1] ^ wrong)
    return packed(tflite, name, answers, ward.key)


def all_here(link: FleetLink) -> bool:
    return all(link.presence(name).here for name in NAMES)


def rolled_out(ward: Ward, link: FleetLink, blob: bytes, rollout: Rollout) -> List[BoardResult]:
    updater = Updater(link, lambda name: ward.order_to(link, name), model_cargo(blob, digest_of(blob)), rollout.retry_s)
    return rollout.run(NAMES, updater.update, updater.still_well)


def models_of(ward: Ward, link: FleetLink) -> List[str]:
    """What each board says that it runs, asked now."""
    return [str(ward.order_to(link, name).info()["model"]) for name in NAMES]


def cut_power(ward: Ward, name: str, seed: int, ended: threading.Event) -> None:
    """Once in the middle of the board's update, as its flash shows; it is back a moment later."""
    board = ward.boards[name]
    with board.flash.open("rb") as flash:
        while not ended.is_set():
            flash.seek(SLOTS["b"].offset + HEADER_BYTES)  # its header comes last
            if flash.read(16) != b"\xff" * 16:
                break
            time.sleep(0.02)
    time.sleep(random.Random(seed).random() * 0.2)
    board.kill()
    time.sleep(0.2)
    board.start()


def test_a_model_reaches_a_hundred_boards_of_which_five_lose_power(ward: Ward, sample: Sample) -> None:
    second = model(ward, sample, "second", 1)
    with ward.link() as link:
        until(lambda: all_here(link), 300.0)
        ended = threading.Event()
        cuts = [threading.Thread(target=cut_power, args=(ward, name, i, ended)) for i, name in enumerate(NAMES[:CUT])]
        for cut in cuts:
            cut.start()
        results = rolled_out(ward, link, second, Rollout(digest_of(second), watch_s=0.5, retry_s=300.0))
        ended.set()
        for cut in cuts:
            cut.join()
        until(lambda: all_here(link), 300.0)
        assert {result.outcome for result in results} <= {Outcome.UPDATED, Outcome.UNCHANGED}, results
        assert models_of(ward, link) == [digest_of(second)] * len(NAMES)
        assert not link.foreign


def test_a_model_that_is_wrong_stops_at_the_first_boards(ward: Ward, sample: Sample) -> None:
    wrong = model(ward, sample, "wrong", 2, wrong=1)
    with ward.link() as link:
        until(lambda: all_here(link), 300.0)
        before = models_of(ward, link)
        results = rolled_out(ward, link, wrong, Rollout(digest_of(wrong), stages=(5, 100), watch_s=0.0))
        failed = [result for result in results if result.outcome is Outcome.FAILED]
        assert 1 <= len(failed) <= 5
        assert all("known_answers_differ" in result.why for result in failed)
        assert sum(result.outcome is Outcome.HELD for result in results) == len(NAMES) - len(failed)
        assert models_of(ward, link) == before


def test_a_person_rolls_out_looks_and_goes_back(
    ward: Ward, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    third = model(ward, sample, "third", 3)
    blob, key = tmp_path / "model.bin", tmp_path / "models.key"
    blob.write_bytes(third)
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(ward.key.private_bytes(*pem))
    identity = ward.identities["fleet:operator"].folder
    place = ["--fleet", str(ward.fleet.folder), "--broker", str(ward.address()), "--identity", str(identity), "--json"]

    def said(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main(["board", "fleet", *words, *place]) == code
        return json.loads(capsys.readouterr().out)

    some = NAMES[:4]
    until(lambda: all(row["connected"] for row in said("list")["boards"]), 300.0)
    out = said("update", str(blob), "--key", str(key), "--boards", ",".join(some), "--watch", "0", "--stages", "50,100")
    assert out["counts"] == {"updated": 4, "unchanged": 0, "failed": 0, "absent": 0, "held": 0}
    rows = {row["board"]: row for row in said("list")["boards"]}
    assert {name for name in NAMES if rows[name]["model"] == digest_of(third)} == set(some)
    assert rows["ward-0"]["signature"] == "verified"
    assert rows["ward-0"]["simulated"] is True
    said("order", "ward-0", "rollback", "--key", str(key))
    assert said("order", "ward-0", "info", "--key", str(key))["model"] != digest_of(third)
    ward.boards["ward-1"].kill()
    until(lambda: not {row["board"]: row for row in said("list")["boards"]}["ward-1"]["connected"])
    out = said("update", str(blob), "--key", str(key), "--boards", "ward-0,ward-1", "--watch", "0", code=1)
    assert (out["counts"]["updated"], out["counts"]["absent"], out["ok"]) == (1, 1, False)
    listed = said("list")
    assert [entry["counts"]["absent"] for entry in listed["rollouts"][:2]] == [1, 0]
    assert {row["board"]: row["presence"] for row in listed["boards"]}["ward-1"] == "gone"
    ward.boards["ward-1"].start()
