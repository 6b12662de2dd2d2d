// Unit tests of engine/direct that no model file reaches. Prints what fails; exit code 1 if anything did.
#include <cstdio>
#include <vector>

#include "engine/direct/plan.h"
#include "engine/engine.h"

using namespace edgeward;

namespace {

int g_failures = 0;

void check(bool ok, const char* what) {
  if (ok) return;
  std::printf("FAILED: %s\n", what);
  ++g_failures;
}

// All variables of a damaged plan lie in the same place: 4 GiB of them, of which 32 bits say that there are none.
void kept_of_a_damaged_plan() {
  constexpr uint32_t kArena = 1u << 24, kVariables = 256;
  struct {
    direct::PlanHeader header;
    direct::Record records[kVariables];
  } plan{};
  direct::Record& fill = plan.records[0];
  fill.kind = direct::Kind::fill;
  fill.in = fill.out = direct::Shape{1, 1u << 12, 1u << 12};
  for (direct::Record& record : plan.records) record = fill;
  plan.header = direct::PlanHeader{direct::kPlanMagic, direct::kPlanVersionWithState, sizeof plan, kArena, 0, kVariables,
                                   sizeof(direct::PlanHeader), kVariables, {}, {}};
  std::vector<uint8_t> arena(kArena);
  const ModelView model{nullptr, 0, reinterpret_cast<const uint8_t*>(&plan), sizeof plan};
  check(static_cast<bool>(engine().load(model, arena.data(), kArena)), "a plan whose variables overlap is loaded");
  check(engine().state_bytes() == kArena, "no model keeps more than its arena, nor nothing where it keeps something");
  engine().unload();
}

}  // namespace

int main() {
  kept_of_a_damaged_plan();
  return g_failures == 0 ? 0 : 1;
}
