// SPDX-License-Identifier: Apache-2.0
// make_seeds DIRECTORY: writes the first inputs of each target to DIRECTORY/<target>/.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>

#include "muster/checkpoint/gguf.h"
#include "muster/checkpoint/safetensors.h"
#include "muster/checkpoint/test_bytes.h"
#include "muster/core/atomic_file.h"
#include "muster/core/test_directory.h"
#include "muster/evaluate/tasks.h"
#include "muster/model/export.h"
#include "muster/model/testing.h"
#include "muster/routing/activation_plan.h"
#include "muster/routing/statistics.h"
#include "muster/tokenizer/byte_level.h"
#include "muster/tokenizer/pre_tokenizer.h"
#include "muster/tokenizer/tokenizer.h"
#include "tools/make_checkpoint/gguf_output.h"
#include "tools/make_checkpoint/hf_output.h"

namespace {

namespace fs = std::filesystem;
using muster::DType;
using muster::testing_bytes::Bytes;

fs::path folder(const fs::path& root, const char* target) {
    fs::create_directories(root / target);
    return root / target;
}

void seed_gguf(const fs::path& directory) {
    using enum muster::gguf::ValueType;
    muster::write_file(directory / "full", muster::testing_bytes::full_gguf());
    muster::write_file(directory / "empty_v2", Bytes().gguf(0, 0, 2).str());
    Bytes aligned = Bytes().gguf(1, 1).key("general.alignment", u32).put(uint32_t{64});
    aligned.tensor("t", {4}, 26, 64).pad(64).zeros(64 + 16);
    muster::write_file(directory / "aligned", aligned.str());

    muster::GgufWriter writer;
    writer.set_string("general.architecture", "olmoe");
    writer.set_u32("olmoe.block_count", 1);
    writer.set_f32("olmoe.rope.freq_base", 10000.0f);
    writer.set_strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "\xe2\x96\x81"});
    writer.set_f32s("tokenizer.ggml.scores", {0.0f, 0.0f, -1.0f});
    writer.set_i32s("tokenizer.ggml.token_type", {2, 3, 1});
    writer.add_tensor("token_embd.weight", DType::bf16, {3, 8}, std::vector<std::byte>(48));
    writer.add_tensor("blk.0.ffn_up_exps.weight", DType::q8_0, {2, 1, 32},
                      std::vector<std::byte>(68));
    writer.write(directory / "written");
}

void seed_safetensors(const fs::path& directory) {
    muster::write_file(directory / "full", muster::testing_bytes::full_safetensors());
    muster::write_file(directory / "empty", muster::testing_bytes::safetensors_bytes("{}", 0));
    const std::vector<std::byte> bytes(64);
    muster::write_safetensors(directory / "written",
                              {{"model.norm.weight", {DType::f32, {8}, bytes.data()}},
                               {"lm_head.weight", {DType::bf16, {2, 8}, bytes.data()}}},
                              {{"format", "pt"}});
}

/// Of every byte and two merges.
std::string tokenizer_json(const std::string& pre_tokenizer, const std::string& more) {
    std::string vocab;
    for (int b = 0; b < 256; ++b) {
        std::string piece = muster::byte_level_piece(std::string(1, static_cast<char>(b)));
        if (piece == "\"" || piece == "\\") piece.insert(0, "\\");
        vocab += "\"" + piece + "\":" + std::to_string(b) + ",";
    }
    return R"({"added_tokens":[{"id":258,"content":"<end>","special":true,"rstrip":true},)"
           R"({"id":259,"content":"<tool>","special":false,"single_word":true}],)" +
           more + R"("pre_tokenizer":)" + pre_tokenizer + R"(,"model":{"type":"BPE","vocab":{)" +
           vocab + R"("He":256,"ll":257},"merges":["H e",["l","l"]]}})";
}

const std::string kByteLevel = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
const std::string kSequence =
    R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)"
    R"({"type":"Split","pattern":{"Regex":"\\s?\\p{L}+"},"behavior":"Isolated","invert":false},)" +
    kByteLevel + "]}";

void seed_tokenizer_json(const fs::path& directory) {
    const std::string nfc = R"("normalizer":{"type":"NFC"},"post_processor":{"type":)"
                            R"("TemplateProcessing","single":[{"SpecialToken":{"id":"<end>"}},)"
                            R"({"Sequence":{"id":"A"}}]},)";
    muster::write_file(directory / "byte_level", tokenizer_json(kByteLevel, ""));
    const std::string config = R"({"add_bos_token":true,"bos_token":{"content":"<end>"},)"
                               R"("chat_template":[{"name":"default","template":"{{ x }}"}]})";
    muster::write_file(directory / "directory",
                       tokenizer_json(kSequence, nfc) + std::string(1, '\0') + config);
    muster::write_file(
        directory / "scores",
        R"({"normalizer":{"type":"Replace","pattern":{"String":" "},"content":"\u2581"},)"
        R"("pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","split":false},"model":)"
        R"({"type":"BPE","unk_token":"<unk>","vocab":{"<unk>":0,"l":1,"ll":2},"merges":["l l"]}})");
}

muster::Vocabulary scored_vocabulary() {
    muster::Vocabulary v;
    v.pieces = {"<unk>", "<s>", "l", "ll", "\xe2\x96\x81"};
    v.scores = {0, 0, -2, -1, -3};
    using enum muster::TokenType;
    v.types = {unknown, control, normal, normal, user_defined};
    v.unk = 0;
    v.bos = 1;
    return v;
}

void seed_gguf_vocabulary(const fs::path& directory) {
    const std::string bytes = tokenizer_json(kSequence, "");
    const muster::Vocabulary own = muster::read_tokenizer_json(bytes, "seed");
    muster::GgufWriter writer;
    muster::write_vocabulary(own, writer);
    writer.write(directory / "byte_level");
    muster::GgufWriter second;
    muster::write_vocabulary(scored_vocabulary(), second);
    second.write(directory / "scores");
}

void seed_split_regex(const fs::path& directory) {
    const std::string text = std::string(1, '\0') + "I'LL pay 12345 \xe5\xa4\xa9 e\xcc\x81\r\n  x";
    for (const char* name : {"gpt-2", "llama-bpe", "gpt-4o", "deepseek-v3", "exaone-moe"}) {
        const auto rules = muster::rules_of(*muster::named_split(name));
        muster::write_file(directory / name, rules.back().pattern + text);
    }
    muster::write_file(directory / "look",
                       R"((?=(\d{3})+(?!\d))|(?i:[[:alpha:]]++)|\h|^\A)" + text);
}

void seed_chat_template(const fs::path& directory) {
    muster::write_file(
        directory / "messages",
        "{{- bos_token }}{% for m in messages -%}\n{% if loop.first and m['role'] == 'system' %}"
        "{{ m.content | trim | upper }}{% elif m.content is string %}[{{ m.content[1:-1] }}]"
        "{% else %}{{ m | tojson(indent=2) }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ strftime_now('%Y') }}{% endif %}");
    muster::write_file(
        directory / "macro",
        "{% macro f(a, b=2) %}{{ a ~ b }}{{ caller is defined }}{% endmacro %}{% set ns = "
        "namespace(n=0) %}{% for k, v in {'a': 1}.items() %}{% set ns.n = ns.n + v %}{% endfor %}"
        "{{ f(ns.n) }}{{ range(3) | map('string') | join(',') }}{{ '%s' | format(1) }}"
        "{% set t %}x{% endset %}{% filter upper %}{{ t }}{% endfilter %}{% raw %}{{{% endraw %}"
        "{{ raise_exception('no') if false else messages | selectattr('role', 'eq', 'user') | "
        "list | length }}" +
            std::string(1, '\0') + R"([{"role":"user","content":"x"}])");
    // Long strings, and what reads them: mutations reach what the steps should bound.
    muster::write_file(
        directory / "long",
        "{% set s = 'ab' * 999 %}{% set d = {s: s} %}{% for i in range(9) %}{{ s in d }}"
        "{{ d[s] == s }}{{ s < s ~ i }}{{ ('b' * 99 ~ 'c') in s }}{{ s.rfind('c' ~ 'a' * 99) }}"
        "{{ s.count('b') }}{{ s.split('ba', 2) | length }}{{ s.rsplit('ab') | last }}"
        "{{ s.replace('a', '', 3) | wordcount }}{{ s.strip('ab') }}{{ s | trim | length }}"
        "{{ s.startswith(s) }}{{ s.splitlines() | unique | list | length }}{{ s[::-2] | first }}"
        "{{ '%.1s{:.1}' % s }}{{ '{!r:.1}'.format([s]) }}{{ [s, s] | sort | tojson(sort_keys=1) "
        "| truncate(9) }}{{ s is upper }}{{ d | dictsort | map('first') | list == [s] }}"
        "{% endfor %}");
}

/// A safetensors file of f32 tensors, all zero.
std::string zero_tensors(const std::vector<std::pair<std::string, std::vector<int64_t>>>& shapes) {
    std::string header;
    size_t at = 0;
    for (const auto& [name, shape] : shapes) {
        size_t bytes = 4;
        std::string dims;
        for (const int64_t d : shape) {
            bytes *= static_cast<size_t>(d);
            dims += (dims.empty() ? "" : ",") + std::to_string(d);
        }
        header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":"F32","shape":[)" + dims +
                  R"(],"data_offsets":[)" + std::to_string(at) + "," + std::to_string(at + bytes) +
                  "]}";
        at += bytes;
    }
    return muster::testing_bytes::safetensors_bytes(header + "}", at);
}

/// Of one layer with two experts, `names` being those of its norms, router, and experts' products.
std::string small_model(const std::string& moe, const std::vector<std::string>& products) {
    const std::string layer = "model.layers.0.";
    std::vector<std::pair<std::string, std::vector<int64_t>>> all{
        {"model.embed_tokens.weight", {6, 8}},
        {"model.norm.weight", {8}},
        {"lm_head.weight", {6, 8}},
        {layer + "input_layernorm.weight", {8}},
        {layer + "post_attention_layernorm.weight", {8}},
        {layer + moe + ".gate.weight", {2, 8}}};
    for (const char* part : {"q", "k", "v", "o"})
        all.push_back({layer + "self_attn." + part + "_proj.weight", {8, 8}});
    for (const char* e : {".experts.0.", ".experts.1."}) {
        for (size_t p = 0; p < products.size(); ++p) {
            const std::vector<int64_t> shape =
                p == 2 ? std::vector<int64_t>{8, 12} : std::vector<int64_t>{12, 8};
            all.push_back({layer + moe + e + products[p] + ".weight", shape});
        }
    }
    return zero_tensors(all);
}

std::string hf_config(const std::string& name, const std::string& more) {
    return R"({"architectures":[")" + name +
           R"("],"vocab_size":6,"hidden_size":8,)"
           R"("intermediate_size":12,"num_attention_heads":2,"num_hidden_layers":1,)"
           R"("num_key_value_heads":2,"max_position_embeddings":64,"rms_norm_eps":1e-5)" +
           more + "}";
}

void seed_hf_directory(const fs::path& directory) {
    const std::string none(1, '\0');
    const std::string mixtral = small_model("block_sparse_moe", {"w1", "w3", "w2"});
    const std::string olmoe = small_model("mlp", {"gate_proj", "up_proj", "down_proj"});
    const std::string two = R"(,"num_local_experts":2,"num_experts":2,"num_experts_per_tok":1)";
    muster::write_file(directory / "mixtral",
                       hf_config("MixtralForCausalLM", two) + none + none + mixtral);
    muster::write_file(directory / "index",
                       hf_config("MixtralForCausalLM", two) + none +
                           R"({"metadata":{},"weight_map":{"lm_head.weight":"a.safetensors"}})" +
                           none + mixtral);
    const std::string moe = two +
                            R"(,"moe_intermediate_size":12,"n_routed_experts":2,)"
                            R"("n_shared_experts":1,"kv_lora_rank":4,"q_lora_rank":null,)"
                            R"("qk_nope_head_dim":4,"qk_rope_head_dim":2,"v_head_dim":4,)"
                            R"("shared_expert_intermediate_size":12,"head_dim":4,)"
                            R"("norm_topk_prob":true,"first_k_dense_replace":0,)"
                            R"("scoring_func":"sigmoid","topk_method":"noaux_tc","n_group":1,)"
                            R"("topk_group":1,"routed_scaling_factor":2.5,)"
                            R"("sliding_window":8,"embedding_multiplier":1,)"
                            R"("residual_multiplier":1,"attention_multiplier":1,)"
                            R"("logits_scaling":1,"shared_intermediate_size":12,)"
                            R"("rope_scaling":{"rope_type":"yarn","factor":4,)"
                            R"("original_max_position_embeddings":16,"beta_fast":32})";
    for (const char* name :
         {"OlmoeForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "LlamaForCausalLM",
          "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "GptOssForCausalLM",
          "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"})
        muster::write_file(directory / name, hf_config(name, moe) + none + none + olmoe);
}

/// The model of a preset in its smallest shape; `width` of everything that is quantised.
muster::checkpoints::CheckpointSpec smallest(const std::string& preset, int width) {
    auto s = muster::checkpoints::preset(preset);
    s.layers = 1 + s.dense_layers;
    s.d_model = width;
    s.kv_heads = s.kv_heads == s.heads ? 2 : 1;
    s.heads = 2;
    s.head_dim = width / 2;
    s.vocab = 5;
    s.context = 64;
    s.window = std::min(s.window, 8);
    s.experts = std::min(s.experts, 4);
    s.used = std::min(s.used, 2);
    s.groups = std::min(s.groups, 2);
    s.groups_used = 1;
    for (int* w : {&s.expert_width, &s.shared_width, &s.dense_width}) *w = std::min(*w, width);
    s.shared_experts = std::min(s.shared_experts, 1);
    auto& a = s.latent;
    a = {std::min(a.query_rank, 4), std::min(a.kv_rank, 4), s.head_dim - 2, 2, 4, a.split};
    s.clear_routes = false;
    muster::checkpoints::check(s);
    return s;
}

/// What the target model makes a Hugging Face directory of.
void write_huggingface(const muster::checkpoints::CheckpointSpec& spec,
                       const muster::checkpoints::HfOptions& options, const fs::path& path) {
    const muster::TemporaryDirectory files;
    muster::checkpoints::write_hf(spec, scored_vocabulary(), options, files.path());
    const std::string none(1, '\0');
    muster::write_file(path, muster::read_file(files / "config.json") + none + none +
                                 muster::read_file(files / "model.safetensors"));
}

/// The same shape with the experts' gate and up in one tensor, all zero.
void write_fused(const fs::path& from, const fs::path& to) {
    const muster::GgufFile apart(from);
    muster::GgufWriter writer;
    for (const auto& [key, value] : apart.metadata()) writer.copy(apart, key);
    for (const auto& [name, tensor] : apart.tensors()) {
        if (name.find("ffn_up_exps") != std::string::npos) continue;
        const size_t at = name.find("ffn_gate_exps");
        if (at == std::string::npos) {
            writer.add_tensor(name, tensor);
            continue;
        }
        std::vector<int64_t> shape = tensor.shape;
        shape[1] *= 2;
        writer.add_tensor(std::string(name).replace(at, 13, "ffn_gate_up_exps"), tensor.dtype,
                          shape, std::vector<std::byte>(2 * static_cast<size_t>(tensor.bytes())));
    }
    writer.write(to);
}

void seed_model(const fs::path& directory) {
    using namespace muster::checkpoints;
    for (const std::string& name : preset_names()) {
        if (!name.starts_with("tiny-")) continue;
        const CheckpointSpec spec = smallest(name, 8);
        write_gguf(spec, scored_vocabulary(), {parse_file_type("bf16")}, directory / name);
        write_huggingface(spec, {DType::bf16}, directory / (name + "-hf"));
    }
    for (const char* name : {"tiny-gpt-oss", "tiny-qwen3moe"})
        write_fused(directory / name, directory / (name + std::string("-fused")));
    CheckpointSpec blocks = smallest("tiny-gpt-oss", 32);
    blocks.experts = 2;
    write_gguf(blocks, scored_vocabulary(), {parse_file_type("q8_0")}, directory / "blocks");
    write_huggingface(blocks, {DType::bf16, true}, directory / "blocks-hf");

    muster::testing::Checkpoint own;
    own.vocabulary = scored_vocabulary();
    own.config = muster::testing::tiny_muster();
    own.config.vocab = own.vocabulary.size();
    own.config.d_model = 8;
    own.config.heads = 2;
    own.config.kv_heads = 1;
    own.config.head_dim = 4;
    own.config.policy = muster::RoutingPolicy::parse("mean:1.5,max=3");
    own.config.mean_experts = {1, 2, 1.5};
    for (auto& layer : own.config.layers)
        for (int& width : layer.widths) width = std::min(width / 4, 4);
    own.tensors = muster::testing::random_checkpoint(own.config).tensors;
    const muster::TemporaryDirectory files;
    own.write(files.path());
    muster::export_gguf(files.path(), directory / "tiny-muster", DType::bf16);
    fs::copy_file(files / "config.json", directory / "tiny-muster-config",
                  fs::copy_options::overwrite_existing);
}

void seed_routing_files(const fs::path& directory) {
    muster::ActivationPlan plan;
    plan.experts_per_token = 2;
    for (const int budget : {3, 0, 1}) {
        muster::LayerEvidence& layer = plan.layers.emplace_back();
        layer.budget = budget;
        layer.experts.assign(budget > 0 ? 4 : 0, {{0.5, 0.25, 1}, 9, 2.5, true});
    }
    muster::write_plan(directory / "plan", plan);
    plan.clusters.push_back({1,
                             {{1, 0, 0, 0}, {}, {0, 1, 0, 0}},
                             {{1, 2, 3, 4}, {}, {0, 0, 0, 0}},
                             {{1, 0, 0, 1}, {}, {0, 0, 0, 0}}});
    muster::write_plan(directory / "clusters", plan);
    muster::write_file(directory / "statistics", muster::to_json(muster::RoutingStatistics{}));
    for (const char* policy :
         {"top-k:8/8/6", "top-p:0.6,max=8,ban=0.17", "mean:2.5,weight=scale:2,shared=off",
          "plan:a/b.json,use=layers,lambda=0.2", "speed:20", "random:2,score=relu,force=1.2"})
        muster::write_file(directory / std::string(policy).substr(0, 4), policy);
}

/// A byte each for the task and the file type in front.
void seed_task_files(const fs::path& directory) {
    const auto tasks = muster::tasks();
    const auto seed = [&](std::string_view task, char type, std::string_view text) {
        for (size_t t = 0; t < tasks.size(); ++t) {
            if (tasks[t].name != task) continue;
            const std::string name = std::string(task) + "-" + std::to_string(int{type});
            muster::write_file(directory / name,
                               std::string{static_cast<char>(t), type} + std::string(text));
        }
    };
    constexpr char kJson = 0, kLines = 1, kCsv = 2, kText = 3;
    seed("truthfulqa-mc1", kJson, R"([{"question":"q","mc1_targets":{"a":1,"b":0}}])");
    seed("truthfulqa-mc2", kCsv,
         "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers\n"
         "A,B,\"Who, me?\",x,x; y,z; w\n");
    seed("factor", kCsv, "full_prefix,completion,contradiction_0\nA b,c,d\n");
    seed("hellaswag", kLines,
         R"({"activity_label":"a","ctx_a":"b [x]","ctx_b":"c","label":1,"endings":["d","e"]})");
    seed(
        "arc", kLines,
        R"({"question":{"stem":"q","choices":[{"text":"a","label":"A"},{"text":"b","label":"B"}]},)"
        R"("answerKey":"A"})");
    seed("arc", kCsv, "question,AnswerKey\n\"What? (A) b (B) c\",A\n");
    seed("piqa", kLines,
         std::string_view("{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\"}\n\0"
                          "1\n",
                          39));
    seed("triviaqa", kJson,
         R"({"Data":[{"Question":"q?","QuestionId":"1","Answer":{"Aliases":["a"],"Value":"A"}}]})");
    seed("cloze", kLines, R"({"context":"a b","target":"c","id":"1","domain":"d"})");
    seed("cloze", kText, "a b c\nd e f\n");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: make_seeds DIRECTORY\n");
        return 2;
    }
    try {
        seed_gguf(folder(argv[1], "fuzz_gguf"));
        seed_safetensors(folder(argv[1], "fuzz_safetensors"));
        seed_tokenizer_json(folder(argv[1], "fuzz_tokenizer_json"));
        seed_gguf_vocabulary(folder(argv[1], "fuzz_gguf_vocabulary"));
        seed_split_regex(folder(argv[1], "fuzz_split_regex"));
        seed_chat_template(folder(argv[1], "fuzz_chat_template"));
        seed_hf_directory(folder(argv[1], "fuzz_hf_directory"));
        seed_model(folder(argv[1], "fuzz_model"));
        seed_routing_files(folder(argv[1], "fuzz_routing_files"));
        seed_task_files(folder(argv[1], "fuzz_task_files"));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "make_seeds: %s\n", error.what());
        return 1;
    }
    return 0;
}
