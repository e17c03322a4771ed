// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "muster/cli/batch_input.h"
#include "muster/cli/chat_prompt.h"
#include "muster/cli/json_text.h"
#include "muster/core/error.h"
#include "muster/generate/scheduler.h"

namespace muster::cli {

/// What requests that do not say otherwise are answered by.
struct BatchDefaults {
    RoutingPolicy policy;
    SamplerOptions sampler;  ///< its seed is that of line 0: line n has n more
    int max_tokens = -1;
    bool ignore_end = false;
};

/// A line that can be answered.
struct BatchRequest {
    int64_t line = 0;  ///< from 1
    ordered_json id;   ///< a string or a number; null: none
    Request request;
};

/// Reads requests, one JSON object a line (keys: docs/cli.md#batch); empty lines are skipped. Model
/// and chat prompt outlive it. Not thread-safe.
class BatchReader {
  public:
    /// `name` of the input, for messages.
    BatchReader(BatchInput in, std::string name, const Model& model, const ChatPrompt& chat,
                BatchDefaults defaults)
        : in_(std::move(in)),
          name_(std::move(name)),
          model_(model),
          chat_(chat),
          defaults_(std::move(defaults)) {}

    /// Takes the next line that is not empty, waiting for about `milliseconds` where the input can
    /// keep its reader waiting. Throws Error when the input cannot be read.
    BatchInput::Got read(int milliseconds);
    /// The request of the line that read() took, once. Throws Error when it is none (see
    /// message()).
    BatchRequest request();

    /// Of the last line read, as far as it could be understood.
    int64_t line() const noexcept { return line_; }
    const ordered_json& id() const noexcept { return id_; }
    /// "requests.jsonl:3", as errors of the last line name it.
    std::string where() const { return name_ + ":" + std::to_string(line_); }
    /// The message of any error about the last line, as one that names it.
    std::string message(const Error& error) const;

  private:
    BatchInput in_;
    std::string name_;
    const Model& model_;
    const ChatPrompt& chat_;
    BatchDefaults defaults_;
    std::string text_;
    int64_t line_ = 0;
    ordered_json id_;
};

}  // namespace muster::cli
