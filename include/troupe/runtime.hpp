// The runtime for C++ programs: load a model, ask it, read the answer as it comes. Knows no sockets; shows no actors.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/generation.hpp>
#include <troupe/operator.hpp>
#include <troupe/request.hpp>
#include <troupe/result.hpp>
#include <troupe/service.hpp>

namespace troupe {

/// What is 0 or "" is chosen by the machine, the device and the model. Out of range: the constructor throws.
struct runtime_options {
  // Where it computes.
  std::string device = "auto";  ///< cpu, cuda, or auto: the GPU where one answers and the build can use it
  std::int32_t threads = 0;     ///< of a CPU's lane
  std::string isa;              ///< scalar, avx2, avx_vnni, avx512vnni, avx512bf16, amx, neon or neon_i8mm
  bool deterministic = false;   ///< a GPU too computes each request as if it were alone, bit by bit; slower

  // Weights.
  bool repack = true;       ///< false: they stay in the file's pages; no memory for them, but several times slower
  std::string weight_type;  ///< of layers, on a GPU: bf16, f16 or fp8; "": as the file has them
  /// Folder where tokenizers' tables and (on CPUs) repacked weights are kept for faster starts; "": none.
  std::string copies;
  std::int64_t copies_bytes = std::int64_t{16} << 30;  ///< that they may take together; the longest unused go first

  // K and V.
  /// On a CPU i16 (""), f16, bf16, q8_0 or q4_0; on a GPU bf16 (""), fp8 or q8_0.
  std::string kv_type;
  /// For each model's blocks; 0: up to 0.4 of the free memory, of which a CPU keeps 2 GiB for prompts to come.
  std::int64_t kv_bytes = 0;
  double gpu_memory = 0.9;  ///< share of a GPU's memory that weights, KV and steps may take
  /// Of host memory, pinned, where cached blocks go that leave a GPU, and come back from; 0: none.
  std::int64_t host_kv_bytes = 0;
  /// Prompts that begin alike are computed once; false: times tell nobody what others asked.
  bool prefix_cache = true;

  // Requests.
  std::int32_t context_length = 0;    ///< upper bound; 0: what the model has
  std::int32_t max_sequences = 0;     ///< running at once; 0: 64, on a GPU 256
  std::int32_t max_batch_tokens = 0;  ///< rows of one step; 0: 512, on a GPU 2,048
  std::int32_t max_queued = 512;      ///< waiting; more are refused as overloaded
  /// How prompts are computed while others decode: mixed (in the same steps), or, on a GPU, long ones in a queue of
  /// their own, which shares the device with the decodes (beside) or has a part of it meanwhile (divided).
  std::string prefill_queue;
  std::chrono::milliseconds keep_ended = std::chrono::minutes(5);  ///< how long kept generations can be read again

  /// Called once, on a thread of the runtime, when a model's engine is broken for good: its device is lost or hangs, or
  /// a part of it has failed. Its requests have failed by then; ending the process may be all that helps. Must not
  /// block.
  std::function<void(const error&)> on_engine_lost;
};

/// What a question may ask for beside its prompt; ranges as in request.hpp.
struct ask_options {
  sampling how = {};
  std::optional<std::int32_t> max_tokens = {};
  std::vector<std::string> stop = {};
  std::int32_t top_logprobs = -1;
  bool ignore_eos = false;
  operator_chain operators = {};
};

/// A loaded model: a handle, cheap to copy. After its runtime has ended, its answers fail as shutting_down.
class model {
public:
  const model_card& card() const noexcept;

  /// Throw `failure` where a field is out of range; what goes wrong later comes with the events.
  generation chat(chat_prompt messages, ask_options options = {}) const;
  template <std::convertible_to<std::string> Text>
  generation chat(const Text& question, ask_options options = {}) const {
    return ask(chat_prompt{{"user", std::string(question)}}, std::move(options));
  }
  /// Goes on from a text, or from token ids, without a template.
  generation complete(std::string text, ask_options options = {}) const;
  generation complete(token_prompt ids, ask_options options = {}) const;
  result<generation> try_ask(request what, operator_chain operators = {}) const;

private:
  friend class runtime;
  class state;
  explicit model(std::shared_ptr<const state> s) : state_(std::move(s)) {}
  generation ask(decltype(request::prompt) prompt, ask_options options) const;
  std::shared_ptr<const state> state_;
};

class pipeline;

/// Owns threads, actors and models. Ending it fails what still runs, in order, and waits.
class runtime {
public:
  explicit runtime(runtime_options options = {});
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;
  ~runtime();

  /// A GGUF file or a catalogue name. Throws `failure`. The first model loaded is the one that "" names.
  model load(const std::string& name_or_path);
  result<model> try_load(const std::string& name_or_path);

  /// The same runtime as a front end sees it: asynchronous, by model name. Lives as long as the runtime.
  troupe::service& as_service();
  /// Runs a pipeline to its end. Its first error, or what a stage threw.
  result<void> run(const pipeline& what);

  /// Takes nothing new and waits for what runs, at most so long. True: nothing is left.
  bool drain(std::chrono::milliseconds limit);

private:
  class state;
  std::shared_ptr<state> state_;
};

}  // namespace troupe
