// SPDX-License-Identifier: Apache-2.0
// Options of the commands that look at models and at what they do.
#include "muster/cli/option_kinds.h"

namespace muster::cli {

CLI::App* add_inspect(CLI::App& app, InspectOptions& o) {
    auto* c = app.add_subcommand("inspect", "Show what a model file holds");
    model_options(c, o.model);
    whole(c, "--ctx", o.context, 1, INT32_MAX, "Whose memory is shown (the model's context)");
    choices(c->add_option("--kv", o.kv, "Format of keys and values (auto: f16, f32 if all is f32)"),
            {"auto", "f32", "f16", "q8_0"});
    c->add_flag("--tensors", o.tensors, "List every tensor");
    json_flag(c, o.json);
    c->footer(
        "Examples:\n  muster inspect default\n  muster inspect model.gguf --tensors\n"
        "  muster inspect model.gguf --ctx 8192 --kv q8_0");
    return c;
}

CLI::App* add_bench(CLI::App& app, BenchOptions& o) {
    auto* c = app.add_subcommand("bench", "Measure prefill and decode beside the machine's limits");
    model_options(c, o.model);
    engine_options(c, o.engine, "int8");
    routing_option(c, o.routing);
    whole(c, "--prompt", o.prompt, 1, INT32_MAX, "Tokens of the prefill (512)");
    whole(c, "--decode", o.decode, 1, INT32_MAX, "Tokens decoded one by one (128)");
    whole(c, "--depth", o.depth, 0, INT32_MAX, "Tokens in the cache before either (0)");
    whole(c, "--repeats", o.repeats, 1, 1000, "Runs (5)");
    seed_option(c, o.seed, "Of the random tokens (1)");
    json_flag(c, o.json);
    c->footer(
        "Examples:\n  muster bench default\n"
        "  muster bench model.gguf --routing model --routing top-k:2 --threads 2");
    return c;
}

CLI::App* add_tokenize(CLI::App& app, TokenizeOptions& o) {
    auto* c = app.add_subcommand("tokenize", "Show how a text is cut into tokens");
    model_options(c, o.model);
    text_options(c, o.text);
    c->add_flag("--ids", o.ids, "Ids only");
    c->add_flag("--no-bos", o.no_bos, "Without the begin token");
    json_flag(c, o.json);
    c->footer(
        "Examples:\n  muster tokenize default -p \"Hello, world\"\n"
        "  muster tokenize model.gguf -f letter.txt --ids --json");
    return c;
}

CLI::App* add_trace(CLI::App& app, TraceOptions& o) {
    auto* c = app.add_subcommand("trace", "Write which experts worked, token by token");
    model_options(c, o.model);
    engine_options(c, o.engine, "int8 below 8-bit weights, else f32");
    scoring_options(c, o);
    output_file(c, "-o,--output", o.output, "JSON lines to write (docs/file-formats.md)")
        ->required();
    c->add_option("--routing", o.routing, "model, top-k:2, top-p:0.5, mean:3 ... (docs/routing.md)")
        ->type_name("POLICY");
    json_flag(c, o.json);
    c->footer(
        "Examples:\n  muster trace default book.txt -o trace.jsonl\n"
        "  muster trace model.gguf test.jsonl --tokens 10000 --routing top-k:4 -o trace.jsonl");
    return c;
}

CLI::App* add_atlas(CLI::App& app, AtlasOptions& o) {
    auto* c = app.add_subcommand("atlas", "Write a page that shows the experts at work");
    model_options(c, o.model);
    engine_options(c, o.engine, "int8 below 8-bit weights, else f32");
    scoring_options(c, o);
    output_file(c, "-o,--output", o.output, "The HTML page to write")->required();
    routing_option(c, o.routing);
    c->add_option("--plan", o.plan, "Show this plan of muster calibrate, too")->type_name("FILE");
    json_flag(c, o.json);
    c->footer(
        "The first policy's experts are shown, and all policies compared. Text files are domains "
        "of their own.\n"
        "Examples:\n  muster atlas default law.txt novels.txt code.txt -o atlas.html\n"
        "  muster atlas model.gguf test.jsonl -o atlas.html --routing model --routing top-k:4");
    return c;
}

CLI::App* add_stats(CLI::App& app, StatsOptions& o) {
    auto* c = app.add_subcommand("stats", "Merge, show and export files of --stats");
    c->add_option("FILE", o.files, "Files of one model")->required()->type_name("FILE");
    output_file(c, "-o,--output", o.output, "Write the merged statistics");
    output_file(c, "--csv", o.csv, "Write a line per layer and expert");
    json_flag(c, o.json);
    c->footer(
        "Examples:\n  muster stats use.json\n"
        "  muster stats monday.json tuesday.json -o week.json --csv week.csv");
    return c;
}

}  // namespace muster::cli
