// SPDX-License-Identifier: Apache-2.0
#include "tools/make_checkpoint/spec.h"

#include <fmt/format.h>

#include <array>

#include "muster/core/error.h"

namespace muster::checkpoints {

std::string_view architecture(Family family) noexcept {
    constexpr std::array<std::string_view, 7> kNames{"olmoe",     "qwen2moe", "qwen3moe",  "llama",
                                                     "deepseek2", "gpt-oss",  "granitemoe"};
    return kNames[static_cast<size_t>(family)];
}

void check(const CheckpointSpec& s) {
    const auto require = [](bool holds, const char* what) {
        if (!holds) throw Error("checkpoint", fmt::format("{} is expected", what));
    };
    require(s.layers > 0 && s.d_model > 0 && s.vocab > 0 && s.context > 0,
            "a positive number of layers, width, vocabulary and context");
    require(s.heads > 0 && s.kv_heads > 0 && s.head_dim > 0 && s.heads % s.kv_heads == 0,
            "a positive number of heads that the number of key/value heads divides");
    require(s.family != Family::olmoe || s.head_dim * s.heads == s.d_model,
            "olmoe: heads of d_model / heads values");
    const bool latent = s.latent.kv_rank > 0;
    require(latent == (s.family == Family::deepseek2), "latent attention with deepseek2 only");
    require(
        !latent || (s.latent.nope_dim > 0 && s.latent.rope_dim > 0 && s.latent.rope_dim % 2 == 0 &&
                    s.latent.value_dim > 0 && s.head_dim == s.latent.nope_dim + s.latent.rope_dim),
        "latent attention: heads of nope_dim + rope_dim values");
    require(s.experts == 0 || (s.used > 0 && s.used <= s.experts && s.expert_width > 0),
            "from one expert per token to all of them, of a positive width");
    require(s.experts > 0 || s.family == Family::llama, "experts, in every family but llama");
    require((s.experts > 0 && s.dense_layers == 0) || s.dense_width > 0,
            "a positive width of dense layers");
    require(s.groups > 0 && s.groups_used > 0 && s.groups_used <= s.groups &&
                (s.experts == 0 || s.experts % s.groups == 0),
            "groups of equally many experts");
    require(!s.clear_routes || s.experts <= s.d_model / 4,
            "clear routes: at most a quarter of d_model experts");
}

}  // namespace muster::checkpoints
