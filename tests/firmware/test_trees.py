"""engine/trees gives the bits of its reference in Python on this machine and on rv32, and refuses the files that it refuses."""

import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from random_trees import random_trees, rows_for

from model_export import trees_rows
from model_export.trees import (
    CLASSES,
    LEAF,
    MODES,
    PAIR,
    PROBABILITIES,
    VALUE,
    Tree,
    Trees,
    TreesError,
    leaves_of,
    pack_trees,
    parse_trees,
    run_trees,
)
from model_export.trees_rows import synthetic_rows, telling_rows
from model_export.trees_source import trees_header
from orchestrator.boards.host_engine import SANITIZE, HostBuildError, build, run_plan, run_plans
from orchestrator.boards.rv32 import missing, run_rv32

ANSWERS = (
    '#include <cstdio>\n#include "model_trees.h"\n'
    + """
int main() {
  int8_t input[edgeward::model_trees::kInputs], output[edgeward::model_trees::kOutputs];
  while (std::fread(input, 1, sizeof input, stdin) == sizeof input) {
    edgeward::model_trees::run(input, output);
    std::fwrite(output, 1, sizeof output, stdout);
  }
}
"""
)


def test_the_host_gives_the_bits_of_the_reference() -> None:
    models = [random_trees(seed) for seed in range(90)]
    rows = [rows_for(model, 40, seed) for seed, model in enumerate(models)]
    expected = [run_trees(model, each).ravel() for model, each in zip(models, rows)]
    found = run_plans([(pack_trees(model), b"", each) for model, each in zip(models, rows)], SANITIZE)
    np.testing.assert_array_equal(found, np.concatenate(expected))
    assert len(np.unique(found)) > 100, "the models say next to nothing: nothing was compared"


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("seed", range(3))
def test_rv32_gives_the_bits_of_the_reference(seed: int) -> None:
    model = random_trees(seed + 3)
    rows = rows_for(model, 60, seed)
    ran = run_rv32(pack_trees(model), rows)
    np.testing.assert_array_equal(ran.outputs, run_trees(model, rows))
    assert ran.instructions.min() > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_generated_source_gives_the_bits_of_the_reference(tmp_path: Path, seed: int) -> None:
    model = random_trees(seed + 60)
    rows = rows_for(model, 200, seed)
    (tmp_path / "model_trees.h").write_text(trees_header(model))
    (tmp_path / "main.cpp").write_text(ANSWERS)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O0"]
    subprocess.run(["g++", *flags, str(tmp_path / "main.cpp"), "-o", str(tmp_path / "main")], check=True)
    done = subprocess.run([str(tmp_path / "main")], input=rows.tobytes(), capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.int8), run_trees(model, rows).ravel())


def by_hand(model: Trees, row: np.ndarray) -> List[int]:
    """A record's sums, node by node and in Python's own numbers."""
    sums = [int(value) for value in model.base]
    for tree in model.trees:
        at = 0 if len(tree.nodes) else LEAF
        while at < LEAF:
            field, test, left, right = (int(value) for value in tree.nodes[at])
            code, kind = int(row[field % 4096]) + 128, field // 4096 % 4
            if code == 0:
                goes = field // 16384 % 2 == 1
            elif kind == 0:
                goes = code >= test
            elif kind == 1:
                goes = code <= 16 and (test >> (code - 1)) % 2 == 1
            else:
                goes = (int(model.sets[test][(code - 1) // 8]) >> (code - 1) % 8) % 2 == 1
            at = right if goes else left
        sums = [have + int(value) for have, value in zip(sums, tree.values[at - LEAF])]
    return sums


def outputs_by_hand(model: Trees, sums: List[int]) -> List[int]:
    codes = [sum(int(cut) <= each for cut in model.cuts) for each in sums]
    if model.mode == PAIR:
        codes = [127 if codes[0] == 128 else min(255, 256 - codes[0]), codes[0]]
    elif model.mode == CLASSES:
        winner, before = sums.index(max(sums)), list(codes)
        for place in range(winner):
            if before[place] == before[winner]:
                codes[place], codes[winner] = (codes[place] - 1, codes[winner]) if before[winner] else (0, 1)
    return [code - 128 for code in codes]


def test_the_reference_walks_as_its_description_says() -> None:
    for seed in range(30):
        model = random_trees(seed, most_trees=5)
        rows = rows_for(model, 12, seed)
        assert run_trees(model, rows).tolist() == [outputs_by_hand(model, by_hand(model, row)) for row in rows]


def test_what_is_packed_is_read_back() -> None:
    for seed in range(12):
        model = random_trees(seed)
        again = parse_trees(pack_trees(model))
        assert pack_trees(again) == pack_trees(model)
        assert (again.mode, again.depth, again.outputs) == (model.mode, model.depth, model.outputs)
        np.testing.assert_array_equal(run_trees(again, rows_for(model, 9)), run_trees(model, rows_for(model, 9)))


def damages(blob: bytes) -> List[Tuple[int, int]]:
    """(offset, word): every word by ones that break careless checks."""
    found = []
    for at in range(0, len(blob), 4):
        word = struct.unpack_from("<I", blob, at)[0]
        other = [
            0,
            1,
            0x7FFFFFFF,
            0x80000000,
            0xFFFFFFFF,
            0x7FC00000,
            word + 1,
            word - 1,
            word + 0x10000,
            word - 0x10000,
        ]
        other += [word ^ bit for bit in (0x8000, 0x4000, 0x1000, 0x10, 0x80000000, 0x40000000)]
        found += [(at, value % (1 << 32)) for value in other]
    return found


@pytest.mark.parametrize("mode", MODES)
def test_damaged_words_are_refused_by_both_or_run_within_their_memory(mode: int) -> None:
    model = replace(random_trees(mode + 30, most_trees=3, most_depth=4), cuts=np.arange(255, dtype=np.int32))
    blob = pack_trees(model)
    attempts = [
        damage for damage in damages(blob) if not 80 < damage[0] - 4 * model.scores < 1000
    ]  # most cuts are alike
    sent = (
        struct.pack("<II", len(blob), len(attempts)) + blob + b"".join(struct.pack("<II", *each) for each in attempts)
    )
    done = subprocess.run([str(build("damage-trees", SANITIZE))], input=sent, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
    differ = [each for each, ran in zip(attempts, done.stdout) if accepted(blob, each) != (ran == ord("1"))]
    assert differ == [], "Python and the firmware judge a file differently"
    assert 100 < done.stdout.count(b"1") < len(attempts) - 500


def accepted(blob: bytes, damage: Tuple[int, int]) -> bool:
    at, word = damage
    try:
        parse_trees(blob[:at] + struct.pack("<I", word) + blob[at + 4 :])
    except TreesError:
        return False
    return True


def test_every_truncated_model_is_refused() -> None:
    model = random_trees(1)
    blob = pack_trees(model)
    for keep in [0, 3, 4, 63, 64, *range(100, len(blob), 97), len(blob) - 1]:
        with pytest.raises(TreesError):
            parse_trees(blob[:keep])
    for keep in (4, 63, 64, 700, len(blob) - 4):
        with pytest.raises(HostBuildError, match="trees: "):
            run_plan(blob[:keep], b"", rows_for(model, 3), SANITIZE)


def nodes(*rows: Tuple[int, int, int, int]) -> np.ndarray:
    return np.array(rows, np.uint16).reshape(-1, 4)


def one_tree(table: np.ndarray, leaves: int, channels: int = 2) -> Trees:
    tree = Tree(table, np.arange(leaves, dtype=np.int32)[:, np.newaxis])
    cuts = np.arange(255, dtype=np.int32)
    return Trees(VALUE, channels, (tree,), np.zeros(1, np.int32), cuts, np.zeros((0, 32), np.uint8), 1.0, 0)


@pytest.mark.parametrize(
    ("table", "leaves", "reason"),
    [
        (nodes((0, 9, 0, LEAF)), 2, "leads to 0x0"),
        (nodes((0, 9, 1, LEAF), (0, 9, 0, LEAF + 1)), 3, "leads to 0x0"),
        (nodes((0, 9, 1, LEAF), (0, 9, 1, LEAF + 1)), 3, "leads to 0x1"),
        (nodes((0, 9, LEAF + 1, LEAF)), 2, "leads to 0x8001"),
        (nodes((0, 9, LEAF, LEAF)), 2, "leads to 0x8000"),
        (nodes((0, 9, LEAF, LEAF + 1), (0, 9, LEAF + 2, LEAF + 3)), 3, "nothing leads to the node"),
        (nodes((0, 9, 1, 2), (0, 9, LEAF, LEAF + 1)), 3, "leads to 0x2"),
        (nodes((2, 9, LEAF, LEAF + 1)), 2, "field 0x2, of 2 channels"),
        (nodes((3 << 12, 9, LEAF, LEAF + 1)), 2, "field 0x3000"),
        (nodes((LEAF, 9, LEAF, LEAF + 1)), 2, "field 0x8000"),
        (nodes((0, 0, LEAF, LEAF + 1)), 2, "test 0"),
        (nodes((0, 257, LEAF, LEAF + 1)), 2, "test 257"),
        (nodes((2 << 12, 0, LEAF, LEAF + 1)), 2, "test 0"),
        (nodes((0, 9, LEAF, LEAF + 1)), 3, "1 nodes and 3 leaves"),
    ],
)
def test_invalid_trees_are_refused_by_name(table: np.ndarray, leaves: int, reason: str) -> None:
    with pytest.raises(TreesError, match=reason):
        pack_trees(one_tree(table, leaves))


def test_sums_that_do_not_fit_into_32_bits_are_refused() -> None:
    fine = one_tree(nodes((0, 9, LEAF, LEAF + 1)), 2)
    pack_trees(replace(fine, base=np.array([(1 << 31) - 2], np.int32)))
    for base in ((1 << 31) - 1, -(1 << 31)):
        with pytest.raises(TreesError, match="beyond 32 bits"):
            pack_trees(replace(fine, base=np.array([base], np.int32)))


def test_limits_of_the_head_are_named() -> None:
    fine = random_trees(2)
    assert fine.mode == CLASSES
    for change, reason in (
        ({"cuts": fine.cuts[::-1]}, "cuts of the output do not ascend"),
        ({"mode": PAIR}, "scores at offset 16"),
        ({"scale": 0.5}, "scale at offset 40"),
        ({"zero_point": 0}, "scale at offset 40"),
        ({"channels": 4097}, "channels at offset 12"),
        ({"trees": ()}, "trees at offset 20"),
    ):
        with pytest.raises(TreesError, match=reason):
            pack_trees(replace(fine, **change))
    deep = nodes(*((0, 9, i + 1 if i < 12 else LEAF + 12, LEAF + i + (i == 12)) for i in range(13)))
    with pytest.raises(TreesError, match="depth at offset 36: 13"):
        pack_trees(one_tree(deep, 14))
    assert PROBABILITIES == (1 / 256, -128)


def test_known_answers_are_of_every_class_and_of_many_leaves() -> None:
    for seed in (1, 2, 4, 5):
        model = random_trees(seed)
        rows = telling_rows(model)
        winners = set(run_trees(model, rows).argmax(axis=1).tolist())
        offered = set(run_trees(model, synthetic_rows(model, 4096, seed=9)).argmax(axis=1).tolist())
        assert winners >= offered, seed
        assert len(np.unique(rows, axis=0)) == len(rows)


def test_rows_of_classes_that_never_win_are_looked_for_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 trees over 20 columns, of which three of four classes win nowhere: the search ends, and the others' rows are there."""
    split = np.array([[0, 100, LEAF, LEAF + 1]], np.uint16)
    trees = tuple(
        Tree(split + np.array([[number % 20, 0, 0, 0]], np.uint16), np.array([[9, 0, 0, 1], [8, 0, 1, 0]], np.int32))
        for number in range(200)
    )
    model = replace(random_trees(2), mode=CLASSES, channels=20, trees=trees, base=np.zeros(4, np.int32))
    walks = []

    def counted(*given: Any) -> np.ndarray:
        walks.append(1)
        return leaves_of(*given)

    monkeypatch.setattr(trees_rows, "leaves_of", counted)
    rows = telling_rows(model)
    assert len(walks) < 25_000
    assert len(rows) >= 1
    assert (run_trees(model, rows).argmax(axis=1) == 0).all()
