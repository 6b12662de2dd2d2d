// A model of trees as model_export/trees.py writes it: little-endian, read in place. That file says what every field means.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace edgeward {
namespace trees {

enum class Mode : uint16_t { value, pair, classes };
enum class Kind : uint16_t { at_least, levels, set };

constexpr uint32_t kCuts = 255;
constexpr uint32_t kSetBytes = 32;
constexpr uint32_t kMostChannels = 4096, kMostScores = 255, kMostTrees = 2000, kMostDepth = 12;
constexpr uint32_t kLeaf = 1u << 15;
constexpr uint16_t kMissingRight = 1u << 14;
constexpr uint32_t kFewLevels = 16;
constexpr float kShareScale = 1.0f / 256;
constexpr int32_t kShareZeroPoint = -128;

struct Header {
  uint8_t magic[4];
  uint16_t version;
  Mode mode;
  uint32_t total_bytes;
  uint32_t channels;
  uint32_t scores;
  uint32_t trees;
  uint32_t nodes;
  uint32_t leaves;
  uint32_t sets;
  uint32_t depth;
  float scale;
  int32_t zero_point;
  uint8_t reserved[16];
};
static_assert(sizeof(Header) == 64, "as model_export/trees.py packs it");

struct Size {
  uint16_t nodes;
  uint16_t leaves;
};

struct Node {
  uint16_t field;  // channel, kind, where a missing value goes
  uint16_t test;
  uint16_t left;
  uint16_t right;

  uint32_t channel() const { return field & 4095u; }
  Kind kind() const { return static_cast<Kind>(field >> 12 & 3); }
};
static_assert(sizeof(Node) == 8 && sizeof(Size) == 4, "as model_export/trees.py packs them");

// The parts of a model that was checked.
struct Parts {
  const Header* header = nullptr;  // null: no model
  const int32_t* base = nullptr;
  const int32_t* cuts = nullptr;
  const Size* sizes = nullptr;
  const Node* nodes = nullptr;
  const int32_t* values = nullptr;
  const uint8_t* sets = nullptr;

  uint32_t outputs() const { return header->mode == Mode::pair ? 2 : header->scores; }
};

// Whether a model's first bytes say that it is one of trees.
bool is_trees(const uint8_t* model, uint32_t bytes);

// Checks everything run() relies on, in one pass over the model. On success `out` points into it.
Result check(const uint8_t* model, uint32_t bytes, Parts* out);

// Where input, sums and outputs are in the arena: each from a multiple of 16.
struct Places {
  uint32_t sums;
  uint32_t output;
  uint32_t bytes;
};
Places places_of(const Parts& parts);

// One inference. input: int8[channels]; sums: int32[scores], written; output: int8[outputs()].
void run(const Parts& parts, const int8_t* input, int32_t* sums, int8_t* output);

}  // namespace trees

// The engine for models of trees; engine() gives them to it.
Engine& trees_engine();

}  // namespace edgeward
