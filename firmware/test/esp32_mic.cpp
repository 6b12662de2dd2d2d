// The microphone of an ESP32 (hal/esp32/with_mic, source.cpp) against a stand-in of ESP-IDF's I2S driver: one case a process,
// named by the argument. Prints what failed; exit code 0 when nothing did.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

#include "core/pins.h"
#include "esp_idf/i2s_world.h"
#include "esp_idf/world.h"
#include "hal/esp32/source.h"
#include "hal/esp32/with_mic/mic_pins.h"
#include "hal/hal.h"
#include "hal/microphone.h"

using namespace edgeward;
using hal::Missed;

namespace {

constexpr uint32_t kBlock = 256, kQueue = 31, kRate = 16000;
#ifdef EDGEWARD_MIC_SHIFT
constexpr unsigned kShift = EDGEWARD_MIC_SHIFT;
#else
constexpr unsigned kShift = 16;
#endif

int g_failures = 0;
uint32_t g_time = 0;  // of the microphone, in samples
bool g_sensor_open = false;

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("%s\n", what);
  ++g_failures;
}

// The sample of a moment: no two near each other are equal.
int16_t sound_at(uint32_t time) { return static_cast<int16_t>(time * 7919 % 30011 - 15000); }

// With noise below the sample, as in the bits of a slot nobody drives.
int32_t slot_at(uint32_t time) {
  return static_cast<int32_t>(static_cast<uint32_t>(sound_at(time)) << kShift | (time * 2654435761u >> (32 - kShift)));
}

void receive(uint32_t blocks) {
  for (uint32_t i = 0; i < blocks; ++i) {
    std::vector<int32_t> slots(kBlock);
    for (int32_t& slot : slots) slot = slot_at(g_time++);
    check(i2s_receive(slots), "DMA runs");
  }
}

std::vector<int16_t> read(size_t most = SIZE_MAX, size_t at_once = 64) {
  std::vector<int16_t> values;
  while (values.size() < most) {
    int16_t piece[1000];
    const size_t count = hal::source_read(piece, std::min(at_once, most - values.size()));
    values.insert(values.end(), piece, piece + count);
    if (count == 0) break;
  }
  return values;
}

bool is_sound(const std::vector<int16_t>& values, size_t first, size_t count, uint32_t time) {
  if (first + count > values.size()) return false;
  for (size_t i = 0; i < count; ++i) {
    if (values[first + i] != sound_at(time + static_cast<uint32_t>(i))) return false;
  }
  return true;
}

bool open(Missed missed = Missed::repeated, uint32_t rate = kRate, uint32_t channels = 1) {
  return hal::source_open("mic", rate, channels, missed);
}

// Open, and past what is not sound yet.
void listen(Missed missed) {
  g_time = 0;
  check(open(missed), "it opens");
  receive(hal::kSettlingSamples / kBlock);
  check(read().empty(), "what comes first is passed over");
}

bool logged(const char* words) { return world.log.find(words) != std::string::npos; }

void opens() {
  check(open(), "it opens");
  const i2s_std_config_t& config = i2s_world.config;
  check(config.clk_cfg.sample_rate_hz == kRate && config.clk_cfg.mclk_multiple == I2S_MCLK_MULTIPLE_256, "at the rate asked for");
  check(config.clk_cfg.clk_src == I2S_CLK_SRC_DEFAULT, "from the usual clock");
  check(config.slot_cfg.data_bit_width == I2S_DATA_BIT_WIDTH_32BIT && config.slot_cfg.ws_width == 32, "slots of 32 bits");
  check(config.slot_cfg.slot_mode == I2S_SLOT_MODE_MONO && config.slot_cfg.slot_mask == I2S_STD_SLOT_LEFT, "the left one");
  check(config.slot_cfg.bit_shift && !config.slot_cfg.ws_pol, "Philips format");
  check(config.gpio_cfg.mclk == GPIO_NUM_NC && config.gpio_cfg.dout == GPIO_NUM_NC, "three pins");
  const i2s_std_gpio_config_t& pins = config.gpio_cfg;
  check(hal::kMicPins == (1ull << pins.bclk | 1ull << pins.ws | 1ull << pins.din), "which are known");
  check(hal::system_info().sensor_pins == hal::kMicPins, "to the core as well");
  check(i2s_world.channel.role == I2S_ROLE_MASTER && i2s_world.channel.dma_frame_num == kBlock, "the chip gives the clock");
  check(i2s_world.channel.dma_desc_num == kQueue + 1, "half a second of blocks");
  const size_t dma_bytes = sizeof(int32_t) * i2s_world.channel.dma_frame_num * i2s_world.channel.dma_desc_num;
  check(dma_bytes + 4096 <= hal::kMicHeapBytes, "the heap kept free has room for them");
  hal::source_close();
  check(i2s_world.channels == 0 && i2s_world.misuses == 0, "it closes");
}

void refusals() {
  for (const uint32_t channels : {0u, 2u, 3u, 6u, UINT32_MAX}) check(!open(Missed::repeated, kRate, channels), "one channel");
  for (const uint32_t rate : {0u, 1u, 7999u, 48001u, 1000000u, UINT32_MAX}) check(!open(Missed::repeated, rate), "another rate");
  for (const char* const name : {"", "mi", "mics", "MIC", "adc"}) {
    check(!hal::source_open(name, kRate, 1, Missed::repeated), "another name");
  }
  check(world.count("i2s_new_channel") == 0, "nothing was begun");
  for (const uint32_t rate : {8000u, 16000u, 44100u, 48000u}) check(open(Missed::repeated, rate), "a rate");
  check(!open(Missed::repeated, kRate, 2) && i2s_world.channels == 0, "a refusal ends what was open");
  check(read().empty() && hal::source_missed() == 0 && i2s_world.misuses == 0, "then there is nothing");
}

void failures() {
  const char* const calls[] = {"i2s_new_channel", "i2s_channel_init_std_mode", "i2s_channel_register_event_callback",
                               "i2s_channel_enable"};
  for (const char* const call : calls) {
    for (const esp_err_t error : {ESP_FAIL, ESP_ERR_NO_MEM, ESP_ERR_NOT_FOUND, ESP_ERR_INVALID_STATE}) {
      world.errors[call] = error;
      check(!open(), call);
      check(world.errors.empty() && i2s_world.channels == 0, "nothing stays behind");
      check(read().empty() && hal::source_missed() == 0, "nothing is read");
      hal::source_close();
      check(open() && i2s_world.channels == 1, "the next time it opens");
      hal::source_close();
    }
  }
  check(i2s_world.misuses == 0, "every call in its state");
}

void again_and_after() {
  hal::source_close();
  check(read().empty() && hal::source_missed() == 0, "before it is open");
  listen(Missed::counted);
  receive(kQueue + 5);
  check(read(100).empty() && hal::source_missed() == 5 * kBlock, "a gap");
  receive(1);
  listen(Missed::counted);  // without a close
  check(i2s_world.channels == 1, "open again is one channel");
  check(hal::source_missed() == 0 && read().empty(), "nothing is left of the time before");
  receive(1);
  check(is_sound(read(), 0, kBlock, hal::kSettlingSamples), "and it hears");
  receive(2);
  hal::source_close();
  hal::source_close();
  check(read().empty() && hal::source_missed() == 0, "after it is closed");
  check(i2s_world.channels == 0 && i2s_world.misuses == 0, "every call in its state");
}

void other_sources() {
  check(hal::source_open("fake", 100, 3, Missed::repeated) && g_sensor_open, "a sensor with a timer");
  check(!hal::source_open("fake", kRate, 1, Missed::repeated) && !g_sensor_open, "has no such rate");
  check(hal::source_open("fake", 100, 3, Missed::repeated), "it opens");
  check(open() && !g_sensor_open && world.count("esp_timer_delete") == 2, "a microphone ends it");
  check(hal::source_open("fake", 100, 3, Missed::repeated) && i2s_world.channels == 0, "and the other way round");
  check(read().empty(), "with nothing of the microphone");
}

void samples() {
  listen(Missed::repeated);
  for (const size_t at_once : {1u, 7u, 64u, 255u, 256u, 257u, 1000u}) {
    const uint32_t before = g_time;
    receive(5);
    const std::vector<int16_t> values = read(SIZE_MAX, at_once);
    check(values.size() == 5 * kBlock && is_sound(values, 0, values.size(), before), "each sample once, in order");
  }
  int16_t none = 77;
  receive(1);
  check(hal::source_read(&none, 0) == 0 && none == 77, "no room, no sample");
  check(i2s_world.waited_ms == 0, "nothing waits");
  hal::source_close();
  check(world.log.empty(), "nothing was lost");
}

void conversion() {
  using hal::sample_of_slot;
  check(sample_of_slot(0, 16) == 0 && sample_of_slot(0xFFFF, 16) == 0 && sample_of_slot(-1, 16) == -1, "rounds down");
  check(sample_of_slot(INT32_MAX, 16) == INT16_MAX && sample_of_slot(INT32_MIN, 16) == INT16_MIN, "full scale");
  check(sample_of_slot(0x12345678, 16) == 0x1234, "the upper half");
  for (unsigned shift = 8; shift <= 16; ++shift) {
    const int32_t top = static_cast<int32_t>((int64_t{1} << (15 + shift)) - 1);
    check(sample_of_slot(top, shift) == INT16_MAX, "the loudest sample");
    check(sample_of_slot(-top - 1, shift) == INT16_MIN, "and its opposite");
    check(sample_of_slot(INT32_MAX, shift) == INT16_MAX && sample_of_slot(INT32_MIN, shift) == INT16_MIN, "louder ones are cut");
    if (shift == 16) continue;
    check(sample_of_slot(top + 1, shift) == INT16_MAX && sample_of_slot(-top - 2, shift) == INT16_MIN, "by one, too");
  }
}

void settling() {
  check(open(Missed::counted), "it opens");
  receive(40);  // 9 of which the queue drops
  const std::vector<int16_t> values = read();
  check(hal::source_missed() == 0, "what was dropped while it settled is no gap");
  check(values.size() == 40 * kBlock - hal::kSettlingSamples, "it counts as settling");
  check(is_sound(values, 0, values.size(), hal::kSettlingSamples), "the first sample is that behind it");
  g_time = 0;
  check(open(Missed::counted), "it opens");
  receive(100);
  check(read().empty(), "a gap that is longer");
  check(hal::source_missed() == 69 * kBlock - hal::kSettlingSamples, "is one by what is left of it");
  check(is_sound(read(), 0, kQueue * kBlock, 69 * kBlock), "and ends where sound goes on");
}

void counted() {
  listen(Missed::counted);
  receive(2);
  uint32_t time = hal::kSettlingSamples;
  check(is_sound(read(300), 0, 300, time), "the first samples");
  time += 300;
  receive(kQueue + 3);  // 3 of them are dropped: the second block has been read, what is left of it is here
  check(is_sound(read(), 0, 2 * kBlock - 300, time), "those of the block that is being read");
  check(read().empty(), "behind a gap nothing is read");
  check(hal::source_missed() == 3 * kBlock, "until it is counted");
  check(hal::source_missed() == 0, "once");
  time += 2 * kBlock - 300 + 3 * kBlock;
  check(is_sound(read(), 0, kQueue * kBlock, time), "then samples go on behind it");
  check(hal::source_missed() == 0 && read().empty(), "without another gap");
  hal::source_close();
  check(logged("768 samples were lost, 0 of them repeated"), "the log says so");
}

void repeated() {
  listen(Missed::repeated);
  receive(1);
  const int16_t last = read().back();
  receive(kQueue + 2);
  std::vector<int16_t> values = read();
  check(values.size() == (kQueue + 2) * kBlock && hal::source_missed() == 0, "as long as if nothing had been lost");
  check(std::count(values.begin(), values.begin() + 2 * kBlock, last) == 2 * kBlock, "the last one, again and again");
  check(is_sound(values, 2 * kBlock, kQueue * kBlock, g_time - kQueue * kBlock), "then what there is");
  receive(kQueue + 1);
  check(read().size() == (kQueue + 1) * kBlock, "likewise the next time");
  receive(kQueue + 40);
  values = read();
  check(values.size() == hal::kMostRepeated + kQueue * kBlock, "a long gap is filled to the most");
  hal::source_close();
  check(logged("11008 samples were lost, 8960 of them repeated"), "the log says how many");
}

// While a block is read, two come: for ever.
void too_slow() {
  listen(Missed::repeated);
  receive(kQueue);
  uint32_t real = 0, all = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::vector<int16_t> values = read(kBlock);
    all += static_cast<uint32_t>(values.size());
    for (uint32_t back = 0; back <= (kQueue + 4) * kBlock; back += kBlock) {
      if (g_time >= back + kBlock && is_sound(values, 0, kBlock, g_time - back - kBlock)) {
        real += kBlock;
        break;
      }
    }
    receive(2);
  }
  check(all == 1000 * kBlock && all - real <= 2 * kBlock, "nearly all it hears is sound");
}

void short_reads() {
  for (const size_t bytes : {1u, 2u, 3u, 4u, 5u, 7u, 511u, 1021u, 1022u, 1023u, 1025u}) {
    i2s_world.most_bytes_a_read = bytes;
    listen(Missed::counted);
    const uint32_t before = g_time;
    receive(9);
    const std::vector<int16_t> values = read();
    check(values.size() == 9 * kBlock && is_sound(values, 0, values.size(), before), "pieces of any size");
    check(hal::source_missed() == 0, "without a gap");
  }
  i2s_world.most_bytes_a_read = 0;
  receive(1);
  check(read().empty(), "none at all");
}

void errors() {
  listen(Missed::counted);
  const uint32_t before = g_time;
  receive(3);
  check(is_sound(read(300), 0, 300, before), "the first");
  for (const esp_err_t error : {ESP_FAIL, ESP_ERR_TIMEOUT, ESP_ERR_INVALID_STATE}) {
    i2s_world.read_error = error;
    const std::vector<int16_t> values = read();
    check(values.size() == (error == ESP_FAIL ? 2 * kBlock - 300 : 0), "what is here is read, no more");
  }
  receive(kQueue);
  check(read().empty() && hal::source_missed() == kBlock, "what is dropped meanwhile is counted");
  i2s_world.read_error = ESP_OK;
  check(is_sound(read(), 0, kQueue * kBlock, before + 3 * kBlock), "a read that failed lost nothing");
}

void lies() {
  listen(Missed::counted);
  const uint32_t before = g_time;
  i2s_world.bytes_too_many = 1;
  receive(1);
  check(is_sound(read(), 0, kBlock, before), "more than it was asked for");
  i2s_world.bytes_too_many = 1u << 30;
  receive(1);
  check(is_sound(read(), 0, kBlock, before + kBlock), "much more");
  i2s_world.bytes_too_many = 0;
  i2s_world.overflow_bytes = 6;  // a slot and a half
  receive(kQueue + 3);
  check(read().empty() && hal::source_missed() == 4, "whole samples of what was dropped");
  check(read().size() == kQueue * kBlock, "then what there is");
  receive(kQueue + 1);
  check(read().empty() && hal::source_missed() == 2, "with the half of before");
  read();
  i2s_world.overflow_bytes = 3u << 30;  // the second time the driver's count wraps around
  for (int i = 0; i < 2; ++i) {
    receive(kQueue + 1);
    check(read().empty() && hal::source_missed() == 3u << 28, "however much");
    check(read().size() == kQueue * kBlock, "then what there is");
  }
}

// Whatever comes in which order: samples and gaps together are the time that passed, and each sample is of its time.
void any_order() {
  std::mt19937 random(1);
  for (int round = 0; round < 40; ++round) {
    i2s_world.skips_rest = round % 2 == 1;
    listen(Missed::counted);
    uint32_t time = g_time;
    bool right = true;
    for (int step = 0; step < 300; ++step) {
      receive(random() % 4 == 0 ? random() % 70 : random() % 3);
      i2s_world.read_error = random() % 8 == 0 ? ESP_FAIL : ESP_OK;
      const std::vector<int16_t> values = read(random() % 6000, 1 + random() % 999);
      right = right && is_sound(values, 0, values.size(), time);
      time += static_cast<uint32_t>(values.size());
      if (random() % 2 == 0) time += hal::source_missed();
    }
    i2s_world.read_error = ESP_OK;
    for (int i = 0; i < 3; ++i) {
      const std::vector<int16_t> values = read();
      right = right && is_sound(values, 0, values.size(), time);
      time += static_cast<uint32_t>(values.size()) + hal::source_missed();
    }
    check(right && time == g_time, "every sample in its place");
  }
  check(i2s_world.misuses == 0, "every call in its state");
}

void pins() {
  for (const char* const chip : {"esp32", "esp32s3", "esp32c3"}) {
    const hal::MicPins pins = hal::mic_pins(chip);
    check(hal::are_usable(pins), chip);
    for (const int pin : {pins.clock, pins.word_select, pins.data}) {
      check(pin_refusal(chip, static_cast<uint32_t>(pin)) == nullptr, "no pin that something else needs");
    }
  }
  const hal::MicPins c3 = hal::mic_pins("esp32c3");
  for (const int pin : {c3.clock, c3.word_select, c3.data}) check(pin < 4 || pin > 7, "no pin of JTAG");
  for (const char* const chip : {"", "esp3", "esp32c", "esp32c33", "esp32p4", "host"}) {
    check(!hal::are_usable(hal::mic_pins(chip)), "a chip nobody has chosen pins of");
  }
  for (const hal::MicPins& pins : {hal::MicPins{1, 1, 2}, {1, 2, 1}, {2, 1, 1}, {-1, 1, 2}, {1, 49, 2}, {1, 2, 64}}) {
    check(!hal::are_usable(pins), "pins that cannot be");
  }
  check(hal::are_usable({0, 1, 48}) && hal::mask_of({0, 1, 48}) == (1ull << 48 | 3), "pins that can");
}

struct Case { const char* name; void (*run)(); };
constexpr Case kCases[] = {
    {"opens", opens},       {"refusals", refusals},     {"failures", failures}, {"again_and_after", again_and_after},
    {"samples", samples},   {"conversion", conversion}, {"settling", settling}, {"other_sources", other_sources},
    {"counted", counted},   {"repeated", repeated},     {"too_slow", too_slow}, {"short_reads", short_reads},
    {"errors", errors},     {"lies", lies},             {"pins", pins},         {"any_order", any_order},
};

bool open_fake(uint32_t channels) { return g_sensor_open = channels <= 3; }
void close_fake() { g_sensor_open = false; }
bool read_fake(int16_t*) { return true; }
constexpr hal::Sensor kFake = {"fake", open_fake, close_fake, read_fake};

}  // namespace

namespace edgeward::hal {

const Sensor* const kSensors[] = {&kFake};
const uint32_t kSensorCount = 1;

}  // namespace edgeward::hal

// Without an argument: the names of the cases.
int main(int count, char** arguments) {
  for (const Case& each : kCases) {
    if (count < 2) std::printf("%s\n", each.name);
    if (count >= 2 && std::strcmp(arguments[1], each.name) == 0) {
      each.run();
      hal::source_close();
      return g_failures == 0 ? 0 : 1;
    }
  }
  return count < 2 ? 0 : 2;
}
