// What suits a GPU, and what a CPU.
#include "actors/engine_defaults.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "actors/kv_store/kv_budget.hpp"
#include "base/log.hpp"
#include "base/machine.hpp"
#include "kernels/any_lane.hpp"
#include "kernels/cuda/cuda_lane.hpp"
#include "models/model.hpp"

namespace troupe::actors {
namespace {

/// A GPU reads the weights for decodes at a fraction of its arithmetic: prompt rows beside them are cheap up to here,
/// and who reads along hardly sees them.
constexpr double gpu_growth = 2.0;
/// Decodes go on at their pace while a long prompt is computed, and short prompts are mixed with them (bench/cuda.md).
constexpr const char* gpu_prefill_queue = "divided";
constexpr std::chrono::seconds gpu_patience{20};

/// What a GPU has left for KV once the weights are on it. Activations and graphs live in what `share` leaves.
result<std::int64_t> device_kv_bytes(double share) {
  const auto now = kernels::cuda::find_device();
  if (!now) return now.why();
  const auto taken = now->memory_bytes - now->free_bytes;
  const auto left = static_cast<std::int64_t>(share * static_cast<double>(now->memory_bytes)) - taken;
  if (left <= 0)
    return error{errc::out_of_memory,
                 "The GPU's memory is full before a token is cached; free some, or raise --gpu-memory.", "gpu_memory"};
  return left;
}

}  // namespace

engine_options with_bounds(engine_options options, const std::string& device) {
  const step_bounds chosen =
      (device == "cuda" ? gpu_steps : cpu_steps).or_asked(options.max_sequences, options.max_batch_tokens);
  options.max_sequences = chosen.sequences;
  options.max_batch_tokens = chosen.batch_tokens;
  return options;
}

result<void> size_kv(const models::loaded_model& model, kernels::lane& lane, const engine_options& options,
                     engine_figures& figures) {
  const std::int32_t trained = model.shape().context;
  figures.context_length = options.context_length > 0 ? std::min(options.context_length, trained) : trained;
  kv_budget budget;
  budget.wanted_bytes = options.kv_bytes;
  budget.available_bytes = static_cast<std::int64_t>(base::read_memory_limits().available);
  if (figures.device == "cuda" && options.kv_bytes == 0) {
    const auto left = device_kv_bytes(options.gpu_memory);
    if (!left) return left.why();
    budget.wanted_bytes = *left;
  }
  budget.block_bytes = lane.kv_block_bytes(model.shape().kv());
  budget.context_length = figures.context_length;
  budget.max_sequences = options.max_sequences;
  const auto blocks = kv_blocks(budget);
  if (!blocks) return blocks.why();
  figures.kv_blocks = *blocks;
  figures.kv_bytes = *blocks * budget.block_bytes;
  figures.kept_blocks = kept_blocks(budget, *blocks);
  return {};
}

result<std::unique_ptr<kernels::lane>> second_queue(kernels::lane& lane, const kernels::any_lane& made,
                                                    const engine_options& options) {
  const std::string wanted = !options.prefill_queue.empty() ? options.prefill_queue
                             : made.second_queue            ? gpu_prefill_queue
                                                            : "mixed";
  if (wanted == "mixed") return std::unique_ptr<kernels::lane>();
  if (!made.second_queue)
    return error{errc::invalid_argument,
                 "Only a GPU that keeps K and V in bf16 computes prompts beside decodes; here they can be mixed only.",
                 "prefill_queue"};
  auto second = made.second_queue(lane, wanted == "divided");
  if (second || !options.prefill_queue.empty() || second.why().code != errc::unsupported) return second;
  base::log(base::log_level::warning, "engine", "prompts are mixed with decodes: " + second.why().text);
  return std::unique_ptr<kernels::lane>();
}

planner_options planner_of(const engine_options& options, const engine_figures& figures, bool two_queues) {
  planner_options planner;
  planner.max_sequences = options.max_sequences;
  planner.max_batch_tokens = std::max(options.max_batch_tokens, options.max_sequences + planner.block_tokens);
  planner.total_blocks = figures.kv_blocks;
  planner.share_prefixes = options.prefix_cache;
  planner.queue_sequences = options.queue_sequences;
  planner.queue_tokens = options.queue_tokens;
  if (figures.device == "cuda" || two_queues)
    planner.most_growth = options.most_growth > 0 ? options.most_growth : gpu_growth;
  if (two_queues) planner.policy = batch_policy::choose;
  return planner;
}

base::duration patience_of(const engine_figures& figures) {
  return figures.device == "cuda" ? base::duration(gpu_patience) : base::duration();
}

}  // namespace troupe::actors
