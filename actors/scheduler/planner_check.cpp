// What must hold of the planner between two calls, and how it looks when it does not.
#include <algorithm>

#include "actors/scheduler/step_planner.hpp"

namespace troupe::actors {

std::string step_planner::check() const {
  std::int64_t queued = 0;
  std::uint64_t last = 0;
  bool promised = false;  // the store holds blocks for some, maybe
  for (const sequence* one : queue_) {
    if (one->stage != sequence_stage::queued || one->slot >= 0 || one->blocks != 0 || !one->idle())
      return "a queued sequence holds something";
    if (one->arrival <= last) return "the queue is out of order";
    last = one->arrival;
    queued += one->known_rows();
    promised |= one->promised;
  }
  if (queued != queued_tokens_) return "queued tokens are counted wrongly";
  std::vector<bool> taken(static_cast<std::size_t>(options_.max_sequences), false);
  for (const std::int32_t slot : free_slots_) taken[static_cast<std::size_t>(slot)] = true;
  std::int64_t held = 0;
  std::int64_t in_flight = 0;
  for (const sequence* one : running_) {
    if (one->stage == sequence_stage::queued || one->slot < 0) return "a running sequence has no slot";
    if (taken[static_cast<std::size_t>(one->slot)]) return "a slot is used twice";
    taken[static_cast<std::size_t>(one->slot)] = true;
    if (one->rows > one->blocks * options_.block_tokens) return "rows are planned without blocks";
    if (one->cached > one->computed || one->computed > one->rows) return "rows are computed that were not planned";
    if (one->cached % options_.block_tokens != 0 || (one->cached > 0 && one->cached >= one->known_rows()))
      return "rows are cached that must be computed";
    if (one->rows > std::max(one->final_rows(), one->known_rows())) return "rows are planned past the end";
    if (one->generated_before + one->samples > one->terms->max_tokens) return "more samples planned than wanted";
    if (static_cast<std::int32_t>(one->fresh.size()) > one->samples) return "more tokens came than were planned";
    if (one->in_flight[0] > 0 && one->in_flight[1] > 0) return "a sequence is on both lanes";
    held += one->blocks;
    in_flight += one->in_flight[0] + one->in_flight[1];
  }
  if (free_slots_.size() + running_.size() != taken.size()) return "a slot is lost";
  if (queue_.size() + running_.size() != sequences_.size()) return "a sequence is lost";
  const std::int64_t counted = held + free_;  // shared blocks are counted by each who holds them
  if (shared_ ? counted < options_.total_blocks && !promised : counted != options_.total_blocks)
    return "blocks held and free do not add up";
  for (const auto& [step, what] : flights_) in_flight -= static_cast<std::int64_t>(what.of.size());
  if (in_flight != 0) return "steps in flight are counted wrongly";
  return {};
}

std::string step_planner::draw() const {
  std::string lines = std::to_string(free_) + " blocks free, " + std::to_string(flights_.size()) + " steps in flight\n";
  const auto line = [&lines](const char* where, const sequence& one) {
    lines += std::string("  ") + where + " " + std::to_string(one.terms->generation) + " stage " +
             std::to_string(static_cast<int>(one.stage)) + " slot " + std::to_string(one.slot) + " rows " +
             std::to_string(one.rows) + "/" + std::to_string(one.known_rows()) + " samples " +
             std::to_string(one.samples) + "/" + std::to_string(one.terms->max_tokens - one.generated_before) +
             " blocks " + std::to_string(one.blocks) + " in flight " + std::to_string(one.in_flight[0]) + "+" +
             std::to_string(one.in_flight[1]) + (one.paused ? " paused" : "") + (one.asked ? " asked" : "") +
             (one.promised ? " promised" : "") + (one.refused ? " refused" : "") + "\n";
  };
  for (const sequence* one : running_) line("running", *one);
  for (const sequence* one : queue_) line("queued ", *one);
  return lines;
}

}  // namespace troupe::actors
