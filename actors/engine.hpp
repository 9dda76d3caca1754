// One model, served: its lane, its actors, their wiring and their orderly end. The one place that knows all rooms.
// No CAF beyond a forward declaration.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <troupe/result.hpp>

#include "actors/stream/stream_limits.hpp"
#include "memory/copy_folder.hpp"

namespace caf {
class actor_system;
}

namespace troupe::kernels {
struct any_lane;
}

namespace troupe::models {
struct loaded_model;
}

namespace troupe::actors {

struct engine_links;
struct engine_metrics;
struct stream_counters;

/// How large steps may become where the options leave it open. A GPU reads the weights once for all rows of a step and
/// needs some hundreds of them to be busy; a CPU is at 64, and a step must not keep others waiting for long.
struct step_bounds {
  std::int32_t sequences = 64;
  std::int32_t batch_tokens = 512;
  /// What was asked for; these where nothing was (0).
  step_bounds or_asked(std::int32_t asked_sequences, std::int32_t asked_tokens) const {
    return {asked_sequences > 0 ? asked_sequences : sequences, asked_tokens > 0 ? asked_tokens : batch_tokens};
  }
};
inline constexpr step_bounds cpu_steps{};
inline constexpr step_bounds gpu_steps{256, 2048};

struct engine_options {
  std::string device = "cpu";  ///< cpu, cuda, or auto: the GPU where one answers
  std::int32_t threads = 0;    ///< of the lane's team; 0: the usable cores
  std::string isa;  ///< "": the best found; else scalar, avx2, avx_vnni, avx512vnni, avx512bf16, amx, neon, neon_i8mm
  bool repack = true;
  std::string kv_type;         ///< of K and V; "": i16, on a GPU bf16
  std::string weight_type;     ///< of layers, on a GPU: bf16, f16 or fp8; "": as the file has them
  bool deterministic = false;  ///< a GPU too computes rows alike whatever lies beside them
  memory::copy_folder copies;  ///< where repacked weights and the tokenizer's tables are kept; default: nowhere
  /// 0: a share of the free memory, of which little is kept for prompts to come (kv_budget.hpp); on a GPU what
  /// gpu_memory leaves
  std::int64_t kv_bytes = 0;
  double gpu_memory = 0.9;          ///< share of a GPU's memory that weights, KV and steps may take
  std::int64_t host_kv_bytes = 0;   ///< of host memory, for cached blocks that leave a GPU; 0: none
  bool prefix_cache = true;         ///< prompts that begin alike are computed once (block_grant.hpp)
  std::int32_t context_length = 0;  ///< upper bound; 0: the model's
  std::int32_t max_sequences = 0;   ///< 0, and the next: what suits the device (step_bounds)
  std::int32_t max_batch_tokens = 0;
  std::size_t queue_sequences = 1024;
  std::int64_t queue_tokens = 1 << 20;
  double most_growth = 0;                     ///< of planner_options; 0: what suits the device
  std::string prefill_queue;                  ///< mixed, beside or divided (runtime.hpp); "": what suits the device
  std::function<void(const error&)> on_lost;  ///< once, on a runtime thread: the engine is broken for good
  std::int32_t tokenizers = 1;
  std::int32_t stream_shards = 1;
  stream_limits stream;
};

/// What the engine settled on.
struct engine_figures {
  std::string device;  ///< cpu or cuda
  std::int32_t threads = 0;
  std::string isa;
  std::int32_t context_length = 0;
  std::int32_t kv_blocks = 0;
  std::int32_t kept_blocks = 0;  ///< of them, for prompts to come
  std::int64_t kv_bytes = 0;
  std::int32_t host_kv_blocks = 0;
};

class engine {
public:
  using load_progress = std::function<void(std::int64_t done, std::int64_t total)>;

  /// Loads the model on the calling thread and spawns its actors on `system`, whose policy should be `sharing` and
  /// which outlives the engine. With device auto a model that the GPU cannot serve goes to the CPU, with a warning.
  /// Errors: those of load_model and make_lane; out_of_memory.
  static result<std::unique_ptr<engine>> create(caf::actor_system& system, const std::string& path,
                                                const engine_options& options, const load_progress& progress = {});
  /// The same on a lane of the caller's.
  static result<std::unique_ptr<engine>> create_on(kernels::any_lane lane, caf::actor_system& system,
                                                   const std::string& path, const engine_options& options,
                                                   const load_progress& progress = {});
  /// stop(), and joins the lane's thread.
  ~engine();

  /// Null after stop.
  std::shared_ptr<const engine_links> links() const;
  const models::loaded_model& model() const noexcept;
  /// What is counted; also after the engine has ended.
  std::shared_ptr<const engine_metrics> metrics() const noexcept;
  std::shared_ptr<const stream_counters> stream_counts() const noexcept;
  const engine_figures& figures() const noexcept;
  std::int32_t context_length() const noexcept { return figures().context_length; }

  /// Takes nothing new in; `drained` is called, on a runtime thread, when all that was taken in has ended.
  void drain(std::function<void()> drained);
  /// Ends every generation (shutting_down) and every actor in order. Blocks until done, or `limit`; false: something
  /// did not end in time. A second call does nothing. Not from an actor or an event_sink.
  bool stop(std::chrono::milliseconds limit = std::chrono::seconds(5));

private:
  struct parts;
  explicit engine(std::unique_ptr<parts> p);
  std::unique_ptr<parts> parts_;
};

}  // namespace troupe::actors
