"""Trees on a node: the bits of boards, files that are refused, and as many steps for one record as for another."""

import hashlib
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from graph_samples import mutants
from offered import offered
from random_trees import random_trees, rows_for
from series import of_cases

from model_export.input_profile import InputProfile
from model_export.model_bin import HEADER_BYTES, pack_model_bin, parse_model_bin
from model_export.trees import CLASSES, LEAF, VALUE, Tree, Trees, pack_trees, parse_trees, run_trees
from orchestrator.analyses.registry import analysis_of, make, spelled_out
from orchestrator.analyses.scored_model import Scoring
from orchestrator.data.dataset import Dataset
from orchestrator.errors import GraphError, UsageError
from orchestrator.node import trees_model
from orchestrator.node.approval import Approvals
from orchestrator.node.scores import with_scores
from orchestrator.node.trees_model import of_trees, read_trees
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training

SEEDS = [seed for seed in range(120) if random_trees(seed).mode != VALUE]
CUTS = np.arange(1, 255, dtype=np.float32)


def file_of(model: Trees, **change: Any) -> bytes:
    """A model.bin whose channels all have the cuts 1 to 254, so that the code of a whole number n is n + 1."""
    nothing = np.zeros((0, 9), np.int8), np.zeros((0, 10), np.uint16)
    said = InputProfile(model.channels, None, None, *nothing, 0, cuts=(CUTS,) * model.channels)
    parts = {"tflite": pack_trees(model), "input_profile": said, **change}
    arena = parse_trees(parts["tflite"]).arena_bytes
    return pack_model_bin(name="trees", arena_tflm_bytes=arena, arena_direct_bytes=arena, **parts)


def values_of(rows: np.ndarray) -> np.ndarray:
    """float32: what has the codes of these int8 rows."""
    return np.where(rows == -128, np.nan, rows.astype(np.float32) + 127)


def sealed(content: bytes) -> bytes:
    """A model.bin with the sizes, digest and checksum of what is in it: a gateway that lies can compute them too."""
    head, body = bytearray(content[:HEADER_BYTES]), content[HEADER_BYTES:]
    struct.pack_into("<I", head, 8, HEADER_BYTES + len(body))
    head[48:80] = hashlib.sha256(body).digest()
    struct.pack_into("<I", head, 252, zlib.crc32(bytes(head[:252])))
    return bytes(head) + body


def crafted(model: Trees, change: Callable[[bytearray], None]) -> bytes:
    """The model.bin of trees of which some bytes were changed."""
    content, trees = bytearray(file_of(model)), bytearray(pack_trees(model))
    place = bytes(content).index(bytes(trees), HEADER_BYTES)
    change(trees)
    content[place : place + len(trees)] = trees
    return sealed(bytes(content))


def test_outputs_are_those_of_boards_bit_for_bit() -> None:
    seen = set()
    for seed in SEEDS:
        model, rows = random_trees(seed), rows_for(random_trees(seed), 60, seed)
        found = read_trees(file_of(model)).run(values_of(rows))
        expected = (run_trees(model, rows).astype(np.float32) + 128) / 256
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
        seen.update(np.unique(found).tolist())
    assert len(seen) > 60, "the models say next to nothing: nothing was compared"


def test_a_record_changes_no_other_and_none_gives_nothing() -> None:
    model = random_trees(SEEDS[0])
    mine, inputs = read_trees(file_of(model)), values_of(rows_for(model, 30, 1))
    np.testing.assert_array_equal(mine.run(inputs[::-1])[::-1], mine.run(inputs))
    np.testing.assert_array_equal(np.concatenate([mine.run(row[np.newaxis]) for row in inputs]), mine.run(inputs))
    assert mine.run(inputs[:0]).shape == (0, model.outputs)
    assert np.isfinite(mine.run(np.full_like(inputs, np.inf))).all()


def test_steps_follow_from_how_many_records_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that all leave at the first split are walked as far as those in the deepest leaf."""
    seed = next(seed for seed in SEEDS if random_trees(seed).depth > 2)
    mine, rows = read_trees(file_of(random_trees(seed))), rows_for(random_trees(seed), 50, 3)
    asked: Dict[str, List[Any]] = {}
    where = np.where

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def where(self, *given: Any) -> Any:
            asked[now].append(np.shape(given[0]))
            return where(*given)

    monkeypatch.setattr(trees_model, "np", Counted())
    same, missing = np.repeat(rows[:1], len(rows), axis=0), np.full_like(rows, -128)
    for now, each in (("mixed", rows), ("same", same), ("missing", missing)):
        asked[now] = []
        mine.run(values_of(each))
    assert asked["mixed"] == asked["same"] == asked["missing"] != []


def test_records_of_many_channels_are_computed_many_at_a_time() -> None:
    """A channel and a tree take so many calls at a time: in pieces of 32 each record took 30 times as long."""
    wide = read_trees(file_of(replace(ONE, channels=4000)))
    assert [len(rows) for rows in wide.pieces(np.zeros((2500, 1), np.float32))] == [1024, 1024, 452]


def test_a_column_of_thousands_of_channels_is_in_memory_for_some_records_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The task names it once for each, and a node's memory is not the gateway's to fill with its records."""
    model = file_of(replace(ONE, channels=4000))
    said = {"file": "b", "sha256": "0" * 64, "size": 1, "numbers": "trees", "inputs": ["age"] * 4000, "output": 1}
    schema = Schema("table", "", (), {}, (Feature("age", 0, 100), Feature("sick", categories=("no", "yes"))))
    analysis = make({"kind": "performance", "outcome": "sick", "model": said}, schema)
    seen, inputs = [], Scoring.inputs

    def counted(scoring: Scoring, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        seen.append(len(x))
        return inputs(scoring, x)

    monkeypatch.setattr(Scoring, "inputs", counted)
    x = np.column_stack([np.arange(1100) % 100, np.ones(1100), np.zeros(1100)]).astype(np.float64)
    x[5, 0] = np.nan
    scores = with_scores(analysis, model, Dataset(x, np.full(1100, -1, np.int32))).x[:, -1]
    assert seen == [1024, 76]
    values = np.repeat(x[:300:30, :1], 4000, axis=1).astype(np.float32)
    np.testing.assert_array_equal(scores[:300:30], read_trees(model).run(values)[:, 1])
    assert np.isfinite(scores).all()


def _put(kind: str, at: int, value: Any) -> Callable[[bytearray], None]:
    return lambda trees: struct.pack_into(kind, trees, at, value)


ONE = Trees(
    1,
    2,
    (Tree(np.array([[0, 5, 1, LEAF], [1, 9, LEAF + 1, LEAF + 2]], np.uint16), np.array([[1], [-2], [3]], np.int32)),),
    np.zeros(1, np.int32),
    np.arange(-127, 128, dtype=np.int32),
    np.zeros((0, 32), np.uint8),
)
_BASE = 64
_NODES = _BASE + 4 + 4 * 255 + 4
_VALUES = _NODES + 16
BAD: Dict[str, Tuple[Callable[[bytearray], None], str]] = {
    "a way back to the root": (_put("<H", _NODES + 12, 0), "tree 0: node 1: leads to 0x0"),
    "a node that leads to itself": (_put("<H", _NODES + 4, 0), "tree 0: node 0: leads to 0x0"),
    "a node beyond the tree": (_put("<H", _NODES + 12, 2), "leads to 0x2"),
    "a leaf beyond the tree": (_put("<H", _NODES + 14, LEAF + 9), "leads to 0x8009"),
    "a channel beyond the record": (_put("<H", _NODES, 2), "of 2 channels"),
    "a kind that is unknown": (_put("<H", _NODES, 3 << 12), "field 0x3000"),
    "a set beyond the file": (_put("<H", _NODES, 2 << 12), "test 5"),
    "a test at the end of its type": (_put("<H", _NODES + 2, 0xFFFF), "test 65535"),
    "a test that is 0": (_put("<H", _NODES + 2, 0), "test 0"),
    "more nodes than bytes": (_put("<I", 24, 2**32 - 1), "its parts have"),
    "more leaves than bytes": (_put("<I", 28, 2**32 - 1), "its parts have"),
    "more sets than bytes": (_put("<I", 32, 2**32 - 1), "its parts have"),
    "more trees than there may be": (_put("<I", 20, 2**32 - 1), "trees at offset 20"),
    "no tree": (_put("<I", 20, 0), "trees at offset 20"),
    "channels without end": (_put("<I", 12, 2**32 - 1), "channels at offset 12"),
    "scores without end": (_put("<I", 16, 2**32 - 1), "scores at offset 16"),
    "a depth without end": (_put("<I", 36, 2**32 - 1), "depth at offset 36"),
    "a depth that is not theirs": (_put("<I", 36, 1), "depth at offset 36"),
    "a scale that is no number": (_put("<f", 40, np.nan), "scale at offset 40"),
    "another scale": (_put("<f", 40, 1e30), "scale at offset 40"),
    "leaves that overflow the sum": (_put("<i", _VALUES, -(2**31)), "sum can be beyond 32 bits"),
    "a base that overflows with the leaves": (_put("<i", _BASE, 2**31 - 1), "sum can be beyond 32 bits"),
    "cuts that do not ascend": (_put("<i", _BASE + 4, 2**31 - 1), "cuts of the output do not ascend"),
    "a number": (_put("<H", 6, VALUE), "predict a number, and a score is of classes"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_model_of_trees_is_refused_by_name(what: str) -> None:
    change, said = BAD[what]
    assert read_trees(crafted(ONE, lambda trees: None)).classes == 2
    with pytest.raises(GraphError, match=said):
        read_trees(crafted(ONE, change))


def test_a_file_is_bounded_before_it_is_read_and_its_work_before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GraphError, match="at most 4194304 are accepted"):
        read_trees(bytes(trees_model.MOST_BYTES + 1))
    monkeypatch.setattr(trees_model, "MOST_WORK", 32)
    with pytest.raises(GraphError, match="more than 32 steps of work for a record"):
        read_trees(file_of(ONE))


def test_trees_without_their_cuts_are_refused() -> None:
    with pytest.raises(GraphError, match="does not say which cuts"):
        read_trees(file_of(ONE, input_profile=None))
    said = parse_model_bin(file_of(ONE)).input_profile
    assert said is not None
    with pytest.raises(GraphError, match="does not say which cuts"):
        read_trees(file_of(ONE, input_profile=replace(said, channels=1, cuts=(CUTS,))))
    for cuts in (CUTS[::-1].copy(), np.array([np.nan], np.float32), np.array([np.inf], np.float32)):
        with pytest.raises(GraphError, match="cuts of a channel do not ascend"):
            read_trees(file_of(ONE, input_profile=replace(said, cuts=(CUTS, cuts))))


def test_a_damaged_file_is_read_or_refused_and_gives_shares() -> None:
    """Digests are made again over what was damaged, so that all of the readers see it."""
    accepted = 0
    for seed in (SEEDS[0], next(seed for seed in SEEDS if random_trees(seed).mode == CLASSES)):
        content = file_of(random_trees(seed))
        for body in mutants(content[HEADER_BYTES:], of_cases(800), seed):
            for mutant in (sealed(content[:HEADER_BYTES] + body), content[:HEADER_BYTES] + body):
                try:
                    model = read_trees(mutant)
                except GraphError:
                    continue
                accepted += 1
                rows = np.random.default_rng(0).normal(100, 90, (4, model.width)).astype(np.float32)
                rows[3] = np.nan
                found = model.run(rows)
                assert found.shape == (4, model.classes)
                assert ((found >= 0) & (found < 1)).all()
                np.testing.assert_array_equal(model.run(rows[::-1])[::-1], found)
    assert accepted, "some damage is of values only"


def test_damage_of_the_head_is_refused_or_read() -> None:
    content = file_of(ONE)
    for head in mutants(content[:HEADER_BYTES], of_cases(400), 5):
        mutant = sealed(head.ljust(HEADER_BYTES, b"\0")[:HEADER_BYTES] + content[HEADER_BYTES:])
        try:
            assert read_trees(mutant).classes == 2
        except GraphError:
            continue


def test_the_kind_of_a_file_is_seen() -> None:
    assert of_trees(file_of(ONE))
    assert not any(map(of_trees, (b"", b"EWMB", pack_trees(ONE), file_of(ONE)[:-1])))


def task_of(model: bytes, **options: Any) -> Task:
    """Of the performance of trees whose two channels are both a person's age."""
    features = (Feature("age", 0, 100), Feature("sick", categories=("no", "yes")))
    said = {"file": "b", "sha256": hashlib.sha256(model).hexdigest(), "size": len(model), "output": 1}
    said.update({"numbers": "trees", "inputs": ("age", "age"), **options})
    analysis = {"kind": "performance", "outcome": "sick", "bins": 2, "model": said}
    schema = Schema("table", "", (), {}, features)
    task = Task("t", schema, {}, Training(rounds=1), Privacy("none"), Rounds(3, 3), analysis=analysis)
    return spelled_out(replace(task, training=Training(rounds=1, parameters=analysis_of(task).sums.size)))


def test_a_live_node_runs_trees_once_its_owner_approved_what_is_said_of_them(tmp_path: Path) -> None:
    (tmp_path / "icu.csv").write_text("age,sick\n" + "40,yes\n71,no\n" * 20)
    model = file_of(ONE)
    first, then = offered(tmp_path / "node", task_of(model), model, tmp_path / "icu.csv")
    assert (first["kind"], first["code"], then["kind"]) == ("waiting", "policy.approval", "ready"), then
    text = "\n".join(Approvals(tmp_path / "node" / "state").find(str(first["digest"])).summary)
    assert "trees in whole numbers" in text
    assert "'age'" in text


def test_trees_that_are_refused_open_no_data(tmp_path: Path) -> None:
    """There are none here: who opens them says so."""
    good, back = file_of(ONE), crafted(ONE, _put("<H", _NODES + 4, 0))  # the root leads to itself
    assert offered(tmp_path / "good", task_of(good), good)[-1]["code"] == "data"
    for name, task, content, code in (
        ("backwards", task_of(back), back, "graph"),
        ("too few channels", task_of(good, inputs=("age",)), good, "graph"),
        ("another file", task_of(good), back, "task"),
    ):
        said = offered(tmp_path / name, task, content)[-1]
        assert (said["kind"], said["code"]) == ("declined", code), name
    said = offered(tmp_path / "policy", task_of(good), good, units="record")[-1]
    assert said["kind"] == "declined"
    assert said["code"].startswith("policy.")


@pytest.mark.parametrize("options", [{"inputs": ()}, {"inputs": ("age", "sick")}, {"mean": (0.0, 0.0)}, {"output": -1}])
def test_what_a_gateway_says_of_trees_is_checked_by_its_words(options: Dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"model\."):
        task_of(file_of(ONE), **options)
