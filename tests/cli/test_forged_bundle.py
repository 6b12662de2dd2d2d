"""A bundle whose manifest anybody wrote: every digest is right, and what it says may be anything."""

import copy
import hashlib
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

import pytest

from model_export.bundle import verify_bundle, write_bundle
from model_export.errors import BundleError
from model_export.manifest import MANIFEST
from orchestrator.cli.main import main
from orchestrator.cli.manifest_text import manifest_text
from orchestrator.cli.tables import say

VALUES: Tuple[Any, ...] = (
    None,
    7,
    -1,
    1e308,
    "x",
    "\x1b[2J",
    [],
    {},
    [7],
    ["a", "a"],
    True,
    2**70,
    {"a": {"b": []}},
    float("inf"),
)
PRIVACY = {"unit": "record", "claim": "all is well", "holds_against": ["the gateway"], "epsilon": 1.0}


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory, shared_data: Callable[[str], Path]) -> Path:
    folder = tmp_path_factory.mktemp("forged") / "bundle"
    tflite = (shared_data("mlperf-tiny") / "ad_int8.tflite").read_bytes()
    figures = {"tflm": {"accuracy": 0.5, "intervals": {"accuracy": [0.4, 0.6]}, "too_noisy": ["auc"]}}
    write_bundle(folder, tflite=tflite, name="ad", engine="tflm", accuracy=figures, privacy=PRIVACY)
    return folder


def forge(folder: Path, content: Dict[str, Any]) -> None:
    """Unlike dump_manifest, it writes what no bundle of ours can say."""
    blank = (json.dumps({**content, "manifest_sha256": "0" * 64}, indent=1) + "\n").encode()
    head, _, tail = blank.rpartition(b"0" * 64)
    (folder / MANIFEST).write_bytes(head + hashlib.sha256(blank).hexdigest().encode() + tail)


def places(value: Any, before: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    if before:
        yield before
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*before, key))


def test_any_manifest_is_refused_with_its_place_or_shown_as_plain_text(
    forged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = json.loads((forged / MANIFEST).read_text())
    cases = [(place, value) for place in places(honest) for value in VALUES]
    must = [(("operators",), [7]), (("operators", 0, "name"), []), (("arena", "tflm_measured_on"), "\x1b[2J")]
    for place, value in [*must, *random.Random(0).sample(cases, 250)]:
        content = copy.deepcopy(honest)
        target = content
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = value
        forge(forged, content)
        with suppress(BundleError):
            say(manifest_text(forged, verify_bundle(forged, run=False)))
        assert "\x1b" not in capsys.readouterr().out, (place, value)
        if place[0] == "privacy":
            assert main(["privacy", "statement", str(forged)]) in (0, 1, 2), (place, value)
            capsys.readouterr()
    forge(forged, honest)
    verify_bundle(forged, run=False)
