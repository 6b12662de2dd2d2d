"""The power is cut at every flash operation of an update and a rollback, and models crash: one that works is always left."""

import subprocess
from pathlib import Path
from typing import Callable, Dict

import numpy as np

from model_export.input_profile import make_profile
from model_export.model_bin import KnownAnswers, pack_model_bin
from model_export.plan import compile_plan
from orchestrator.boards.host_engine import build, run_direct


def model_bin_of(name: str, tflite: bytes, rows: np.ndarray) -> bytes:
    """A model.bin with right known answers."""
    plan = compile_plan(tflite)
    return pack_model_bin(
        name=name,
        tflite=tflite,
        plan=plan.blob,
        arena_tflm_bytes=20000,
        arena_direct_bytes=plan.arena_bytes,
        known_answers=KnownAnswers(rows, run_direct(tflite, rows)),
        input_profile=make_profile(rows.shape[1:], (), None),
    )


def test_a_working_model_after_every_cut(
    tmp_path: Path, small_models: Dict[str, bytes], make_rows: Callable[..., np.ndarray]
) -> None:
    paths = []
    for name in ("dense", "regression"):
        path = tmp_path / f"{name}.bin"
        path.write_bytes(model_bin_of(name, small_models[name], make_rows(small_models[name], 5)))
        paths.append(str(path))
    done = subprocess.run([str(build("power-cut")), *paths, "64"], capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stdout[-4000:]
    cuts = {scenario: int(count) for scenario, count in (line.split() for line in done.stdout.splitlines())}
    of_rules = {f"rule-{name}" for name in ("set", "beside", "replace", "remove", "clear", "clear-full", "full")}
    of_streams = {f"stream-{name}" for name in ("keep", "forget", "clear", "clear-full", "full")}
    others = {"first-update", "second-update", "rollback", "full-log", "crashes", "stream-crashes", "rule-rollback"}
    assert set(cuts) == others | of_rules | of_streams
    assert min(cuts[name] for name in of_streams - {"stream-full"}) >= 8
    assert cuts["stream-full"] == 4, "refused before flash is touched"
    assert cuts["first-update"] > 100
    assert cuts["second-update"] > 100
    assert cuts["crashes"] == 5
    assert cuts["stream-crashes"] == 8
    assert min(cuts["rollback"], cuts["full-log"]) >= 8
    assert min(cuts[name] for name in of_rules - {"rule-full"}) >= 8
    assert cuts["rule-full"] == 4, "refused before flash is touched"
    assert cuts["rule-rollback"] > 1, "logs were erased, and rules written to them again"
