// Each message is one call on the core.
#include "actors/kv_store/kv_store_actor.hpp"

#include "actors/actor_base.hpp"
#include "actors/kv_store/kv_store.hpp"
#include "kernels/lane.hpp"

namespace troupe::actors {
namespace {

class kv_store_actor : public actor_base<kv_store_handle> {
public:
  kv_store_actor(caf::actor_config& config, std::int32_t blocks, std::int32_t kept, std::shared_ptr<engine_metrics> metrics)
      : actor_base(config, std::move(metrics)), store_(blocks, kernels::kv_shape::block_tokens, kept) {
    count();
  }

  const char* name() const override { return "kv_store"; }

protected:
  behavior_type make_behavior() override {
    return {
        [this](const reserve_blocks& m) {
          auto grants = store_.reserve(m.needs);
          count();
          if (links_) tell(links_->scheduler, blocks_granted{std::move(grants), store_.free()});
        },
        [this](const offer_blocks& m) {
          for (const computed_rows& one : m.rows) store_.offer(one);
        },
        [this](const release_blocks& m) {
          for (const block_release& one : m.sequences) store_.release(one);
          count();
        },
        [this](const wire_engine& m) { links_ = m.links; },
        [this](const stop_actor&) { stop(); },
    };
  }

private:
  void count() {
    metrics_->kv_blocks_free.store(store_.free() - store_.cached(), std::memory_order_relaxed);
    metrics_->kv_blocks_cached.store(store_.cached(), std::memory_order_relaxed);
  }

  kv_store store_;
};

}  // namespace

kv_store_handle spawn_kv_store(caf::actor_system& system, std::int32_t blocks, std::int32_t kept, std::shared_ptr<engine_metrics> metrics) {
  return system.spawn<kv_store_actor>(blocks, kept, std::move(metrics));
}

}  // namespace troupe::actors
