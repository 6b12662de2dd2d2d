#include "core/sha256.cpp"
