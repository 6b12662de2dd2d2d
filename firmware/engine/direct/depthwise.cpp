// Depthwise convolution: each channel has its own kernel. Weights are row x column x channel, so neighbouring channels
// are neighbours in memory: four of them, of three pixels, are computed together from wherever in the input their taps lie.
#include "engine/direct/check.h"
#include "engine/direct/kernels.h"
#include "engine/direct/registers.h"
#include "engine/direct/rescale.h"
#include "engine/direct/window.h"

namespace edgeward::direct {
namespace {

constexpr uint32_t kPixels = 3, kChannels = 4;
constexpr uint32_t kCells = 25, kMostChannels = 256;  // of what is computed by kPixels at once

// Sums of kChannels channels of one pixel or of kPixels: `taps` point at the channels of each cell of their windows, in turn.
template <uint32_t pixels>
EDGEWARD_INLINE inline void sums_of(const int8_t* const* taps, uint32_t cells, const int8_t* weights, uint32_t channels,
                                    uint32_t channel, const int32_t* bias, uint32_t* sums) {
  uint32_t a0 = bias[channel], a1 = bias[channel + 1], a2 = bias[channel + 2], a3 = bias[channel + 3];
  uint32_t b0 = a0, b1 = a1, b2 = a2, b3 = a3, c0 = a0, c1 = a1, c2 = a2, c3 = a3;
  const int8_t* w = weights + channel;
  for (const int8_t* const* const end = taps + pixels * cells; taps != end; taps += pixels, w += channels) {
    const int32_t w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
    const int8_t* const a = taps[0] + channel;
    a0 += w0 * a[0], a1 += w1 * a[1], a2 += w2 * a[2], a3 += w3 * a[3];
    computed(a0, a1, a2, a3);
    if (pixels == 1) continue;
    const int8_t *const b = taps[1] + channel, *const c = taps[2] + channel;
    b0 += w0 * b[0], b1 += w1 * b[1], b2 += w2 * b[2], b3 += w3 * b[3];
    computed(b0, b1, b2, b3);
    c0 += w0 * c[0], c1 += w1 * c[1], c2 += w2 * c[2], c3 += w3 * c[3];
    computed(c0, c1, c2, c3);
  }
  if (pixels == 1) {
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
    return;
  }
  sums[0] = a0, sums[1] = b0, sums[2] = c0, sums[3] = a1, sums[4] = b1, sums[5] = c1;
  sums[6] = a2, sums[7] = b2, sums[8] = c2, sums[9] = a3, sums[10] = b3, sums[11] = c3;
}

class Depthwise {
 public:
  Depthwise(const Program& program, const Record& op)
      : op_(op),
        rescale_(program, op),
        range_(op),
        windows_(program, op),
        weights_(reinterpret_cast<const int8_t*>(program.tflite + op.weights)),
        channels_(op.out.channels),
        cells_(op.kernel_height * op.kernel_width),
        per_input_(channels_ / op.in.channels) {}

  void run(int8_t* out) {
    const bool by_taps = per_input_ == 1 && cells_ <= kPixels * kCells;
    const bool tiles = by_taps && cells_ <= kCells && channels_ <= kMostChannels;
    const uint32_t in_tiles = tiles ? op_.out.height * op_.out.width / kPixels * kPixels : 0;
    if (by_taps) windows_.pad();
    uint32_t pixel = 0;
    for (uint32_t y = 0; y < op_.out.height; ++y) {
      for (uint32_t x = 0; x < op_.out.width; ++x, ++pixel) {
        if (pixel >= in_tiles) {
          if (by_taps) {
            windows_.find<1>(y, x, taps_);
            tile<1>(out);
          } else {
            single(windows_.get(y, x, false), out);
          }
          out += channels_;
          continue;
        }
        windows_.find<kPixels>(y, x, taps_ + pixel % kPixels);
        if (pixel % kPixels + 1 < kPixels) continue;
        tile<kPixels>(held_);
        copy_bytes(held_, kPixels * channels_, out);  // only now: an output may lie where a window of these pixels does
        out += kPixels * channels_;
      }
    }
  }

 private:
  template <uint32_t pixels>
  void tile(int8_t* out) {
    uint32_t channel = 0;
    for (; channel + kChannels <= channels_; channel += kChannels) {
      uint32_t sums[kChannels * pixels];
      sums_of<pixels>(taps_, cells_, weights_, channels_, channel, rescale_.bias, sums);
      store_tile<kChannels, pixels>(rescale_, channel, sums, range_, out + channel, channels_);
    }
    for (; channel < channels_; ++channel) {
      for (uint32_t pixel = 0; pixel < pixels; ++pixel) {
        uint32_t sum = rescale_.bias[channel];
        for (uint32_t cell = 0; cell < cells_; ++cell) {
          sum += static_cast<int32_t>(taps_[cell * pixels + pixel][channel]) * weights_[cell * channels_ + channel];
        }
        out[pixel * channels_ + channel] = in_range(rescale_.of(channel).of(static_cast<int32_t>(sum)), range_);
      }
    }
  }

  void single(const Window& window, int8_t* out) const {
    for (uint32_t channel = 0; channel < channels_; ++channel) {
      uint32_t sum = rescale_.bias[channel];
      const int8_t* w = weights_ + channel;
      const int8_t* row = window.base + channel / per_input_;
      for (uint32_t ky = 0; ky < op_.kernel_height; ++ky, row += window.row_stride) {
        const int8_t* v = row;
        for (uint32_t kx = 0; kx < op_.kernel_width; ++kx, v += window.tap_stride, w += channels_) {
          sum += static_cast<int32_t>(*v) * *w;
        }
      }
      out[channel] = in_range(rescale_.of(channel).of(static_cast<int32_t>(sum)), range_);
    }
  }

  const Record& op_;
  const Rescale rescale_;
  const Range range_;
  Windows windows_;
  const int8_t* const weights_;
  const uint32_t channels_, cells_, per_input_;  // the last: the depth multiplier
  const int8_t* taps_[kPixels * kCells];
  alignas(4) int8_t held_[kPixels * kMostChannels];
};

}  // namespace

void depthwise(const Program& program, const Record& op) { Depthwise(program, op).run(at(program, op.output)); }

const char* check_depthwise(const Checker& plan, const Record& op) {
  return op.out.channels % op.in.channels == 0 ? check_convolution(plan, op, 1) : "channels do not fit";
}

}  // namespace edgeward::direct
