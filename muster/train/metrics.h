// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace muster::train {

/// TensorBoard event file: TFRecords (u64 length, masked CRC-32C of it, payload, masked CRC-32C of
/// that) of tensorflow.Event messages with simple_value summaries. Appends are flushed at once.
class EventFile {
  public:
    /// Creates `directory`/events.out.tfevents.<seconds>.muster. Throws Error.
    explicit EventFile(const std::filesystem::path& directory);
    void scalars(int64_t step, double wall_time, const std::map<std::string, double>& values);

  private:
    void record(std::string_view payload);
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

/// CRC-32C (Castagnoli), and TensorFlow's mask of it: rotate right by 15 and add 0xa282ead8.
uint32_t masked_crc32c(std::string_view data);

/// Writes each report to metrics.jsonl and a TensorBoard event file in `directory`.
class Metrics {
  public:
    /// Resuming cuts lines of metrics.jsonl with a step above `last_step`. Throws Error.
    Metrics(const std::filesystem::path& directory, int64_t last_step);
    /// `kind` is "train" or "eval"; values are finite or are left out of the event file (null in
    /// JSON).
    void write(std::string_view kind, int64_t step, const std::map<std::string, double>& values);

  private:
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> lines_;
    EventFile events_;
};

}  // namespace muster::train
