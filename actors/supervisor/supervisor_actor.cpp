// Monitors, and passes on what the lineup decides.
#include "actors/supervisor/supervisor_actor.hpp"

#include <functional>
#include <string>
#include <unordered_map>

#include "actors/actor_base.hpp"
#include "actors/supervisor/lineup.hpp"
#include "base/log.hpp"

namespace troupe::actors {
namespace {

// Sources of new work stop first, those that deliver last.
enum stop_rank { rank_tokenizers, rank_scheduler, rank_lanes, rank_kv_store, rank_streams };

class supervisor_actor : public actor_base<supervisor_handle> {
public:
  supervisor_actor(caf::actor_config& config, std::shared_ptr<engine_metrics> metrics)
      : actor_base(config, std::move(metrics)) {
    set_down_handler([this](const caf::down_msg& m) {
      const auto at = places_.find(m.source);
      if (at == places_.end()) return;
      const std::size_t index = at->second;
      react(lineup_.down(index), index);
    });
  }

  const char* name() const override { return "supervisor"; }

  void on_exit() override {
    actor_base::on_exit();
    stops_.clear();
  }

protected:
  behavior_type make_behavior() override {
    return {
        [this](const wire_engine& m) { watch_all(m.links); },
        [this](const stop_engine& m) {
          stopped_ = m.stopped;
          react(lineup_.begin_stop(), 0);
        },
    };
  }

private:
  void watch_all(const std::shared_ptr<const engine_links>& links) {
    links_ = links;
    for (const auto& one : links->tokenizers) watch(one, "tokenizer", rank_tokenizers);
    watch(links->scheduler, "scheduler", rank_scheduler);
    watch(links->prefill, "prefill", rank_lanes);
    watch(links->decode, "decode", rank_lanes);
    watch(links->kv_store, "kv_store", rank_kv_store);
    for (const auto& one : links->streams) watch(one, "stream", rank_streams);
    lineup_.serve();
  }

  template <class Handle>
  void watch(const Handle& who, const char* name, stop_rank rank) {
    if (!who) return;
    places_.emplace(who.address(), lineup_.add(name, rank));
    stops_.push_back([this, who] { tell(who, stop_actor{}); });
    monitor(who);
  }

  void react(const lineup::reaction& what, std::size_t index) {
    if (what.failed) fail(lineup_.members()[index].name);
    for (const std::size_t one : what.stop) stops_[one]();
    if (!what.stopped) return;
    if (stopped_) stopped_();
    stopped_ = nullptr;
    quit();
  }

  /// No actor is started anew: clients are told, health turns bad, and whoever runs the process replaces it.
  void fail(const std::string& name) {
    metrics_->healthy.store(false, std::memory_order_relaxed);
    base::log(base::log_level::error, "supervisor", "the " + name + " actor ended unexpectedly; the engine has failed");
    const error why{errc::internal, "A part of the engine (" + name + ") has failed; restart the server.", {}};
    if (name == "scheduler")  // it alone knows what runs; the shards then fail what they hold
      for (const auto& one : links_->streams) tell(one, stop_actor{});
    else tell(links_->scheduler, fail_sequences{why});
  }

  lineup lineup_;
  std::unordered_map<caf::actor_addr, std::size_t> places_;
  std::vector<std::function<void()>> stops_;
  std::function<void()> stopped_;
};

}  // namespace

supervisor_handle spawn_supervisor(caf::actor_system& system, std::shared_ptr<engine_metrics> metrics) {
  return system.spawn<supervisor_actor>(std::move(metrics));
}

}  // namespace troupe::actors
