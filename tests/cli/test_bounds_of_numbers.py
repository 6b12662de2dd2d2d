"""A number on the command line has one range, which is said in one message, before any file is looked at."""

from typing import List

import pytest

from orchestrator.boards.recording import MOST_RATE_HZ, MOST_SAMPLES
from orchestrator.cli.main import main

WRONG = ["-1", "0", "0.5", "9" * 5000, "1" + "0" * 15, "1" + "0" * 16, "x", "", "nan"]
SHARES = ["-1", "1.5", "1e15", "1e16", "x", "nan", "inf"]
RECORD = ["board", "record", "PORT", "--task", "no.toml", "--source", "adc", "--out", "x.npz"]


@pytest.mark.parametrize(
    ("words", "option", "wrong", "expected"),
    [
        (["data", "mock", "no.toml", "--out", "x.csv"], "--rows", WRONG, "expected a whole number from 1 to 1000000"),
        (["data", "mock", "no.toml", "--out", "x.csv"], "--missing", SHARES, "expected a number from 0 to 1"),
        (["data", "validate", "no.csv", "no.toml"], "--problems", WRONG, "expected a whole number from 1 to 1000000"),
        (["init", "no.csv", "--label", "y"], "--nodes", WRONG, "expected a whole number from 1 to 100000"),
        (
            ["anonymize", "no.csv", "no.toml", "--out", "x.csv", "--cuts", "no.json"],
            "--parts",
            WRONG,
            "expected a whole number from 2 to 1000",
        ),
        (["board", "bench", "PORT"], "--rows", WRONG, "expected a whole number from 1 to 1000000"),
        ([*RECORD, "--samples", "9"], "--rate", WRONG, f"expected a whole number from 1 to {MOST_RATE_HZ}"),
        ([*RECORD, "--rate", "9"], "--samples", [*WRONG, str(MOST_SAMPLES + 1)], "expected a whole number from 1 to"),
        (["demo"], "--rounds", WRONG, "expected a whole number from 1 to 100000"),
        (
            ["gateway", "run", "no.toml", "--out", "x"],
            "--log-mib",
            ["-1", "0", "1e7", "1e16", "x"],
            "a number above 0, at",
        ),
        (["monitor"], "--seconds", ["-1", "0", "1e16", "x"], "expected a number of seconds above 0"),
        (
            ["gateway", "invite", "a", "--identity", "no"],
            "--hours",
            ["-1", "0", "9000", "1e16", "x"],
            "expected above 0, at",
        ),
    ],
)
def test_one_range_and_one_message(
    capsys: pytest.CaptureFixture[str], words: List[str], option: str, wrong: List[str], expected: str
) -> None:
    said = set()
    for value in wrong:
        with pytest.raises(SystemExit) as stopped:
            main([*words, f"{option}={value}"])
        assert stopped.value.code == 2
        message = capsys.readouterr().err.strip().split("\n")[-1]
        assert len(message) < 250
        said.add(message.partition(f"argument {option}: ")[2].partition(": ")[2])
    assert len(said) == 1
    assert said.pop().startswith(expected)
