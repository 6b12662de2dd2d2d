#include "core/uplink.cpp"
