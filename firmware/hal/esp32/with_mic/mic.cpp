// An I2S microphone such as an INMP441 or ICS-43434: 24 bits in slots of 32, Philips format, the left slot.
//
// DMA fills kBlocks blocks round and round, and the driver queues those that are full. A full queue loses its oldest block; the
// driver then calls on_overflow(). Only whole blocks are read: what was lost lay before the block that is read next, and there is
// never a rest of a block, which ESP-IDF 5.5 may skip without a word. Where this task is held up for a whole block between a read
// and the look at the count, the gap is put a block too early, and DMA may have begun to write over what was read.
//
// The driver learns of full blocks by an interrupt, and of the last one only if several are full by then. That is why
// sdkconfig.defaults lets it run while flash is written.
#include "driver/i2s_std.h"
#include "esp_attr.h"
#include "esp_log.h"
#include "hal/esp32/source.h"
#include "hal/esp32/with_mic/mic_pins.h"
#include "hal/microphone.h"
#include "sdkconfig.h"

#ifndef EDGEWARD_MIC_SHIFT
#define EDGEWARD_MIC_SHIFT 16
#endif

namespace edgeward::hal {
namespace {

#ifdef EDGEWARD_MIC_PINS
constexpr MicPins kPins = {EDGEWARD_MIC_PINS};
#else
constexpr MicPins kPins = mic_pins(CONFIG_IDF_TARGET);
#endif
static_assert(are_usable(kPins), "EDGEWARD_MIC_PINS are three pins: clock, word select, data");

// 32 KB; one block is always being written. 31 of them are 496 ms at 16 kHz, 165 ms at 48 kHz.
constexpr uint32_t kBlocks = 32;

i2s_chan_handle_t g_channel = nullptr;
bool g_running = false;
volatile uint32_t g_dropped_bytes = 0;  // the interrupt writes it, while there is one

struct Driver {
  // A read that fails leaves in the queue what it did not return.
  size_t read(uint8_t* to, size_t bytes) const {
    size_t got = 0;
    (void)i2s_channel_read(g_channel, to, bytes, &got, 0);
    return got;
  }
  uint32_t dropped_bytes() const { return g_dropped_bytes; }
};

Microphone<Driver, EDGEWARD_MIC_SHIFT> g_mic{Driver{}};

// In an interrupt, maybe while flash cannot be read.
bool IRAM_ATTR on_overflow(i2s_chan_handle_t, i2s_event_data_t* event, void*) {
  g_dropped_bytes = g_dropped_bytes + static_cast<uint32_t>(event->size);
  return false;
}

bool start_channel(uint32_t rate_hz) {
  i2s_std_config_t config = {};
  config.clk_cfg.sample_rate_hz = rate_hz;
  config.clk_cfg.clk_src = I2S_CLK_SRC_DEFAULT;
  config.clk_cfg.mclk_multiple = I2S_MCLK_MULTIPLE_256;
  config.slot_cfg = I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(I2S_DATA_BIT_WIDTH_32BIT, I2S_SLOT_MODE_MONO);
  config.slot_cfg.slot_mask = I2S_STD_SLOT_LEFT;
  config.gpio_cfg.mclk = I2S_GPIO_UNUSED;
  config.gpio_cfg.bclk = static_cast<gpio_num_t>(kPins.clock);
  config.gpio_cfg.ws = static_cast<gpio_num_t>(kPins.word_select);
  config.gpio_cfg.dout = I2S_GPIO_UNUSED;
  config.gpio_cfg.din = static_cast<gpio_num_t>(kPins.data);
  i2s_event_callbacks_t callbacks = {};
  callbacks.on_recv_q_ovf = on_overflow;
  if (i2s_channel_init_std_mode(g_channel, &config) != ESP_OK ||
      i2s_channel_register_event_callback(g_channel, &callbacks, nullptr) != ESP_OK) {
    return false;
  }
  g_running = i2s_channel_enable(g_channel) == ESP_OK;
  return g_running;
}

void close_mic() {
  if (g_channel == nullptr) return;
  if (g_running) (void)i2s_channel_disable(g_channel);
  (void)i2s_del_channel(g_channel);
  g_channel = nullptr;
  g_running = false;
  if (g_mic.lost() > 0) {
    ESP_LOGW("mic", "%u samples were lost, %u of them repeated", static_cast<unsigned>(g_mic.lost()),
             static_cast<unsigned>(g_mic.repeated()));
  }
}

bool open_mic(uint32_t rate_hz, uint32_t channels, Missed missed) {
  close_mic();
  if (channels != 1 || rate_hz < kLeastMicRateHz || rate_hz > kMostMicRateHz) return false;
  i2s_chan_config_t config = {};
  config.id = I2S_NUM_AUTO;
  config.role = I2S_ROLE_MASTER;
  config.dma_desc_num = kBlocks;
  config.dma_frame_num = g_mic.kBlockSamples;
  if (i2s_new_channel(&config, nullptr, &g_channel) != ESP_OK) {
    g_channel = nullptr;
    return false;
  }
  g_dropped_bytes = 0;
  g_mic.start(missed);
  if (start_channel(rate_hz)) return true;
  close_mic();
  return false;
}

size_t read_mic(int16_t* values, size_t capacity) { return g_channel == nullptr ? 0 : g_mic.read(values, capacity); }
uint32_t missed_mic() { return g_channel == nullptr ? 0 : g_mic.take_missed(); }

constexpr SelfClocked kSource = {"mic", open_mic, close_mic, read_mic, missed_mic};

}  // namespace

const SelfClocked* const kMic = &kSource;
const uint64_t kMicPins = mask_of(kPins);
// The blocks, and what the driver and the heap keep beside them.
const size_t kMicHeapBytes = 40 * 1024;

}  // namespace edgeward::hal
