"""`edgeward flash --key`: keys into their sector, and no model that the board would then refuse."""

import argparse
from pathlib import Path

import pytest

pytest.importorskip("esptool")

from flash_files import model_bin

from model_export.signing import generate_key, raw_public, read_private_key, sign_model_bin
from orchestrator.boards.keys import key_sector
from orchestrator.boards.partitions import KEYS
from orchestrator.cli import flash as command
from orchestrator.errors import EdgewardError, UsageError


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    return parser.parse_args(["flash", "--port", "socket://nowhere", *given])


def test_regions(tmp_path: Path) -> None:
    public = generate_key(tmp_path / "k", tmp_path / "k.pub")
    model = tmp_path / "model.bin"
    model.write_bytes(model_bin())
    (region,) = command.regions_of(arguments("--key", str(tmp_path / "k.pub"), "--lock-keys"))
    assert (region.address, region.data) == (KEYS.offset, key_sector([raw_public(public)], locked=True))
    with pytest.raises(EdgewardError, match=r"not signed.*nothing was written"):
        command.regions_of(arguments("--key", str(tmp_path / "k.pub"), "--model", str(model)))
    model.write_bytes(sign_model_bin(model_bin(), read_private_key(tmp_path / "k")))
    names = [
        region.name for region in command.regions_of(arguments("--key", str(tmp_path / "k.pub"), "--model", str(model)))
    ]
    assert names[-1] == "keys"
    assert len(names) == 3
    (region,) = command.regions_of(arguments("--key", str(tmp_path / "k.pub"), "--allow-recording"))
    assert region.data == key_sector([raw_public(public)], recording=True) != key_sector([raw_public(public)])
    (region,) = command.regions_of(arguments("--allow-recording", "--without-keys"))
    assert (region.address, region.data) == (KEYS.offset, key_sector([], recording=True))
    for given in (["--allow-recording"], ["--without-keys"], ["--without-keys", "--key", str(tmp_path / "k.pub")]):
        with pytest.raises(UsageError, match=r"--allow-recording"):
            command.regions_of(arguments(*given))
    with pytest.raises(UsageError, match="--lock-keys"):
        command.regions_of(arguments("--model", str(model), "--lock-keys"))
