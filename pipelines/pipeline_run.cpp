// One actor per part; its only message says "advance".
#include "pipelines/pipeline_run.hpp"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>

#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>

namespace troupe::pipelines {

struct advance_part {};

}  // namespace troupe::pipelines

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::pipelines::advance_part)

namespace troupe::pipelines {
namespace {

// What the caller waits for.
class tally {
public:
  explicit tally(std::size_t parts) : left_(parts) {}
  void finish(std::optional<error> why) {
    const std::lock_guard lock(mutex_);
    if (why && !why_) why_ = std::move(why);
    --left_;
    changed_.notify_all();
  }
  result<void> wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return left_ == 0; });
    return why_ ? result<void>(*why_) : result<void>();
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t left_;
  std::optional<error> why_;
};

class part_actor : public caf::event_based_actor {
public:
  part_actor(caf::actor_config& config, std::shared_ptr<part> what, std::shared_ptr<tally> all)
      : caf::event_based_actor(config), part_(std::move(what)), all_(std::move(all)) {}

  const char* name() const override { return "pipeline part"; }

protected:
  caf::behavior make_behavior() override {
    part_->on_wake([self = caf::actor(this)] { caf::anon_send(self, advance_part{}); });
    send(this, advance_part{});
    return {[this](const advance_part&) { advance(); }};
  }

private:
  void advance() {
    if (!part_) return;  // a wake from before its end
    try {
      const part::progress came_to = part_->advance();
      if (came_to == part::progress::more) return send(this, advance_part{});
      if (came_to == part::progress::finished) finish(std::nullopt);
    } catch (const failure& f) {
      abandon(f.why());
    } catch (const std::exception& e) {
      abandon({errc::internal, std::string("a stage failed: ") + e.what(), {}});
    }
  }
  void abandon(error why) {
    part_->abandon();
    finish(std::move(why));
  }
  void finish(std::optional<error> why) {
    part_.reset();
    all_->finish(std::move(why));
    quit();
  }

  std::shared_ptr<part> part_;
  std::shared_ptr<tally> all_;
};

}  // namespace

result<void> run_graph(caf::actor_system& system, pipeline_graph graph) {
  const auto all = std::make_shared<tally>(graph.parts.size());
  for (auto& [what, where] : graph.parts) {
    if (where == placement::on_thread) system.spawn<part_actor, caf::detached>(std::move(what), all);
    else system.spawn<part_actor>(std::move(what), all);
  }
  return all->wait();
}

}  // namespace troupe::pipelines
