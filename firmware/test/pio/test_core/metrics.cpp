#include "core/metrics.cpp"
