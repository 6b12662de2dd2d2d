"""A dashboard that a fleet's owner starts, at a broker with certificates: boards that are there, that leave, and a roll-out."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from board_sample import Sample
from cryptography.hazmat.primitives import serialization
from wireless import Ward, digest_of, packed, until

from model_export.model_bin import KnownAnswers, parse_model_bin
from orchestrator.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    with Ward(tmp_path, ["ward-1", "ward-2"]) as running:
        yield running


def model(ward: Ward, sample: Sample, name: str, row: int) -> bytes:
    answers = KnownAnswers(sample.rows[row : row + 1], sample.outputs[row : row + 1])
    return packed(parse_model_bin(sample.model_bin).tflite, name, answers, ward.key)


def asked(url: str, path: str) -> bytes:
    from urllib.request import urlopen

    with urlopen(url + path, timeout=60) as answer:
        found: bytes = answer.read()
        return found


def test_an_owner_watches_boards_and_a_roll_out(
    ward: Ward, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    first, second = (model(ward, sample, name, row) for row, name in enumerate(("first", "second")))
    for name in ("ward-1", "ward-2"):
        ward.board(name, first)
    ward.fleet.write()
    key, blob = tmp_path / "models.key", tmp_path / "model.bin"
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(ward.key.private_bytes(*pem))
    blob.write_bytes(second)
    operator = ["--broker", f"mqtts://127.0.0.1:{ward.broker.address.port}", "--identity"]
    operator += [str(ward.identities["fleet:operator"].folder), "--fleet", str(ward.fleet.folder)]
    (tmp_path / "state").mkdir()
    words = ["gateway", "dashboard", str(tmp_path / "state"), "--listen", "0", *operator]
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli.main", *words],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"dashboard at (\S+)/", process.stdout.readline())
        assert found is not None
        url = found.group(1)

        def boards() -> Dict[str, Any]:
            return {board["board"]: board for board in json.loads(asked(url, "/api/fleet"))["boards"]}

        until(lambda: all(board["presence"] == "here" for board in boards().values()))
        assert [board["verified"] for board in boards().values()] == [True, True]
        assert {board["model"] for board in boards().values()} == {digest_of(first)}
        assert {board["signature"] for board in boards().values()} == {"verified"}
        assert main(["board", "fleet", "update", str(blob), "--key", str(key), "--watch", "0", *operator]) == 0
        capsys.readouterr()
        until(lambda: {board["model"] for board in boards().values()} == {digest_of(second)})
        (rollout,) = json.loads(asked(url, "/api/fleet"))["rollouts"]
        assert (rollout["state"], rollout["digest"], rollout["counts"]["updated"]) == ("finished", digest_of(second), 2)
        ward.boards["ward-2"].kill()
        until(lambda: boards()["ward-2"]["presence"] == "gone")
        assert boards()["ward-2"]["since_known"]
        assert boards()["ward-2"]["model"] == digest_of(second), "what it last said stays"
        page = asked(url, "/fleet").decode()
        assert page.count('<span class="pill good">by its secret</span>') == 2
        assert page.count('<span class="pill bad">gone</span>') == 1
    finally:
        process.terminate()
        process.communicate(timeout=60)
