#include "core/pins.cpp"
