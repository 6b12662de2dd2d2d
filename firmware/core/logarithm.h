// The natural logarithm of a column with transform "log": the bits orchestrator/wire/logarithm.py gives, which says how.
#pragma once

namespace edgeward {

// x is finite and at least 2^-126.
float logarithm(float x);

}  // namespace edgeward
