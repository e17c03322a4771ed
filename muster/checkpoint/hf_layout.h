// SPDX-License-Identifier: Apache-2.0
// How tensors under Hugging Face's names and tensors under GGUF's names are made from each other.
// Every function gives both directions of one correspondence. Internal to checkpoint/.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

/// A tensor that others are made from.
struct GatherSource {
    std::string name;
    std::vector<int64_t> shape;
};

/// Where a run of values lies: value i at element offset + i * stride of `source`.
struct RunPlace {
    int source = 0;
    int64_t offset = 0;
    int64_t stride = 1;
};

/// A tensor made of others: its values, row-major, come in runs of `run`, each from one source.
struct Gather {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<GatherSource> sources;
    int64_t run = 0;
    std::function<RunPlace(int64_t run)> place;
    /// The tensor consists of this many parts of equal size of which each lies whole in a source,
    /// beginning where its first run does; 0: runs lie apart.
    int64_t parts = 0;
};

/// Both directions: GGUF's tensors made of Hugging Face's, and the other way round.
struct Correspondence {
    std::vector<Gather> gguf, hf;
    /// GGUF's are f32 whatever the checkpoint's format is: vectors, biases, routers.
    bool f32 = false;
    /// Hugging Face's are MXFP4 as gpt-oss publishes it: NAME_blocks and NAME_scales (U8).
    bool mxfp4 = false;
};

namespace hf_layout {

/// One tensor, whose shapes may differ in dimensions of 1.
Correspondence same(const std::string& hf, const std::string& gguf,
                    const std::vector<int64_t>& shape, std::vector<int64_t> hf_shape = {});
/// A query or key projection [rows, cols] (cols 0: its bias [rows]) of a model whose rotary pairs
/// are (i, i + half) here and (2 i, 2 i + 1) there: row i of a head moves to 2 (i mod half) +
/// i / half.
Correspondence permuted(const std::string& hf, const std::string& gguf, int64_t rows, int64_t cols,
                        int64_t heads);
/// [experts, rows, cols] there, one tensor [rows, cols] for each expert here; `{}` in the name.
Correspondence experts(std::string_view hf, const std::string& gguf, int64_t experts, int64_t rows,
                       int64_t cols);
/// Gate and up [experts, width, cols] (experts 0: [width, cols]) there, [experts, 2 width, cols]
/// here: first the gate's rows.
Correspondence halves(const std::string& hf, const std::string& gate, const std::string& up,
                      int64_t experts, int64_t width, int64_t cols);
/// The same, rows of gate and up taking turns: gpt-oss in MXFP4.
Correspondence alternating(const std::string& hf, const std::string& gate, const std::string& up,
                           int64_t experts, int64_t width, int64_t cols);
/// The same, transposed: [experts, cols, 2 width] here.
Correspondence alternating_transposed(const std::string& hf, const std::string& gate,
                                      const std::string& up, int64_t experts, int64_t width,
                                      int64_t cols);
/// Biases of gate and up [experts, width] there, [experts, 2 width] taking turns here.
Correspondence alternating_bias(const std::string& hf, const std::string& gate,
                                const std::string& up, int64_t experts, int64_t width);
/// [experts, rows, cols] there, [experts, cols, rows] here.
Correspondence transposed(const std::string& hf, const std::string& gguf, int64_t experts,
                          int64_t rows, int64_t cols);
/// Multi-head latent attention: kv_b_proj [heads (nope + value), rank] here; there attn_k_b
/// [heads, rank, nope], each head transposed, and attn_v_b [heads, value, rank].
Correspondence latent(const std::string& hf, const std::string& k, const std::string& v,
                      int64_t heads, int64_t nope, int64_t value, int64_t rank);

}  // namespace hf_layout

}  // namespace muster
