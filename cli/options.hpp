// What each command was asked to do, as plain values, and the functions that do it. Knows no parser: options.cpp
// fills these, one file per command runs them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace troupe::cli {

/// Which model, on which part of the machine. Shared by every command that loads one.
struct engine_options {
  std::string model = "smollm2-135m-instruct";  ///< catalogue name or path of a GGUF file
  std::string device = "auto";                  ///< cpu, cuda, or auto: the GPU where one answers
  double gpu_memory = 0.9;                      ///< share of a GPU's memory that may be taken
  std::int32_t threads = 0;                     ///< 0: every core this process may use
  std::string isa;  ///< "": the best found; else scalar, avx2, avx_vnni, avx512vnni, avx512bf16, amx, neon, neon_i8mm
  bool no_repack = false;          ///< weights stay in the file's pages: no memory for them, slower
  std::string kv_type;             ///< of K and V; "": i16, on a GPU bf16
  bool deterministic = false;      ///< on a GPU
  std::string weight_type;         ///< of layers, on a GPU: bf16, f16 or fp8; "": as the file has them
  std::string prefill_queue;       ///< mixed, beside or divided; "": what suits the device
  double copies_gib = 16;          ///< of disk, for repacked weights that the next start maps; 0: none
  std::int32_t max_sequences = 0;  ///< 0, and the next: what suits the device
  std::int32_t max_batch_tokens = 0;
  std::int32_t queue = 1024;
  double kv_gib = 0;             ///< 0: as the runtime does
  double host_kv_gib = 0;        ///< of host memory, for blocks that leave a GPU
  bool no_prefix_cache = false;  ///< every prompt is computed whole
};

struct serve_options {
  engine_options engine;
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;
  bool allow_remote = false;
  std::vector<std::string> origins;
  std::vector<std::string> hosts;
  std::optional<std::size_t> max_per_address;  ///< none: as the server does
  std::int32_t drain_seconds = 30;
};

struct answer_options {
  engine_options engine;
  std::string prompt;  ///< run: the prompt; "" or "-": standard input
  std::string system;
  float temperature = 0.7f;
  float top_p = 1.0f;
  std::int32_t top_k = 0;
  std::optional<std::int32_t> max_tokens;
  std::optional<std::uint64_t> seed;
  bool raw = false;  ///< run: complete the text as it is, without the chat template
};

struct tokenize_options {
  std::string model = "smollm2-135m-instruct";
  bool jsonl = false;
  bool special = false;
};

struct render_options {
  std::string model = "smollm2-135m-instruct";
  std::string template_file;
  bool no_generation_prompt = false;
};

struct eval_options {
  engine_options engine;
  std::string mode;  ///< "perplexity", "logits", "greedy"
  std::string file;
  std::int32_t greedy = 48;
  std::int32_t window = 512;
  bool halves = false;     ///< perplexity: score as llama-perplexity does
  std::int32_t best = 10;  ///< logits: candidates told at each position
};

struct bench_options {
  engine_options engine;
  std::vector<std::int32_t> prompt = {512};
  std::vector<std::int32_t> generate = {128};
  std::vector<std::int32_t> depth = {0};
  std::vector<std::int32_t> threads;  ///< empty: engine.threads
  std::vector<std::int32_t> batch = {1};
  std::int32_t shared_prefix = 0;  ///< tokens of the depth whose KV all sequences of a batch share
  std::int32_t longest = 0;        ///< depth of a batch's first sequence; 0: that of the others
  std::int32_t repeat = 5;
  bool through_engine = false;
  bool profile = false;
  std::string device = "cpu";  ///< cpu or cuda
  std::string shape;           ///< with cuda: random weights of this shape in place of a file
  std::string type = "bf16";   ///< of random weights
  bool tune = false;  ///< with cuda: times the ways of dense products and keeps the fastest, for later starts too
  std::vector<std::string> workloads;  ///< with cuda: whole workloads through the planner in place of bare steps
  std::vector<std::int32_t> chunks;    ///< of a workload: rows of its largest step; empty: what suits it
  std::vector<double> growths;  ///< of long-prompt and goodput: how much longer a step may be for its prompt rows
  std::vector<std::int32_t>
      queues;  ///< of the same: 0 one queue; 1 two; else two, that of prompts with so many multiprocessors
  std::vector<double> rates;                 ///< of the workload goodput: requests a second
  std::vector<std::string> peers;            ///< [NAME=]path of a llama-bench
  std::vector<std::string> peer_args;        ///< [NAME=]arguments, separated by spaces, for it
  std::vector<std::string> peer_batch_args;  ///< the same for the llama-batched-bench beside it
  std::int32_t pairs = 5;
  std::int32_t peer_seconds = 600;  ///< a run that takes longer is stopped
  bool json = false;
};

struct pull_options {
  std::string what = "smollm2-135m-instruct";
  std::string sha256;
};

int serve(const serve_options& options);
int chat(const answer_options& options);
int run(const answer_options& options);
int tokenize(const tokenize_options& options);
int render(const render_options& options);
int eval(const eval_options& options);
int bench(const bench_options& options);
int models();
int pull(const pull_options& options);
int doctor(bool measure);  ///< anew what products cost

/// Parses argv, runs the command, returns the process's exit status.
int main(int argc, char** argv);

}  // namespace troupe::cli
