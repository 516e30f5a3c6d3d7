// The stopwatch that pingpong and verbs_pingpong share, so that both measure and print the same thing.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <vector>

class RoundTrips {
  using Clock = std::chrono::steady_clock;

 public:
  // Measures `rounds` round trips, after as many unmeasured ones as fit into `warmup_ms`.
  RoundTrips(size_t rounds, long warmup_ms) : warm_(Clock::now() + std::chrono::milliseconds(warmup_ms)) {
    samples_.reserve(std::max<size_t>(rounds, 1));
  }

  bool complete() const { return samples_.size() == samples_.capacity(); }

  void begin() { begun_ = Clock::now(); }

  void end() {
    const auto now = Clock::now();
    if (begun_ < warm_)
      ++warmup_rounds_;
    else
      samples_.push_back(std::chrono::duration<double, std::micro>(now - begun_).count());
  }

  void print(size_t bytes) {
    const size_t n = samples_.size();
    const double mean = std::accumulate(samples_.begin(), samples_.end(), 0.0) / static_cast<double>(n);
    std::sort(samples_.begin(), samples_.end());
    std::printf(
        "{\"bytes\":%zu,\"rounds\":%zu,\"warmup_rounds\":%zu,\"median_us\":%.2f,\"mean_us\":%.2f,\"p99_us\":%"
        ".2f}\n",
        bytes, n, warmup_rounds_, samples_[n / 2], mean, samples_[n * 99 / 100]);
  }

 private:
  Clock::time_point warm_, begun_;
  size_t warmup_rounds_ = 0;
  std::vector<double> samples_;
};
