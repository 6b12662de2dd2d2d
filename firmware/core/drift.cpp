#include "core/drift.h"

#include <cmath>

namespace edgeward {

void Drift::add(const InputProfile& profile, const int8_t* input, uint32_t bytes) {
  if (profile.groups == 0) return;
  ++rows_;
  const uint32_t edge_count = profile.bins - 1;
  uint32_t group = 0;
  for (uint32_t i = 0; i < bytes; ++i) {
    const int8_t* const edges = profile.edges + group * edge_count;
    uint32_t bin = 0;
    while (bin < edge_count && input[i] > edges[bin]) ++bin;
    ++counts_[group][bin];
    if (++group == profile.groups) group = 0;
  }
}

double Drift::index(const InputProfile& profile, uint32_t group) const {
  constexpr double kLeastShare = 1e-4;
  uint64_t seen = 0;
  uint64_t expected = 0;
  for (uint32_t bin = 0; bin < profile.bins; ++bin) {
    seen += counts_[group][bin];
    expected += profile.share(group, bin);
  }
  if (seen == 0 || expected == 0) return 0.0;
  const auto at_least = [](double share) { return share < kLeastShare ? kLeastShare : share; };
  double index = 0.0;
  for (uint32_t bin = 0; bin < profile.bins; ++bin) {
    const double a = at_least(static_cast<double>(counts_[group][bin]) / static_cast<double>(seen));
    const double e = at_least(static_cast<double>(profile.share(group, bin)) / static_cast<double>(expected));
    index += (a - e) * std::log(a / e);
  }
  return index;
}

}  // namespace edgeward
