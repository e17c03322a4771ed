// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "muster/core/progress.h"
#include "muster/train/config.h"
#include "muster/train/documents.h"

namespace muster::train {

struct PreparedData {
    std::unique_ptr<TokenFile> train, test;
};

/// Fills the run's directory with tokenizer.model, train.tokens, test.tokens and data.json, which
/// says what they were made of. Files of an earlier start are reused where data.json holds the same
/// settings, names and sizes; otherwise they are made anew, or with `resume` refused, since a run
/// cannot go on with other data. Without test files a share of the training files' pieces of about
/// 8 KB is held out, the same in every run. Throws Error.
PreparedData prepare_data(const TrainConfig& config, bool resume, const Progress& progress);

}  // namespace muster::train
