// A fuzzer guided by coverage, of whatever is run with an input. For one program, built with -fsanitize-coverage=trace-pc.
#pragma once

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

extern "C" void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint32_t kMapBytes = 1 << 16;
constexpr size_t kLongestInput = 4000;

uint8_t g_hits[kMapBytes];
uint8_t g_known[kMapBytes];  // for every edge, the count classes seen
uintptr_t g_last = 0;

Bytes g_current;
std::string g_keep;

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

void write_file(const std::string& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void keep_crash() {
  if (!g_keep.empty()) write_file(g_keep + "/crash.bin", g_current);
}

}  // namespace

extern "C" __attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc() {
  const auto here = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  const uintptr_t spread = here ^ (here >> 16);
  ++g_hits[(spread ^ (g_last << 1)) % kMapBytes];
  g_last = spread;
}

namespace {

// Whether the input reached code, or a count of it, that none before had reached.
bool reaches_new(const Bytes& input, void (*run)(const Bytes&)) {
  g_current = input;
  std::memset(g_hits, 0, sizeof g_hits);
  g_last = 0;
  run(input);
  bool news = false;
  for (uint32_t i = 0; i < kMapBytes; ++i) {
    if (g_hits[i] == 0) continue;
    const int hits = g_hits[i];
    const auto count_class = static_cast<uint8_t>(hits >= 128 ? 128 : hits >= 16 ? 16 : hits >= 4 ? 4 : 1);
    news |= (g_known[i] & count_class) == 0;
    g_known[i] |= count_class;
  }
  return news;
}

uint32_t g_random = 1;

uint32_t random_below(size_t n) {
  g_random ^= g_random << 13;
  g_random ^= g_random >> 17;
  g_random ^= g_random << 5;
  return n == 0 ? 0 : g_random % static_cast<uint32_t>(n);
}

Bytes::iterator place(Bytes* bytes, size_t at) { return bytes->begin() + static_cast<std::ptrdiff_t>(at); }

Bytes mutate(const std::vector<Bytes>& corpus) {
  Bytes out = corpus[random_below(corpus.size())];
  for (uint32_t rounds = 1 + random_below(6); rounds > 0; --rounds) {
    const size_t at = random_below(out.size() + 1);
    switch (random_below(7)) {
      case 0:
        if (at < out.size()) out[at] ^= static_cast<uint8_t>(1u << random_below(8));
        break;
      case 1: {
        constexpr uint8_t kEdges[] = {0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF, '0', '9', ' ', '%', '\n'};
        if (at < out.size()) out[at] = kEdges[random_below(sizeof kEdges)];
        break;
      }
      case 2:
        out.insert(place(&out, at), static_cast<uint8_t>(random_below(256)));
        break;
      case 3:
        out.erase(place(&out, at), place(&out, std::min(out.size(), at + 1 + random_below(16))));
        break;
      case 4: {  // a part of another input
        const Bytes& other = corpus[random_below(corpus.size())];
        const size_t from = random_below(other.size());
        const size_t to = std::min(other.size(), from + random_below(300));
        out.insert(place(&out, at), other.data() + from, other.data() + to);
        break;
      }
      case 5: {  // the whole of another input behind it
        const Bytes& other = corpus[random_below(corpus.size())];
        out.insert(out.end(), other.begin(), other.end());
        break;
      }
      default:
        for (size_t i = at; i < std::min(out.size(), at + 4); ++i) out[i] = static_cast<uint8_t>(random_below(256));
    }
  }
  if (out.size() > kLongestInput) out.resize(kLongestInput);
  return out;
}

// The corpus of `folder`, then mutations of it for so long. Inputs that reach new code go to `keep`, with 0 seconds those of the
// corpus that add something to the smaller ones; the one that ends the program to `crash.bin` there. stdout: inputs run, and kept.
int fuzz(const char* folder, int seconds, uint32_t seed, const char* keep, void (*run)(const Bytes&)) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  g_random = seed | 1;
  g_keep = keep;
  __sanitizer_set_death_callback(keep_crash);
  std::signal(SIGABRT, [](int) { keep_crash(); });  // of a broken promise, which no sanitizer sees
  std::vector<Bytes> corpus = {Bytes{}};
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) paths.push_back(entry.path());
  const auto order = [](const auto& path) { return std::make_pair(std::filesystem::file_size(path), path); };
  std::sort(paths.begin(), paths.end(), [&](const auto& a, const auto& b) { return order(a) < order(b); });
  for (const auto& path : paths) corpus.push_back(read_file(path));
  unsigned long runs = 0;
  unsigned kept = 0;
  for (const Bytes& input : corpus) {
    const bool news = reaches_new(input, run);
    ++runs;
    if (!news || seconds > 0 || g_keep.empty()) continue;
    char name[32];
    std::snprintf(name, sizeof name, "/input-%04u", kept++);
    write_file(g_keep + name, input);
  }
  while (std::chrono::steady_clock::now() < end) {
    const Bytes input = mutate(corpus);
    ++runs;
    if (!reaches_new(input, run)) continue;
    corpus.push_back(input);
    char name[32];
    std::snprintf(name, sizeof name, "/kept-%05u", kept++);
    if (!g_keep.empty()) write_file(g_keep + name, input);
  }
  std::printf("%lu %u\n", runs, kept);
  return 0;
}

}  // namespace
