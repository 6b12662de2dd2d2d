// What run() relies on: every number of a model of trees in its range. As parse_trees of model_export/trees.py.
#include <cstring>

#include "engine/trees/format.h"

namespace edgeward {
namespace trees {
namespace {

Result bad(const char* reason, int32_t tree = -1) { return Result{Status::bad_model, reason, tree}; }

bool finite(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return (bits >> 23 & 0xFF) != 0xFF;
}

Result check_header(const Header& head, uint32_t bytes) {
  if (head.version != 1) return Result{Status::unsupported, "trees: version is not 1", -1};
  if (head.mode > Mode::classes) return bad("trees: mode is unknown");
  if (head.total_bytes != bytes) return bad("trees: the section has another size than the header says");
  if (head.channels < 1 || head.channels > kMostChannels) return bad("trees: number of channels");
  const bool many = head.mode == Mode::classes;
  if (head.scores < (many ? 2u : 1u) || head.scores > (many ? kMostScores : 1u)) return bad("trees: number of scores");
  if (head.trees < 1 || head.trees > kMostTrees) return bad("trees: number of trees");
  if (head.depth > kMostDepth) return bad("trees: depth");
  if (head.zero_point < -128 || head.zero_point > 127) return bad("trees: zero point");
  if (!finite(head.scale) || !(head.scale > 0.0f)) return bad("trees: scale");
  if (head.mode != Mode::value && (head.scale != kShareScale || head.zero_point != kShareZeroPoint)) {
    return bad("trees: probabilities have scale 1/256 and zero point -128");
  }
  for (const uint8_t byte : head.reserved) {
    if (byte != 0) return bad("trees: reserved bytes are not zero");
  }
  const uint64_t wanted = sizeof(Header) + 4 * (uint64_t{head.scores} + kCuts) + sizeof(Size) * uint64_t{head.trees} +
                          sizeof(Node) * uint64_t{head.nodes} + 4 * uint64_t{head.leaves} * head.scores +
                          kSetBytes * uint64_t{head.sets};
  return wanted == bytes ? ok_result() : bad("trees: its parts do not add up to its size");
}

bool node_fits(const Node& node, const Header& head) {
  if ((node.field & kLeaf) != 0 || node.kind() > Kind::set || node.channel() >= head.channels) return false;
  if (node.kind() == Kind::at_least) return node.test >= 1 && node.test <= kCuts + 1;
  return node.kind() != Kind::set || node.test < head.sets;
}

// Nodes and leaves are numbered as they are met, level by level: every place has one number, and no way leads back.
Result check_tree(const Node* nodes, Size size, const Header& head, uint32_t number, uint32_t* depth) {
  const auto tree = static_cast<int32_t>(number);
  if (size.nodes >= kLeaf || uint32_t{size.leaves} != uint32_t{size.nodes} + 1) return bad("trees: size of a tree", tree);
  uint32_t ahead = 1, leaves = 0, end = 1;
  *depth = size.nodes > 0 ? 1 : 0;
  for (uint32_t at = 0; at < size.nodes; ++at) {
    if (at == end) {
      ++*depth;
      end = ahead;
    }
    const Node& node = nodes[at];
    if (!node_fits(node, head)) return bad("trees: channel, kind or test of a node", tree);
    const uint32_t ways[] = {node.left, node.right};
    for (const uint32_t below : ways) {
      const bool leaf = (below & kLeaf) != 0;
      if (below != (leaf ? kLeaf + leaves : ahead) || (!leaf && below >= size.nodes)) {
        return bad("trees: a node leads elsewhere", tree);
      }
      ++(leaf ? leaves : ahead);
    }
    if (at + 1 < size.nodes && ahead <= at + 1) return bad("trees: nothing leads to a node", tree);
  }
  return ok_result();
}

uint64_t magnitude(int32_t value) { return value < 0 ? uint64_t{0} - static_cast<uint64_t>(int64_t{value}) : static_cast<uint64_t>(value); }

// No sum of values can be beyond 32 bits.
bool sums_fit(const Parts& parts) {
  const Header& head = *parts.header;
  for (uint32_t score = 0; score < head.scores; ++score) {
    uint64_t most = magnitude(parts.base[score]);
    const int32_t* value = parts.values + score;
    for (uint32_t tree = 0; tree < head.trees; ++tree) {
      uint64_t largest = 0;
      for (uint32_t leaf = 0; leaf < parts.sizes[tree].leaves; ++leaf, value += head.scores) {
        const uint64_t size = magnitude(*value);
        if (size > largest) largest = size;
      }
      most += largest;
    }
    if (most >= uint64_t{1} << 31) return false;
  }
  return true;
}

constexpr uint32_t aligned(uint32_t bytes) { return (bytes + 15) & ~uint32_t{15}; }

}  // namespace

bool is_trees(const uint8_t* model, uint32_t bytes) {
  return model != nullptr && bytes >= 4 && std::memcmp(model, "EWTR", 4) == 0;
}

Result check(const uint8_t* model, uint32_t bytes, Parts* out) {
  *out = Parts{};
  if (!is_trees(model, bytes) || bytes < sizeof(Header)) return bad("trees: no whole header");
  Parts parts;
  parts.header = reinterpret_cast<const Header*>(model);
  const Header& head = *parts.header;
  if (const Result result = check_header(head, bytes); !result) return result;
  parts.base = reinterpret_cast<const int32_t*>(model + sizeof(Header));
  parts.cuts = parts.base + head.scores;
  parts.sizes = reinterpret_cast<const Size*>(parts.cuts + kCuts);
  parts.nodes = reinterpret_cast<const Node*>(parts.sizes + head.trees);
  parts.values = reinterpret_cast<const int32_t*>(parts.nodes + head.nodes);
  parts.sets = reinterpret_cast<const uint8_t*>(parts.values + uint64_t{head.leaves} * head.scores);
  for (uint32_t i = 1; i < kCuts; ++i) {
    if (parts.cuts[i] < parts.cuts[i - 1]) return bad("trees: cuts of the output do not ascend");
  }
  uint64_t nodes = 0, leaves = 0;
  for (uint32_t i = 0; i < head.trees; ++i) {
    nodes += parts.sizes[i].nodes;
    leaves += parts.sizes[i].leaves;
  }
  if (nodes != head.nodes || leaves != head.leaves) return bad("trees: number of nodes or leaves");
  uint32_t deepest = 0;
  const Node* next = parts.nodes;
  for (uint32_t i = 0; i < head.trees; ++i) {
    uint32_t depth = 0;
    if (const Result result = check_tree(next, parts.sizes[i], head, i, &depth); !result) return result;
    if (depth > deepest) deepest = depth;
    next += parts.sizes[i].nodes;
  }
  if (deepest != head.depth) return bad("trees: depth");
  if (!sums_fit(parts)) return bad("trees: a sum of leaves can be beyond 32 bits");
  *out = parts;
  return ok_result();
}

Places places_of(const Parts& parts) {
  Places places;
  places.sums = aligned(parts.header->channels);
  places.output = places.sums + aligned(4 * parts.header->scores);
  places.bytes = places.output + aligned(parts.outputs());
  return places;
}

}  // namespace trees
}  // namespace edgeward
