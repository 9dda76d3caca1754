// The planner's dealings with KV memory: what to ask for, what comes of it, and who gives way when there is none.
#include <algorithm>

#include "actors/scheduler/step_planner.hpp"

namespace troupe::actors {

/// The prompt and one token more, if there will be one: less would be of no use.
std::int32_t step_planner::entry_blocks(const sequence& one) const {
  return blocks_for(std::min(one.known_rows() + 1, one.final_rows()), options_.block_tokens);
}

bool step_planner::stalled(const sequence& one) const {
  return one.stage == sequence_stage::running && !one.paused && one.refused && one.wants_decode() &&
         one.rows >= one.blocks * options_.block_tokens;
}

/// Somebody's blocks are about to come free.
bool step_planner::retiring() const {
  return std::any_of(running_.begin(), running_.end(),
                     [](const sequence* one) { return one->stage != sequence_stage::running; });
}

/// The pool is dry and somebody cannot go on: the youngest yields; who is alone can never go on.
void step_planner::relieve(planner_outputs& out) {
  if (asking_ || running_.empty() || retiring()) return;
  if (std::none_of(running_.begin(), running_.end(), [this](const sequence* one) { return stalled(*one); })) return;
  sequence& youngest = *running_.back();
  if (running_.size() > 1) return preempt(youngest, out);
  if (!youngest.idle()) return;  // the token in flight may be its last
  // Who is promised blocks will be the youngest.
  if (std::any_of(queue_.begin(), queue_.end(), [](const sequence* one) { return one->promised; })) return;
  refuse(*youngest.terms, youngest.shard, errc::out_of_memory,
         "The KV memory of " + std::to_string(std::int64_t{options_.total_blocks} * options_.block_tokens) +
             " tokens is full and nobody else holds any of it.",
         out);
  youngest.stage = sequence_stage::ended;
  settle(youngest, out);
}

/// A reader so slow that its sequence is paused must not keep others out: it yields to whoever waits. True: one did.
bool step_planner::make_room(planner_outputs& out) {
  if (asking_ || retiring()) return false;
  const auto waiting =
      std::find_if(queue_.begin(), queue_.end(), [](const sequence* one) { return !one->paused && !one->asked; });
  if (waiting == queue_.end()) return false;
  // How many of its blocks are there already, the store alone knows: it is asked first.
  const bool fits = !free_slots_.empty() && !(*waiting)->refused &&
                    (options_.share_prefixes || entry_blocks(**waiting) + reserve_for(running_.size()) <= free_);
  if (fits) return false;
  const auto victim = std::find_if(running_.rbegin(), running_.rend(), [](const sequence* one) { return one->paused; });
  if (victim == running_.rend()) return false;
  preempt(**victim, out);
  return true;
}

/// Free blocks to leave when one more enters: each that runs will soon want another, and to admit a sequence only to
/// preempt it at once is waste.
std::int32_t step_planner::reserve_for(std::size_t running) const { return static_cast<std::int32_t>(running); }

void step_planner::ask(planner_outputs& out) {
  if (asking_) return;
  const std::size_t before = out.needs.size();
  std::int32_t left = free_;
  for (sequence* one : running_) {
    if (one->stage != sequence_stage::running || one->paused || one->refused || one->promised) continue;
    const std::int32_t rows = std::min(one->final_rows(), one->rows + options_.block_headroom);
    const std::int32_t blocks = blocks_for(rows, options_.block_tokens) - one->blocks;
    if (blocks <= 0) continue;
    out.needs.push_back({one->terms->generation, blocks});
    one->asked = true;
    left -= blocks;
  }
  ask_for_waiting(left, out);
  asking_ = out.needs.size() > before;
}

/// Prompts are computed in the order of arrival: who waits for the rows of an earlier one loses little, and nobody
/// computes them twice.
awaited_prefixes step_planner::prefixes_being_computed() const {
  awaited_prefixes found(options_.block_tokens, options_.least_awaited);
  if (!options_.share_prefixes || queue_.empty() || free_slots_.empty()) return found;
  for (const sequence* one : running_)
    if (one->stage == sequence_stage::running && !one->paused) found.add(*one);
  return found;
}

void step_planner::ask_for_waiting(std::int32_t left, planner_outputs& out) {
  awaited_prefixes computed = prefixes_being_computed();
  std::size_t asked = 0;
  for (const sequence* one : queue_) {  // what comes later takes a slot, too
    if (!one->promised) continue;
    ++asked;
    computed.add(*one);
  }
  for (std::size_t i = 0; i < queue_.size() && asked < free_slots_.size(); ++i) {
    sequence& one = *queue_[i];
    if (one.paused || one.promised || computed.contain_beginning_of(one)) continue;
    const std::int32_t blocks = entry_blocks(one);
    if (blocks > options_.total_blocks) {  // grew past the pool, then yielded
      refuse(*one.terms, one.shard, errc::out_of_memory, "The tokens so far no longer fit the KV memory.", out);
      leave_queue(one);
      sequences_.erase(one.terms->generation);
      --i;
      continue;
    }
    const std::int32_t spare = reserve_for(running_.size() + asked);
    const bool fits = blocks + spare <= left;
    if (one.refused || (!fits && !options_.share_prefixes)) return;
    out.needs.push_back({one.terms->generation, blocks, spare, options_.share_prefixes ? one.known : nullptr});
    one.asked = true;
    left -= blocks;
    if (!fits) return;  // only if others have computed its beginning
    ++asked;
    computed.add(one);
  }
}

void step_planner::granted(const std::vector<block_grant>& grants, std::int32_t free_blocks, planner_outputs& out) {
  asking_ = false;
  free_ = std::min(free_blocks + released_meanwhile_, options_.total_blocks);
  // A no that was said before the store heard of a release says nothing of what is free now: ask again.
  const auto gone = [this](const block_grant& grant) {
    const auto at = sequences_.find(grant.id);
    return at == sequences_.end() || !at->second.asked;  // a release is on its way to the store
  };
  const bool stale = released_meanwhile_ > 0 || std::any_of(grants.begin(), grants.end(), gone);
  released_meanwhile_ = 0;
  for (const block_grant& grant : grants) {
    shared_ |= grant.cached > 0 || grant.later;
    if (gone(grant)) {
      // How many it holds for a promise, the store alone knows; what is free, it says when it is asked next.
      give_back(grant.later ? options_.total_blocks : static_cast<std::int32_t>(grant.blocks.size()));
      continue;
    }
    sequence& one = sequences_.find(grant.id)->second;
    one.promised = grant.later;
    if (grant.later) continue;
    one.refused = grant.blocks.empty() && !stale;
    take_grant(one, grant, out);
  }
  advance(out);
}

void step_planner::arrived(const std::vector<block_grant>& grants, planner_outputs& out) {
  for (const block_grant& grant : grants) {
    const auto at = sequences_.find(grant.id);
    if (at != sequences_.end() && at->second.promised) {
      take_grant(at->second, grant, out);
      continue;
    }
    // Of one that has left: its release is on its way.
    const auto blocks = static_cast<std::int32_t>(grant.blocks.size());
    give_back(blocks);
    if (asking_) released_meanwhile_ += blocks;
  }
  give_back(0);  // what was refused may be there now
  advance(out);
}

void step_planner::take_grant(sequence& one, const block_grant& grant, planner_outputs& out) {
  one.asked = one.promised = false;
  one.blocks += static_cast<std::int32_t>(grant.blocks.size());
  one.new_blocks.insert(one.new_blocks.end(), grant.blocks.begin(), grant.blocks.end());
  if (one.stage != sequence_stage::queued || grant.blocks.empty()) return;
  one.cached = one.rows = one.computed = grant.cached;
  one.offered = grant.cached / options_.block_tokens;
  out.cached_rows += grant.cached;
  enter(one);
}

}  // namespace troupe::actors
