// The command line: names, help, examples, TROUPE_* variables. Only this file and usage_error.cpp know the parser.
#include "cli/options.hpp"

#include <CLI/CLI.hpp>

#include <cstdlib>
#include <functional>

#include "base/log.hpp"
#include "cli/usage_error.hpp"

namespace troupe::cli {
namespace {

/// TROUPE_MAX_SEQUENCES for --max-sequences.
std::string variable(const std::string& flag) {
  std::string name = "TROUPE_";
  for (char c : flag.substr(2)) name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

/// An option under its short and long name, also read from the environment.
template <class T>
CLI::Option* option(CLI::App& app, const std::string& names, T& into, const std::string& help) {
  auto* made = app.add_option(names, into, help);
  if constexpr (requires { into.empty(); }) {
    if (!into.empty()) made->capture_default_str();
  } else if constexpr (!requires { into.has_value(); }) {
    made->capture_default_str();
  }
  return made->envname(variable(names.substr(names.find("--"))));
}

void add_model(CLI::App& app, std::string& model) {
  option(app, "-m,--model", model, "Catalogue name (see `troupe models`) or path of a GGUF file");
}

void add_isa(CLI::App& app, engine_options& e) {
  option(app, "--isa", e.isa,
         "Instruction set: scalar, avx2, avx_vnni, avx512vnni, avx512bf16, amx, neon or neon_i8mm (default: the best "
         "this machine has)")
      ->check(CLI::IsMember({"scalar", "avx2", "avx_vnni", "avx512vnni", "avx512bf16", "amx", "neon", "neon_i8mm"}));
}

void add_no_repack(CLI::App& app, engine_options& e) {
  app.add_flag("--no-repack", e.no_repack,
               "Compute from the file's own pages: no memory for weights, but several times slower")
      ->envname("TROUPE_NO_REPACK");
}

void add_kv_type(CLI::App& app, engine_options& e) {
  option(app, "--kv-type", e.kv_type,
         "How K and V are kept. On a CPU: i16, f16 or bf16 (2 bytes a number), q8_0 (1) or q4_0 (1/2), default i16; on "
         "a GPU: bf16, fp8 or q8_0 (1), default bf16")
      ->check(CLI::IsMember({"i16", "f16", "bf16", "fp8", "q8_0", "q4_0"}));
}

void add_deterministic(CLI::App& app, engine_options& e) {
  app.add_flag(
         "--deterministic", e.deterministic,
         "On a GPU: what else is computed beside a request moves no bit of its logits; slower. A CPU always does so")
      ->envname("TROUPE_DETERMINISTIC");
}

void add_engine(CLI::App& app, engine_options& e) {
  add_model(app, e.model);
  option(app, "--device", e.device, "cpu, cuda, or auto: the GPU where one answers and this build can use it")
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
  option(app, "--gpu-memory", e.gpu_memory, "Share of a GPU's memory that weights, KV and steps may take")
      ->check(CLI::Range(0.05, 1.0));
  option(app, "-t,--threads", e.threads, "Compute threads; 0 = every core this process may use")
      ->check(CLI::Range(0, 512));
  add_isa(app, e);
  add_no_repack(app, e);
  option(app, "--copies-gib", e.copies_gib,
         "Disk space in the cache folder for repacked weights and tokenizers' tables, with which the next start is "
         "faster; 0 = none")
      ->check(CLI::Range(0.0, 65536.0));
  option(app, "--max-sequences", e.max_sequences, "Sequences decoding at once; 0 = 64, on a GPU 256")
      ->check(CLI::Range(0, 1024));
  option(app, "--max-batch-tokens", e.max_batch_tokens,
         "Rows of one step, prefill and decode together; 0 = 512, on a GPU 2,048")
      ->check(CLI::Range(0, 65536));
  option(app, "--queue", e.queue, "Requests that may wait; more are refused with 429")->check(CLI::Range(1, 1000000));
  add_kv_type(app, e);
  option(
      app, "--weight-type", e.weight_type,
      "What a GPU makes of the layers' weights while loading: bf16, f16 or fp8 (default: nearest to the file's type)")
      ->check(CLI::IsMember({"bf16", "f16", "fp8"}));
  add_deterministic(app, e);
  option(app, "--prefill-queue", e.prefill_queue,
         "Prompts while others decode: mixed into their steps, or on a GPU, where they are long, beside "
         "them, or divided: on a part of the device (default: what suits the device)")
      ->check(CLI::IsMember({"mixed", "beside", "divided"}));
  option(app, "--kv-gib", e.kv_gib,
         "Memory for the KV cache in GiB; 0 = what runs may take 0.4 of what is free, and of it 2 GiB is kept for "
         "prompts to come; on a GPU what --gpu-memory leaves")
      ->check(CLI::Range(0.0, 4096.0));
  option(app, "--host-kv-gib", e.host_kv_gib,
         "Host memory in GiB, pinned, to which a GPU's cached KV blocks go when its own is short, and from which they "
         "come back; 0 = none")
      ->check(CLI::Range(0.0, 65536.0));
  app.add_flag("--no-prefix-cache", e.no_prefix_cache,
               "Compute every prompt whole. By default what requests have in common is computed once, and how soon an "
               "answer starts can tell one client what another has asked")
      ->envname("TROUPE_NO_PREFIX_CACHE");
}

void add_answer(CLI::App& app, answer_options& a) {
  add_engine(app, a.engine);
  option(app, "-s,--system", a.system, "System prompt");
  option(app, "--temperature", a.temperature, "0 is greedy")->check(CLI::Range(0.0, 2.0));
  option(app, "--top-p", a.top_p, "Nucleus sampling")->check(CLI::Range(0.0, 1.0));
  option(app, "--top-k", a.top_k, "Only the k best tokens; 0 = off")->check(CLI::Range(0, 1000000));
  option(app, "-n,--max-tokens", a.max_tokens, "Longest answer in tokens (default: what the context leaves)")
      ->check(CLI::Range(1, 1 << 30));
  option(app, "--seed", a.seed, "Same seed, same text");
}

/// One subcommand: its description, its examples, and what to run when it was named.
struct commands {
  CLI::App& app;
  std::function<int()> chosen;

  CLI::App& add(const std::string& name, const std::string& what, const std::string& examples,
                std::function<int()> run) {
    auto& sub = *app.add_subcommand(name, what);
    sub.footer("Examples:\n" + examples);
    sub.fallthrough();  // options of every command may stand behind its name
    if (run) sub.callback([this, run = std::move(run)] { chosen = run; });
    return sub;
  }
};

struct all_options {
  serve_options serve;
  answer_options chat, run;
  tokenize_options tokenize;
  render_options render;
  eval_options eval;
  bench_options bench;
  pull_options pull;
  bool measure = false;
};

void add_talking(commands& c, all_options& o) {
  auto& serve_app = c.add("serve", "Serve HTTP, SSE and WebSocket clients, and a chat page",
                          "  troupe serve\n  troupe serve --port 9000 -m ~/models/llama.gguf\n"
                          "  troupe serve --host 0.0.0.0 --allow-remote --allow-host my-host:8080\n"
                          "  troupe serve --kv-type q8_0 --kv-gib 4    # half the memory a token of context",
                          [&o] { return serve(o.serve); });
  option(serve_app, "--host", o.serve.host, "Address to listen on");
  option(serve_app, "-p,--port", o.serve.port, "Port; 0 = any free one")->check(CLI::Range(0, 65535));
  serve_app
      .add_flag("--allow-remote", o.serve.allow_remote,
                "Permit an address other than loopback: anyone who reaches it may use it")
      ->envname("TROUPE_ALLOW_REMOTE");
  option(serve_app, "--allow-origin", o.serve.origins, "Web origin that may call, besides the server's own page");
  option(serve_app, "--allow-host", o.serve.hosts, "Host header to accept besides loopback names");
  option(serve_app, "--max-per-address", o.serve.max_per_address,
         "Connections, and generations kept or on WebSockets, that one client address may have at a time; more are "
         "refused with 429 (default: 256, but any number from this machine)")
      ->check(CLI::Range(1, 1000000));
  option(serve_app, "--drain-seconds", o.serve.drain_seconds,
         "On SIGTERM, Ctrl-C or a closed terminal, time for running answers to end")
      ->check(CLI::Range(0, 3600));
  add_engine(serve_app, o.serve.engine);

  auto& chat_app =
      c.add("chat", "Talk to the model in the terminal",
            "  troupe chat\n  troupe chat -s 'Answer like a pirate.' --temperature 1", [&o] { return chat(o.chat); });
  add_answer(chat_app, o.chat);

  auto& run_app =
      c.add("run", "Answer one prompt: text to stdout, the rest to stderr",
            "  troupe run 'Name three rivers.'\n  git diff | troupe run --system 'Write a commit message.' -\n"
            "  troupe run --raw --max-tokens 20 'Once upon a time'",
            [&o] { return run(o.run); });
  add_answer(run_app, o.run);
  run_app.add_option("prompt", o.run.prompt, "The prompt; absent or -: standard input");
  run_app.add_flag("--raw", o.run.raw, "Go on with the text as it is, without the chat template");
}

void add_looking(commands& c, all_options& o) {
  auto& tokenize_app = c.add("tokenize", "Standard input to a JSON array of token ids",
                             "  echo -n 'Hello world' | troupe tokenize\n  troupe tokenize --jsonl < texts.jsonl",
                             [&o] { return tokenize(o.tokenize); });
  add_model(tokenize_app, o.tokenize.model);
  tokenize_app.add_flag("--jsonl", o.tokenize.jsonl,
                        "Each line is {\"text\": ...}; answers a line of {\"ids\": [...]} each");
  tokenize_app.add_flag("--special", o.tokenize.special, "Recognise control tokens such as <|im_end|> in the text");

  auto& render_app = c.add("render", "Messages as JSON on standard input to the prompt's text",
                           "  echo '[{\"role\":\"user\",\"content\":\"Hi\"}]' | troupe render\n"
                           "  troupe render --template chat.jinja < messages.json",
                           [&o] { return render(o.render); });
  add_model(render_app, o.render.model);
  option(render_app, "--template", o.render.template_file, "A Jinja file in place of the model's own template")
      ->check(CLI::ExistingFile);
  render_app.add_flag("--no-generation-prompt", o.render.no_generation_prompt,
                      "Leave out the opening of the assistant's turn");

  auto& eval_app = c.add("eval", "How well the engine computes: perplexity, logits, greedy text",
                         "  troupe eval perplexity book.txt\n  troupe eval perplexity --kv-type q4_0 book.txt\n  "
                         "troupe eval logits < ids.jsonl\n  troupe eval greedy 48 < ids.jsonl",
                         nullptr);
  eval_app.require_subcommand(1);
  const auto mode = [&](const char* name, const char* what) -> CLI::App& {
    auto& sub = *eval_app.add_subcommand(name, what);
    add_engine(sub, o.eval.engine);
    sub.callback([&c, &o, name] {
      o.eval.mode = name;
      c.chosen = [&o] { return eval(o.eval); };
    });
    return sub;
  };
  auto& perplexity = mode("perplexity", "exp of the mean negative log-likelihood of a text file");
  perplexity.add_option("file", o.eval.file, "Plain text")->required()->check(CLI::ExistingFile);
  option(perplexity, "--window", o.eval.window, "Tokens seen at a time")->check(CLI::Range(16, 1 << 20));
  perplexity.add_flag("--halves", o.eval.halves,
                      "Windows side by side, the second half of each scored, as llama.cpp's llama-perplexity does");
  option(mode("logits", "Lines of {\"ids\"} in; adds nll and the best at each position"), "--best", o.eval.best,
         "Candidates to tell at each position")
      ->check(CLI::Range(0, 1000));
  mode("greedy", "Lines of {\"ids\"} in; adds N greedy ids and the margin at each")
      .add_option("n", o.eval.greedy, "Tokens to add")
      ->check(CLI::Range(1, 1 << 20));

  auto& bench_app = c.add("bench", "Tokens a second, and the share of this machine's limit",
                          "  troupe bench\n  troupe bench -p 512 -n 128 -d 0,4096 -t 1,2 -b 1,8,16 --json\n  troupe "
                          "bench --engine -b 1,16\n  troupe bench --profile -p 0 -b 1,16\n"
                          "  troupe bench --peer ~/llama.cpp/build/bin/llama-bench --peer-args '-fa 1' -r 2",
                          [&o] { return bench(o.bench); });
  auto& b = o.bench;
  add_model(bench_app, b.engine.model);
  bench_app.add_option("-p,--n-prompt", b.prompt, "Prompt lengths; 0 = none")->delimiter(',')->capture_default_str();
  bench_app.add_option("-n,--n-gen", b.generate, "Tokens to generate; 0 = none")->delimiter(',')->capture_default_str();
  bench_app.add_option("-d,--n-depth", b.depth, "Tokens already in the context")->delimiter(',')->capture_default_str();
  bench_app.add_option("-t,--threads", b.threads, "Thread counts (default: every core)")->delimiter(',');
  bench_app.add_option("-b,--batch", b.batch, "Sequences decoding together")->delimiter(',')->capture_default_str();
  option(bench_app, "--shared-prefix", b.shared_prefix,
         "Of the tokens in the context, how many a batch's sequences share the KV of")
      ->check(CLI::Range(0, 1 << 20));
  option(bench_app, "--longest", b.longest,
         "Tokens in the context of a batch's first sequence, where it has more than the others")
      ->check(CLI::Range(0, 1 << 20));
  bench_app.add_option("-r,--repeat", b.repeat, "Repetitions; the median is shown")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  add_isa(bench_app, b.engine);
  add_no_repack(bench_app, b.engine);
  add_kv_type(bench_app, b.engine);
  add_deterministic(bench_app, b.engine);
  option(bench_app, "--device", b.device, "cpu, or cuda: bare steps on the GPU")->check(CLI::IsMember({"cpu", "cuda"}));
  bench_app.add_option(
      "--shape", b.shape,
      "With --device cuda: random weights made there, of llama-8b, llama-1b, qwen-0.6b or smollm-135m");
  bench_app.add_option("--type", b.type, "Of random weights: bf16, f16, fp8, q8_0, q4_0 or q4_1")
      ->capture_default_str();
  bench_app.add_flag("--tune", b.tune,
                     "With --device cuda: first times every way of the model's products of many rows on this device, "
                     "and keeps which are the fastest, for servers as well");
  bench_app
      .add_option("--workload", b.workloads,
                  "With --device cuda: offline, offline-128, mixed, long-prompt, goodput, host-tier, first-token")
      ->delimiter(',');
  bench_app.add_option("--chunk", b.chunks, "Of a workload: rows of its largest step")
      ->delimiter(',')
      ->check(CLI::Range(16, 65536));
  bench_app
      .add_option("--growth", b.growths,
                  "Of long-prompt and goodput: a step with prompt rows may take so many times as long as its decodes; "
                  "0 = no bound")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 100.0));
  bench_app
      .add_option("--queues", b.queues,
                  "Of long-prompt and goodput: 0 = prompts and decodes in one queue, 1 = in two, N = in two, that of "
                  "prompts with N multiprocessors")
      ->delimiter(',')
      ->check(CLI::Range(0, 1024));
  bench_app.add_option("--rate", b.rates, "Of the workload goodput: requests a second, ascending")
      ->delimiter(',')
      ->check(CLI::Range(0.1, 100000.0));
  bench_app.add_flag("--engine", b.through_engine, "Through actors, scheduler and streams in place of bare steps");
  bench_app.add_flag("--profile", b.profile,
                     "After each row, the time of each op of a step, its bytes, operations and barriers");
  bench_app.add_option("--peer", b.peers,
                       "[NAME=]PATH of a llama-bench to measure in turn with ours on the same file; repeatable");
  bench_app.add_option("--peer-args", b.peer_args,
                       "[NAME=]ARGUMENTS for the peers' llama-bench, such as 'ik=-rtr 1 -fa 1'");
  bench_app.add_option("--peer-batch-args", b.peer_batch_args,
                       "The same for the llama-batched-bench beside it, which --batch over 1 needs");
  bench_app.add_option("--pairs", b.pairs, "With --peer: runs of each program, in turn")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  bench_app.add_option("--peer-seconds", b.peer_seconds, "With --peer: a run that takes longer is stopped")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  bench_app.add_flag("--json", b.json, "One JSON object a line");
}

void add_keeping(commands& c, all_options& o) {
  c.add("models", "Models in the catalogue and in the cache", "  troupe models", [] { return models(); });
  auto& pull_app =
      c.add("pull", "Fetch a model into the cache: resumed where it stopped, checksum verified",
            "  troupe pull smollm2-135m-instruct\n  troupe pull https://example.org/model.gguf --sha256 0123...",
            [&o] { return pull(o.pull); });
  pull_app.add_option("model", o.pull.what, "Catalogue name or https address")->capture_default_str();
  pull_app.add_option("--sha256", o.pull.sha256, "Expected checksum of an address's file");
  auto& doctor_app = c.add("doctor", "What this machine can do for Troupe, and what to do about it",
                           "  troupe doctor\n  troupe doctor --measure", [&o] { return doctor(o.measure); });
  doctor_app.add_flag("--measure", o.measure,
                      "Measure anew what products cost here, in place of reading what an earlier start has kept");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Troupe serves language models: actors, streams, one binary.", "troupe");
  app.require_subcommand(1);
  app.failure_message(usage_error);
  app.set_version_flag("--version", TROUPE_VERSION);
  app.footer(
      "Start here:\n  troupe serve          a chat page and an OpenAI-style API on http://127.0.0.1:8080\n"
      "  troupe chat           the same in this terminal\n  troupe COMMAND --help options and examples\n"
      "Most options are also read from TROUPE_* variables (--max-sequences from TROUPE_MAX_SEQUENCES).");
  std::string log_level = "info";
  option(app, "--log-level", log_level, "Least that is logged to stderr: debug, info, warning, error or off")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}));
  all_options options;
  commands list{app, {}};
  add_talking(list, options);
  add_looking(list, options);
  add_keeping(list, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  }
  base::set_log_level(*base::log_level_of(log_level));
  return list.chosen();
}

}  // namespace troupe::cli
