// The core of a stream shard: owner of generations, their logs and their subscribers. Time is an argument; what is to
// be sent comes back as values. No threads, no actors; one owner.
//
// Invariants (check): every generation is watched or kept; nobody has read past the log; who has had
// the last event is gone; a pause is in force only while every subscriber lags.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "actors/stream/generation.hpp"
#include "actors/stream/stream_counters.hpp"
#include "actors/stream/stream_limits.hpp"
#include "actors/stream/subscription.hpp"

namespace troupe::actors {

/// A word to the scheduler about a sequence.
struct sequence_order {
  enum class kind { end, pause, resume };
  kind what = kind::end;
  generation_id id = 0;
};

/// What one call leads to, in order. Orders go out before events: who goes on from an answer as soon as it ends is to
/// come after the end at the scheduler, too.
struct stream_outputs {
  std::vector<delivery> events;
  std::vector<sequence_order> orders;
  bool encode = false;  ///< after open: the request goes on to a tokenizer
};

class stream_shard {
public:
  struct opening {
    generation_id id = 0;
    std::shared_ptr<const request> what;
    std::shared_ptr<const operator_chain> operators;  ///< may be null
    std::uint64_t subscription = 0;
    std::shared_ptr<event_sink> sink;
    std::uint32_t credit = 0;
    bool keep = false;
    clock::time_point submitted;
  };

  stream_shard(std::shared_ptr<const models::tokenizer> tokens, stream_limits limits,
               std::shared_ptr<stream_counters> counters);

  void open(const opening& what, clock::time_point now, stream_outputs& out);
  void admitted(generation_id id, std::int32_t prompt_tokens, clock::time_point now, stream_outputs& out);
  void prefill_started(generation_id id, clock::time_point when, std::int32_t cached_tokens);
  /// Tokens of generations that are not here, or have ended, are passed over.
  void step(const step_result& result, stream_outputs& out);
  void failed(generation_id id, const error& why, clock::time_point now, stream_outputs& out);
  /// False: not here, or already ended.
  bool cancel(generation_id id, clock::time_point now, stream_outputs& out);

  void subscribe(generation_id id, std::uint64_t who, std::uint64_t offset, std::shared_ptr<event_sink> sink,
                 std::uint32_t credit, clock::time_point now, stream_outputs& out);
  void unsubscribe(generation_id id, std::uint64_t who, clock::time_point now, stream_outputs& out);
  void add_credit(generation_id id, std::uint64_t who, std::uint32_t events, clock::time_point now,
                  stream_outputs& out);

  /// Drops what has ended longer ago than its time-to-live, and the oldest of too many.
  void sweep(clock::time_point now);
  /// Fails every live generation. Each watcher gets its last event, credit or not: there will be no later time to pay.
  void stop(clock::time_point now, stream_outputs& out);

  std::size_t size() const noexcept { return live_.size(); }  ///< generations held, ended ones included
  const generation* find(generation_id id) const;
  /// Empty, or the broken invariant.
  std::string check() const;

private:
  struct held {
    generation state;
    std::vector<subscription> subscribers;
    bool keep = false;
    bool paused = false;
    bool ended = false;  // counted and in ended_
  };
  using table = std::unordered_map<generation_id, held>;

  void settle(table::iterator at, clock::time_point now, stream_outputs& out);
  void settle_end(held& one, generation_id id, stream_outputs& out);
  void settle_pause(held& one, generation_id id, stream_outputs& out);
  void erase(table::iterator at);
  void count_token(generation& one, const step_token& token, clock::time_point when);
  void count_end(const generation& one);

  std::shared_ptr<const models::tokenizer> tokens_;
  stream_limits limits_;
  std::shared_ptr<stream_counters> counters_;
  table live_;
  std::deque<generation_id> ended_;  // in the order of their ends; ids that are gone are skipped
};

}  // namespace troupe::actors
