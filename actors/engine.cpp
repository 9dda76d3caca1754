// Builds the parts of one model in order, wires them, and takes them apart in reverse.
#include "actors/engine.hpp"

#include <algorithm>
#include <future>
#include <mutex>
#include <optional>
#include <utility>

#include <caf/actor_system.hpp>
#include <caf/send.hpp>

#include "actors/engine_defaults.hpp"
#include "actors/handles.hpp"
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
#include "kernels/any_lane.hpp"
#include "models/model.hpp"

namespace troupe::actors {

// In the order of their making: what is later uses what is earlier. load, make_runner and spawn are called once each,
// in this order; `options` are settled.
struct engine::parts {
  result<void> load(kernels::any_lane& on, const std::string& path, const engine_options& options,
                    const load_progress& progress);
  result<void> make_runner(const kernels::any_lane& on, const engine_options& options);
  result<void> spawn(caf::actor_system& system, const kernels::any_lane& on, const engine_options& options);

  std::unique_ptr<kernels::lane> lane;
  std::unique_ptr<kernels::lane> prompts;  // a second queue of the same device; null: one does all
  std::shared_ptr<const models::loaded_model> model;
  engine_figures figures;
  planner_options planner;
  std::shared_ptr<engine_metrics> metrics = std::make_shared<engine_metrics>();
  std::shared_ptr<stream_counters> counters = std::make_shared<stream_counters>();
  std::shared_ptr<step_runner> runner;
  std::shared_ptr<lane_thread> thread;
  std::vector<std::shared_ptr<lane_thread>> waiting;  // one a queue: where steps are waited for that a device computes
  std::vector<std::shared_ptr<lane_thread>> copying;  // KV blocks to host memory, and back
  mutable std::mutex mutex;                           // links and supervisor: read by any thread, dropped by stop
  std::shared_ptr<const engine_links> links;
  supervisor_handle supervisor;
};

namespace {

/// Else the first long prompt beside decodes would hold them up at every turn (bench/cuda.md).
result<void> warm_up(step_runner& runner, const kernels::lane_warming& how) {
  const auto began = clock::now();
  if (auto r = runner.warm_up(how); !r) return r;
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - began).count();
  base::log(base::log_level::info, "engine", "warmed up in " + std::to_string(took) + " ms");
  return {};
}

void spawn_front(caf::actor_system& system, const engine_options& options, const models::loaded_model& model,
                 std::int32_t context_length, const std::shared_ptr<stream_counters>& counters,
                 const std::shared_ptr<engine_metrics>& metrics, engine_links& links) {
  for (std::int32_t i = 0; i < std::max(1, options.stream_shards); ++i)
    links.streams.push_back(
        spawn_stream(system, {static_cast<std::uint32_t>(i), model.tokenizer, options.stream, counters, metrics}));
  const auto encoder = std::make_shared<const prompt_encoder>(model.tokenizer, *model.chat_template, context_length);
  for (std::int32_t i = 0; i < std::max(1, options.tokenizers); ++i)
    links.tokenizers.push_back(spawn_tokenizer(system, encoder, metrics));
}

/// The supervisor first: it must watch before anything can end.
void wire(const engine_links& of, const std::shared_ptr<const engine_links>& links,
          const supervisor_handle& supervisor) {
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
  auto chosen = kernels::make_lane(options.device, {options.threads, options.isa, options.repack, options.kv_type,
                                                    options.copies, options.weight_type, options.deterministic});
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

result<std::unique_ptr<engine>> engine::create_on(kernels::any_lane lane, caf::actor_system& system,
                                                  const std::string& path, const engine_options& wanted,
                                                  const load_progress& progress) {
  const engine_options options = with_bounds(wanted, lane.device);
  auto p = std::make_unique<parts>();
  if (auto r = p->load(lane, path, options, progress); !r) return r.why();
  if (auto r = p->make_runner(lane, options); !r) return r.why();
  if (auto r = p->spawn(system, lane, options); !r) return r.why();
  return std::unique_ptr<engine>(new engine(std::move(p)));
}

result<void> engine::parts::load(kernels::any_lane& on, const std::string& path, const engine_options& options,
                                 const load_progress& progress) {
  lane = std::move(on.lane);
  figures.device = on.device;
  figures.threads = on.threads;
  figures.isa = on.isa;
  auto loaded = models::load_model(path, *lane, progress, options.copies);
  if (!loaded) return loaded.why();
  model = *std::move(loaded);
  if (!model->tokenizer || !model->chat_template)
    return error{errc::unsupported, path + " has no vocabulary: it can be timed, not served.", "model"};
  return size_kv(*model, *lane, options, figures);
}

result<void> engine::parts::make_runner(const kernels::any_lane& on, const engine_options& options) {
  auto second = second_queue(*lane, on, options);
  if (!second) return second.why();
  prompts = *std::move(second);
  planner = planner_of(options, figures, prompts != nullptr);
  auto made = step_runner::create(
      model, *lane, {planner.max_sequences, planner.max_batch_tokens, planner.total_blocks, prompts.get()});
  if (!made) return made.why();
  runner = *std::move(made);
  return on.warm_up ? warm_up(*runner, on.warm_up) : result<void>();
}

result<void> engine::parts::spawn(caf::actor_system& system, const kernels::any_lane& on,
                                  const engine_options& options) {
  auto host = make_host_blocks(on.host_blocks, runner->kv(), options.host_kv_bytes, options.prefix_cache);
  if (!host) return host.why();
  figures.host_kv_blocks = host->places();
  for (const auto& one : {host->out, host->in})
    if (one) copying.push_back(one);
  thread = std::make_shared<lane_thread>();
  if (lane->steps_in_flight() > 1)
    for (int i = 0; i < (prompts ? 2 : 1); ++i) waiting.push_back(std::make_shared<lane_thread>());
  metrics->kv_blocks_total = planner.total_blocks;

  const auto now = [] { return clock::now(); };
  const auto setup = [&](std::size_t queue) {
    return lane_setup{thread, runner, now, metrics,
                      waiting.empty() ? nullptr : waiting[std::min(queue, waiting.size() - 1)]};
  };
  auto made = std::make_shared<engine_links>();
  made->kv_store = spawn_kv_store(system, planner.total_blocks, figures.kept_blocks, metrics, *std::move(host));
  made->prefill = spawn_lane_actor(system, lane_kind::prefill, setup(1));
  made->decode = spawn_lane_actor(system, lane_kind::decode, setup(0));
  made->scheduler = spawn_scheduler(system, {planner, now, metrics, patience_of(figures), options.on_lost});
  spawn_front(system, options, *model, figures.context_length, counters, metrics, *made);
  supervisor = spawn_supervisor(system, metrics);
  links = made;
  wire(*made, links, supervisor);
  return {};
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
