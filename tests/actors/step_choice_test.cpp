// The planner with two queues on one device, in a time of the test's own: which prompts are mixed with decodes, and
// which are computed beside them.
#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "actors/kv_store/kv_store.hpp"
#include "support/catch.hpp"
#include "support/planner_set_up.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

using milliseconds = std::chrono::duration<double, std::milli>;

/// Each queue computes its steps in order. Milliseconds: decodes take 5, or `beside` while the other queue computes;
/// prompts `start` more, for each row `row`, and for each key of a row `key`.
struct device_cost {
  double beside = 7, start = 0, row = 0.02, key = 0;
};

class timed_device {
public:
  explicit timed_device(device_cost cost, batch_policy policy = batch_policy::choose, double most_growth = 2)
      : planner_(options(policy, most_growth)), store_(options(policy, most_growth).total_blocks), cost_(cost) {}

  static planner_options options(batch_policy policy, double most_growth) {
    planner_options o = planner_for(16, 2048, 8192, policy);
    o.most_growth = most_growth;
    return o;
  }

  void admit(generation_id id, std::size_t prompt, std::int32_t tokens) {
    auto terms = std::make_shared<sequence_terms>();
    terms->generation = id;
    terms->max_tokens = tokens;
    planner_outputs out;
    planner_.admit(terms, std::make_shared<const std::vector<std::int32_t>>(prompt, 1), 0, out);
    carry_out(std::move(out));
  }
  /// The step that ends first.
  void step() {
    std::size_t next = 2;
    for (const std::size_t lane : {0u, 1u})
      if (!flying_[lane].empty() && (next == 2 || flying_[lane].front().ended < flying_[next].front().ended))
        next = lane;
    REQUIRE(next < 2);
    const step_result result = flying_[next].front();
    flying_[next].pop_front();
    now_ = result.ended;
    REQUIRE(planner_.check() == "");
    planner_outputs out;
    planner_.done(result, out);
    carry_out(std::move(out));
  }
  void run(double for_ms) {
    const auto until = now_ + std::chrono::duration_cast<clock::duration>(milliseconds(for_ms));
    while (now_ < until) step();
  }

  std::map<generation_id, std::int32_t> mixed, aside;  ///< prompt rows by the queue that computed them
  std::vector<double> mixed_ms;                        ///< what the steps took that hold both
  std::vector<std::int32_t> mixed_rows;                ///< and their prompt rows

private:
  void carry_out(planner_outputs out) {
    for (;;) {
      for (const auto& routed : out.plans) begin(*routed.plan);
      if (out.needs.empty()) return;
      const auto grants = store_.reserve(out.needs);
      out = {};
      planner_.granted(grants, store_.free(), out);
    }
  }
  void begin(const step_plan& plan) {
    const auto lane = static_cast<std::size_t>(plan.lane);
    for (const slot_join& join : plan.joins)
      slots_[join.slot] = {join.terms->generation, static_cast<std::int32_t>(join.tokens->size())};
    step_result result;
    result.step = plan.step;
    result.lane = plan.lane;
    result.started = now_;
    double keys = 0;
    for (const slot_work& work : plan.work) {
      const auto [id, known] = slots_[work.slot];
      const bool prompt = work.position < known;
      (prompt ? result.prefill_rows : result.decode_rows) += work.rows;
      if (prompt) keys += static_cast<double>(work.rows) * (work.position + work.rows / 2);
      if (prompt) (plan.lane == lane_kind::decode ? mixed : aside)[id] += work.rows;
      if (work.sample) result.tokens.push_back({id, work.slot, 5, sequence_end::none, 0, {}, {}});
    }
    double ms = result.decode_rows > 0 ? (flying_[1 - lane].empty() ? 5 : cost_.beside) : 0;
    if (result.prefill_rows > 0) ms += cost_.start + cost_.row * result.prefill_rows + cost_.key * keys;
    if (result.prefill_rows > 0 && result.decode_rows > 0)
      mixed_ms.push_back(ms), mixed_rows.push_back(result.prefill_rows);
    const auto took = std::chrono::duration_cast<clock::duration>(
        milliseconds(ms * std::uniform_real_distribution(0.98, 1.02)(random_)));
    result.ended = (flying_[lane].empty() ? now_ : flying_[lane].back().ended) + took;
    flying_[lane].push_back(std::move(result));
  }

  step_planner planner_;
  kv_store store_;
  device_cost cost_;
  std::mt19937 random_{7};
  clock::time_point now_{};
  std::array<std::deque<step_result>, 2> flying_;
  std::map<std::int32_t, std::pair<generation_id, std::int32_t>> slots_;
};

}  // namespace

TEST_CASE("a short prompt is mixed with the decodes, a long one computed beside them") {
  timed_device device({7});
  for (generation_id id = 1; id <= 4; ++id) device.admit(id, 32, 4000);
  device.run(200);
  CHECK(device.aside[1] == 32);  // there were no decodes to hold up
  device.admit(5, 200, 4000);
  device.run(100);
  CHECK(device.mixed[5] == 200);
  device.admit(6, 8000, 4000);
  device.admit(7, 200, 4000);  // does not wait for the long one
  device.run(60);
  CHECK(device.mixed[7] == 200);
  CHECK(device.mixed[6] == 0);
  CHECK(device.aside[6] > 1000);
  device.run(300);
  CHECK(device.aside[6] == 8000);
}

TEST_CASE("where decodes beside prompts take longer than a mixed step may, long prompts are mixed too") {
  timed_device device({14});
  for (generation_id id = 1; id <= 4; ++id) device.admit(id, 32, 4000);
  device.run(200);
  device.admit(5, 8000, 4000);
  device.run(500);
  CHECK(device.aside[5] == 8000);  // nobody knew
  device.admit(6, 8000, 4000);
  device.run(600);
  CHECK(device.mixed[6] == 8000);
}

TEST_CASE(
    "mixed steps keep their bound when a new prompt begins where keys are few, though only those over many were seen "
    "last") {
  timed_device device({7, 2.5, 0.012, 1.2e-6}, batch_policy::mix, 1.8);
  for (generation_id id = 1; id <= 4; ++id) device.admit(id, 32, 20000);
  device.run(200);
  for (generation_id id = 5; id <= 7; ++id) {
    device.admit(id, 16000, 20000);
    device.mixed_ms.clear();
    for (int most = 0; most < 400 && device.mixed[id] < 16000; ++most) device.run(10);
    REQUIRE(device.mixed[id] == 16000);
    CAPTURE(id, device.mixed_ms);
    CHECK(*std::max_element(device.mixed_ms.begin(), device.mixed_ms.end()) < 1.15 * 1.8 * 5);
    device.run(300);
  }
}

TEST_CASE("chunks grow twofold at most over what was seen, however cheap a row seems") {
  timed_device device({7, 0, 0.001, 0}, batch_policy::mix, 2);
  for (generation_id id = 1; id <= 4; ++id) device.admit(id, 32, 20000);
  device.run(200);
  device.mixed_rows.clear();
  device.admit(5, 16000, 20000);
  device.run(150);
  const auto& rows = device.mixed_rows;
  REQUIRE(rows.size() > 6);
  std::int32_t seen = 64;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i >= 2) seen = std::max(seen, rows[i - 2]);  // two steps are in flight
    CHECK(rows[i] <= 2 * seen);
  }
  CHECK(*std::max_element(rows.begin(), rows.end()) > 2000);
}
