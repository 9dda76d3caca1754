// What happens to sequences: arrivals, ends, tokens, grants, preemption. Plans are built in step_builder.cpp.
#include "actors/scheduler/step_planner.hpp"

#include <algorithm>

namespace troupe::actors {

namespace {

bool older(const planned_sequence* a, const planned_sequence* b) { return a->arrival < b->arrival; }

generation_id id_of(const planned_sequence& one) { return one.terms->generation; }

}  // namespace

step_planner::step_planner(planner_options options) : options_(options), free_(options.total_blocks) {
  options_.max_sequences = std::max(1, options_.max_sequences);
  options_.max_batch_tokens = std::max(options_.max_batch_tokens, options_.max_sequences + options_.block_tokens);
  for (std::int32_t slot = options_.max_sequences; slot-- > 0;) free_slots_.push_back(slot);
}

void step_planner::refuse(const sequence_terms& terms, std::uint32_t shard, errc code, std::string text,
                          planner_outputs& out) {
  out.failures.push_back({terms.generation, shard, error{code, std::move(text), {}}});
}

void step_planner::admit(std::shared_ptr<const sequence_terms> terms,
                         std::shared_ptr<const std::vector<std::int32_t>> prompt, std::uint32_t shard,
                         planner_outputs& out) {
  if (sequences_.contains(terms->generation)) return;  // a message sent twice must not end the first one
  if (closed_) return refuse(*terms, shard, errc::shutting_down, "The server is shutting down.", out);
  if (prompt->empty()) return refuse(*terms, shard, errc::invalid_argument, "The prompt is empty.", out);
  if (terms->max_tokens < 1)
    return refuse(*terms, shard, errc::invalid_argument, "max_tokens must be at least 1.", out);
  sequence one;
  one.terms = std::move(terms);
  one.known = std::move(prompt);
  one.shard = shard;
  if (entry_blocks(one) > options_.total_blocks)
    return refuse(*one.terms, shard, errc::out_of_memory,
                  "The prompt of " + std::to_string(one.known_rows()) + " tokens can never fit the KV memory of " +
                      std::to_string(std::int64_t{options_.total_blocks} * options_.block_tokens) + " tokens.",
                  out);
  const bool full = queue_.size() >= options_.queue_sequences ||
                    (!queue_.empty() && queued_tokens_ + one.known_rows() > options_.queue_tokens);
  if (full) return refuse(*one.terms, shard, errc::overloaded, "The queue is full; try again later.", out);

  if (options_.share_prefixes) awaited_prefixes::extend_hashes(one.beginnings, *one.known, options_.block_tokens);
  one.arrival = next_arrival_++;
  out.admitted.push_back({id_of(one), shard, one.known_rows(), one.terms->max_tokens});
  queued_tokens_ += one.known_rows();
  const generation_id id = id_of(one);
  queue_.push_back(&sequences_.emplace(id, std::move(one)).first->second);
  advance(out);
}

void step_planner::end(generation_id id, planner_outputs& out) {
  const auto at = sequences_.find(id);
  if (at == sequences_.end()) return;
  sequence& one = at->second;
  if (one.stage == sequence_stage::queued) {
    if (one.asked) out.releases.push_back({{id}});  // the grant is on its way
    if (one.promised) {                             // or the store holds blocks for it
      give_back(entry_blocks(one));
      if (asking_) released_meanwhile_ += entry_blocks(one);
    }
    leave_queue(one);
    sequences_.erase(at);
  } else {
    one.stage = sequence_stage::ended;
    settle(one, out);
  }
  advance(out);
}

void step_planner::pause(generation_id id, bool on, planner_outputs& out) {
  const auto at = sequences_.find(id);
  if (at == sequences_.end() || at->second.paused == on) return;
  at->second.paused = on;
  advance(out);
}

void step_planner::done(const step_result& result, planner_outputs& out) {
  const auto at = flights_.find(result.step);
  if (at == flights_.end()) return;
  const flight what = std::move(at->second);
  flights_.erase(at);
  --flying_[static_cast<std::size_t>(what.lane)];
  learn(what, result);
  for (const step_token& token : result.tokens)
    if (token.end == sequence_end::failed) spoil(token.generation);
  take_rows(what, out);
  for (const step_token& token : result.tokens) take_token(token);
  for (const flight::part& part : what.of) {
    const auto which = sequences_.find(part.id);
    if (which == sequences_.end()) continue;
    --which->second.in_flight[static_cast<std::size_t>(what.lane)];
    settle(which->second, out);
  }
  step_ended_ = true;
  advance(out);
  step_ended_ = false;
}

/// A step that was begun while another computed took what lies between their ends. Prompts alone tell nothing of what
/// they cost beside decodes, whose weights are read anyway.
void step_planner::learn(const flight& what, const step_result& result) {
  if (options_.most_growth <= 0) return;
  auto& last = last_ended_[options_.policy == batch_policy::mix ? 1 : static_cast<std::size_t>(what.lane)];
  const auto took = result.ended - std::max(result.started, last);
  last = std::max(last, result.ended);
  if (what.size.decode_rows > 0 && result.prefill_rows > 0)
    mixed_of_late_ = std::max(result.prefill_rows, mixed_of_late_ * 15 / 16);
  const bool typical = what.typical && what.beside == (options_.policy != batch_policy::mix && flying_[0] > 0);
  const bool whole =
      typical && result.decode_rows == what.size.decode_rows && result.prefill_rows == what.size.prompt_rows;
  if (what.size.decode_rows > 0 && whole && took > clock::duration::zero())
    cost_[what.beside].observe(what.size, base::to_milliseconds(took));
}

/// What it computed and what it read, one of them is the cause: others shall compute it anew.
void step_planner::spoil(generation_id id) {
  if (const auto at = sequences_.find(id); at != sequences_.end()) at->second.spoiled = at->second.halted = true;
}

/// Rows are computed when their step is over and neither it nor an earlier one has ended the sequence.
void step_planner::take_rows(const flight& what, planner_outputs& out) {
  if (!options_.share_prefixes) return;
  for (const flight::part& part : what.of) {
    const auto at = sequences_.find(part.id);
    if (at == sequences_.end() || at->second.halted) continue;
    sequence& one = at->second;
    one.computed = part.rows;
    // Of what it generates others learn at its end.
    const std::int32_t full = std::min(one.computed, one.known_rows()) / options_.block_tokens;
    if (full <= one.offered || one.stage != sequence_stage::running) continue;
    one.offered = full;
    out.computed.push_back({part.id, one.known, full * options_.block_tokens});
  }
}

void step_planner::take_token(const step_token& token) {
  const auto at = sequences_.find(token.generation);
  if (at == sequences_.end()) return;
  at->second.halted |= token.end != sequence_end::none;
  if (at->second.stage == sequence_stage::ended) return;
  if (token.end != sequence_end::failed) at->second.fresh.push_back(token.id);
  if (token.end != sequence_end::none) at->second.stage = sequence_stage::ended;
}

void step_planner::enter(sequence& one) {
  leave_queue(one);
  one.stage = sequence_stage::running;
  one.slot = free_slots_.back();
  free_slots_.pop_back();
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &one, older), &one);
}

void step_planner::leave_queue(sequence& one) {
  queue_.erase(std::find(queue_.begin(), queue_.end(), &one));
  queued_tokens_ -= one.known_rows();
}

void step_planner::settle(sequence& one, planner_outputs& out) {
  if (one.stage != sequence_stage::ended && one.stage != sequence_stage::yielding) return;
  if (!one.idle()) return offer_all(one, out);
  release(one, out);
  if (one.stage == sequence_stage::yielding) requeue(one);
  else sequences_.erase(id_of(one));
}

/// Of one that ends while a step of it is computed: who goes on from its answer at once need not wait for that step.
void step_planner::offer_all(sequence& one, planner_outputs& out) {
  const std::int32_t full = one.computed / options_.block_tokens;
  if (!options_.share_prefixes || one.spoiled || full <= one.offered) return;
  one.offered = full;
  out.computed.push_back(release_of(one).last);
}

void step_planner::release(sequence& one, planner_outputs& out) {
  out.releases.push_back(release_of(one));
  give_back(one.blocks);
  if (asking_) released_meanwhile_ += one.blocks;
  if (one.joined != 0) leaves_.push_back({one.slot, one.joined});
  free_slots_.push_back(one.slot);
  running_.erase(std::find(running_.begin(), running_.end(), &one));
  one.blocks = one.cached = one.computed = one.offered = 0;
  one.new_blocks.clear();
  one.slot = -1;
  one.joined = 0;
  one.asked = one.promised = one.refused = one.aside = false;
}

/// Blocks of which some are shared come free in fewer numbers: until the store answers next, free_ may be too high, and
/// then it refuses.
void step_planner::give_back(std::int32_t blocks) {
  free_ = std::min(free_ + blocks, options_.total_blocks);
  for (sequence* one : running_) one->refused = false;
  for (sequence* one : queue_) one->refused = false;
}

block_release step_planner::release_of(const sequence& one) const {
  if (!options_.share_prefixes) return {{id_of(one)}};
  auto tokens = one.known;
  const auto known = static_cast<std::int32_t>(tokens->size());
  if (one.computed / options_.block_tokens > known / options_.block_tokens && !one.fresh.empty()) {
    auto all = std::make_shared<std::vector<std::int32_t>>(*tokens);
    all->insert(all->end(), one.fresh.begin(), one.fresh.end());
    tokens = std::move(all);
  }
  return {{id_of(one), std::move(tokens), one.computed}, one.spoiled};
}

void step_planner::requeue(sequence& one) {
  auto all = std::make_shared<std::vector<std::int32_t>>(*one.known);
  all->insert(all->end(), one.fresh.begin(), one.fresh.end());
  one.generated_before += static_cast<std::int32_t>(one.fresh.size());
  one.known = std::move(all);
  if (options_.share_prefixes) awaited_prefixes::extend_hashes(one.beginnings, *one.known, options_.block_tokens);
  one.fresh.clear();
  one.rows = one.samples = 0;
  one.stage = sequence_stage::queued;
  queued_tokens_ += one.known_rows();
  queue_.insert(std::upper_bound(queue_.begin(), queue_.end(), &one, older), &one);
}

void step_planner::preempt(sequence& one, planner_outputs& out) {
  ++out.preemptions;
  one.stage = sequence_stage::yielding;
  settle(one, out);
}

void step_planner::fail_all(const error& why, planner_outputs& out) {
  for (auto& [id, one] : sequences_) {
    if (one.stage != sequence_stage::ended) out.failures.push_back({id, one.shard, why});
    // What its steps in flight may still write is nobody's to read.
    if (one.blocks > 0 || one.asked) out.releases.push_back({{id}});
    free_ = std::min(free_ + one.blocks, options_.total_blocks);
    if (asking_) released_meanwhile_ += one.blocks;
    if (one.joined != 0) leaves_.push_back({one.slot, one.joined});
    if (one.slot >= 0) free_slots_.push_back(one.slot);
  }
  running_.clear();
  queue_.clear();
  sequences_.clear();
  flights_.clear();
  flying_ = {};
  queued_tokens_ = 0;
}

void step_planner::advance(planner_outputs& out) {
  relieve(out);
  while (make_room(out)) {
  }
  ask(out);
  while (build(out)) {
  }
}

}  // namespace troupe::actors
