#include "core/rules.cpp"
