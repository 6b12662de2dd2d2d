"""Boards with keys run only models one of them signed: over serial, from the flash, and after the keys changed."""

import struct
from pathlib import Path
from typing import Optional

import pytest
from board_sample import Sample
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_export.model_bin import HEADER_BYTES, KnownAnswers, pack_model_bin, parse_model_bin
from model_export.signing import key_id, raw_public, sign_model_bin
from orchestrator.boards.client import BoardClient
from orchestrator.boards.conversation import BoardError
from orchestrator.boards.keys import key_sector
from orchestrator.boards.partitions import FLASH_BYTES, KEYS, SLOTS
from orchestrator.boards.protocol import FRAME_UPDATE_BEGIN, encode_frame
from orchestrator.boards.virtual import VirtualBoard
from orchestrator.cli.main import main
from orchestrator.errors import EdgewardError

TRUSTED, FOREIGN = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEY = raw_public(TRUSTED.public_key())


@pytest.fixture(scope="module")
def second(sample: Sample) -> bytes:
    """Unsigned; the same network under another name and with other known answers."""
    parsed = parse_model_bin(sample.model_bin)
    return pack_model_bin(
        name="kws02",
        tflite=parsed.tflite,
        plan=parsed.plan,
        arena_tflm_bytes=30000,
        arena_direct_bytes=parsed.arena_direct_bytes,
        known_answers=KnownAnswers(sample.rows[3:5], sample.outputs[3:5]),
    )


def flash_image(path: Path, model_bin: bytes, keys: bytes) -> Path:
    image = bytearray(b"\xff" * FLASH_BYTES)
    image[SLOTS["a"].offset : SLOTS["a"].offset + len(model_bin)] = model_bin
    image[KEYS.offset : KEYS.offset + len(keys)] = keys
    path.write_bytes(image)
    return path


def test_without_keys_anything_runs_and_info_says_so(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client:
        info = client.info()
        assert (info["keys"], info["keys_locked"], info["signature"]) == (0, False, "none")
        assert client.keys() == {"keys": [], "program": "", "locked": False}


def test_updates_of_a_board_with_a_key(sample: Sample, second: bytes) -> None:
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client:
        before = client.info()["model"]
        assert client.set_key(KEY) == {"keys": [key_id(TRUSTED.public_key())], "program": "", "locked": False}
        with pytest.raises(BoardError, match="not signed"):
            client.update(second)
        with pytest.raises(BoardError, match="bad_signature"):
            client.update(sign_model_bin(second, FOREIGN))
        # The board itself refuses too, before it erases anything.
        number = client.new_ids(1)
        frames = [encode_frame(FRAME_UPDATE_BEGIN, number.start, second[:HEADER_BYTES])]
        (answer,) = client.exchange(frames, number, "update", 5.0)
        assert (answer.fields["state"], answer.fields["code"]) == ("refused", "not_signed")
        assert client.info()["model"] == before
        info = client.update(sign_model_bin(second, TRUSTED))
        assert (info["model"], info["signature"]) == (parse_model_bin(second).digest, "verified")
        # The model before it is unsigned: there is no way back to it, and the board stays with the signed one.
        with pytest.raises(BoardError, match="not_signed"):
            client.rollback()
        assert client.info()["model"] == client.reboot()["model"] == info["model"]
        client.selftest()


@pytest.mark.parametrize(
    ("sign", "state"),
    [(None, "not_signed"), (FOREIGN, "bad_signature"), (TRUSTED, "ready")],
)
def test_a_model_in_the_flash_at_boot(
    sample: Sample, tmp_path: Path, sign: Optional[Ed25519PrivateKey], state: str
) -> None:
    model = sample.model_bin if sign is None else sign_model_bin(sample.model_bin, sign)
    flash = flash_image(tmp_path / "flash", model, key_sector([KEY]))
    with VirtualBoard(flash=flash) as board, BoardClient(board.port) as client:
        assert client.info()["state"] == state
        assert (client.info()["model"] is not None) == (state == "ready")


def test_a_changed_arena_in_a_signed_header_is_seen(sample: Sample, tmp_path: Path) -> None:
    # The CRC of the header is recomputed: only the signature can tell.
    import zlib

    model = bytearray(sign_model_bin(sample.model_bin, TRUSTED))
    model[12:16] = struct.pack("<I", 31000)
    model[252:256] = struct.pack("<I", zlib.crc32(model[:252]))
    flash = flash_image(tmp_path / "flash", bytes(model), key_sector([KEY]))
    with VirtualBoard(flash=flash) as board, BoardClient(board.port) as client:
        assert client.info()["state"] == "bad_signature"


def test_keys_survive_restarts_can_be_removed_and_locked(sample: Sample, second: bytes) -> None:
    other = raw_public(FOREIGN.public_key())
    with VirtualBoard(sign_model_bin(sample.model_bin, TRUSTED)) as board, BoardClient(board.port) as client:
        client.set_key(KEY)
        assert client.info()["signature"] == "not_verified"  # it was loaded before there was a key
        client.set_key(other)
        assert client.reboot()["signature"] == "verified"
        assert len(client.keys()["keys"]) == 2
        client.remove_key(KEY)
        assert client.keys()["keys"] == [key_id(FOREIGN.public_key())]
        with pytest.raises(BoardError, match="unknown_key"):
            client.remove_key(KEY)
        assert client.lock_keys()["locked"]
        for change in (client.set_key, client.remove_key):
            with pytest.raises(BoardError, match=r"keys_locked|unknown_key"):
                change(KEY)
        with pytest.raises(BoardError, match="keys_locked"):
            client.remove_key(other)
        assert client.reboot()["state"] == "bad_signature"
        client.update(sign_model_bin(second, FOREIGN))


def test_what_is_no_key_is_refused(sample: Sample) -> None:
    with VirtualBoard(sample.model_bin) as board, BoardClient(board.port) as client:
        with pytest.raises(BoardError, match="bad_key"):
            client.set_key((1).to_bytes(32, "little"))  # a point of small order
        with pytest.raises(BoardError, match="no_key"):
            client.lock_keys()
        with pytest.raises(BoardError, match="bad_argument"):
            client.ask("key set 00", "keys")
    with pytest.raises(EdgewardError, match="1 to 4"):
        key_sector([KEY] * 5)


def test_command_line(sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(sample.model_bin)
    key = tmp_path / "key"
    assert main(["model", "keygen", str(key)]) == 0
    with VirtualBoard(sample.model_bin) as board:
        assert main(["board", "key", board.port, "set", f"{key}.pub"]) == 0
        assert main(["model", "sign", str(model), "--key", str(key)]) == 0
        assert main(["model", "preflight", str(model), "--chip", "esp32", "--key", f"{key}.pub"]) == 0
        capsys.readouterr()
        assert main(["board", "info", board.port]) == 0
        assert "verified" not in capsys.readouterr().out
        # The same digest as the unsigned model that runs, but that one would be refused at the next start.
        assert main(["board", "update", board.port, str(model)]) == 0
        assert "verified" in capsys.readouterr().out
        assert main(["board", "key", board.port, "list", "--json"]) == 0
        assert '"locked": false' in capsys.readouterr().out
        assert main(["board", "key", board.port, "set"]) == 2


def test_after_a_torn_entry_no_model_runs_until_a_key_is_set_again(sample: Sample, tmp_path: Path) -> None:
    """What the entry said nobody knows, so an unsigned model must not slip through; the next entry goes behind it."""
    torn = key_sector([KEY])[:30].ljust(KEYS.size, b"\xff")
    flash = flash_image(tmp_path / "flash", sample.model_bin, torn)
    with VirtualBoard(flash=flash) as board, BoardClient(board.port) as client:
        assert client.info()["keys"] == 0
        assert client.info()["state"] == "keys_damaged"
        with pytest.raises(BoardError, match="keys_damaged"):
            client.update(sample.model_bin)
        client.set_key(KEY)
        assert client.reboot()["keys"] == 1
    assert flash.read_bytes()[KEYS.offset + 64 : KEYS.offset + 128] == key_sector([KEY])[:64]
