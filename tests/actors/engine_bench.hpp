// The whole engine on a tiny model, for tests: ask it, wait for an answer, compare with the bare network.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/send.hpp>

#include "actors/engine.hpp"
#include "actors/handles.hpp"
#include "actors/metrics.hpp"
#include "kernels/any_lane.hpp"
#include "kernels/cpu/cpu_lane.hpp"
#include "models/evaluate.hpp"
#include "support/catch.hpp"
#include "support/tiny_model.hpp"

namespace troupe::actors {

struct collector final : event_sink {
  void on_event(const event& e) override {
    const std::lock_guard lock(mutex);
    for (const auto& one : e.logprobs) ids.push_back(one.id);
    if (e.what == event::kind::done || e.what == event::kind::failed) last = e;
    changed.notify_all();
  }
  std::optional<event> wait() {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, std::chrono::seconds(60), [this] { return last.has_value(); });
    return last;
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::int32_t> ids;
  std::optional<event> last;
};

struct engine_bench {
  test::scratch_path path{".gguf"};
  caf::actor_system_config config;
  std::unique_ptr<caf::actor_system> system;
  std::unique_ptr<engine> made;

  /// On `lane`, or on one of its own.
  explicit engine_bench(engine_options options = {}, kernels::any_lane lane = {}) {
    REQUIRE(test::write_tiny_model(path.string()));
    config.set("scheduler.policy", caf::atom("sharing"));
    config.set("scheduler.max-threads", std::size_t{2});
    system = std::make_unique<caf::actor_system>(config);
    options.threads = 1;
    auto created = lane.lane ? engine::create_on(std::move(lane), *system, path.string(), options)
                             : engine::create(*system, path.string(), options);
    REQUIRE(created.ok());
    made = *std::move(created);
  }

  /// Greedy.
  std::shared_ptr<collector> ask(generation_id id, std::vector<std::int32_t> prompt, std::int32_t max_tokens) {
    sampling how;
    how.temperature = 0;
    return ask(id, std::move(prompt), max_tokens, std::move(how));
  }
  std::shared_ptr<collector> ask(generation_id id, std::vector<std::int32_t> prompt, std::int32_t max_tokens,
                                 sampling how) {
    auto what = std::make_shared<request>();
    what->prompt = std::move(prompt);
    what->how = std::move(how);
    what->max_tokens = max_tokens;
    what->top_logprobs = 0;
    what->ignore_eos = true;
    auto sink = std::make_shared<collector>();
    open_generation open;
    open.id = id;
    open.what = what;
    open.subscription = id;
    open.sink = sink;
    open.credit = 1'000'000;
    open.submitted = clock::now();
    const auto links = made->links();
    caf::anon_send(links->streams[id % links->streams.size()], open);
    return sink;
  }

  /// The last event comes a little before the blocks do. False: they do not come.
  bool gives_everything_back() const {
    const auto& now = *made->metrics();
    const auto until = clock::now() + std::chrono::seconds(60);
    while (now.running != 0 || now.queued != 0 || now.kv_blocks_free + now.kv_blocks_cached != now.kv_blocks_total) {
      if (clock::now() > until) return false;
      std::this_thread::yield();
    }
    return true;
  }
};

/// `length` tokens, of which `common` are everybody's.
inline std::vector<std::int32_t> long_prompt(generation_id id, std::int32_t length, std::int32_t common) {
  std::vector<std::int32_t> prompt;
  for (std::int32_t i = 0; i < length; ++i)
    prompt.push_back(3 + (i * 37 + (i < common ? 0 : static_cast<std::int32_t>(id) * 11)) % 250);
  return prompt;
}

inline std::vector<std::int32_t> expected(const std::string& path, const std::vector<std::int32_t>& prompt,
                                          std::int32_t count) {
  auto lane = kernels::make_cpu_lane({});
  auto model = models::load_model(path, **lane);
  auto bare = models::evaluator::create(*model, **lane, 512);
  return bare->continue_greedily(prompt, count)->greedy;
}

}  // namespace troupe::actors
