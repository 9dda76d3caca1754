// The other side of the planner's outputs.
#include "simulated_engine.hpp"

#include <algorithm>
#include <utility>

namespace troupe::actors {

void simulated_engine::admit(generation_id id, std::int32_t prompt, std::int32_t max_tokens, std::int32_t eos_after,
                             std::int32_t family, std::int32_t common) {
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < prompt; ++i) tokens.push_back(i < common ? 7 : 1000 * (family + 1) + i);
  admit_tokens(id, std::move(tokens), max_tokens, eos_after);
}

void simulated_engine::admit_tokens(generation_id id, std::vector<std::int32_t> prompt, std::int32_t max_tokens,
                                    std::int32_t eos_after) {
  fate& one = fates[id] = {};
  one.prompt = static_cast<std::int32_t>(prompt.size());
  one.max_tokens = max_tokens;
  one.eos_after = eos_after;
  auto terms = std::make_shared<sequence_terms>();
  terms->generation = id;
  terms->max_tokens = max_tokens;
  planner_outputs out;
  planner.admit(std::move(terms), std::make_shared<const std::vector<std::int32_t>>(std::move(prompt)), 0, out);
  take(out);
}

void simulated_engine::cancel(generation_id id) {
  fates[id].cancelled = true;
  planner_outputs out;
  planner.end(id, out);
  take(out);
}

void simulated_engine::pause(generation_id id, bool on) {
  planner_outputs out;
  planner.pause(id, on, out);
  take(out);
}

void simulated_engine::take(planner_outputs& out) {
  for (const auto& one : out.admitted) fates[one.id].admitted = true;
  for (const auto& one : out.started) {
    admission_order.push_back(one.id);
    fates[one.id].cached = one.cached;
  }
  for (const auto& one : out.failures) {
    ++fates[one.id].ends;
    fates[one.id].why = one.why.code;
    fates[one.id].how = sequence_end::failed;
  }
  if (!out.computed.empty()) to_store_.push_back({out.computed, {}, {}});
  if (!out.releases.empty()) to_store_.push_back({{}, out.releases, {}});
  if (!out.needs.empty()) to_store_.push_back({{}, {}, out.needs});
  cached_rows += out.cached_rows;
  for (const auto& one : out.plans) {
    std::int32_t rows = 0;
    for (const slot_work& work : one.plan->work) rows += work.rows;
    expect(rows <= std::max(options_.max_batch_tokens, options_.max_sequences + options_.block_tokens),
           "a step over budget");
    expect(rows > 0, "an empty step");
    plans.push_back(*one.plan);
    lanes_[static_cast<std::size_t>(one.lane)].push_back(one.plan);
  }
  preemptions += out.preemptions;
  const std::string fault = planner.check();
  expect(fault.empty(), fault);
  const auto sound = store.check();
  expect(sound.ok(), sound.ok() ? "" : sound.why().text);
}

std::size_t simulated_engine::waiting() const {
  return to_store_.size() + from_store_.size() + lanes_[0].size() + lanes_[1].size() + results_.size() +
         copies_[0].size() + copies_[1].size();
}

void simulated_engine::let(std::size_t n) {
  for (std::size_t i = 0; i < 6; ++i) {
    switch ((n + i) % 6) {
      case 0:
        if (!to_store_.empty()) return run_store();
        break;
      case 1:
        if (!from_store_.empty()) {
          const auto answer = std::move(from_store_.front());
          from_store_.pop_front();
          planner_outputs out;
          answer.late ? planner.arrived(answer.grants, out) : planner.granted(answer.grants, answer.free, out);
          return take(out);
        }
        break;
      case 2:
        if (!lanes_[0].empty()) return run_lane(0);
        break;
      case 3:
        if (!lanes_[1].empty()) return run_lane(1);
        break;
      case 4:
        if (!results_.empty()) return deliver();
        break;
      default:
        if (!copies_[0].empty() && (n < 6 || copies_[1].empty())) return run_copy(memory::copy_way::out);
        if (!copies_[1].empty()) return run_copy(memory::copy_way::in);
        break;
    }
  }
}

void simulated_engine::run_dry() {
  while (waiting() > 0 && broken.empty()) let(0);
}

void simulated_engine::run_store() {
  const store_message message = std::move(to_store_.front());
  to_store_.pop_front();
  if (!message.needs.empty()) {
    auto grants = store.reserve(message.needs);
    see(grants);
    from_store_.push_back({std::move(grants), store.free(), false});
  }
  for (const computed_rows& one : message.computed) store.offer(one);
  for (const block_release& one : message.releases) {
    store.release(one);
    for (auto& [block, holders] : holders_) holders.erase(one.last.id);
  }
  hear_store();
}

void simulated_engine::see(const std::vector<block_grant>& grants) {
  for (const auto& grant : grants)
    for (std::size_t i = 0; i < grant.blocks.size(); ++i) {
      const std::int32_t block = grant.blocks[i];
      const bool fresh = static_cast<std::int32_t>(i) * options_.block_tokens >= grant.cached;
      expect(!fresh || holders_[block].empty(), "a block is granted to be written that another holds");
      expect(holders_[block].insert(grant.id).second, "a block is granted twice");
      expect(!copying_.contains(block), "a block is granted that is being copied");
      if (fresh)
        for (std::int32_t row = 0; row < options_.block_tokens; ++row) kv_.erase(block * options_.block_tokens + row);
    }
}

void simulated_engine::hear_store() {
  for (auto& order : store.take_orders()) hear_copy(std::move(order));
  if (auto late = store.take_late(); !late.empty()) {
    see(late);
    from_store_.push_back({std::move(late), 0, true});
  }
  const auto sound = store.check();
  expect(sound.ok(), sound.ok() ? "" : sound.why().text);
}

std::vector<std::uint64_t> simulated_engine::rows_of(std::int32_t block) const {
  std::vector<std::uint64_t> rows;
  for (std::int32_t row = 0; row < options_.block_tokens; ++row) {
    const auto at = kv_.find(block * options_.block_tokens + row);
    rows.push_back(at == kv_.end() ? 0 : at->second);
  }
  return rows;
}

void simulated_engine::hear_copy(memory::copy_order order) {
  waiting_copy one{std::move(order), {}};
  for (const memory::block_copy& copy : one.order.copies) {
    expect(holders_[copy.block].empty(), "a block is to be copied that somebody holds");
    expect(copying_.insert(copy.block).second, "a block is to be copied twice at once");
    one.sources.push_back(one.order.way == memory::copy_way::out ? rows_of(copy.block) : host_[copy.place]);
  }
  copies_[static_cast<std::size_t>(one.order.way)].push_back(std::move(one));
}

void simulated_engine::run_copy(memory::copy_way way) {
  auto& queue = copies_[static_cast<std::size_t>(way)];
  const waiting_copy one = std::move(queue.front());
  queue.pop_front();
  const bool fails = std::exchange(failing_copy_, false);
  for (std::size_t i = 0; i < one.sources.size(); ++i) {
    const auto [block, place] = one.order.copies[i];
    copying_.erase(block);
    expect(one.sources[i] == (way == memory::copy_way::out ? rows_of(block) : host_[place]),
           "a source changed while it was copied");
    const auto rows = fails ? std::vector<std::uint64_t>(one.sources[i].size(), 1) : one.sources[i];
    if (way == memory::copy_way::out) host_[place] = rows;
    else
      for (std::size_t row = 0; row < rows.size(); ++row)
        kv_[block * options_.block_tokens + static_cast<std::int32_t>(row)] = rows[row];
  }
  (fails ? lost : restored) += fails || way == memory::copy_way::in ? static_cast<std::int64_t>(one.sources.size()) : 0;
  store.copied(one.order, !fails);
  hear_store();
}

void simulated_engine::run_lane(std::size_t lane) {
  const auto plan = std::move(lanes_[lane].front());
  lanes_[lane].pop_front();
  for (const slot_leave& leave : plan->leaves)
    if (slots_[leave.slot].joined == leave.joined) slots_.erase(leave.slot);
  for (const slot_join& join : plan->joins)
    slots_[join.slot] = {join.terms->generation, plan->step, *join.tokens, join.generated,     join.cached,
                         join.terms->max_tokens, {},         false,        join.tokens->size()};
  step_result result;
  result.step = plan->step;
  const bool fails = std::exchange(failing_, false);
  for (const slot_work& work : plan->work) run_work(work, fails, result);
  results_.push_back(std::move(result));
}

/// K and V of a row stand for all tokens up to it: what others wrote must be what this sequence would have.
void simulated_engine::touch_kv(const slot_state& slot, const slot_work& work, bool fails) {
  const std::int32_t width = options_.block_tokens;
  std::uint64_t prefix = 1;
  for (std::int32_t row = 0; row < work.position + work.rows && row < static_cast<std::int32_t>(slot.known.size());
       ++row) {
    prefix = (prefix ^ static_cast<std::uint64_t>(slot.known[static_cast<std::size_t>(row)] + 1)) * 0x9e3779b97f4a7c15u;
    const std::int32_t block = slot.blocks[static_cast<std::size_t>(row / width)];
    auto& stored = kv_[block * width + row % width];
    if (row < work.position) {
      expect(stored == prefix, "a row is read that was computed from other tokens, or not at all");
    } else {
      expect(holders_[block].size() == 1, "a row is written that another sequence reads");
      expect(stored == 0, "a row is written twice");
      stored = fails ? 1 : prefix;
    }
  }
}

void simulated_engine::run_work(const slot_work& work, bool fails, step_result& result) {
  slot_state& slot = slots_[work.slot];
  slot.blocks.insert(slot.blocks.end(), work.new_blocks.begin(), work.new_blocks.end());
  if (slot.ended) return;
  expect(slot.generation != 0, "work for an empty slot");
  expect(slot.rows == work.position, "rows computed out of order");
  slot.rows += work.rows;
  expect(slot.rows <= static_cast<std::int32_t>(slot.blocks.size()) * options_.block_tokens, "rows without blocks");
  for (const std::int32_t block : slot.blocks)
    expect(holders_[block].contains(slot.generation), "a step uses a block that was given back");
  if (!broken.empty()) return;
  touch_kv(slot, work, fails);
  if (work.position < static_cast<std::int32_t>(slot.prompt)) prompt_rows += work.rows;
  if (fails) {
    slot.ended = true;
    fates[slot.generation].step_failed = true;
    result.tokens.push_back(
        {slot.generation, work.slot, -1, sequence_end::failed, 0, {}, {errc::numeric, "as told", {}}});
    return;
  }
  const auto known = static_cast<std::int32_t>(slot.known.size());
  expect(slot.rows <= known, "a row before its token");
  expect(work.sample == (slot.rows == known), "sampling not after the last known token");
  if (!work.sample) return;
  step_token token{
      slot.generation, work.slot, true_token(slot.generation, slot.generated), sequence_end::none, 0, {}, {}};
  if (slot.generated++ == fates[slot.generation].eos_after) token.end = sequence_end::eos;
  else if (slot.generated == slot.max_tokens) token.end = sequence_end::length;
  slot.known.push_back(token.id);
  slot.ended = token.end != sequence_end::none;
  result.tokens.push_back(token);
}

void simulated_engine::deliver() {
  const step_result result = std::move(results_.front());
  results_.pop_front();
  for (const step_token& token : result.tokens) {
    fate& one = fates[token.generation];
    if (token.end == sequence_end::none || token.end == sequence_end::length) one.tokens.push_back(token.id);
    one.how = token.end;
    if (token.end != sequence_end::none) ++one.ends;
  }
  planner_outputs out;
  planner.done(result, out);
  take(out);
}

}  // namespace troupe::actors
