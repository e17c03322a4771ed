// SPDX-License-Identifier: Apache-2.0
#include "muster/train/config.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <cmath>
#include <numbers>
#include <set>
#include <sstream>

#include "muster/core/atomic_file.h"
#include "muster/core/error.h"

namespace muster::train {
namespace {

/// Reads one table's keys and remembers which were asked for, so that unknown ones can be named.
class Table {
  public:
    Table(const toml::table& root, std::string_view name, std::string file)
        : name_(name), file_(std::move(file)) {
        const toml::node* node = root.get(name);
        if (node == nullptr) return;
        table_ = node->as_table();
        if (table_ == nullptr)
            throw Error(file_, fmt::format("'{}' is no table, expected [{}]", name, name));
    }
    ~Table() noexcept(false) {
        if (std::uncaught_exceptions() > 0 || table_ == nullptr) return;
        for (const auto& [key, value] : *table_) {
            if (!known_.contains(std::string(key.str()))) {
                throw Error(file_, fmt::format("unknown key '{}' in [{}], known are: {}", key.str(),
                                               name_, fmt::join(known_, ", ")));
            }
        }
    }
    Table(const Table&) = delete;
    Table& operator=(const Table&) = delete;

    template <typename T>
    void read(std::string_view key, T& out) {
        const toml::node* node = find(key);
        if (node == nullptr) return;
        if constexpr (std::is_same_v<T, bool>) {
            out = value<bool>(*node, key, "true or false");
        } else if constexpr (std::is_integral_v<T>) {
            const int64_t v = value<int64_t>(*node, key, "an integer");
            if (!std::in_range<T>(v)) fail(key, "an integer in range");
            out = static_cast<T>(v);
        } else if constexpr (std::is_floating_point_v<T>) {
            const double v = value<double>(*node, key, "a number");
            if (!std::isfinite(v)) fail(key, "a finite number");
            out = static_cast<T>(v);
        } else {
            out = value<std::string>(*node, key, "a text");
        }
    }
    template <typename T>
    void read_list(std::string_view key, std::vector<T>& out) {
        const toml::node* node = find(key);
        if (node == nullptr) return;
        const toml::array* array = node->as_array();
        if (array == nullptr) fail(key, "a list");
        out.clear();
        for (const toml::node& item : *array) {
            if constexpr (std::is_same_v<T, int>) {
                const int64_t v = value<int64_t>(item, key, "a list of integers");
                if (!std::in_range<int>(v)) fail(key, "integers in range");
                out.push_back(static_cast<int>(v));
            } else {
                out.emplace_back(value<std::string>(item, key, "a list of texts"));
            }
        }
    }
    bool has(std::string_view key) { return find(key) != nullptr; }
    [[noreturn]] void fail(std::string_view key, std::string_view expected) const {
        throw Error(file_,
                    fmt::format("bad value for '{}' in [{}], expected {}", key, name_, expected));
    }

  private:
    const toml::node* find(std::string_view key) {
        known_.emplace(key);
        return table_ == nullptr ? nullptr : table_->get(key);
    }
    template <typename T>
    T value(const toml::node& node, std::string_view key, std::string_view expected) const {
        const auto v = node.value<T>();
        if (!v) fail(key, expected);
        return *v;
    }

    const toml::table* table_ = nullptr;
    std::string name_, file_;
    std::set<std::string> known_;
};

template <typename E>
using Name = std::pair<std::string_view, E>;

template <typename E, size_t N>
E choice(Table& table, std::string_view key, E now, const Name<E> (&names)[N]) {
    std::string text;
    std::string known;
    for (const auto& [name, value] : names) {
        if (value == now) text = name;
        known += fmt::format("{}'{}'", known.empty() ? "" : ", ", name);
    }
    table.read(key, text);
    for (const auto& [name, value] : names) {
        if (name == text) return value;
    }
    table.fail(key, "one of " + known);
}

constexpr Name<QkNorm> kQkNorms[] = {
    {"none", QkNorm::none}, {"per-head", QkNorm::per_head}, {"full", QkNorm::full}};
constexpr Name<Schedule> kSchedules[] = {{"cosine", Schedule::cosine}, {"wsd", Schedule::wsd}};
constexpr Name<Compute> kComputes[] = {{"f32", Compute::f32}, {"bf16", Compute::bf16}};

template <typename E, size_t N>
std::string_view name_of(E value, const Name<E> (&names)[N]) {
    for (const auto& [name, v] : names) {
        if (v == value) return name;
    }
    return "";
}

/// What the feed-forward layers are made of.
struct Layers {
    int count = 6, experts = 16, width = 128, shared = 0, every = 1, dense_width = 512;
    std::vector<int> widths;  ///< of the experts; empty: all `width`
};

void read_layers(Table& t, Layers& l) {
    t.read("layers", l.count);
    t.read("experts", l.experts);
    t.read("expert_width", l.width);
    t.read_list("expert_widths", l.widths);
    t.read("shared_width", l.shared);
    t.read("moe_every", l.every);
    t.read("dense_width", l.dense_width);
    if (l.count < 1 || l.count > 1024) t.fail("layers", "1 to 1024");
    if (l.experts < 1 || l.experts > 65536) t.fail("experts", "1 to 65536");
    if (l.every < 1 || l.every > l.count) t.fail("moe_every", "1 to the number of layers");
    if (!l.widths.empty() && t.has("experts") && static_cast<int>(l.widths.size()) != l.experts)
        t.fail("expert_widths", fmt::format("one width for each of the {} experts", l.experts));
}

std::vector<FeedForwardConfig> feed_forward(Layers l) {
    if (l.widths.empty()) l.widths.assign(static_cast<size_t>(l.experts), l.width);
    std::vector<FeedForwardConfig> all;
    for (int i = 0; i < l.count; ++i) {
        FeedForwardConfig ff;
        const bool moe = i % l.every == l.every - 1;
        ff.widths = moe ? l.widths : std::vector<int>{l.dense_width};
        ff.shared_width = moe ? l.shared : 0;
        ff.router.num_experts = ff.experts();
        ff.router.value = std::min(2, ff.experts());
        all.push_back(ff);
    }
    return all;
}

void read_model(const toml::table& root, const std::string& file, TrainConfig& config) {
    ModelConfig& m = config.model;
    m.d_model = 256, m.heads = 4, m.context = 512, m.tied_head = true;
    Layers layers;
    std::string activation = "silu";
    {
        Table t(root, "model", file);
        t.read("name", m.name);
        t.read("d_model", m.d_model);
        t.read("heads", m.heads);
        m.kv_heads = m.heads;
        t.read("kv_heads", m.kv_heads);
        m.head_dim = m.heads > 0 ? m.d_model / m.heads : 0;
        t.read("head_dim", m.head_dim);
        t.read("context", m.context);
        t.read("rope_theta", m.rope_theta);
        t.read("norm_eps", m.norm_eps);
        m.qk_norm = choice(t, "qk_norm", m.qk_norm, kQkNorms);
        t.read("tied_head", m.tied_head);
        t.read("gated", m.gated);
        t.read("activation", activation);
        m.activation = parse_activation(activation);
        if (!differentiable(m.activation)) t.fail("activation", "relu, gelu or silu");
        read_layers(t, layers);
    }
    std::string policy = "top-p:0.4";
    Table r(root, "routing", file);
    r.read("policy", policy);
    m.policy = RoutingPolicy::parse(policy);
    m.layers = feed_forward(std::move(layers));
}

void read_data(const toml::table& root, const std::string& file, TrainConfig::Data& data) {
    Table t(root, "data", file);
    std::vector<std::string> train, test;
    std::string tokenizer;
    t.read_list("train", train);
    t.read_list("test", test);
    t.read("held_out", data.held_out);
    t.read("tokenizer", tokenizer);
    t.read("vocabulary_size", data.vocabulary_size);
    t.read("vocabulary_sample", data.vocabulary_sample);
    data.train.assign(train.begin(), train.end());
    data.test.assign(test.begin(), test.end());
    data.tokenizer = tokenizer;
}

void read_training(const toml::table& root, const std::string& file, TrainConfig::Training& c) {
    Table t(root, "training", file);
    t.read("tokens", c.tokens);
    t.read("batch_tokens", c.batch_tokens);
    t.read("accumulate", c.accumulate);
    t.read("lr", c.lr);
    t.read("min_lr", c.min_lr);
    t.read("warmup", c.warmup);
    c.schedule = choice(t, "schedule", c.schedule, kSchedules);
    t.read("decay_share", c.decay_share);
    t.read("weight_decay", c.weight_decay);
    t.read("beta1", c.beta1);
    t.read("beta2", c.beta2);
    t.read("eps", c.eps);
    t.read("clip", c.clip);
    c.dtype = choice(t, "dtype", c.dtype, kComputes);
    t.read("seed", c.seed);
    t.read("threads", c.threads);
}

void read_output(const toml::table& root, const std::string& file, TrainConfig::Output& c) {
    Table t(root, "output", file);
    std::string directory = c.directory.string();
    t.read("directory", directory);
    c.directory = directory;
    t.read("log_every", c.log_every);
    t.read("eval_every", c.eval_every);
    t.read("eval_tokens", c.eval_tokens);
    t.read("checkpoint_every", c.checkpoint_every);
    t.read("keep", c.keep);
}

void expect(bool holds, std::string_view key, std::string_view expected) {
    if (!holds)
        throw Error("config", fmt::format("bad value for '{}', expected {}", key, expected));
}

void check(const TrainConfig::Data& d) {
    expect(!d.train.empty(), "data.train", "at least one text file");
    expect(d.held_out > 0 && d.held_out < 0.5, "data.held_out", "a share between 0 and 0.5");
    // 256 byte tokens, three control tokens and some room for pieces.
    expect(d.vocabulary_size >= 300 && d.vocabulary_size <= 65536, "data.vocabulary_size",
           "300 to 65536");
    expect(d.vocabulary_sample >= 1000, "data.vocabulary_sample", "at least 1000 bytes");
}

void check(const TrainConfig::Training& t, int64_t context) {
    expect(t.tokens > 0 && t.tokens <= int64_t{1} << 50, "training.tokens", "1 to 2^50");
    expect(t.accumulate >= 1, "training.accumulate", "at least 1");
    expect(t.batch_tokens > 0 && t.batch_tokens % (t.accumulate * context) == 0,
           "training.batch_tokens",
           fmt::format("a multiple of accumulate * context = {}", t.accumulate * context));
    expect(t.lr > 0 && t.lr < 1, "training.lr", "a number between 0 and 1");
    expect(t.min_lr >= 0 && t.min_lr <= t.lr, "training.min_lr", "0 to lr");
    expect(t.warmup >= 0, "training.warmup", "0 or more steps");
    expect(t.decay_share > 0 && t.decay_share <= 1, "training.decay_share",
           "a share above 0, at most 1");
    expect(t.weight_decay >= 0 && t.weight_decay < 1, "training.weight_decay", "0 up to 1");
    expect(t.beta1 >= 0 && t.beta1 < 1, "training.beta1", "0 up to 1");
    expect(t.beta2 >= 0 && t.beta2 < 1, "training.beta2", "0 up to 1");
    expect(t.eps > 0, "training.eps", "a positive number");
    expect(t.clip >= 0, "training.clip", "0 (none) or a positive norm");
    expect(t.threads >= 0 && t.threads <= 1024, "training.threads", "0 (all cores) to 1024");
}

void check(const TrainConfig::Output& o, int64_t context) {
    expect(!o.directory.empty(), "output.directory", "a directory");
    expect(o.log_every >= 1, "output.log_every", "at least 1 step");
    expect(o.eval_every >= 0 && o.checkpoint_every >= 0, "output.eval_every and checkpoint_every",
           "0 or more steps");
    expect(o.eval_tokens >= context, "output.eval_tokens", "at least the model's context");
    expect(o.keep >= 1, "output.keep", "at least 1");
}

toml::table to_table(const ModelConfig& m) {
    size_t first_moe = 0;
    while (first_moe + 1 < m.layers.size() && m.layers[first_moe].dense()) ++first_moe;
    const FeedForwardConfig& moe = m.layers[first_moe];
    toml::array widths;
    for (const int w : moe.widths) widths.push_back(w);
    return toml::table{{"name", m.name},
                       {"d_model", m.d_model},
                       {"layers", m.num_layers()},
                       {"heads", m.heads},
                       {"kv_heads", m.kv_heads},
                       {"head_dim", m.head_dim},
                       {"context", m.context},
                       {"rope_theta", m.rope_theta},
                       {"norm_eps", m.norm_eps},
                       {"qk_norm", name_of(m.qk_norm, kQkNorms)},
                       {"tied_head", m.tied_head},
                       {"gated", m.gated},
                       {"activation", activation_name(m.activation)},
                       {"expert_widths", widths},
                       {"shared_width", moe.shared_width},
                       {"moe_every", static_cast<int64_t>(first_moe + 1)},
                       {"dense_width", m.layers[0].dense() ? m.layers[0].widths[0] : 512}};
}

toml::table to_table(const TrainConfig::Data& d) {
    const auto strings = [](const std::vector<std::filesystem::path>& paths) {
        toml::array a;
        for (const auto& p : paths) a.push_back(p.string());
        return a;
    };
    return toml::table{{"train", strings(d.train)},
                       {"test", strings(d.test)},
                       {"held_out", d.held_out},
                       {"tokenizer", d.tokenizer.string()},
                       {"vocabulary_size", d.vocabulary_size},
                       {"vocabulary_sample", d.vocabulary_sample}};
}

toml::table to_table(const TrainConfig::Training& t) {
    return toml::table{{"tokens", t.tokens},
                       {"batch_tokens", t.batch_tokens},
                       {"accumulate", t.accumulate},
                       {"lr", t.lr},
                       {"min_lr", t.min_lr},
                       {"warmup", t.warmup},
                       {"schedule", name_of(t.schedule, kSchedules)},
                       {"decay_share", t.decay_share},
                       {"weight_decay", t.weight_decay},
                       {"beta1", t.beta1},
                       {"beta2", t.beta2},
                       {"eps", t.eps},
                       {"clip", t.clip},
                       {"dtype", name_of(t.dtype, kComputes)},
                       {"seed", static_cast<int64_t>(t.seed)},
                       {"threads", t.threads}};
}

toml::table to_table(const TrainConfig::Output& o) {
    return toml::table{{"directory", o.directory.string()},
                       {"log_every", o.log_every},
                       {"eval_every", o.eval_every},
                       {"eval_tokens", o.eval_tokens},
                       {"checkpoint_every", o.checkpoint_every},
                       {"keep", o.keep}};
}

}  // namespace

TrainConfig parse_config(std::string_view text, std::string_view name) {
    const std::string file(name);
    toml::table root;
    try {
        root = toml::parse(text, file);
    } catch (const toml::parse_error& e) {
        throw Error(fmt::format("{}:{}", file, e.source().begin.line),
                    fmt::format("is no valid TOML: {}", e.description()));
    }
    const std::set<std::string> tables{"model", "routing", "loss", "data", "training", "output"};
    for (const auto& [key, value] : root) {
        if (!tables.contains(std::string(key.str()))) {
            throw Error(file, fmt::format("unknown table or key '{}', known are: {}", key.str(),
                                          fmt::join(tables, ", ")));
        }
    }
    TrainConfig config;
    config.losses = {.balance = 0.01f, .importance = 0, .z = 0.001f, .entropy = 1e-4f};
    read_model(root, file, config);
    read_data(root, file, config.data);
    config.model.vocab = config.data.vocabulary_size;
    {
        Table t(root, "loss", file);
        t.read("balance", config.losses.balance);
        t.read("importance", config.losses.importance);
        t.read("z", config.losses.z);
        t.read("entropy", config.losses.entropy);
    }
    read_training(root, file, config.training);
    read_output(root, file, config.output);
    return config;
}

TrainConfig read_config(const std::filesystem::path& path) {
    return parse_config(read_file(path, 1 << 20), path.string());
}

void TrainConfig::check() const {
    model.check();
    train::check(data);
    train::check(training, model.context);
    for (const float weight : {losses.balance, losses.importance, losses.z, losses.entropy})
        expect(weight >= 0 && weight < 1000, "loss", "coefficients of at least 0");
    train::check(output, model.context);
    for (int l = 0; l < model.num_layers(); ++l) {
        const FeedForwardConfig& ff = model.layers[static_cast<size_t>(l)];
        if (ff.dense()) continue;
        const Selection selection =
            resolve(model.policy, ff.router, l, model.num_layers()).spec.selection;
        expect(
            selection != Selection::threshold && selection != Selection::hash, "routing.policy",
            "a selection that needs no learned thresholds or hash table, which training does not "
            "make");
    }
}

double learning_rate(const TrainConfig& config, int64_t step) {
    const TrainConfig::Training& t = config.training;
    const int64_t steps = config.steps();
    if (step < t.warmup)
        return t.lr * static_cast<double>(step + 1) / static_cast<double>(t.warmup);
    const auto progress = [&](int64_t first) {
        return std::min(1.0, static_cast<double>(step - first) /
                                 static_cast<double>(std::max<int64_t>(1, steps - first)));
    };
    if (t.schedule == Schedule::cosine) {
        return t.min_lr +
               (t.lr - t.min_lr) * 0.5 * (1 + std::cos(std::numbers::pi * progress(t.warmup)));
    }
    const auto decay = static_cast<int64_t>(static_cast<double>(steps) * (1 - t.decay_share));
    if (step < decay) return t.lr;
    return t.lr + (t.min_lr - t.lr) * progress(decay);
}

std::string to_toml(const TrainConfig& c) {
    const toml::table root{{"model", to_table(c.model)},
                           {"routing", toml::table{{"policy", c.model.policy.to_string()}}},
                           {"loss", toml::table{{"balance", c.losses.balance},
                                                {"importance", c.losses.importance},
                                                {"z", c.losses.z},
                                                {"entropy", c.losses.entropy}}},
                           {"data", to_table(c.data)},
                           {"training", to_table(c.training)},
                           {"output", to_table(c.output)}};
    std::ostringstream out;
    out << root << '\n';
    return out.str();
}

}  // namespace muster::train
