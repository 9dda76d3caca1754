// service over loaded models: looks a model up by name, sends a request down its path, and finds the shard of a
// generation. Knows no sockets; actors only as handles behind a pointer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <shared_mutex>
#include <string>
#include <vector>

#include <troupe/operator.hpp>
#include <troupe/service.hpp>

namespace troupe::actors {
struct engine_links;
struct engine_metrics;
struct stream_counters;
}  // namespace troupe::actors

namespace troupe::pipelines {

struct served_model {
  model_card card;
  std::shared_ptr<const actors::engine_links> links;  ///< null once the service is closed
  std::shared_ptr<const actors::engine_metrics> engine;
  std::shared_ptr<const actors::stream_counters> stream;
};

/// Generation ids are random; their top 4 bits name the model's place, so that an id alone finds its shard.
class engine_service final : public service {
public:
  static constexpr std::size_t most_models = 16;

  /// invalid_argument: the name is taken; overloaded: too many models.
  result<void> add(served_model model);
  /// From now on nothing is taken in, and handles are let go. What runs ends by its engine's stop.
  void close();

  result<submission> submit(const std::string& name, request what, std::shared_ptr<event_sink> sink,
                            std::uint32_t credit, bool keep) override;
  /// The same with operators, which a front end over a wire cannot have.
  result<submission> submit(const std::string& name, request what, std::shared_ptr<const operator_chain> operators,
                            std::shared_ptr<event_sink> sink, std::uint32_t credit, bool keep);

  std::vector<model_card> models() const override;
  subscription_id subscribe(generation_id id, std::uint64_t offset, std::shared_ptr<event_sink> sink,
                            std::uint32_t credit) override;
  void unsubscribe(generation_id id, subscription_id who) override;
  void add_credit(generation_id id, subscription_id who, std::uint32_t events) override;
  void cancel(generation_id id, std::function<void(bool found)> found) override;
  void check_health(std::function<void(result<void>)> answer) override;
  std::string metrics_text() const override;

private:
  std::shared_ptr<const actors::engine_links> links_of(generation_id id) const;

  mutable std::shared_mutex mutex_;
  std::vector<served_model> models_;
  bool closed_ = false;
  std::atomic<subscription_id> next_subscription_{1};
};

}  // namespace troupe::pipelines
