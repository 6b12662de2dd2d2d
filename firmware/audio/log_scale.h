// The last stage: a natural logarithm in integers, from a table of how far a binary one is above a straight line.
#pragma once

#include <cstdint>

#include "audio/audio_tables.h"

namespace edgeward {

// Without a logarithm the signal as it is. Either way at most 65535.
void scale(const AudioTables& tables, const uint32_t* signal, uint16_t* features);

}  // namespace edgeward
