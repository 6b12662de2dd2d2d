// One inference of trees: whole numbers, no recursion. As run_trees of model_export/trees.py.
#include "engine/trees/format.h"

namespace edgeward {
namespace trees {
namespace {

bool goes_right(const Node& node, uint32_t code, const uint8_t* sets) {
  if (code == 0) return (node.field & kMissingRight) != 0;
  if (node.kind() == Kind::at_least) return code >= node.test;
  const uint32_t level = code - 1;
  if (node.kind() == Kind::levels) return level < kFewLevels && (uint32_t{node.test} >> level & 1u) != 0;
  return (sets[node.test * kSetBytes + level / 8] >> (level % 8) & 1) != 0;
}

uint32_t leaf_of(const Node* nodes, Size size, const int8_t* input, const uint8_t* sets) {
  if (size.nodes == 0) return 0;
  uint32_t at = 0;
  do {
    const Node& node = nodes[at];
    const auto code = static_cast<uint32_t>(input[node.channel()] + 128);
    at = goes_right(node, code, sets) ? node.right : node.left;
  } while ((at & kLeaf) == 0);
  return at - kLeaf;
}

// How many cuts are not above it.
uint32_t code_of(const int32_t* cuts, int32_t sum) {
  uint32_t low = 0, high = kCuts;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (cuts[middle] <= sum) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

int8_t as_output(uint32_t code) { return static_cast<int8_t>(static_cast<int32_t>(code) - 128); }

void write_classes(const Parts& parts, const int32_t* sums, int8_t* output) {
  const uint32_t scores = parts.header->scores;
  uint32_t winner = 0;
  for (uint32_t i = 0; i < scores; ++i) {
    if (sums[i] > sums[winner]) winner = i;
    output[i] = as_output(code_of(parts.cuts, sums[i]));
  }
  const int8_t top = output[winner];
  for (uint32_t i = 0; i < winner; ++i) {
    if (output[i] != top) continue;
    if (top > -128) {
      --output[i];
    } else {
      output[winner] = -127;
    }
  }
}

}  // namespace

void run(const Parts& parts, const int8_t* input, int32_t* sums, int8_t* output) {
  const Header& head = *parts.header;
  for (uint32_t i = 0; i < head.scores; ++i) sums[i] = parts.base[i];
  const Node* nodes = parts.nodes;
  const int32_t* values = parts.values;
  for (uint32_t tree = 0; tree < head.trees; ++tree) {
    const Size size = parts.sizes[tree];
    const int32_t* const value = values + leaf_of(nodes, size, input, parts.sets) * head.scores;
    for (uint32_t i = 0; i < head.scores; ++i) sums[i] += value[i];
    nodes += size.nodes;
    values += size.leaves * head.scores;
  }
  if (head.mode == Mode::classes) return write_classes(parts, sums, output);
  const uint32_t code = code_of(parts.cuts, sums[0]);
  if (head.mode == Mode::value) {
    output[0] = as_output(code);
    return;
  }
  output[0] = as_output(code == 128 ? 127 : code == 0 ? 255 : 256 - code);
  output[1] = as_output(code);
}

}  // namespace trees
}  // namespace edgeward
