// Each message is one call on the core; each order of the core is a job for a thread that copies.
#include "actors/kv_store/kv_store_actor.hpp"

#include "actors/actor_base.hpp"
#include "actors/kv_store/kv_store.hpp"
#include "base/log.hpp"
#include "kernels/lane.hpp"

namespace troupe::actors {
namespace {

class kv_store_actor : public actor_base<kv_store_handle> {
public:
  kv_store_actor(caf::actor_config& config, std::int32_t blocks, std::int32_t kept,
                 std::shared_ptr<engine_metrics> metrics, host_blocks host)
      : actor_base(config, std::move(metrics)), host_(std::move(host)),
        store_(blocks, kernels::kv_shape::block_tokens, kept, host_.places()) {
    count();
  }

  const char* name() const override { return "kv_store"; }

protected:
  behavior_type make_behavior() override {
    return {
        [this](const reserve_blocks& m) {
          auto grants = store_.reserve(m.needs);
          if (links_) tell(links_->scheduler, blocks_granted{std::move(grants), store_.free()});
          send_on();
        },
        [this](const offer_blocks& m) {
          for (const computed_rows& one : m.rows) store_.offer(one);
        },
        [this](const release_blocks& m) {
          for (const block_release& one : m.sequences) store_.release(one);
          send_on();
        },
        [this](const blocks_copied& m) {
          measure(m);
          store_.copied(m.order, m.well);
          send_on();
        },
        [this](const wire_engine& m) { links_ = m.links; },
        [this](const stop_actor&) {
          host_ = {};  // a copy in hand may keep this actor: its own thread must not be joined there
          stop();
        },
    };
  }

private:
  void send_on() {
    for (memory::copy_order& order : store_.take_orders()) copy(std::move(order));
    if (auto late = store_.take_late(); !late.empty() && links_)
      tell(links_->scheduler, blocks_arrived{std::move(late)});
    count();
  }

  void copy(memory::copy_order order) {
    const auto& queue = order.way == memory::copy_way::out ? host_.out : host_.in;
    queue->post_in_order(
        [order = std::move(order), copies = host_.copies, self = caf::actor_cast<kv_store_handle>(this)]() mutable {
          const auto made = copies->make(order.way, order.copies);
          if (!made) base::log(base::log_level::warning, "kv_store", "cached blocks are lost: " + made.why().text);
          caf::anon_send(self, blocks_copied{std::move(order), made.ok()});
        });
  }

  void measure(const blocks_copied& done) {
    const auto blocks = static_cast<std::uint64_t>(done.order.copies.size());
    const bool out = done.order.way == memory::copy_way::out;
    auto& bytes = out ? metrics_->kv_host_bytes_out : metrics_->kv_host_bytes_in;
    if (!done.well) metrics_->kv_host_failed_copies.fetch_add(blocks, std::memory_order_relaxed);
    else bytes.fetch_add(blocks * static_cast<std::uint64_t>(host_.copies->block_bytes), std::memory_order_relaxed);
    if (done.well && !out)
      metrics_->kv_host_hit_tokens.fetch_add(blocks * kernels::kv_shape::block_tokens, std::memory_order_relaxed);
  }

  void count() {
    metrics_->kv_blocks_free.store(store_.free() - store_.cached(), std::memory_order_relaxed);
    metrics_->kv_blocks_cached.store(store_.cached(), std::memory_order_relaxed);
    metrics_->kv_host_blocks.store(store_.cached_on_host(), std::memory_order_relaxed);
  }

  host_blocks host_;
  kv_store store_;
};

}  // namespace

kv_store_handle spawn_kv_store(caf::actor_system& system, std::int32_t blocks, std::int32_t kept,
                               std::shared_ptr<engine_metrics> metrics, host_blocks host) {
  return system.spawn<kv_store_actor>(blocks, kept, std::move(metrics), std::move(host));
}

}  // namespace troupe::actors
