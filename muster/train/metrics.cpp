// SPDX-License-Identifier: Apache-2.0
#include "muster/train/metrics.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster::train {
namespace {

// CRC-32C, reflected polynomial 0x82f63b78, one byte at a time: a few kilobytes an hour pass
// through it.
constexpr std::array<uint32_t, 256> kCrcTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
        table[i] = crc;
    }
    return table;
}();

double now() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// Protocol Buffers wire format: key = field << 3 | type; type 0 varint, 1 fixed64, 2
// length-delimited, 5 fixed32.
void varint(std::string& out, uint64_t v) {
    for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
    out += static_cast<char>(v);
}
template <typename T>
void fixed(std::string& out, int field, T v) {
    varint(out, static_cast<uint64_t>(field << 3 | (sizeof(T) == 8 ? 1 : 5)));
    out.append(reinterpret_cast<const char*>(&v), sizeof(v));
}
void bytes(std::string& out, int field, std::string_view v) {
    varint(out, static_cast<uint64_t>(field << 3 | 2));
    varint(out, v.size());
    out += v;
}

// tensorflow.Event: wall_time = 1 (double), step = 2 (int64), file_version = 3 (string), summary =
// 5 (Summary).
std::string event(double wall_time, int64_t step) {
    std::string out;
    fixed(out, 1, wall_time);
    varint(out, 2 << 3);
    varint(out, static_cast<uint64_t>(step));
    return out;
}

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open(const std::filesystem::path& path, const char* mode) {
    File file(std::fopen(path.c_str(), mode), &std::fclose);
    if (!file) throw Error(path.string(), std::string("cannot open: ") + std::strerror(errno));
    return file;
}

/// Drops what a stopped run wrote after its last checkpoint; the resumed run writes those steps
/// again.
void cut_after(const std::filesystem::path& path, int64_t last_step) {
    if (!std::filesystem::exists(path)) return;
    std::istringstream in(read_file(path));
    std::string kept, line;
    while (std::getline(in, line)) {
        const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
        if (json.is_object() && json.value("step", int64_t{-1}) <= last_step) kept += line + '\n';
    }
    write_file(path, kept);
}

}  // namespace

uint32_t masked_crc32c(std::string_view data) {
    uint32_t crc = ~0u;
    for (const unsigned char byte : data) crc = (crc >> 8) ^ kCrcTable[(crc ^ byte) & 0xff];
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

EventFile::EventFile(const std::filesystem::path& directory)
    : file_(open(directory / fmt::format("events.out.tfevents.{:.0f}.muster", now()), "ab")) {
    std::string version = event(now(), 0);
    bytes(version, 3, "brain.Event:2");
    record(version);
}

void EventFile::record(std::string_view payload) {
    const uint64_t length = payload.size();
    std::string out(reinterpret_cast<const char*>(&length), sizeof(length));
    const auto append_crc = [&](std::string_view part) {
        const uint32_t crc = masked_crc32c(part);
        out.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
    };
    append_crc(out);
    out += payload;
    append_crc(payload);
    std::fwrite(out.data(), 1, out.size(), file_.get());
    std::fflush(file_.get());
}

void EventFile::scalars(int64_t step, double wall_time,
                        const std::map<std::string, double>& values) {
    std::string summary;
    for (const auto& [tag, value] : values) {
        if (!std::isfinite(value)) continue;
        std::string entry;  // Summary.Value: tag = 1, simple_value = 2 (float)
        bytes(entry, 1, tag);
        fixed(entry, 2, static_cast<float>(value));
        bytes(summary, 1, entry);
    }
    std::string out = event(wall_time, step);
    bytes(out, 5, summary);
    record(out);
}

Metrics::Metrics(const std::filesystem::path& directory, int64_t last_step)
    : lines_(nullptr, &std::fclose), events_(directory) {
    cut_after(directory / "metrics.jsonl", last_step);
    lines_ = open(directory / "metrics.jsonl", "ab");
}

void Metrics::write(std::string_view kind, int64_t step,
                    const std::map<std::string, double>& values) {
    nlohmann::ordered_json json{{"kind", kind}, {"step", step}, {"time", now()}};
    std::map<std::string, double> tagged;
    for (const auto& [key, value] : values) {
        json[key] = value;
        tagged[fmt::format("{}/{}", kind, key)] = value;
    }
    const std::string line = json.dump() + '\n';
    std::fwrite(line.data(), 1, line.size(), lines_.get());
    std::fflush(lines_.get());
    events_.scalars(step, now(), tagged);
}

}  // namespace muster::train
