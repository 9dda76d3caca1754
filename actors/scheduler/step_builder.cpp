// How the planner fills a step: decodes first, then prompt chunks, under the token budget.
#include <algorithm>

#include "actors/scheduler/step_planner.hpp"

namespace troupe::actors {

/// Lanes may overtake each other, so a sequence is on one of them at a time.
bool step_planner::free_for(const sequence& one, lane_kind lane) const {
  const auto other = lane == lane_kind::decode ? lane_kind::prefill : lane_kind::decode;
  return one.stage == sequence_stage::running && !one.paused && one.in_flight[static_cast<std::size_t>(other)] == 0;
}

bool step_planner::build(planner_outputs& out) {
  const std::int32_t limit = options_.steps_in_flight;
  if (options_.policy == batch_policy::mix)
    return flying_[0] + flying_[1] < limit && (build_on(lane_kind::decode, out) || build_on(lane_kind::prefill, out));
  return (flying_[1] < limit && build_on(lane_kind::decode, out)) ||
         (flying_[0] < limit && build_on(lane_kind::prefill, out));
}

bool step_planner::build_on(lane_kind lane, planner_outputs& out) {
  auto plan = std::make_shared<step_plan>();
  plan->step = next_step_;
  plan->lane = lane;
  plan->follows = flying_[0] + flying_[1] > 0 || step_ended_;
  flight what{lane, {}, {}, lane == lane_kind::decode && options_.policy != batch_policy::mix && flying_[0] > 0};
  std::int32_t left = options_.max_batch_tokens;
  if (lane == lane_kind::decode) {
    left -= add_decodes(*plan, what);
    if (plan->work.empty()) return false;
  }
  if (lane == lane_kind::prefill || options_.policy != batch_policy::split) add_chunks(*plan, what, left, out);
  if (plan->work.empty()) return false;
  if (lane == lane_kind::prefill && options_.policy != batch_policy::mix)
    for (auto& [step, other] : flights_) other.typical = other.typical && other.beside;
  ++next_step_;
  plan->leaves.swap(leaves_);
  ++flying_[static_cast<std::size_t>(lane)];
  flights_.emplace(plan->step, std::move(what));
  out.plans.push_back({lane, std::move(plan)});
  return true;
}

std::int32_t step_planner::add_decodes(step_plan& plan, flight& what) {
  std::int32_t rows = 0;
  for (sequence* one : running_) {
    const bool room = one->rows < one->blocks * options_.block_tokens;
    if (!free_for(*one, what.lane) || !one->wants_decode() || !room) continue;
    add_work(plan, what, *one, 1);
    ++rows;
  }
  return rows;
}

void step_planner::add_chunks(step_plan& plan, flight& what, std::int32_t left, planner_outputs& out) {
  for (sequence* one : running_) {
    if (!one->prefilling()) continue;
    if (what.lane == lane_kind::decode) one->aside = goes_aside(*one, what);
    if (!free_for(*one, what.lane) || !belongs_on(*one, what.lane)) continue;
    const std::int32_t remaining = one->known_rows() - one->rows;
    std::int32_t chunk = bounded_chunk(*one, what, std::min(remaining, left));
    if (chunk < remaining) chunk -= chunk % options_.block_tokens;
    if (chunk <= 0) return;
    if (!one->started) {
      one->started = true;
      out.started.push_back(
          {one->terms->generation, one->shard, one->known_rows(), one->terms->max_tokens, one->cached});
    }
    add_work(plan, what, *one, chunk);
    left -= chunk;
  }
}

/// Without decodes a prompt holds up nobody, and computes where it would alone.
bool step_planner::belongs_on(const sequence& one, lane_kind lane) const {
  if (options_.policy != batch_policy::choose) return true;
  return lane == lane_kind::decode ? !one.aside
                                   : one.aside || flying_[static_cast<std::size_t>(lane_kind::decode)] == 0;
}

/// Mixed steps read the weights once for both kinds, but each is as long as its bound lets it be. So a long prompt goes
/// aside, unless decodes beside prompts were seen to take longer than that bound. Once aside it stays there.
bool step_planner::goes_aside(const sequence& one, const flight& what) const {
  if (options_.policy != batch_policy::choose || one.aside) return one.aside;
  const flight decodes{what.lane, {}, {what.size.decode_rows, what.size.decode_keys, 0, 0}, what.beside};
  const std::int32_t left = one.known_rows() - one.rows;
  if (std::int64_t{bounded_chunk(one, decodes, left)} * options_.most_mixed_steps >= left) return false;
  if (!cost_[0].knows_decodes() || !cost_[1].knows_decodes()) return true;
  return cost_[1].predict(decodes.size) <= options_.most_growth * cost_[0].predict(decodes.size);
}

/// Up to `wanted` rows: as many as keep the step under its bound, and no more than twice what was mixed of late: of
/// steps much larger than those it has seen, a cost learned knows little. Alone, prompts hold up nobody.
std::int32_t step_planner::bounded_chunk(const sequence& one, const flight& what, std::int32_t wanted) const {
  if (options_.most_growth <= 0 || what.size.decode_rows == 0) return wanted;
  wanted = std::min(wanted, std::max(0, 2 * std::max(options_.least_chunk, mixed_of_late_) - what.size.prompt_rows));
  const std::int32_t least = std::min(wanted, what.size.prompt_rows == 0 ? options_.least_chunk : 0);
  const step_cost& cost = cost_[what.beside && cost_[1].known()];
  if (!cost.known()) return std::max(least, std::min(wanted, 2 * options_.least_chunk - what.size.prompt_rows));
  const step_size decodes{what.size.decode_rows, what.size.decode_keys, 0, 0};
  const double left = options_.most_growth * cost.predict(decodes) - cost.predict(what.size);
  const double row = cost.prompt_row(one.rows + std::min(wanted, 256) / 2);
  const double rows = row > 0 ? left / row : wanted;
  return std::clamp(static_cast<std::int32_t>(std::clamp(rows, 0.0, static_cast<double>(wanted))), least, wanted);
}

void step_planner::add_work(step_plan& plan, flight& what, sequence& one, std::int32_t rows) {
  if (one.joined == 0) {
    plan.joins.push_back({one.slot, one.terms, one.known, one.generated_before, one.cached});
    one.joined = plan.step;
  }
  if (one.prefilling()) {
    what.size.prompt_rows += rows;
    what.size.prompt_keys += std::int64_t{rows} * (one.rows + rows / 2);
  } else {
    what.size.decode_rows += rows;
    what.size.decode_keys += one.rows + 1;
  }
  const bool sample = one.rows + rows >= one.known_rows();
  plan.work.push_back({one.slot, one.rows, rows, sample, std::move(one.new_blocks)});
  one.new_blocks.clear();
  one.rows += rows;
  one.samples += sample ? 1 : 0;
  ++one.in_flight[static_cast<std::size_t>(what.lane)];
  what.of.push_back({one.terms->generation, one.rows});
}

}  // namespace troupe::actors
