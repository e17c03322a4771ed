// SPDX-License-Identifier: Apache-2.0
// Fills the commands' option structs. Only options*.cpp and option_kinds.h include CLI11.
#include "muster/cli/options.h"

#include <algorithm>

#include "muster/cli/option_kinds.h"
#include "muster/evaluate/tasks.h"

namespace muster::cli {
namespace {

// Words of an option's type name that completion understands: alternatives with | are choices, and
// these are paths.
bool names_path(const std::string& type) {
    return type.find("FILE") != std::string::npos || type.find("DIR") != std::string::npos ||
           type.find("MODEL") != std::string::npos;
}

/// CLI11's help without its remarks on types, needs and conflicts: the descriptions say it better.
class Formatter : public CLI::Formatter {
  public:
    Formatter() {
        column_width(30);
        label("SUBCOMMAND", "COMMAND");
        label("SUBCOMMANDS", "COMMANDS");
        label("Subcommands", "Commands");
    }
    std::string make_option_opts(const CLI::Option* option) const override {
        const bool value = option->get_items_expected_max() > 0 && !option->get_positional();
        return value ? " " + option->get_type_name() : "";
    }
};

void sampler_options(CLI::App* c, SamplerOptions& sampler) {
    c->add_option("-t,--temperature", sampler.temperature, "0: always the likeliest token (0.8)")
        ->type_name("X");
    whole(c, "--top-k", sampler.top_k, 0, INT32_MAX, "Only the k likeliest tokens, 0: all (40)");
    c->add_option("--top-p", sampler.top_p, "Only the likeliest tokens up to mass p (0.95)")
        ->type_name("X");
    c->add_option("--min-p", sampler.min_p,
                  "Only tokens of p times the likeliest's probability (0.05)")
        ->type_name("X");
}

/// Of commands that write text: the policy, how its experts are shown, and how much is held.
template <typename Options>
void writing_options(CLI::App* c, Options& o) {
    c->add_option("--routing", o.routing, "model, top-k:2, top-p:0.5, mean:3 ... (docs/routing.md)")
        ->type_name("POLICY");
    choices(c->add_option("--color", o.color, "Colour each token by its experts"),
            {"experts", "none"});
    whole(c, "--ctx", o.context, 1, INT32_MAX, "Most tokens held (the model's context)");
}

CLI::App* add_run(CLI::App& app, RunOptions& o) {
    auto* c = app.add_subcommand("run", "Continue a text");
    model_options(c, o.model);
    engine_options(c, o.engine, "int8");
    text_options(c, o.text);
    writing_options(c, o);
    whole(c, "-n,--tokens", o.tokens, 0, INT32_MAX, "Most tokens written (until the context ends)");
    sampler_options(c, o.sampler);
    seed_option(c, o.seed, "Of the random choices (a new one each time)");
    c->add_flag("--ignore-end", o.ignore_end, "Go on when the model ends its text");
    c->add_flag("--echo", o.echo, "Write the prompt before its continuation");
    c->add_flag("-q,--quiet", o.quiet, "No statistics");
    stats_option(c, o.stats);
    output_file(c, "--prompt-cache", o.prompt_cache,
                "Read when it exists, written for the next run");
    json_flag(c, o.json);
    c->footer(
        "Examples:\n"
        "  muster run default -p \"Once upon a time\" --color experts\n"
        "  muster run model.gguf -f letter.txt --routing top-k:2 -n 200 --seed 1\n"
        "  echo \"def main():\" | muster run model.gguf --temperature 0 --json");
    return c;
}

CLI::App* add_chat(CLI::App& app, ChatOptions& o) {
    auto* c = app.add_subcommand("chat", "Talk with a model");
    model_options(c, o.model);
    engine_options(c, o.engine, "int8");
    c->add_option("--system", o.system, "The system message");
    c->add_option("--chat-template", o.chat_template, "A Jinja template instead of the model's")
        ->type_name("FILE");
    writing_options(c, o);
    whole(c, "-n,--tokens", o.tokens, 1, INT32_MAX, "Most tokens of an answer (until it ends)");
    sampler_options(c, o.sampler);
    seed_option(c, o.seed, "Of the random choices (a new one each time)");
    stats_option(c, o.stats);
    c->add_flag("-q,--quiet", o.quiet, "No statistics");
    c->footer(
        "In the conversation, /help shows the commands; Ctrl-C ends an answer, Ctrl-D the "
        "conversation.\n"
        "Examples:\n"
        "  muster chat model.gguf --system \"Answer briefly.\"\n"
        "  muster chat model.gguf --routing top-k:4 --color experts\n"
        "  echo \"What is a gate?\" | muster chat model.gguf -q");
    return c;
}

/// Of `eval`, for published evaluation data and for the exit lens.
void task_options(CLI::App* c, EvalOptions& o) {
    std::vector<std::string> names;
    for (const Task& task : tasks()) names.emplace_back(task.name);
    auto* task = c->add_option("--task", o.task, "FILE is evaluation data in its published form");
    choices(task, names);
    whole(c, "--items", o.items, 1, INT64_MAX, "Of a task: stop after so many (all)")->needs(task);
    auto* file = c->add_option("--shots-file", o.shots_file, "Of a task: where solved items are")
                     ->type_name("FILE")
                     ->needs(task);
    auto* shots = whole(c, "--shots", o.shots, 1, 1000, "Solved items before each (0)");
    shots->needs(file);
    file->needs(shots);
    output_file(c, "--records", o.records, "Of a task: write every item's scores, one JSON a line")
        ->needs(task);
    auto* lens = c->add_flag("--exit-lens", o.exit_lens,
                             "From which layer on tokens are decided, and the experts after it");
    lens->excludes(task);
    for (const char* other : {"--by-file", "--stride", "--tokens", "--chart", "--stats"})
        task->excludes(c->get_option(other));
    for (const char* other : {"--by-file", "--chart", "--stats"})
        lens->excludes(c->get_option(other));
}

CLI::App* add_batch(CLI::App& app, BatchOptions& o) {
    auto* c = app.add_subcommand("batch", "Answer a file of requests, each under its own policy");
    model_options(c, o.model);
    engine_options(c, o.engine, "int8");
    c->add_option("REQUESTS", o.requests, "One JSON object a line (-: standard input)")
        ->required()
        ->type_name("FILE");
    output_file(c, "-o,--output", o.output, "Write the answers to a file, as a whole");
    c->add_option("--routing", o.routing, "Of requests that name none (model)")
        ->type_name("POLICY");
    c->add_option("--plan", o.plans, "A plan that requests may name as plan:FILE; may repeat")
        ->type_name("FILE")
        ->allow_extra_args(false);
    c->add_option("--chat-template", o.chat_template, "A Jinja template instead of the model's")
        ->type_name("FILE");
    whole(c, "--sequences", o.sequences, 1, 4096, "Requests worked on at once (8)");
    whole(c, "--ctx", o.context, 1, INT32_MAX, "Most tokens of each (the model's context)");
    whole(c, "-n,--tokens", o.tokens, 0, INT32_MAX, "Most tokens of an answer (until it ends)");
    sampler_options(c, o.sampler);
    seed_option(c, o.seed, "Of the random choices (a new one each time)");
    c->add_flag("--ignore-end", o.ignore_end, "Go on when the model ends its text");
    stats_option(c, o.stats);
    c->add_flag("-q,--quiet", o.quiet, "No statistics");
    c->footer(
        "A request: {\"id\": 7, \"prompt\": \"Once\", \"routing\": \"mean:3\", \"max_tokens\": "
        "50}\n"
        "Examples:\n"
        "  muster batch default requests.jsonl -o answers.jsonl\n"
        "  muster batch model.gguf - --sequences 16 < requests.jsonl");
    return c;
}

CLI::App* add_eval(CLI::App& app, EvalOptions& o) {
    auto* c = app.add_subcommand("eval", "Score texts or published tasks under routing policies");
    model_options(c, o.model);
    engine_options(c, o.engine, "int8 below 8-bit weights, else f32");
    c->add_option("FILE", o.files, "Text files, or .jsonl with \"text\" and \"domain\"")
        ->required()
        ->type_name("FILE");
    routing_option(c, o.routing);
    c->add_flag("--by-file", o.by_file, "Label text files by their names");
    whole(c, "--window", o.window, 2, INT32_MAX, "Tokens of a window (the model's context)");
    whole(c, "--stride", o.stride, 1, INT32_MAX, "How far windows advance (half a window)");
    whole(c, "--tokens", o.tokens, 1, INT64_MAX, "Stop after so many tokens (all)");
    c->add_option("--confidence", o.confidence, "Of the intervals (0.95)")->type_name("X");
    output_file(c, "--chart", o.chart, "Draw the policies, quality against cost (.svg or .html)");
    stats_option(c, o.stats);
    task_options(c, o);
    json_flag(c, o.json);
    c->footer(
        "Differences are to the first policy, paired text by text or item by item.\n"
        "Examples:\n"
        "  muster eval default book.txt\n"
        "  muster eval default test.jsonl --routing model --routing top-k:1 --routing top-p:0.5\n"
        "  muster eval model.gguf a.txt b.txt --by-file --json\n"
        "  muster eval model.gguf hellaswag_val.jsonl --task hellaswag --routing model "
        "--routing top-k:4\n"
        "  muster eval default book.txt --exit-lens\n"
        "  muster eval default book.txt --routing top-k:1 --routing top-k:2 --chart policies.svg");
    return c;
}

CLI::App* add_export(CLI::App& app, ExportOptions& o) {
    auto* c = app.add_subcommand("export", "Turn a training checkpoint into a model file");
    c->add_option("CHECKPOINT", o.checkpoint, "A checkpoint's or a run's directory")
        ->required()
        ->type_name("DIR");
    output_file(c, "-o,--output", o.output, "A .gguf file, or a directory with --format hf")
        ->required();
    choices(c->add_option("--type", o.type, "Format of the weight matrices (f16)"),
            {"f32", "f16", "bf16", "q8_0"});
    choices(c->add_option("--format", o.format, "gguf, or hf for a Hugging Face directory"),
            {"gguf", "hf"});
    json_flag(c, o.json);
    c->footer(
        "Examples:\n  muster export runs/default -o model.gguf --type q8_0\n"
        "  muster export runs/default/checkpoints/step-500 -o model/ --format hf");
    return c;
}

CLI::App* add_convert(CLI::App& app, ConvertOptions& o) {
    auto* c = app.add_subcommand("convert", "Between Hugging Face directories and GGUF files");
    c->add_option("MODEL", o.input, "A directory with config.json, a GGUF file, or default")
        ->required()
        ->type_name("MODEL");
    c->add_option("OUTPUT", o.output, "A .gguf file, or else a new directory")
        ->required()
        ->type_name("FILE");
    choices(
        c->add_option("--type", o.type, "Format of all of a directory's tensors (the file's own)"),
        {"f32", "f16", "bf16"});
    c->add_option("--max-shard-size", o.max_shard_bytes,
                  "Split into files of so many bytes at most (a directory's: 5 GB)")
        ->type_name("SIZE")
        ->transform(CLI::AsSizeValue(false));
    json_flag(c, o.json);
    c->footer(
        "GGUF files keep the weights' format; muster quantize takes directories, too.\n"
        "Examples:\n  muster convert Qwen3-30B-A3B/ model-bf16.gguf\n"
        "  muster convert mixtral.gguf mixtral-hf/ --type f16");
    return c;
}

CLI::App* add_quantize(CLI::App& app, QuantizeOptions& o) {
    auto* c = app.add_subcommand("quantize", "Write a model file in smaller formats");
    c->add_option("MODEL", o.input,
                  "A GGUF file (f32, f16, bf16), a part of a split one, a directory, or default")
        ->required()
        ->type_name("MODEL");
    c->add_option("OUTPUT", o.output, "The GGUF file to write")->required()->type_name("FILE");
    c->add_option("TYPE", o.type, "Q4_K_M, Q8_0, MXFP4_MOE ... (docs/cli.md) (Q4_K_M)")
        ->type_name("TYPE");
    c->add_option("--imatrix", o.importance, "How much each input matters (llama.cpp's imatrix)")
        ->type_name("FILE");
    c->add_flag("--pure", o.pure, "One format for all matrices");
    c->add_flag("--allow-requantize", o.allow_requantize, "Even from quantised weights");
    c->add_flag("--tensors", o.tensors, "List every tensor");
    whole(c, "--threads", o.threads, 1, 1024, "Threads (all that the process may use)");
    json_flag(c, o.json);
    c->footer(
        "Examples:\n  muster quantize model-f16.gguf model-q4.gguf Q4_K_M\n"
        "  muster quantize model-f16.gguf model-iq4.gguf IQ4_XS --imatrix imatrix.gguf");
    return c;
}

CLI::App* add_calibrate(CLI::App& app, CalibrateOptions& o) {
    auto* c = app.add_subcommand("calibrate", "Find which layers and experts a model depends on");
    model_options(c, o.model);
    c->add_option("TEXT", o.files, "Text files, or .jsonl with \"text\"")
        ->required()
        ->type_name("FILE");
    output_file(c, "-o,--output", o.output, "Where the plan goes (JSON)")->required();
    whole(c, "--tokens", o.tokens, 0, INT64_MAX,
          "Windows of text are read until they hold so many (20000; 0: all)");
    whole(c, "--experts", o.experts, 1, 65535, "Of the baseline top-k (the model's own mean)");
    c->add_option("--layers", o.layers, "Layers to measure, such as 0-3,7 (all)")
        ->type_name("LIST");
    c->add_option("--time", o.minutes, "Stop measuring after so many minutes (0: never)")
        ->type_name("MINUTES");
    whole(c, "--max-shift", o.max_shift, 1, 65535,
          "How far a layer's budget may depart from the baseline's (any; by loss 2)");
    choices(c->add_option("--budgets", o.budgets,
                          "What shares out the budgets: the contrast of hard and easy tokens, or "
                          "what other numbers of experts do to the loss (contrast)"),
            {"contrast", "loss"});
    c->add_option("--lambda", o.lambda, "Weight of an expert's impact beside its score (0.1)")
        ->type_name("X");
    choices(c->add_option("--ablation", o.ablation,
                          "What comes in an expert's place: the next by rank, or the others share "
                          "its weight (next)"),
            {"next", "share"});
    choices(c->add_option("--impacts", o.impacts,
                          "An expert's impact over all hard tokens that use it, or where it stands "
                          "at the boundary of selection, against the next (users)"),
            {"users", "boundary"});
    whole(c, "--clusters", o.clusters, 2, 64, "Impacts for so many clusters of contexts (one)");
    whole(c, "--window", o.window, 32, INT32_MAX, "Tokens read together (context, at most 512)");
    whole(c, "--draws", o.draws, 1, 1000, "Perturbations of each layer (8)");
    c->add_option("--noise", o.noise, "Size of a perturbation, relative (0.05)")->type_name("X");
    c->add_option("--hard", o.hard, "Quantile of the loss above which tokens are hard (0.8)")
        ->type_name("X");
    c->add_option("--easy", o.easy, "Quantile below which they are easy (0.2)")->type_name("X");
    whole(c, "--lead", o.lead, 0, INT32_MAX, "Tokens at a window's start that do not count (16)");
    c->add_option("--epsilon", o.epsilon, "Nats beside the easy tokens' in the contrast (1e-6)")
        ->type_name("X");
    c->add_option("--confidence", o.confidence, "Of the intervals (0.95)")->type_name("X");
    auto* routes = whole(c, "--routes", o.routes, 1, 1000,
                         "Draw so many routes a token and layer: is a better one there? (none)");
    whole(c, "--route-tokens", o.route_tokens, 1, INT32_MAX,
          "Of each stratum and window, for which routes are drawn (16)")
        ->needs(routes);
    c->add_option("--route-gain", o.route_gain, "Nats that a better route saves at least (0.01)")
        ->type_name("X")
        ->needs(routes);
    output_file(c, "--state", o.state, "Where to go on from after a stop (OUTPUT.state)");
    seed_option(c, o.seed, "Of the perturbations (1)");
    engine_options(c, o.engine, "int8 below 8-bit weights, else f32");
    json_flag(c, o.json);
    c->footer(
        "The plan is used as --routing plan:FILE, at as many activations as top-k.\n"
        "Examples:\n"
        "  muster calibrate default book.txt -o plan.json\n"
        "  muster calibrate model.gguf facts.jsonl -o plan.json --experts 8 --time 30\n"
        "  muster eval model.gguf test.txt --routing top-k:8 --routing plan:plan.json");
    return c;
}

CLI::App* add_tune(CLI::App& app, TuneCommandOptions& o) {
    auto* c = app.add_subcommand("tune", "Search the cheapest policy within an allowed loss");
    model_options(c, o.model);
    c->add_option("FILE", o.files, "Text files, or .jsonl with \"text\"")
        ->required()
        ->type_name("FILE...");
    c->add_option("--max-perplexity", o.max_perplexity,
                  "How far perplexity may rise above the checkpoint's own policy (+1%)")
        ->type_name("X%");
    output_file(c, "-o,--output", o.output, "Write the evidence (JSON)");
    c->add_flag("--global", o.global_only, "Policies for all layers alike only");
    whole(c, "--tokens", o.tokens, 0, INT64_MAX, "Of either half of the text (20000; 0: all)");
    whole(c, "--window", o.window, 2, INT32_MAX, "Tokens of a window (the model's context)");
    whole(c, "--steps", o.steps, 0, 30, "Halvings of p and t (6)");
    c->add_option("--confidence", o.confidence, "Of the intervals (0.95)")->type_name("X");
    engine_options(c, o.engine, "int8 below 8-bit weights, else f32");
    json_flag(c, o.json);
    c->footer(
        "Half of the text is searched on, the other half confirms.\n"
        "Examples:\n"
        "  muster tune default book.txt --max-perplexity +1%\n"
        "  muster tune model.gguf texts.jsonl -o tuned.json --max-perplexity 0.5%");
    return c;
}

CLI::App* add_imatrix(CLI::App& app, ImatrixOptions& o) {
    auto* c = app.add_subcommand("imatrix", "Measure how much each input of each weight matters");
    model_options(c, o.model);
    c->add_option("TEXT", o.files, "Calibration texts")->required()->type_name("FILE");
    output_file(c, "-o,--output", o.output, "The importance matrix to write (GGUF)")->required();
    c->add_option("--in-file", o.in_files, "An earlier result to add to, may repeat")
        ->type_name("FILE")
        ->take_all()
        ->allow_extra_args(false);
    c->add_option("--routing", o.routing, "model, top-k:2, top-p:0.5, mean:3 ... (docs/routing.md)")
        ->type_name("POLICY");
    whole(c, "--window", o.window, 2, 1 << 20, "Tokens of a chunk (512)");
    whole(c, "--chunks", o.chunks, 1, INT32_MAX, "Stop after so many chunks (all)");
    whole(c, "--from-chunk", o.from_chunk, 0, INT32_MAX, "Leave out so many chunks (0)");
    choices(c->add_option("--compute", o.compute, "How products are computed (f32)"),
            {"f32", "bf16"});
    c->add_flag("--process-output", o.process_head, "Measure the output head, too");
    c->add_flag("--own-only", o.own_only, "Nothing for experts that the text never activates");
    json_flag(c, o.json);
    c->footer(
        "Experts that the text never activates are lent the rows that their router likes best.\n"
        "Examples:\n"
        "  muster imatrix model-f16.gguf calibration.txt -o imatrix.gguf\n"
        "  muster imatrix model-f16.gguf more.txt -o both.gguf --in-file imatrix.gguf\n"
        "  muster quantize model-f16.gguf model-q4.gguf Q4_K_M --imatrix imatrix.gguf");
    return c;
}

/// Only for help and completion: muster-train reads the words itself.
CLI::App* add_train(CLI::App& app, std::vector<std::string>& unused, bool& resume) {
    auto* c = app.add_subcommand("train", "Train a model (needs muster-train)");
    c->add_option("CONFIG", unused, "TOML file; see configs/ and docs/training.md")
        ->type_name("FILE");
    c->add_option("--text", unused, "Text or .jsonl files, instead of the config's")
        ->type_name("FILE");
    c->add_option("--output", unused, "Directory of the run, instead of the config's")
        ->type_name("DIR");
    c->add_flag("--resume", resume, "Go on from the newest checkpoint of the directory");
    c->footer(
        "Examples:\n  muster train configs/default.toml\n"
        "  muster train --text book.txt --output runs/book\n"
        "  muster train configs/default.toml --resume");
    return c;
}

CLI::App* add_demo(CLI::App& app, DemoOptions& o) {
    auto* c = app.add_subcommand("demo", "See experts at work and policies compared");
    c->add_option("--model", o.model.model, "A GGUF file instead of the shipped model")
        ->type_name("MODEL");
    whole(c, "--threads", o.model.threads, 1, 1024, "Threads (all that the process may use)");
    c->add_option("-p,--prompt", o.prompts, "A prompt instead of the usual ones, may repeat")
        ->take_all()
        ->allow_extra_args(false);
    routing_option(c, o.routing);
    whole(c, "-n,--tokens", o.tokens, 1, INT32_MAX, "Tokens written after each prompt (64)");
    choices(c->add_option("--color", o.color, "When to colour tokens (auto: on a terminal)"),
            {"auto", "experts", "none"});
    c->add_option("--atlas", o.atlas, "Where the atlas of experts is written (muster-atlas.html)")
        ->type_name("FILE");
    json_flag(c, o.json);
    c->footer("Examples:\n  muster demo\n  muster demo --model model.gguf --routing top-k:4");
    return c;
}

CLI::App* add_completion(CLI::App& app, CompletionOptions& o) {
    auto* c = app.add_subcommand("completion", "Print a completion script for a shell");
    choices(c->add_option("SHELL", o.shell, "bash, zsh or fish")->required(),
            {"bash", "zsh", "fish"});
    c->footer(
        "Example:\n  muster completion bash > ~/.local/share/bash-completion/completions/muster");
    return c;
}

/// The whole program: the app and the structs that it fills.
struct Program {
    RunOptions run;
    ChatOptions chat;
    BatchOptions batch;
    EvalOptions eval;
    InspectOptions inspect;
    BenchOptions bench;
    TokenizeOptions tokenize;
    ExportOptions export_;
    ConvertOptions convert;
    QuantizeOptions quantize;
    ImatrixOptions imatrix;
    CalibrateOptions calibrate;
    TuneCommandOptions tune;
    std::vector<std::string> unused;  ///< of train, which reads its words itself
    bool unused_flag = false;
    TraceOptions trace;
    AtlasOptions atlas;
    StatsOptions stats;
    DemoOptions demo;
    CompletionOptions completion;
    CLI::App app{
        "Muster runs mixture-of-experts language models: every token calls up only the experts it "
        "needs.",
        "muster"};

    Program() {
        app.set_version_flag("--version", std::string("muster ") + MUSTER_VERSION,
                             "Print the version");
        app.require_subcommand(1);
        app.formatter(std::make_shared<Formatter>());
        app.footer(
            "Examples:\n"
            "  muster demo\n"
            "  muster run default -p \"Once upon a time\" --color experts\n"
            "  muster COMMAND --help");
        add_demo(app, demo);
        add_run(app, run);
        add_chat(app, chat);
        add_batch(app, batch);
        add_eval(app, eval);
        add_trace(app, trace);
        add_atlas(app, atlas);
        add_stats(app, stats);
        add_inspect(app, inspect);
        add_bench(app, bench);
        add_tokenize(app, tokenize);
        add_train(app, unused, unused_flag);
        add_export(app, export_);
        add_convert(app, convert);
        add_quantize(app, quantize);
        add_imatrix(app, imatrix);
        add_calibrate(app, calibrate);
        add_tune(app, tune);
        add_completion(app, completion);
    }

    CommandOptions chosen() const {
        const std::string name = app.get_subcommands().front()->get_name();
        if (name == "run") return run;
        if (name == "chat") return chat;
        if (name == "batch") return batch;
        if (name == "eval") return eval;
        if (name == "inspect") return inspect;
        if (name == "bench") return bench;
        if (name == "tokenize") return tokenize;
        if (name == "export") return export_;
        if (name == "convert") return convert;
        if (name == "quantize") return quantize;
        if (name == "imatrix") return imatrix;
        if (name == "trace") return trace;
        if (name == "atlas") return atlas;
        if (name == "stats") return stats;
        if (name == "calibrate") return calibrate;
        if (name == "tune") return tune;
        if (name == "demo") return demo;
        return completion;
    }
};

/// The first word, when it should be a command and is none.
std::optional<std::string> unknown_command(const CLI::App& app,
                                           std::span<const std::string> words) {
    if (words.empty() || words.front().starts_with('-')) return std::nullopt;
    std::string known;
    for (const CLI::App* c : app.get_subcommands([](const CLI::App*) { return true; })) {
        if (c->get_name() == words.front()) return std::nullopt;
        known += (known.empty() ? "" : ", ") + c->get_name();
    }
    return "muster: \"" + words.front() + "\" is no command, expected one of " + known;
}

CommandLine usage_error(const CLI::App& app, const CLI::ParseError& error) {
    const auto commands = app.get_subcommands();
    const std::string where =
        commands.empty() ? "muster" : "muster " + commands.front()->get_name();
    std::string what = error.what();
    std::replace(what.begin(), what.end(), '\n', ' ');
    return {std::nullopt, where + ": " + what + " (see " + where + " --help)", true};
}

CommandInfo info_of(const CLI::App& app) {
    CommandInfo info{app.get_name(), app.get_description(), {}, {}};
    for (const CLI::Option* option : app.get_options()) {
        OptionInfo o;
        for (const auto& name : option->get_snames()) o.names.push_back("-" + name);
        for (const auto& name : option->get_lnames()) o.names.push_back("--" + name);
        o.description = option->get_description();
        o.takes_value = option->get_items_expected_max() > 0;
        const std::string type = option->get_type_name();
        o.is_path = o.takes_value && names_path(type);
        if (type == "MODEL") o.choices.push_back("default");
        if (type.find('|') != std::string::npos) o.choices = CLI::detail::split(type, '|');
        info.options.push_back(std::move(o));
    }
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
        info.commands.push_back(info_of(*command));
    return info;
}

}  // namespace

CommandLine parse_command_line(std::span<const std::string> words) {
    const bool help = std::any_of(words.begin(), words.end(),
                                  [](const auto& w) { return w == "--help" || w == "-h"; });
    if (!words.empty() && words.front() == "train" && !help)
        return {TrainOptions{{words.begin() + 1, words.end()}}, "", false};
    Program program;
    if (words.empty()) return {std::nullopt, program.app.help(), false};
    if (auto wrong = unknown_command(program.app, words)) return {std::nullopt, *wrong, true};
    try {
        // CLI11 takes the words from the back.
        program.app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
        return {program.chosen(), "", false};
    } catch (const CLI::CallForHelp&) {
        return {std::nullopt, program.app.help(), false};
    } catch (const CLI::CallForVersion& version) {
        return {std::nullopt, std::string(version.what()) + "\n", false};
    } catch (const CLI::ParseError& error) {
        return usage_error(program.app, error);
    }
}

CommandInfo command_tree() { return info_of(Program().app); }

}  // namespace muster::cli
