// The model, and the plan by which engine/direct runs it: read in place, so they stay in flash.
#pragma once

#include <cstdint>

namespace edgeward_@name@ {

constexpr uint32_t kModelBytes = @model_bytes@;
constexpr uint32_t kPlanBytes = @plan_bytes@;
extern const uint8_t kModel[kModelBytes];
extern const uint8_t kPlan[kPlanBytes];

}  // namespace edgeward_@name@
