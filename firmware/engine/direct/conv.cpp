// Convolution and fully connected layers: an output value is the dot product of a window with the weights of its channel.
// A load costs as much as a product, so values are computed in tiles: three pixels by four channels where three windows fit
// into a little memory on the stack; else, and for what is left, one pixel by eight channels.
#include "engine/direct/check.h"
#include "engine/direct/kernels.h"
#include "engine/direct/registers.h"
#include "engine/direct/rescale.h"
#include "engine/direct/window.h"

namespace edgeward::direct {
namespace {

constexpr uint32_t kPixels = 3, kChannels = 4, kChannelsOfOne = 8;
constexpr uint32_t kHeldBytes = 1792;  // on the stack, of which the check of a signature needs as much

// One channel's sums of three pixels, which begin with its bias.
struct Three {
  uint32_t a, b, c;

  explicit Three(int32_t bias) : a(bias), b(bias), c(bias) {}
  EDGEWARD_INLINE void add(int32_t weight, int32_t x, int32_t y, int32_t z) {
    a += weight * x;
    b += weight * y;
    c += weight * z;
    computed(a, b, c);
  }
  void store(uint32_t* sums) const { sums[0] = a, sums[1] = b, sums[2] = c; }
};

// Sums of kChannels channels, each of kPixels windows whose taps lie side by side.
[[gnu::noinline]] void dot_tile(const int8_t* x, const int8_t* weights, uint32_t taps, const int32_t* bias,
                                uint32_t* sums) {
  const int8_t *w0 = weights, *w1 = w0 + taps, *w2 = w1 + taps, *w3 = w2 + taps;
  Three s0(bias[0]), s1(bias[1]), s2(bias[2]), s3(bias[3]);
  const auto tap = [&](uint32_t i) EDGEWARD_INLINE {
    const int32_t a = x[3 * i], b = x[3 * i + 1], c = x[3 * i + 2];
    s0.add(w0[i], a, b, c);
    s1.add(w1[i], a, b, c);
    s2.add(w2[i], a, b, c);
    s3.add(w3[i], a, b, c);
  };
  const auto go_on = [&](uint32_t by) EDGEWARD_INLINE { x += 3 * by, w0 += by, w1 += by, w2 += by, w3 += by; };
  for (const int8_t* const end32 = x + 3 * (taps & ~31u); x != end32; go_on(32)) {
    tap(0), tap(1), tap(2), tap(3), tap(4), tap(5), tap(6), tap(7);
    tap(8), tap(9), tap(10), tap(11), tap(12), tap(13), tap(14), tap(15);
    tap(16), tap(17), tap(18), tap(19), tap(20), tap(21), tap(22), tap(23);
    tap(24), tap(25), tap(26), tap(27), tap(28), tap(29), tap(30), tap(31);
  }
  for (const int8_t* const end4 = x + 3 * (taps & 28u); x != end4; go_on(4)) {
    tap(0), tap(1), tap(2), tap(3);
  }
  for (const int8_t* const end = x + 3 * (taps & 3u); x != end; go_on(1)) tap(0);
  s0.store(sums), s1.store(sums + 3), s2.store(sums + 6), s3.store(sums + 9);
}

// Sums of kChannelsOfOne channels of one window whose taps lie one after the other.
[[gnu::noinline]] void dot_single(const int8_t* x, const int8_t* weights, uint32_t taps, const int32_t* bias,
                                  uint32_t* sums) {
  const int8_t *w0 = weights, *w1 = w0 + taps, *w2 = w1 + taps, *w3 = w2 + taps;
  const int8_t *w4 = w3 + taps, *w5 = w4 + taps, *w6 = w5 + taps, *w7 = w6 + taps;
  uint32_t s0 = bias[0], s1 = bias[1], s2 = bias[2], s3 = bias[3];
  uint32_t s4 = bias[4], s5 = bias[5], s6 = bias[6], s7 = bias[7];
  const auto tap = [&](uint32_t i) EDGEWARD_INLINE {
    const int32_t v = x[i];
    s0 += v * w0[i];
    s1 += v * w1[i];
    s2 += v * w2[i];
    s3 += v * w3[i];
    computed(s0, s1, s2, s3);
    s4 += v * w4[i];
    s5 += v * w5[i];
    s6 += v * w6[i];
    s7 += v * w7[i];
    computed(s4, s5, s6, s7);
  };
  const auto go_on = [&](uint32_t by) EDGEWARD_INLINE {
    x += by;
    w0 += by, w1 += by, w2 += by, w3 += by, w4 += by, w5 += by, w6 += by, w7 += by;
  };
  for (const int8_t* const end32 = x + (taps & ~31u); x != end32; go_on(32)) {
    tap(0), tap(1), tap(2), tap(3), tap(4), tap(5), tap(6), tap(7);
    tap(8), tap(9), tap(10), tap(11), tap(12), tap(13), tap(14), tap(15);
    tap(16), tap(17), tap(18), tap(19), tap(20), tap(21), tap(22), tap(23);
    tap(24), tap(25), tap(26), tap(27), tap(28), tap(29), tap(30), tap(31);
  }
  for (const int8_t* const end = x + (taps & 31u); x != end; go_on(1)) tap(0);
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
  sums[4] = s4, sums[5] = s5, sums[6] = s6, sums[7] = s7;
}

// The same of kChannels channels.
void dot_few(const int8_t* x, const int8_t* weights, uint32_t taps, const int32_t* bias, uint32_t* sums) {
  const int8_t *w0 = weights, *w1 = w0 + taps, *w2 = w1 + taps, *w3 = w2 + taps;
  uint32_t s0 = bias[0], s1 = bias[1], s2 = bias[2], s3 = bias[3];
  for (uint32_t i = 0; i < taps; ++i) {
    const int32_t v = x[i];
    s0 += v * w0[i], s1 += v * w1[i], s2 += v * w2[i], s3 += v * w3[i];
    computed(s0, s1, s2, s3);
  }
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

// `apart`: bytes from one tap to the next.
uint32_t dot(const int8_t* x, const int8_t* weights, uint32_t taps, int32_t bias, uint32_t apart = 1) {
  uint32_t sum = bias;
  for (uint32_t i = 0; i < taps; ++i, x += apart) sum += static_cast<int32_t>(*x) * weights[i];
  return sum;
}

// The values of kPixels pixels from `out` on; the taps of their windows lie side by side.
void tile(const Rescale& rescale, const Range range, const int8_t* weights, const int8_t* windows, uint32_t taps,
          uint32_t channels, int8_t* out) {
  uint32_t channel = 0;
  for (; channel + kChannels <= channels; channel += kChannels, weights += kChannels * taps) {
    uint32_t sums[kChannels * kPixels];
    dot_tile(windows, weights, taps, rescale.bias + channel, sums);
    store_tile<kChannels, kPixels>(rescale, channel, sums, range, out + channel, channels);
  }
  for (; channel < channels; ++channel, weights += taps) {
    for (uint32_t pixel = 0; pixel < kPixels; ++pixel) {
      const uint32_t sum = dot(windows + pixel, weights, taps, rescale.bias[channel], kPixels);
      out[pixel * channels + channel] = in_range(rescale.of(channel).of(static_cast<int32_t>(sum)), range);
    }
  }
}

void single(const Rescale& rescale, const Range range, const int8_t* weights, const int8_t* window, uint32_t taps,
            uint32_t channels, int8_t* out) {
  uint32_t channel = 0;
  for (; channel + kChannelsOfOne <= channels; channel += kChannelsOfOne, weights += kChannelsOfOne * taps) {
    uint32_t sums[kChannelsOfOne];
    dot_single(window, weights, taps, rescale.bias + channel, sums);
    store_tile<kChannelsOfOne, 1>(rescale, channel, sums, range, out + channel, channels);
  }
  if (channel + kChannels <= channels) {
    uint32_t sums[kChannels];
    dot_few(window, weights, taps, rescale.bias + channel, sums);
    store_tile<kChannels, 1>(rescale, channel, sums, range, out + channel, channels);
    channel += kChannels, weights += kChannels * taps;
  }
  for (; channel < channels; ++channel, weights += taps) {
    const uint32_t sum = dot(window, weights, taps, rescale.bias[channel]);
    out[channel] = in_range(rescale.of(channel).of(static_cast<int32_t>(sum)), range);
  }
}

}  // namespace

void conv(const Program& program, const Record& op) {
  const Rescale rescale(program, op);
  const Range range(op);
  const auto* const weights = reinterpret_cast<const int8_t*>(program.tflite + op.weights);
  const uint32_t taps = op.kernel_height * op.kernel_width * op.in.channels;
  const uint32_t channels = op.out.channels;
  Windows windows(program, op);
  int8_t* out = at(program, op.output);
  int8_t held[kHeldBytes];
  const uint32_t pixels = op.out.height * op.out.width;
  const uint32_t in_tiles = kPixels * taps <= kHeldBytes ? pixels / kPixels * kPixels : 0;
  uint32_t pixel = 0;
  for (uint32_t y = 0; y < op.out.height; ++y) {
    for (uint32_t x = 0; x < op.out.width; ++x, ++pixel) {
      if (pixel >= in_tiles) {
        single(rescale, range, weights, windows.get(y, x, true).base, taps, channels, out);
        out += channels;
        continue;
      }
      windows.copy<kPixels>(y, x, held + pixel % kPixels);
      if (pixel % kPixels + 1 < kPixels) continue;
      tile(rescale, range, weights, held, taps, channels, out);
      out += kPixels * channels;
    }
  }
}

const char* check_conv(const Checker& plan, const Record& op) { return check_convolution(plan, op, op.in.channels); }

}  // namespace edgeward::direct
