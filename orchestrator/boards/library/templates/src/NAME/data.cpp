#include "@name@/data.h"

namespace edgeward_@name@ {

alignas(16) const uint8_t kModel[kModelBytes] = {
@model@
};

alignas(16) const uint8_t kPlan[kPlanBytes] = {
@plan@
};

}  // namespace edgeward_@name@
