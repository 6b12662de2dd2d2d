"""Rules of a board under AddressSanitizer and UBSan, its clock simulated: when a pin is on and off, to the millisecond."""

import dataclasses
import os
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from step_model import QUIET, SURE, UNSURE, step_model, step_trees

from model_export.input_profile import make_profile
from model_export.model_bin import parse_model_bin
from model_export.signing import raw_public, sign_model_bin
from model_export.trees import CLASSES, VALUE
from orchestrator.boards.host_engine import SANITIZE, build
from orchestrator.boards.keys import key_sector
from orchestrator.boards.partitions import FLASH_BYTES, KEYS, SECTOR_BYTES, SLOTS
from orchestrator.boards.protocol import FRAME_SAMPLES, Record, RecordParser, encode_frame

LOG = SLOTS["a"].end - SECTOR_BYTES
MODEL = step_model()
STREAM = "stream 1 1 1 0 file 1000"
"""A sample a millisecond."""


class Said(NamedTuple):
    records: List[Record]
    pins: List[Tuple[int, str]]
    """(ms, line) of the file of pins, without those of the start."""
    flash: bytes

    def fields(self, kind: str) -> List[Dict[str, Any]]:
        return [record.fields for record in self.records if record.kind == kind]

    def codes(self) -> List[str]:
        return [fields["code"] for fields in self.fields("error")]

    def rules(self) -> List[str]:
        return list(self.fields("rules")[-1]["rules"])


def image_of(model: bytes = MODEL, keys: bytes = b"", log: bytes = b"") -> bytes:
    image = bytearray(b"\xff" * FLASH_BYTES)
    for offset, content in ((SLOTS["a"].offset, model), (KEYS.offset, keys), (LOG, log)):
        image[offset : offset + len(content)] = content
    return bytes(image)


def talk(folder: Path, commands: Sequence[str], samples: Sequence[int] = (), image: Optional[bytes] = None) -> Said:
    """All commands at once, at 0 ms; then a second of samples."""
    (folder / "flash").write_bytes(image_of() if image is None else image)
    (folder / "samples").write_bytes(np.array(samples, "<i2").tobytes())
    (folder / "pins").write_bytes(b"")
    environment = {
        **os.environ, "EDGEWARD_BOARD_SAMPLES": str(folder / "samples"), "EDGEWARD_BOARD_PINS": str(folder / "pins"),
    }  # fmt: skip
    done = subprocess.run(
        [str(build("board-stdio", SANITIZE)), str(folder / "flash")],
        input="".join(f"{line}\n" for line in commands).encode(), env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 7), done.stderr.decode("utf-8", "replace")[-3000:]
    parser = RecordParser()
    records = parser.feed(done.stdout)
    assert (parser.stats.corrupt, parser.stats.lost) == (0, 0)
    lines = [line.split(" ", 1) for line in (folder / "pins").read_text().splitlines()]
    assert lines[0] == ["0", "* released"], "before anything else"
    pins = [(int(t_us) // 1000, what) for t_us, what in lines[1:] if t_us != "0"]
    return Said(records, pins, (folder / "flash").read_bytes())


def played(*parts: Tuple[int, int]) -> List[int]:
    """(samples, value) one after the other, quiet to the end of the second."""
    return [value for count, value in (*parts, (1200, QUIET)) for _ in range(count)][:1200]


_ON_AND_OFF = [(101, "3 high"), (151, "3 low")]


@pytest.mark.parametrize(
    ("rule", "samples", "expected"),
    [
        # On with the second window in a row, off with the first that says something else, and no more within the cool-down.
        (
            "1 1 0 2 300 level 3 high 500",
            [(100, QUIET), (50, SURE), (100, QUIET), (300, SURE)],
            [(102, "3 high"), (151, "3 low"), (451, "3 high"), (551, "3 low")],
        ),
        ("1 1 0 2 300 level 3 low 500", [(100, QUIET), (50, SURE)], [(102, "3 low"), (151, "3 high")]),
        ("1 1 200 1 300 level 3 high 500", [(100, UNSURE), (50, SURE), (50, UNSURE)], _ON_AND_OFF),
        # The limit of what it may last counts from the last window that agreed, so it goes on while they come.
        ("1 1 0 1 300 level 3 high 20", [(100, QUIET), (200, SURE)], [(101, "3 high"), (301, "3 low")]),
        # A pulse has its length, and comes again after its cool-down where the class goes on.
        ("1 1 0 1 250 pulse 3 high 50", [(100, QUIET), (20, SURE)], _ON_AND_OFF),
        (
            "1 1 0 1 250 pulse 3 high 50",
            [(100, QUIET), (400, SURE)],
            [*_ON_AND_OFF, (401, "3 high"), (451, "3 low")],
        ),
        ("1 1 0 1 300 pwm 3 high 500 1000 25", [(100, QUIET), (50, SURE)], [(101, "3 pwm 1000 25"), (151, "3 low")]),
        ("1 1 0 1 300 pwm 3 low 500 50 25", [(100, QUIET), (50, SURE)], [(101, "3 pwm 50 75"), (151, "3 high")]),
        ("1 1 0 1000 300 level 3 high 500", [(900, SURE)], []),
    ],
)
def test_pins_in_time(
    tmp_path: Path, rule: str, samples: List[Tuple[int, int]], expected: List[Tuple[int, str]]
) -> None:
    said = talk(tmp_path, [f"rule set {rule}", STREAM], played(*samples))
    assert [line for _, line in said.pins] == [line for _, line in expected]
    assert all(abs(ms - due) <= 1 for (ms, _), (due, _) in zip(said.pins, expected)), said.pins
    assert len(said.fields("acted")) == len(expected) // 2


@pytest.mark.parametrize(("action", "times"), [("record", 3), ("hook", 3)])
def test_a_class_that_goes_on_is_said_again_after_each_cool_down(tmp_path: Path, action: str, times: int) -> None:
    said = talk(tmp_path, [f"rule set 1 1 0 1 300 {action}", STREAM], played((100, QUIET), (800, SURE)))
    assert [each["sample"] for each in said.fields("acted")] == [101 + 300 * i for i in range(times)]


def test_a_record_says_what_it_was_about(tmp_path: Path) -> None:
    said = talk(tmp_path, ["rule set 5 1 200 3 1000 record", STREAM], played((100, QUIET), (300, SURE)))
    assert said.fields("acted") == [
        {"rule": 5, "action": "record", "label": 1, "confidence": 0.9414, "sample": 103, "window": 103}
    ]


def test_without_windows_an_output_ends_by_itself(tmp_path: Path) -> None:
    """The source has no more samples after 150 ms."""
    rules = ["rule set 1 1 0 1 300 level 3 high 400", "rule set 2 1 0 1 300 pulse 4 high 500"]
    said = talk(tmp_path, [*rules, STREAM], [QUIET] * 100 + [SURE] * 50)
    assert [each for each in said.pins if "low" in each[1]] == [(550, "3 low"), (601, "4 low")]


def test_a_start_begins_with_the_cool_down(tmp_path: Path) -> None:
    """So what pulls the supply down is not switched on by every restart at once."""
    first = talk(tmp_path, ["rule set 1 1 0 1 400 level 3 high 500"])
    said = talk(tmp_path, [STREAM], played((800, SURE)), first.flash)
    assert next(ms for ms, line in said.pins if line == "3 high") in (400, 401)


@pytest.mark.parametrize(
    "end",
    ["stream off", "stream 1 1 1 0", "stream nonsense", "reload", "reboot", "rule clear", "rule set 2 0 0 1 250 hook"],
)
def test_whatever_ends_a_stream_ends_its_outputs(tmp_path: Path, end: str) -> None:
    samples = struct.pack("<I10h", 0, *[SURE] * 10)
    commands = ["rule set 1 1 0 1 300 level 3 high 60000", "stream 1 1 1 0"]
    (tmp_path / "flash").write_bytes(image_of())
    (tmp_path / "pins").write_bytes(b"")
    text = "".join(f"{line}\n" for line in commands).encode() + encode_frame(FRAME_SAMPLES, 1, samples)
    subprocess.run(
        [str(build("board-stdio", SANITIZE)), str(tmp_path / "flash")], input=text + f"\n{end}\n".encode(),
        env={**os.environ, "EDGEWARD_BOARD_PINS": str(tmp_path / "pins")}, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    lines = [line.split(" ", 1)[1] for line in (tmp_path / "pins").read_text().splitlines()]
    assert lines[-1] == "3 low" or end == "rule set 2 0 0 1 250 hook"
    assert "3 high" in lines
    assert lines.index("3 high") < len(lines) - 1 - lines[::-1].index("3 low")


BAD = (
    *(
        "rule ",
        "rule x",
        "rule list 1",
        "rule clear 1",
        "rule remove",
        "rule remove 0",
        "rule remove 9",
        "rule remove x",
    ),
    *(
        "rule set",
        "rule set 1",
        "rule set 1 0 0 1 250 dance",
        "rule set 1 0 0 1 250 record 1",
        "rule set 9 0 0 1 250 hook",
    ),
    *("rule set 1 0 nan 1 250 record", "rule set 1 0 257 1 250 record", "rule set 1 0 0 1 250 level 3 on 5"),
    *("rule set 1 0 0 1 250 level -1 high 5", "rule set 1 0 0 1 250 level 4294967299 high 5", f"rule set {'1' * 140}"),
)
REFUSED = {
    "rule set 1 2 0 1 250 record": "bad_rule",
    "rule set 1 0 0 0 250 record": "bad_rule",
    "rule set 1 0 0 1 249 record": "bad_rule",
    "rule set 1 0 0 1 250 level 3 high 0": "bad_rule",
    "rule set 1 0 0 1 250 pwm 3 high 5 19 50": "bad_rule",
    "rule set 1 0 0 1 250 pulse 8 high 5": "pin_refused",
    "rule set 1 0 0 1 250 pulse 9 high 5": "pin_refused",
    "rule set 1 0 0 1 250 pulse 13 high 5": "pin_refused",
    "rule set 1 0 0 1 250 pulse 255 high 5": "pin_refused",
    "rule set 0 0 0 1 250 record": "bad_rule",
}


def test_what_means_nothing_or_cannot_be_is_refused(tmp_path: Path) -> None:
    said = talk(tmp_path, [*BAD, *REFUSED, "rule list"])
    assert said.codes() == ["bad_argument"] * len(BAD) + list(REFUSED.values())
    assert said.rules() == []
    assert said.flash[LOG + 32 : LOG + SECTOR_BYTES] == b"\xff" * (SECTOR_BYTES - 32), "only that the model was proven"


def test_a_pin_has_one_rule_and_a_refused_one_leaves_the_levels_of_the_other(tmp_path: Path) -> None:
    many = [f"rule set 1 {i % 2} 0 1 250 level 3 high 5" for i in range(130)]
    said = talk(tmp_path, ["rule set 2 0 0 1 250 pulse 3 high 5", "rule set 1 0 0 1 250 level 3 low 5", *many])
    assert said.codes() == ["pin_in_use"] * 131
    said = talk(tmp_path, [*many, "rule set 1 0 0 1 250 level 3 low 5", "rule list"])
    assert set(said.codes()) == {"rule_log_full"}
    assert "high" in said.rules()[0]
    lines = (tmp_path / "pins").read_text().splitlines()
    assert lines[-1] == "0 3 low", "the rule that was refused would rest at high"


def test_rules_come_back_and_an_old_log_is_passed_over(tmp_path: Path) -> None:
    words = ["1 1 200 3 5000 level 7 high 10000", "8 0 0 1 86400000 hook"]
    first = talk(tmp_path, [f"rule set {each}" for each in words])
    assert first.rules() == words
    again = talk(tmp_path, ["rule list", "info"], image=first.flash)
    assert (again.rules(), again.fields("info")[0]["rules"]) == (words, 2)
    assert again.fields("rules")[0]["ready_in_ms"] == [5000, 86400000]
    gone = talk(tmp_path, ["rule remove 1", "rule remove 1", "rule remove 2", "reload", "rule list"], image=again.flash)
    assert (gone.rules(), gone.codes()) == (words[1:], [])


def test_a_full_log_is_said_and_rules_can_still_be_removed(tmp_path: Path) -> None:
    change = [f"rule set 1 {i % 2} 0 1 250 record" for i in range(200)]
    full = talk(tmp_path, ["rule set 2 0 0 1 250 hook", *change])
    assert set(full.codes()) == {"rule_log_full"}
    less = talk(tmp_path, ["rule remove 1", "rule list"], image=full.flash)
    assert (less.codes(), less.rules()) == ([], ["2 0 0 1 250 hook"])
    none = talk(tmp_path, ["rule clear", "reload", *change[:50]], image=less.flash)
    assert (none.codes(), len(none.rules())) == ([], 1)
    assert none.flash[LOG : LOG + 4] == b"EWSL", "the model is still proven"


def test_what_is_in_a_damaged_log(tmp_path: Path) -> None:
    """Any byte of the entries changed: each rule is as it was or absent, and nothing else comes of it."""
    words = ["1 1 200 3 5000 level 7 high 10000", "2 0 0 1 86400000 hook"]
    flash = talk(tmp_path, [f"rule set {each}" for each in words]).flash
    draw = np.random.default_rng(3)
    for _ in range(25):
        image = bytearray(flash)
        for at in draw.integers(LOG, LOG + 4 * 32, int(draw.integers(1, 9))):
            image[at] ^= int(draw.integers(1, 256))
        said = talk(tmp_path, ["rule list"], image=bytes(image))
        assert set(said.rules()) <= set(words)


def entry(words: Dict[str, int], model: bytes = MODEL) -> bytes:
    """Of the log, written from docs/serial.md."""
    said = {
        "number": 1,
        "action": 3,
        "label": 1,
        "pin": 3,
        "agree": 1,
        "least": 0,
        "hz": 0,
        "cool_ms": 250,
        "hold_ms": 99,
        "duty": 0,
        **words,
    }
    row = said["agree"] | said["least"] << 10 | said["hz"] << 19
    head = struct.pack(
        "<4BIII",
        *(said[name] for name in ("number", "action", "label", "pin")),
        row,
        said["cool_ms"],
        said["hold_ms"] | said["duty"] << 22,
    )
    content = b"EWRL" + head + bytes.fromhex(parse_model_bin(model).digest)
    return content + struct.pack("<I", zlib.crc32(content))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"pin": 8}, "pin_refused"),
        ({"pin": 200}, "pin_refused"),
        ({"label": 2}, "bad_rule"),
        ({"least": 300}, "bad_rule"),
        ({"agree": 0}, "bad_rule"),
        ({"cool_ms": 0}, "bad_rule"),
        ({"cool_ms": 2**32 - 1}, "bad_rule"),
        ({"hold_ms": 0}, "bad_rule"),
        ({"hold_ms": 2**22 - 1}, "bad_rule"),
        ({"action": 5}, "bad_rule"),
        ({"action": 5, "hz": 8191, "duty": 50}, "bad_rule"),
        ({"action": 5, "hz": 50, "duty": 100}, "bad_rule"),
        ({"action": 9}, None),
        ({"number": 9}, None),
        ({"number": 0}, None),
    ],
)
def test_a_rule_in_flash_is_checked_like_one_that_is_sent(
    tmp_path: Path, words: Dict[str, int], code: Optional[str]
) -> None:
    """A flash of another chip or of newer firmware, or one that somebody wrote."""
    said = talk(tmp_path, ["rule list"], image=image_of(log=entry(words)))
    assert said.codes() == ([] if code is None else [code])
    assert said.rules() == []
    good = talk(tmp_path, ["rule list"], image=image_of(log=entry({})))
    assert good.rules() == ["1 1 0 1 250 level 3 high 99"]
    assert (
        talk(tmp_path, ["rule list"], image=image_of(log=entry({}, step_model("another", step_trees(CLASSES))))).rules()
        == []
    )


def test_models_without_classes_have_no_rules(tmp_path: Path) -> None:
    regression = image_of(step_model(model=step_trees(VALUE, 0.5, 0)))
    assert talk(tmp_path, ["rule set 1 0 0 1 250 record"], image=regression).codes() == ["no_classes"]
    (tmp_path / "empty").mkdir()
    nothing = talk(tmp_path, ["rule list", "rule clear", "rule set 1 0 0 1 250 record"], image=b"\xff" * FLASH_BYTES)
    assert nothing.codes()[-3:] == ["no_model"] * 3


def scored(threshold: float, scale: float = 1.0) -> bytes:
    profile = dataclasses.replace(make_profile((1, 1), [{"name": "x", "cuts": [0.0, 10.0]}], None), threshold=threshold)
    return image_of(step_model(model=step_trees(VALUE, scale, 0), profile=profile))


def test_a_model_with_a_threshold(tmp_path: Path) -> None:
    """Outputs are -118, 23 and 113 of inputs -127, -126 and -125: scores 81, 22,201 and 56,644."""
    over = talk(
        tmp_path,
        ["rule set 1 1 0 1 250 record", STREAM],
        played((100, QUIET), (10, UNSURE), (10, SURE)),
        scored(30000.0),
    )
    assert [each["sample"] for each in over.fields("acted")] == [111]
    assert talk(tmp_path, ["rule set 1 1 128 1 250 record"], image=scored(1.0)).codes() == ["bad_rule"]
    assert talk(tmp_path, ["rule set 1 2 0 1 250 record"], image=scored(1.0)).codes() == ["bad_rule"]


@pytest.mark.parametrize("label", [0, 1])
def test_a_score_that_is_no_number_is_nobodys_class(tmp_path: Path, label: int) -> None:
    said = talk(tmp_path, [f"rule set 1 {label} 0 1 250 record", STREAM], played((300, SURE)), scored(1.0, 3e38))
    assert said.fields("acted") == []
    assert said.codes() == []


def test_a_model_with_heads(tmp_path: Path) -> None:
    """A rule is about the class and the probability of the heads' mean."""
    profile = dataclasses.replace(make_profile((1, 1), [{"name": "x", "cuts": [0.0, 10.0]}], None), heads=3)
    image = image_of(step_model(model=step_trees(CLASSES, heads=3), profile=profile))
    said = talk(
        tmp_path, ["rule set 1 1 200 1 250 record", STREAM], played((100, UNSURE), (9, QUIET), (10, SURE)), image
    )
    assert [(each["sample"], each["label"]) for each in said.fields("acted")] == [(110, 1)]
    assert talk(tmp_path, ["rule set 1 2 0 1 250 record"], image=image).codes() == ["bad_rule"]


TRUSTED = Ed25519PrivateKey.generate()
KEY = raw_public(TRUSTED.public_key())
LOCKED = key_sector([KEY], locked=True)
TORN = LOCKED[:64] + LOCKED[64:96] + b"\xff" * (len(LOCKED) - 96)
"""The power went while the lock was written, or somebody says that it did."""


@pytest.mark.parametrize(
    ("keys", "free"),
    [
        (b"", True),
        (key_sector([KEY]), True),
        (key_sector([KEY], locked=True, rules=True), True),
        (LOCKED, False),
        (TORN, False),
    ],
    ids=["no keys", "not locked", "locked, rules allowed", "locked", "damaged"],
)
def test_who_has_the_port_of_a_locked_board_changes_no_rule(tmp_path: Path, keys: bytes, free: bool) -> None:
    signed = sign_model_bin(MODEL, TRUSTED)
    image = image_of(signed, keys, entry({"action": 1, "hold_ms": 0}, signed))
    rule = ["1 1 0 1 250 record"]
    for change in ("rule set 2 1 0 1 250 record", "rule remove 1", "rule clear"):
        said = talk(tmp_path, ["rule list", change, "rule list"], image=image)
        assert said.fields("rules")[0]["rules"] == rule
        assert said.codes() == ([] if free else ["rules_locked"])
        assert (said.rules() != rule) == free
        assert said.fields("rules")[-1]["locked"] != free
    acting = talk(tmp_path, [STREAM], played((900, SURE)), image)
    assert acting.fields("acted"), "its own sensor makes the rule act, locked or not"
