#include "core/crc.cpp"
