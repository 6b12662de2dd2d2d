// The memory the core uses, all of it static. Nothing is allocated after start.
#pragma once

#include <cstdint>

namespace edgeward {

// One sample or one frame of a model update, decoded. 96 x 96 x 3 int8 (MLPerf Tiny's largest input) is 27,648 bytes.
constexpr uint32_t kSampleBytes = 32 * 1024;

// A frame is its type and id, then at most a sample, then its CRC.
constexpr uint32_t kFrameHeadBytes = 5;
constexpr uint32_t kFrameTailBytes = 2;
constexpr uint32_t kFrameBytes = kFrameHeadBytes + kSampleBytes + kFrameTailBytes;

// Longest text command. The MLPerf Tiny runner sends up to 80 characters.
constexpr uint32_t kLineBytes = 160;

// Bytes read from the serial port at a time.
constexpr uint32_t kReadBytes = 128;

// A record up to this length goes out in one piece; a longer one (many outputs) in several.
constexpr uint32_t kRecordBytes = 768;

// Outputs of the last inference, kept for the runner's `results`.
constexpr uint32_t kOutputBytes = 1024;

// Latencies from 1 us to 2^kLatencyOctaves us, kLatencySteps buckets to each doubling.
constexpr uint32_t kLatencyOctaves = 28;
constexpr uint32_t kLatencySteps = 16;

// Longest window of a stream, one byte a value.
constexpr uint32_t kStreamBytes = 4096;

// Values of a recording that leave in one record: with its other fields it goes out in one piece.
constexpr uint32_t kRecordingValues = 96;

// A record on the network with its check value; longer ones do not leave. And a message from there: a chunk of an update and its head.
constexpr uint32_t kUplinkBytes = 1536;
constexpr uint32_t kMessageBytes = 2064;

// Histograms of the input against the training data: channels that get their own, and bins of each.
constexpr uint32_t kDriftGroups = 32;
constexpr uint32_t kDriftBins = 16;

// What leaves over the network about answers and inputs is about so many at least: fewer would say what one was.
constexpr uint32_t kTogether = 32;

// Classes that are counted each, and operators that are timed each.
constexpr uint32_t kCountedClasses = 32;
constexpr uint32_t kTimedOperators = 64;

// Output layers over one body.
constexpr uint32_t kMaxHeads = 64;

// Windows whose probabilities are averaged.
constexpr uint32_t kMostAveraged = 16;

constexpr uint32_t kCoreBudgetBytes = kFrameBytes + kLineBytes + kReadBytes + kRecordBytes + kOutputBytes +
                                      4 * kLatencyOctaves * kLatencySteps + 4 * kDriftGroups * kDriftBins +
                                      24 * kTimedOperators + kStreamBytes + 2 * kRecordingValues + kUplinkBytes + kMessageBytes +
                                      kMostAveraged * kCountedClasses + 4096 + 1024 + 512;

}  // namespace edgeward
