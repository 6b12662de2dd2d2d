"""model_trees.h of a bundle: the trees as C++, for firmware that is not Edgeward's. The same bits as trees.run_trees."""

from __future__ import annotations

from typing import Iterator, List, Tuple

import numpy as np

from model_export.sources import GENERATED
from model_export.trees import AT_LEAST, CLASSES, CODES, LEAF, LEVELS, MISSING_RIGHT, PAIR, Tree, Trees


def trees_header(model: Trees) -> str:
    """`edgeward::model_trees::run(input, output)`: whole numbers, no recursion, no memory of its own but the sums."""
    lines = [
        *(
            GENERATED + "#pragma once",
            "",
            "#include <cstdint>",
            "",
            "namespace edgeward {",
            "namespace model_trees {",
            "",
        ),
        f"constexpr int kInputs = {model.channels};  // int8 each: -128 is a missing value",
        f"constexpr int kOutputs = {model.outputs};  // int8 each: real = {model.scale!r} * (value - {model.zero_point})",
        f"constexpr int kScores = {model.scores};",
        "",
        f"constexpr int32_t kCuts[255] = {{{_numbers(model.cuts)}}};",
    ]
    if len(model.sets):
        rows = ", ".join(f"{{{_numbers(row)}}}" for row in model.sets)
        lines.append(f"constexpr uint8_t kSets[{len(model.sets)}][32] = {{{rows}}};")
        lines += [
            "",
            "inline bool within(const uint8_t* set, int code) {",
            "  return code > 0 && (set[(code - 1) / 8] >> ((code - 1) % 8) & 1) != 0;",
            "}",
        ]
    for number, tree in enumerate(model.trees):
        lines += ["", f"inline void tree_{number}(const int8_t* {'x' if len(tree.nodes) else ''}, int32_t* s) {{"]
        lines += [*_tree(tree), "}"]
    lines += [
        *("", "inline int code_of(int32_t sum) {", "  int low = 0, high = 255;", "  while (low < high) {"),
        *("    const int middle = (low + high) / 2;", "    if (kCuts[middle] <= sum) {", "      low = middle + 1;"),
        *("    } else {", "      high = middle;", "    }", "  }", "  return low;", "}"),
        *("", "inline void run(const int8_t* input, int8_t* output) {"),
        f"  int32_t s[kScores] = {{{_numbers(model.base)}}};",
        *(f"  tree_{number}(input, s);" for number in range(len(model.trees))),
        *_ending(model),
        *("}", "", "}  // namespace model_trees", "}  // namespace edgeward", ""),
    ]
    return "\n".join(lines)


def _numbers(values: np.ndarray) -> str:
    return ", ".join(_number(value) for value in values.tolist())


def _number(value: int) -> str:
    return str(value) if value > -(1 << 31) else "INT32_MIN"


def _tree(tree: Tree) -> Iterator[str]:
    """Nested questions, from a list of what is still to be written."""
    ahead: List[Tuple[str, int, int]] = [("", 0 if len(tree.nodes) else LEAF, 1)]
    while ahead:
        text, place, depth = ahead.pop()
        if text:
            yield text
            continue
        indent = "  " * depth
        if place >= LEAF:
            for score, value in enumerate(tree.values[place - LEAF].tolist()):
                yield f"{indent}s[{score}] += {_number(value)};"
            continue
        field, test, left, right = tree.nodes[place].tolist()
        yield f"{indent}if ({_goes_right(field, test)}) {{"
        ahead += [(f"{indent}}}", 0, 0), ("", left, depth + 1), (f"{indent}}} else {{", 0, 0), ("", right, depth + 1)]


def _goes_right(field: int, test: int) -> str:
    value, kind, missing = f"x[{field & 4095}]", field >> 12 & 3, bool(field & MISSING_RIGHT)
    if kind == AT_LEAST:
        asked = "false" if test > CODES else f"{value} >= {test - 128}"
        return f"{value} == -128 || {asked}" if missing else asked
    if kind == LEVELS:
        asked = f"{value} > -128 && {value} < -111 && ({test}u >> ({value} + 127) & 1u) != 0"
    else:
        asked = f"within(kSets[{test}], {value} + 128)"
    return f"{value} == -128 || ({asked})" if missing else asked


def _ending(model: Trees) -> List[str]:
    if model.mode == PAIR:
        return [
            "  const int code = code_of(s[0]);",
            "  output[0] = static_cast<int8_t>((code == 128 ? 127 : code == 0 ? 255 : 256 - code) - 128);",
            "  output[1] = static_cast<int8_t>(code - 128);",
        ]
    if model.mode != CLASSES:
        return ["  output[0] = static_cast<int8_t>(code_of(s[0]) - 128);"]
    return [
        "  int winner = 0;",
        "  for (int i = 0; i < kScores; ++i) {",
        "    if (s[i] > s[winner]) winner = i;",
        "    output[i] = static_cast<int8_t>(code_of(s[i]) - 128);",
        "  }",
        "  const int8_t top = output[winner];",
        "  for (int i = 0; i < winner; ++i) {",
        "    if (output[i] != top) continue;",
        "    if (top > -128) {",
        "      --output[i];",
        "    } else {",
        "      output[winner] = -127;",
        "    }",
        "  }",
    ]
