// What the stand-in of ESP-IDF's I2S driver was asked for, what its DMA receives, and how it lies.
#pragma once

#include <vector>

#include "i2s.h"

struct I2sWorld {
  // Answers.
  size_t most_bytes_a_read = SIZE_MAX;  // it returns fewer than asked for, with ESP_OK
  size_t bytes_too_many = 0;            // it says so many more than it wrote
  esp_err_t read_error = ESP_OK;        // every read ends in this, without bytes
  bool skips_rest = false;              // of a block that DMA may reach soon, unsaid: ESP-IDF 5.5
  size_t overflow_bytes = 0;            // what a callback says was dropped; 0: the truth

  // What was asked for.
  i2s_chan_config_t channel = {};
  i2s_std_config_t config = {};
  int channels = 0;  // there are
  int misuses = 0;   // calls in a state in which ESP-IDF refuses them
  uint32_t waited_ms = 0;
};

extern I2sWorld i2s_world;

// DMA fills a block with `slots`, and the driver's interrupt runs. False where nothing is running.
bool i2s_receive(const std::vector<int32_t>& slots);
