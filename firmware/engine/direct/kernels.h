// One kernel per file. All work on int8 tensors in height x width x channels order inside the arena.
#pragma once

#include "engine/direct/plan.h"

namespace edgeward::direct {

#define EDGEWARD_DECLARED(name, number) void name(const Program& program, const Record& op);
EDGEWARD_KINDS(EDGEWARD_DECLARED)
#undef EDGEWARD_DECLARED

inline int8_t* at(const Program& program, uint32_t arena_offset) {
  return reinterpret_cast<int8_t*>(program.arena + arena_offset);
}

inline const int32_t* words(const Program& program, const Record& op) {
  return reinterpret_cast<const int32_t*>(program.plan + op.table);
}

}  // namespace edgeward::direct
