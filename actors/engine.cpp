// Builds the parts of one model in order, wires them, and takes them apart in reverse.
#include "actors/engine.hpp"

#include <algorithm>
#include <future>
#include <mutex>
#include <optional>
#include <utility>

#include <caf/actor_system.hpp>
#include <caf/send.hpp>

#include "actors/handles.hpp"
#include "actors/kv_store/kv_store.hpp"
#include "actors/kv_store/kv_store_actor.hpp"
#include "actors/lane/lane_actor.hpp"
#include "actors/lane/lane_thread.hpp"
#include "actors/lane/step_runner.hpp"
#include "actors/metrics.hpp"
#include "actors/scheduler/scheduler_actor.hpp"
#include "actors/stream/stream_actor.hpp"
#include "actors/stream/stream_counters.hpp"
#include "actors/supervisor/supervisor_actor.hpp"
#include "actors/tokenizer/prompt_encoder.hpp"
#include "actors/tokenizer/tokenizer_actor.hpp"
#include "base/log.hpp"
#include "base/machine.hpp"
#include "kernels/any_lane.hpp"
#include "kernels/cuda/cuda_lane.hpp"
#include "models/model.hpp"

namespace troupe::actors {

// In the order of their making: what is later uses what is earlier.
struct engine::parts {
  std::unique_ptr<kernels::lane> lane;
  std::unique_ptr<kernels::lane> prompts;  // a second queue of the same device; null: one does all
  std::shared_ptr<const models::loaded_model> model;
  engine_figures figures;
  std::shared_ptr<engine_metrics> metrics = std::make_shared<engine_metrics>();
  std::shared_ptr<stream_counters> counters = std::make_shared<stream_counters>();
  std::shared_ptr<step_runner> runner;
  std::shared_ptr<lane_thread> thread;
  std::vector<std::shared_ptr<lane_thread>> waiting;  // for each queue: where steps are waited for that a device computes
  std::vector<std::shared_ptr<lane_thread>> copying;  // KV blocks to host memory, and back
  mutable std::mutex mutex;  // links and supervisor: read by any thread, dropped by stop
  std::shared_ptr<const engine_links> links;
  supervisor_handle supervisor;
};

namespace {

/// What a GPU has left for KV once the weights are on it. Activations and graphs live in what `share` leaves.
result<std::int64_t> device_kv_bytes(double share) {
  const auto now = kernels::cuda::find_device();
  if (!now) return now.why();
  const auto taken = now->memory_bytes - now->free_bytes;
  const auto left = static_cast<std::int64_t>(share * static_cast<double>(now->memory_bytes)) - taken;
  if (left <= 0) return error{errc::out_of_memory, "The GPU's memory is full before a token is cached; free some, or raise --gpu-memory.", "gpu_memory"};
  return left;
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

/// A GPU reads the weights for decodes at a fraction of its arithmetic: prompt rows beside them are cheap up to here, and
/// who reads along hardly sees them.
constexpr double gpu_growth = 2.0;
/// Decodes go on at their pace while a long prompt is computed, and short prompts are mixed with them (bench/cuda.md).
constexpr const char* gpu_prefill_queue = "divided";
/// Before a step of a GPU counts as hung. On a CPU no step hangs, and one may well take minutes.
constexpr std::chrono::seconds gpu_patience{20};

engine_options with_bounds(engine_options options, const step_bounds& bounds) {
  const step_bounds chosen = bounds.or_asked(options.max_sequences, options.max_batch_tokens);
  options.max_sequences = chosen.sequences;
  options.max_batch_tokens = chosen.batch_tokens;
  return options;
}

/// Null: the lane's own queue takes prompts as well.
result<std::unique_ptr<kernels::lane>> second_queue(kernels::lane& lane, const kernels::any_lane& made, const engine_options& options) {
  const std::string wanted = !options.prefill_queue.empty() ? options.prefill_queue : made.second_queue ? gpu_prefill_queue : "mixed";
  if (wanted == "mixed") return std::unique_ptr<kernels::lane>();
  if (!made.second_queue)
    return error{errc::invalid_argument, "Only a GPU that keeps K and V in bf16 computes prompts beside decodes; here they can be mixed only.", "prefill_queue"};
  auto second = made.second_queue(lane, wanted == "divided");
  if (second || !options.prefill_queue.empty() || second.why().code != errc::unsupported) return second;
  base::log(base::log_level::warning, "engine", "prompts are mixed with decodes: " + second.why().text);
  return std::unique_ptr<kernels::lane>();
}

/// Else the first long prompt beside decodes would hold them up at every turn (bench/cuda.md).
result<void> warm_up(step_runner& runner, const kernels::lane_warming& how) {
  const auto began = clock::now();
  if (auto r = runner.warm_up(how); !r) return r;
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - began).count();
  base::log(base::log_level::info, "engine", "warmed up in " + std::to_string(took) + " ms");
  return {};
}

planner_options planner_of(const engine_options& options, const engine_figures& figures, bool two_queues) {
  planner_options planner;
  planner.max_sequences = options.max_sequences;
  planner.max_batch_tokens = std::max(options.max_batch_tokens, options.max_sequences + planner.block_tokens);
  planner.total_blocks = figures.kv_blocks;
  planner.share_prefixes = options.prefix_cache;
  planner.queue_sequences = options.queue_sequences;
  planner.queue_tokens = options.queue_tokens;
  if (figures.device == "cuda" || two_queues) planner.most_growth = options.most_growth > 0 ? options.most_growth : gpu_growth;
  if (two_queues) planner.policy = batch_policy::choose;
  return planner;
}

void spawn_front(caf::actor_system& system, const engine_options& options, const models::loaded_model& model,
                 std::int32_t context_length, const std::shared_ptr<stream_counters>& counters, const std::shared_ptr<engine_metrics>& metrics,
                 engine_links& links) {
  for (std::int32_t i = 0; i < std::max(1, options.stream_shards); ++i)
    links.streams.push_back(
        spawn_stream(system, {static_cast<std::uint32_t>(i), model.tokenizer, options.stream, counters, metrics}));
  const auto encoder = std::make_shared<const prompt_encoder>(model.tokenizer, *model.chat_template, context_length);
  for (std::int32_t i = 0; i < std::max(1, options.tokenizers); ++i)
    links.tokenizers.push_back(spawn_tokenizer(system, encoder, metrics));
}

/// The supervisor first: it must watch before anything can end.
void wire(const engine_links& of, const std::shared_ptr<const engine_links>& links, const supervisor_handle& supervisor) {
  const wire_engine message{links};
  caf::anon_send(supervisor, message);
  caf::anon_send(of.kv_store, message);
  caf::anon_send(of.prefill, message);
  caf::anon_send(of.decode, message);
  caf::anon_send(of.scheduler, message);
  for (const auto& one : of.streams) caf::anon_send(one, message);
  for (const auto& one : of.tokenizers) caf::anon_send(one, message);
}

}  // namespace

result<std::unique_ptr<engine>> engine::create(caf::actor_system& system, const std::string& path,
                                               const engine_options& options, const load_progress& progress) {
  auto chosen = kernels::make_lane(options.device, {options.threads, options.isa, options.repack, options.kv_type, options.copies, options.weight_type, options.deterministic});
  if (!chosen) return chosen.why();
  const bool on_gpu = chosen->device == "cuda";
  auto made = create_on(*std::move(chosen), system, path, options, progress);
  const bool refused = !made && (made.why().code == errc::unsupported || made.why().code == errc::out_of_memory);
  if (options.device != "auto" || !on_gpu || !refused) return made;
  base::log(base::log_level::warning, "engine", "the GPU cannot serve this model, the CPU will: " + made.why().text);
  engine_options on_cpu = options;
  on_cpu.device = "cpu";
  on_cpu.weight_type.clear();
  on_cpu.prefill_queue.clear();
  return create(system, path, on_cpu, progress);
}

result<std::unique_ptr<engine>> engine::create_on(kernels::any_lane lane, caf::actor_system& system, const std::string& path,
                                                  const engine_options& wanted, const load_progress& progress) {
  const engine_options options = with_bounds(wanted, lane.device == "cuda" ? gpu_steps : cpu_steps);
  auto p = std::make_unique<parts>();
  p->lane = std::move(lane.lane);
  p->figures.device = std::move(lane.device);
  p->figures.threads = lane.threads;
  p->figures.isa = std::move(lane.isa);
  auto model = models::load_model(path, *p->lane, progress, options.copies);
  if (!model) return model.why();
  p->model = *std::move(model);
  if (!p->model->tokenizer || !p->model->chat_template)
    return error{errc::unsupported, path + " has no vocabulary: it can be timed, not served.", "model"};
  if (auto sized = size_kv(*p->model, *p->lane, options, p->figures); !sized) return sized.why();

  auto second = second_queue(*p->lane, lane, options);
  if (!second) return second.why();
  p->prompts = *std::move(second);
  const planner_options planner = planner_of(options, p->figures, p->prompts != nullptr);
  auto runner = step_runner::create(p->model, *p->lane,
                                    {planner.max_sequences, planner.max_batch_tokens, planner.total_blocks, p->prompts.get()});
  if (!runner) return runner.why();
  p->runner = *std::move(runner);
  if (lane.warm_up)
    if (auto warmed = warm_up(*p->runner, lane.warm_up); !warmed) return warmed.why();
  p->thread = std::make_shared<lane_thread>();
  p->metrics->kv_blocks_total = planner.total_blocks;

  const auto now = [] { return clock::now(); };
  if (p->lane->steps_in_flight() > 1)
    for (int i = 0; i < (p->prompts ? 2 : 1); ++i) p->waiting.push_back(std::make_shared<lane_thread>());
  auto host = make_host_blocks(lane.host_blocks, p->runner->kv(), options.host_kv_bytes, options.prefix_cache);
  if (!host) return host.why();
  p->figures.host_kv_blocks = host->places();
  for (const auto& one : {host->out, host->in})
    if (one) p->copying.push_back(one);
  lane_setup setup{p->thread, p->runner, now, p->metrics, p->waiting.empty() ? nullptr : p->waiting.back()};
  auto links = std::make_shared<engine_links>();
  links->kv_store = spawn_kv_store(system, planner.total_blocks, p->figures.kept_blocks, p->metrics, *std::move(host));
  links->prefill = spawn_lane_actor(system, lane_kind::prefill, setup);
  if (!p->waiting.empty()) setup.waiting = p->waiting.front();
  links->decode = spawn_lane_actor(system, lane_kind::decode, setup);
  links->scheduler = spawn_scheduler(
      system, {planner, now, p->metrics, p->figures.device == "cuda" ? clock::duration(gpu_patience) : clock::duration(), options.on_lost});
  spawn_front(system, options, *p->model, p->figures.context_length, p->counters, p->metrics, *links);
  p->supervisor = spawn_supervisor(system, p->metrics);
  p->links = links;
  wire(*links, links, p->supervisor);
  return std::unique_ptr<engine>(new engine(std::move(p)));
}

engine::engine(std::unique_ptr<parts> p) : parts_(std::move(p)) {}

engine::~engine() { stop(); }

std::shared_ptr<const engine_links> engine::links() const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->links;
}

const models::loaded_model& engine::model() const noexcept { return *parts_->model; }
std::shared_ptr<const engine_metrics> engine::metrics() const noexcept { return parts_->metrics; }
std::shared_ptr<const stream_counters> engine::stream_counts() const noexcept { return parts_->counters; }
const engine_figures& engine::figures() const noexcept { return parts_->figures; }

void engine::drain(std::function<void()> drained) {
  if (const auto all = links()) return caf::anon_send(all->scheduler, drain_scheduler{std::move(drained)});
  drained();
}

bool engine::stop(std::chrono::milliseconds limit) {
  supervisor_handle supervisor;
  {
    const std::lock_guard lock(parts_->mutex);
    parts_->links.reset();
    std::swap(supervisor, parts_->supervisor);
  }
  if (!supervisor) return true;
  // `supervisor` stays held to the end: an actor that nobody can reach is destroyed.
  const auto deadline = clock::now() + limit;
  const auto gone = std::make_shared<std::promise<void>>();
  auto all_gone = gone->get_future();
  // Not with high priority: it must not overtake wire_engine. The handle is kept meanwhile: monitors do not keep the
  // supervisor alive, and an actor that nobody can reach is destroyed.
  caf::anon_send(supervisor, stop_engine{[gone] { gone->set_value(); }});
  bool in_time = all_gone.wait_until(deadline) == std::future_status::ready;
  parts_->thread->stop();  // jobs left over are dropped, and with them their handles
  auto others = parts_->waiting;
  others.insert(others.end(), parts_->copying.begin(), parts_->copying.end());
  for (const auto& one : others) one->stop();
  const auto left = std::max(std::chrono::milliseconds(0),
                             std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()));
  in_time = parts_->thread->stopped_within(left) && in_time;
  for (const auto& one : others) in_time = one->stopped_within(left) && in_time;
  if (!in_time) base::log(base::log_level::warning, "engine", "not every part of the engine ended in time");
  return in_time;
}

}  // namespace troupe::actors
