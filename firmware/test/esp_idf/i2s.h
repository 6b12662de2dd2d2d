// The part of ESP-IDF's driver/i2s_std.h that hal/esp32/with_mic uses. Names, types and meanings are those of ESP-IDF 5.1 to 5.5.
#pragma once

#include "stand_in.h"

using i2s_chan_handle_t = struct I2sChannel*;
enum i2s_port_t { I2S_NUM_0, I2S_NUM_AUTO };
enum i2s_role_t { I2S_ROLE_MASTER, I2S_ROLE_SLAVE };
enum i2s_data_bit_width_t { I2S_DATA_BIT_WIDTH_16BIT = 16, I2S_DATA_BIT_WIDTH_32BIT = 32 };
enum i2s_slot_bit_width_t { I2S_SLOT_BIT_WIDTH_AUTO = 0, I2S_SLOT_BIT_WIDTH_32BIT = 32 };
enum i2s_slot_mode_t { I2S_SLOT_MODE_MONO = 1, I2S_SLOT_MODE_STEREO = 2 };
enum i2s_std_slot_mask_t { I2S_STD_SLOT_LEFT = 1, I2S_STD_SLOT_RIGHT = 2, I2S_STD_SLOT_BOTH = 3 };
enum i2s_mclk_multiple_t { I2S_MCLK_MULTIPLE_128 = 128, I2S_MCLK_MULTIPLE_256 = 256 };
enum i2s_clock_src_t { I2S_CLK_SRC_NONE, I2S_CLK_SRC_DEFAULT };
enum gpio_num_t { GPIO_NUM_NC = -1, GPIO_NUM_0, GPIO_NUM_48 = 48 };
constexpr gpio_num_t I2S_GPIO_UNUSED = GPIO_NUM_NC;

struct i2s_chan_config_t {
  i2s_port_t id;
  i2s_role_t role;
  uint32_t dma_desc_num;
  uint32_t dma_frame_num;
  bool auto_clear;
};
struct i2s_std_clk_config_t {
  uint32_t sample_rate_hz;
  i2s_clock_src_t clk_src;
  i2s_mclk_multiple_t mclk_multiple;
};
struct i2s_std_slot_config_t {
  i2s_data_bit_width_t data_bit_width;
  i2s_slot_bit_width_t slot_bit_width;
  i2s_slot_mode_t slot_mode;
  i2s_std_slot_mask_t slot_mask;
  uint32_t ws_width;
  bool ws_pol, bit_shift, left_align, big_endian, bit_order_lsb;
};
#define I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(bits, mode) \
  {bits, I2S_SLOT_BIT_WIDTH_AUTO, mode, I2S_STD_SLOT_BOTH, bits, false, true, true, false, false}
struct i2s_std_gpio_config_t {
  gpio_num_t mclk, bclk, ws, dout, din;
  struct { uint32_t mclk_inv : 1, bclk_inv : 1, ws_inv : 1; } invert_flags;
};
struct i2s_std_config_t {
  i2s_std_clk_config_t clk_cfg;
  i2s_std_slot_config_t slot_cfg;
  i2s_std_gpio_config_t gpio_cfg;
};
struct i2s_event_data_t {
  void* data;
  size_t size;
};
using i2s_isr_callback_t = bool (*)(i2s_chan_handle_t channel, i2s_event_data_t* event, void* context);
struct i2s_event_callbacks_t { i2s_isr_callback_t on_recv, on_recv_q_ovf, on_sent, on_send_q_ovf; };

esp_err_t i2s_new_channel(const i2s_chan_config_t* config, i2s_chan_handle_t* transmit, i2s_chan_handle_t* receive);
esp_err_t i2s_del_channel(i2s_chan_handle_t channel);
esp_err_t i2s_channel_init_std_mode(i2s_chan_handle_t channel, const i2s_std_config_t* config);
esp_err_t i2s_channel_register_event_callback(i2s_chan_handle_t channel, const i2s_event_callbacks_t* callbacks, void* context);
esp_err_t i2s_channel_enable(i2s_chan_handle_t channel);
esp_err_t i2s_channel_disable(i2s_chan_handle_t channel);
esp_err_t i2s_channel_read(i2s_chan_handle_t channel, void* to, size_t bytes, size_t* got, uint32_t timeout_ms);
