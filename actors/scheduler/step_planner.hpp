// Continuous batching: who waits, who runs, what the next steps compute. A pure state machine: no clock, no threads,
// no actors; knows no tensor and no text.
//
// Rules. Decodes go before prompt chunks, chunks in order of arrival, all under max_batch_tokens. Steps are planned
// while earlier ones compute, so a decode row may be planned before the token it feeds is known; ends by length are
// foreseen, ends by token come a step late. Blocks are asked for ahead of need. When the pool is dry the youngest
// gives up its blocks and waits at the front with its tokens so far. Where prefixes are shared, rows of finished steps
// are offered to the store, a sequence starts behind what others have computed, and waits for what another computes.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <troupe/result.hpp>

#include "actors/kv_store/block_grant.hpp"
#include "actors/scheduler/awaited_prefixes.hpp"
#include "actors/scheduler/planned_sequence.hpp"
#include "actors/scheduler/planner_options.hpp"
#include "actors/scheduler/planner_outputs.hpp"
#include "actors/scheduler/step_cost.hpp"
#include "actors/step_plan.hpp"

namespace troupe::actors {

/// One owner, one thread. Each call costs at most a pass over the running set.
class step_planner {
public:
  explicit step_planner(planner_options options);

  void admit(std::shared_ptr<const sequence_terms> terms, std::shared_ptr<const std::vector<std::int32_t>> prompt,
             std::uint32_t shard, planner_outputs& out);
  void end(generation_id id, planner_outputs& out);
  void pause(generation_id id, bool on, planner_outputs& out);
  void done(const step_result& result, planner_outputs& out);
  void granted(const std::vector<block_grant>& grants, std::int32_t free_blocks, planner_outputs& out);
  /// Grants that were promised; an empty one is to be asked for again.
  void arrived(const std::vector<block_grant>& grants, planner_outputs& out);
  /// From now on admit refuses with shutting_down.
  void close() { closed_ = true; }
  /// Fails and forgets everything; steps in flight are not waited for.
  void fail_all(const error& why, planner_outputs& out);

  bool empty() const { return sequences_.empty(); }
  std::size_t queued() const { return queue_.size(); }
  std::size_t running() const { return running_.size(); }
  std::int32_t steps_in_flight(lane_kind lane) const { return flying_[static_cast<std::size_t>(lane)]; }
  std::int32_t free_blocks() const { return free_; }

  /// Empty, or the broken invariant. Linear in the sequences.
  std::string check() const;
  /// A line for each sequence: what a failing test prints.
  std::string draw() const;

private:
  using sequence = planned_sequence;
  struct flight {
    lane_kind lane;
    struct part {
      generation_id id;
      std::int32_t rows;  // its KV rows, once the step is over
    };
    std::vector<part> of;
    step_size size = {};
    bool beside = false;  ///< planned while the other queue computed prompts
    bool typical = true;  ///< that has not changed since
  };

  void refuse(const sequence_terms& terms, std::uint32_t shard, errc code, std::string text, planner_outputs& out);
  void advance(planner_outputs& out);
  void spoil(generation_id id);
  void take_token(const step_token& token);
  void take_rows(const flight& what, planner_outputs& out);
  void give_back(std::int32_t blocks);
  block_release release_of(const sequence& one) const;
  void learn(const flight& what, const step_result& result);
  void settle(sequence& one, planner_outputs& out);
  void offer_all(sequence& one, planner_outputs& out);
  void release(sequence& one, planner_outputs& out);
  void requeue(sequence& one);
  void enter(sequence& one);
  void leave_queue(sequence& one);
  void preempt(sequence& one, planner_outputs& out);
  // block_demand.cpp
  void take_grant(sequence& one, const block_grant& grant, planner_outputs& out);
  std::int32_t entry_blocks(const sequence& one) const;
  std::int32_t reserve_for(std::size_t running) const;
  bool stalled(const sequence& one) const;
  bool retiring() const;
  void relieve(planner_outputs& out);
  bool make_room(planner_outputs& out);
  void ask(planner_outputs& out);
  void ask_for_waiting(std::int32_t left, planner_outputs& out);
  awaited_prefixes prefixes_being_computed() const;
  // step_builder.cpp
  bool free_for(const sequence& one, lane_kind lane) const;
  bool build(planner_outputs& out);
  bool build_on(lane_kind lane, planner_outputs& out);
  std::int32_t add_decodes(step_plan& plan, flight& what);
  void add_chunks(step_plan& plan, flight& what, std::int32_t left, planner_outputs& out);
  bool belongs_on(const sequence& one, lane_kind lane) const;
  bool goes_aside(const sequence& one, const flight& what) const;
  std::int32_t bounded_chunk(const sequence& one, const flight& what, std::int32_t wanted) const;
  void add_work(step_plan& plan, flight& what, sequence& one, std::int32_t rows);

  planner_options options_;
  std::unordered_map<generation_id, sequence> sequences_;
  std::vector<sequence*> running_;  // with a slot (running, yielding, ended with steps in flight), by arrival
  std::deque<sequence*> queue_;     // by arrival
  std::vector<std::int32_t> free_slots_;
  std::vector<slot_leave> leaves_;
  std::unordered_map<std::uint64_t, flight> flights_;
  std::array<std::int32_t, 2> flying_{};  // by lane_kind
  std::array<step_cost, 2> cost_;         // of decode steps and mixed ones: alone on the device, and beside prompts
  std::int32_t mixed_of_late_ = 0;        // most prompt rows beside decodes, fading
  std::array<clock::time_point, 2> last_ended_{};  // by queue: of one queue, both kinds are in the second
  std::int64_t queued_tokens_ = 0;
  std::int32_t free_ = 0;                // blocks, as last reported and released since
  std::int32_t released_meanwhile_ = 0;  // while an answer of the store is on its way
  std::uint64_t next_arrival_ = 1;
  std::uint64_t next_step_ = 1;
  bool asking_ = false;
  bool shared_ = false;      // some sequence once got blocks that others use: what is free is only known from the store
  bool step_ended_ = false;  // the call in hand is done()
  bool closed_ = false;
};

}  // namespace troupe::actors
