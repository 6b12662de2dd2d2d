#include "core/hmac.cpp"
