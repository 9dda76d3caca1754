// A step planner with a kv_store and a lane around it, driven by hand: messages wait in queues until the test lets one
// through. Checks what the real lane relies on while it goes. Knows no CAF.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "actors/kv_store/kv_store.hpp"
#include "actors/scheduler/step_planner.hpp"

namespace troupe::actors {

/// Token `index` of a generation: any pure function will do.
inline std::int32_t true_token(generation_id id, std::int32_t index) {
  return static_cast<std::int32_t>((id * 2654435761u + static_cast<std::uint64_t>(index) * 40503u) % 50000u);
}

class simulated_engine {
public:
  struct fate {
    std::int32_t prompt = 0;
    std::int32_t max_tokens = 0;
    std::int32_t eos_after = -1;  ///< index of the token that is the end token; -1: none
    bool admitted = false;
    bool cancelled = false;
    bool step_failed = false;
    std::int32_t cached = 0;  ///< as told at its start
    int ends = 0;
    errc why = errc::internal;
    sequence_end how = sequence_end::none;
    std::vector<std::int32_t> tokens;
  };

  simulated_engine(planner_options options, std::int32_t host_blocks = 0)
      : planner(options), store(options.total_blocks, options.block_tokens, options.total_blocks, host_blocks),
        options_(options) {}

  /// Prompts of a family begin alike, as far as they both go; where `common` is not 0, so far with every family.
  void admit(generation_id id, std::int32_t prompt, std::int32_t max_tokens, std::int32_t eos_after,
             std::int32_t family = 0, std::int32_t common = 0);
  void admit_tokens(generation_id id, std::vector<std::int32_t> prompt, std::int32_t max_tokens,
                    std::int32_t eos_after);
  void cancel(generation_id id);
  void pause(generation_id id, bool on);
  /// Lets the `n`th of the waiting things happen: a message to the store, an answer of it, a step of a lane, a result,
  /// a copy out to the host or, from 6 on, one in.
  void let(std::size_t n);
  /// The next step fails: what it writes is garbage.
  void fail_a_step() { failing_ = true; }
  /// The next copy fails, and leaves garbage where it wrote.
  void fail_a_copy() { failing_copy_ = true; }
  std::size_t waiting() const;
  std::size_t restoring() const { return copies_[1].size(); }
  void run_dry();

  step_planner planner;
  kv_store store;
  std::map<generation_id, fate> fates;
  std::vector<generation_id> admission_order;  ///< of first prefill steps
  std::vector<step_plan> plans;
  std::string broken;  ///< the first broken rule
  std::int32_t preemptions = 0;
  std::int64_t prompt_rows = 0;  ///< computed
  std::int64_t cached_rows = 0;
  std::int64_t restored = 0;  ///< blocks copied back
  std::int64_t lost = 0;      ///< blocks whose copy failed

private:
  struct slot_state {
    generation_id generation = 0;
    std::uint64_t joined = 0;
    std::vector<std::int32_t> known;
    std::int32_t generated = 0, rows = 0, max_tokens = 0;
    std::vector<std::int32_t> blocks;
    bool ended = false;
    std::size_t prompt = 0;
  };
  struct store_message {
    std::vector<computed_rows> computed;
    std::vector<block_release> releases;
    std::vector<block_need> needs;
  };

  void take(planner_outputs& out);
  void expect(bool rule, const std::string& text) {
    if (!rule && broken.empty()) broken = text + "\n" + planner.draw() + store.draw();
  }
  void run_store();
  void see(const std::vector<block_grant>& grants);
  void hear_store();
  void hear_copy(memory::copy_order order);
  void run_copy(memory::copy_way way);
  std::vector<std::uint64_t> rows_of(std::int32_t block) const;
  void run_lane(std::size_t lane);
  void run_work(const slot_work& work, bool fails, step_result& result);
  void touch_kv(const slot_state& slot, const slot_work& work, bool fails);
  void deliver();

  planner_options options_;
  std::deque<store_message> to_store_;
  struct store_answer {
    std::vector<block_grant> grants;
    std::int32_t free = 0;
    bool late = false;
  };
  /// With what its sources held when it was ordered.
  struct waiting_copy {
    memory::copy_order order;
    std::vector<std::vector<std::uint64_t>> sources;
  };
  std::deque<store_answer> from_store_;
  std::deque<waiting_copy> copies_[2];
  std::set<std::int32_t> copying_;                           ///< blocks
  std::map<std::int32_t, std::vector<std::uint64_t>> host_;  ///< rows of each place
  std::deque<std::shared_ptr<const step_plan>> lanes_[2];
  std::deque<step_result> results_;
  std::map<std::int32_t, slot_state> slots_;
  std::map<std::int32_t, std::set<generation_id>> holders_;  ///< of each block, as the store sees it
  std::map<std::int32_t, std::uint64_t>
      kv_;  ///< of a row of a block: what stands for all tokens that it was computed from
  bool failing_ = false, failing_copy_ = false;
};

}  // namespace troupe::actors
