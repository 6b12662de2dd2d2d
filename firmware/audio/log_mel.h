// Decibels of what mel filters take of a spectrum: the last stage of a front end of logarithms of mel energies, with which MLPerf
// Tiny's streaming wake word hears. model_export/audio/log_mel.py is the same in numpy, and says what is in which units.
#pragma once

#include "audio/audio_tables.h"

namespace edgeward {

void log_mel(const AudioTables& tables, const WideComplex* spectrum, uint16_t* features);

}  // namespace edgeward
