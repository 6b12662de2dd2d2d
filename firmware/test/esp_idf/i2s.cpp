// As ESP-IDF's driver: a queue of one block fewer than there are, which loses its oldest when full, and a block being read.
#include <algorithm>
#include <cstring>
#include <deque>

#include "i2s_world.h"
#include "world.h"

using Block = std::vector<uint8_t>;

struct I2sChannel {
  enum State { registered, ready, running } state = registered;
  i2s_event_callbacks_t callbacks = {};
  void* context = nullptr;
  std::deque<Block> queue;
  Block current;
  size_t at = 0;  // in `current`
};

I2sWorld i2s_world;

namespace {

I2sChannel* g_channel = nullptr;

esp_err_t misuse() {
  ++i2s_world.misuses;
  return ESP_ERR_INVALID_STATE;
}

}  // namespace

bool i2s_receive(const std::vector<int32_t>& slots) {
  if (g_channel == nullptr || g_channel->state != I2sChannel::running) return false;
  Block block(slots.size() * sizeof(int32_t));
  std::memcpy(block.data(), slots.data(), block.size());
  if (g_channel->queue.size() + 1 == i2s_world.channel.dma_desc_num) {
    const size_t bytes = i2s_world.overflow_bytes > 0 ? i2s_world.overflow_bytes : g_channel->queue.front().size();
    i2s_event_data_t event = {nullptr, bytes};
    g_channel->queue.pop_front();
    if (g_channel->callbacks.on_recv_q_ovf != nullptr) g_channel->callbacks.on_recv_q_ovf(g_channel, &event, g_channel->context);
  }
  g_channel->queue.push_back(block);
  return true;
}

esp_err_t i2s_new_channel(const i2s_chan_config_t* config, i2s_chan_handle_t* transmit, i2s_chan_handle_t* receive) {
  if (const esp_err_t error = answer("i2s_new_channel")) {
    *receive = reinterpret_cast<I2sChannel*>(16);  // no channel, and not null either
    return error;
  }
  if (transmit != nullptr || g_channel != nullptr) return misuse();
  i2s_world.channel = *config;
  ++i2s_world.channels;
  *receive = g_channel = new I2sChannel;
  return ESP_OK;
}

esp_err_t i2s_del_channel(i2s_chan_handle_t channel) {
  if (channel != g_channel || channel->state == I2sChannel::running) return misuse();
  delete channel;
  g_channel = nullptr;
  --i2s_world.channels;
  return ESP_OK;
}

esp_err_t i2s_channel_init_std_mode(i2s_chan_handle_t channel, const i2s_std_config_t* config) {
  if (channel->state != I2sChannel::registered) return misuse();
  i2s_world.config = *config;
  const esp_err_t error = answer("i2s_channel_init_std_mode");
  if (error == ESP_OK) channel->state = I2sChannel::ready;
  return error;
}

esp_err_t i2s_channel_register_event_callback(i2s_chan_handle_t channel, const i2s_event_callbacks_t* callbacks, void* context) {
  if (channel->state == I2sChannel::running) return misuse();
  const esp_err_t error = answer("i2s_channel_register_event_callback");
  if (error != ESP_OK) return error;
  channel->callbacks = *callbacks;
  channel->context = context;
  return ESP_OK;
}

esp_err_t i2s_channel_enable(i2s_chan_handle_t channel) {
  if (channel->state != I2sChannel::ready) return misuse();
  const esp_err_t error = answer("i2s_channel_enable");
  if (error == ESP_OK) channel->state = I2sChannel::running;
  return error;
}

esp_err_t i2s_channel_disable(i2s_chan_handle_t channel) {
  if (channel->state != I2sChannel::running) return misuse();
  channel->state = I2sChannel::ready;
  return ESP_OK;
}

esp_err_t i2s_channel_read(i2s_chan_handle_t channel, void* to, size_t bytes, size_t* got, uint32_t timeout_ms) {
  *got = 0;
  i2s_world.waited_ms += timeout_ms;
  if (channel != g_channel || channel->state != I2sChannel::running) return misuse();
  if (i2s_world.read_error != ESP_OK) return i2s_world.read_error;
  bytes = std::min(bytes, i2s_world.most_bytes_a_read);
  esp_err_t result = ESP_OK;
  while (*got < bytes) {
    const bool near = channel->queue.size() + 2 >= i2s_world.channel.dma_desc_num;
    if (channel->at == channel->current.size() || (i2s_world.skips_rest && near)) {
      if (channel->queue.empty()) {
        result = ESP_ERR_TIMEOUT;
        break;
      }
      channel->current = channel->queue.front();
      channel->queue.pop_front();
      channel->at = 0;
    }
    const size_t count = std::min(bytes - *got, channel->current.size() - channel->at);
    std::memcpy(static_cast<uint8_t*>(to) + *got, channel->current.data() + channel->at, count);
    channel->at += count;
    *got += count;
  }
  if (*got > 0) *got += i2s_world.bytes_too_many;
  return result;
}
