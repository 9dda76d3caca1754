// A lane for actor tests: jobs wait in a queue until the test runs them; the machine gives every sequence the tokens
// 100, 101, 102, ... Knows no model and no thread.
#pragma once

#include <deque>
#include <map>
#include <stdexcept>
#include <utility>

#include "actors/lane/job_queue.hpp"
#include "actors/lane/step_machine.hpp"

namespace troupe::actors {

class held_queue final : public job_queue {
public:
  bool post(lane_kind, job what) override {
    jobs.push_back(std::move(what));
    return true;
  }
  bool run_one() {
    if (jobs.empty()) return false;
    auto next = std::move(jobs.front());
    jobs.pop_front();
    next();
    return true;
  }
  std::deque<job> jobs;
};

class scripted_machine final : public step_machine {
public:
  begun_step begin(const step_plan& plan) override {
    if (explode) throw std::runtime_error("as told");
    ++steps;
    step_result result;
    if (lose) {
      result = fail(plan, {errc::internal, "CUDA: computing a step: an illegal memory access was encountered", {}});
      result.lane_lost = result.tokens.at(0).why;
      return {std::move(result), 0};
    }
    result.step = plan.step;
    for (const slot_join& join : plan.joins) slots[join.slot] = {join.terms, join.generated, false};
    for (const slot_work& work : plan.work) {
      auto& one = slots[work.slot];
      if (one.ended || !work.sample) continue;
      step_token token;
      token.generation = one.terms->generation;
      token.slot = work.slot;
      token.id = 100 + one.generated++;
      if (one.generated == one.terms->max_tokens) token.end = sequence_end::length;
      one.ended = token.end != sequence_end::none;
      result.tokens.push_back(token);
    }
    return {std::move(result), 0};
  }
  step_result fail(const step_plan& plan, const error& why) override {
    step_result result;
    result.step = plan.step;
    for (const slot_join& join : plan.joins) slots[join.slot] = {join.terms, join.generated, false};
    for (const slot_work& work : plan.work) {
      slots[work.slot].ended = true;
      result.tokens.push_back({slots[work.slot].terms->generation, work.slot, -1, sequence_end::failed, 0, {}, why});
    }
    return result;
  }

  struct slot {
    std::shared_ptr<const sequence_terms> terms;
    std::int32_t generated = 0;
    bool ended = false;
  };
  std::map<std::int32_t, slot> slots;
  int steps = 0;
  bool explode = false;
  bool lose = false;
};

}  // namespace troupe::actors
