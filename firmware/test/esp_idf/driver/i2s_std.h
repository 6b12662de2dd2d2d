#pragma once
#include "i2s.h"
