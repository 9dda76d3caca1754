// The runtime as a front end sees it: asynchronous, no actors, no sockets. The server talks to this and nothing
// else; tests put a scripted one in its place.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <troupe/event.hpp>
#include <troupe/request.hpp>

namespace troupe {

using subscription_id = std::uint64_t;  ///< unique within a process

struct model_card {
  std::string name;
  std::int64_t created = 0;  ///< seconds since 1970, of the file
  std::int32_t context_length = 0;
  std::int32_t vocabulary = 0;
};

struct submission {
  generation_id generation = 0;
  subscription_id subscription = 0;
};

/// Every call returns at once, from any thread; what goes wrong later arrives as an event.
class service {
public:
  virtual ~service() = default;

  virtual std::vector<model_card> models() const = 0;

  /// Opens a generation on model `name` ("" = the first) and subscribes `sink` from offset 0 with `credit` events.
  /// `keep`: the generation outlives its subscribers and can be watched until its time-to-live ends; otherwise it is
  /// cancelled when the last subscriber leaves. Errors here: unknown model, a field out of range, shutting down.
  virtual result<submission> submit(const std::string& name, request what, std::shared_ptr<event_sink> sink,
                                    std::uint32_t credit, bool keep) = 0;

  /// Watches a generation from a log offset. Unknown id or offset: one `failed` event (not_found, invalid_argument).
  virtual subscription_id subscribe(generation_id id, std::uint64_t offset, std::shared_ptr<event_sink> sink,
                                    std::uint32_t credit) = 0;
  virtual void unsubscribe(generation_id id, subscription_id who) = 0;
  /// Each event spends one credit; at zero a subscriber gets nothing, its cursor stays, and later text is joined into
  /// deltas of about 4 KiB. When every subscriber lags far behind, decoding of that generation pauses. At the runtime's
  /// end each subscriber gets its last event even without credit.
  virtual void add_credit(generation_id id, subscription_id who, std::uint32_t events) = 0;
  /// Ends it with `done` (cancelled). `found(false)` where no such generation lives. Called on a runtime thread.
  virtual void cancel(generation_id id, std::function<void(bool found)> found = {}) = 0;

  /// True health: answers when every model's lane has run a token step lately or answers now; never answers where the
  /// engine hangs, so the caller sets its own time limit.
  virtual void check_health(std::function<void(result<void>)> answer) = 0;
  /// Prometheus text exposition format 0.0.4, engine part. Cheap: reads atomics.
  virtual std::string metrics_text() const = 0;
};

}  // namespace troupe
