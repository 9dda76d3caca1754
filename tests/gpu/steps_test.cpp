// Steps of the CUDA lane through planner and runner: random lives beside fresh runs, in one queue and in two.
#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "cli/planned_steps.hpp"
#include "kernels/cuda/kv_copies.hpp"
#include "support/gpu.hpp"
#include "support/random_model.hpp"

using namespace troupe;

namespace {

struct request {
  std::vector<std::int32_t> prompt;
  std::int32_t tokens = 0;
};

using answers = std::map<actors::generation_id, std::vector<actors::step_token>>;

/// With host memory for blocks the same requests come again and again.
constexpr std::size_t all_requests = 400, few_requests = 40;

/// `common`: most begin with one of two texts, or with a part of it.
std::vector<request> drawn(std::mt19937& random, std::size_t count, bool common) {
  std::vector<request> all(count);
  const auto write = [&](std::vector<std::int32_t>& text, std::size_t from, std::size_t tokens) {
    text.resize(from + tokens);
    for (auto id = text.begin() + static_cast<std::ptrdiff_t>(from); id != text.end(); ++id)
      *id = static_cast<std::int32_t>(random() % test::small_vocabulary);
  };
  std::vector<std::int32_t> texts[2];
  for (auto& text : texts) write(text, 0, 300);
  for (request& one : all) {
    if (common && random() % 8 > 0) {
      one.prompt = texts[random() % 2];
      if (random() % 2 == 0) one.prompt.resize(random() % 300);
    }
    write(one.prompt, one.prompt.size(), 1 + random() % (one.prompt.empty() ? 200 : 60));
    one.tokens = 1 + static_cast<std::int32_t>(random() % 160);
  }
  return all;
}

result<void> warm_up(kernels::lane& of, kernels::step_space* space, const kernels::step_ops& whole,
                     const kernels::step_ops& ends, std::int32_t blocks) {
  return static_cast<kernels::cuda::cuda_lane&>(of).warm_up(*space, {whole, ends}, blocks);
}

/// Each by itself, one after the other.
answers fresh(const std::shared_ptr<const models::loaded_model>& model, kernels::cuda::cuda_lane& lane,
              const std::vector<request>& all) {
  answers out;
  auto steps = cli::planned_steps::create(model, lane, {1, 512, 64}, [&](const actors::step_token& token, auto) {
    out[token.generation].push_back(token);
  });
  REQUIRE(steps);
  for (const request& one : all) {
    (*steps)->submit(one.prompt, one.tokens, 1);
    REQUIRE((*steps)->finish());
  }
  return out;
}

/// A sequence may go another way than its fresh run only where the two best tokens were as good as equal: kernels for
/// few and for many rows round differently. From there on the two differ rightly. Returns the tokens compared.
std::size_t require_same_or_tied(const std::vector<actors::step_token>& got,
                                 const std::vector<actors::step_token>& alone, float most) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    REQUIRE(i < alone.size());
    INFO("token " << i << ": " << got[i].id << " (" << got[i].logprob << "), alone " << alone[i].id << " ("
                  << alone[i].logprob << ")");
    REQUIRE(std::abs(got[i].logprob - alone[i].logprob) < most);
    if (got[i].id != alone[i].id) return i;
  }
  return got.size();
}

void random_life(const std::shared_ptr<const models::loaded_model>& model, kernels::cuda::cuda_lane& lane,
                 kernels::lane* prompts, double growth, unsigned seed, std::int64_t least_steps, float most = 0.05f,
                 bool common = false, std::int64_t host_bytes = 0) {
  std::mt19937 random(seed);
  const auto all = drawn(random, host_bytes > 0 ? few_requests : all_requests, common);
  const answers alone = fresh(model, lane, all);
  answers got;
  // 33 at once: a graph of 40 rows would have no room. 130 blocks: some must give way.
  const cli::planned_steps::options options{
      33, 96, 130, growth, prompts, warm_up, common, host_bytes, kernels::cuda::make_kv_copies};
  auto steps = cli::planned_steps::create(
      model, lane, options, [&](const actors::step_token& token, auto) { got[token.generation].push_back(token); });
  REQUIRE(steps);
  cli::planned_steps::figures sum;
  std::map<actors::generation_id, std::size_t> which;  // of `all`
  std::vector<actors::generation_id> cut;
  std::size_t compared = 0, whole = 0;
  while (sum.steps < least_steps) {
    const auto what = random() % 12;
    if (what < 4 && which.size() < 60) {
      const std::size_t i = random() % all.size();
      which[(*steps)->submit(all[i].prompt, all[i].tokens, 1)] = i;
    } else if (what == 4 && !which.empty()) {
      auto one = which.begin();
      std::advance(one, random() % which.size());
      if (random() % 4 == 0) {
        cut.push_back(one->first);
        (*steps)->end(one->first);
      } else {
        (*steps)->pause(one->first, random() % 2 == 0);
      }
    }
    REQUIRE((*steps)->advance(actors::clock::now() + std::chrono::milliseconds(2)));
    const auto figures = (*steps)->take_figures();
    sum.steps += figures.steps, sum.mixed += figures.mixed, sum.preemptions += figures.preemptions;
    sum.blocks_out += figures.blocks_out, sum.blocks_in += figures.blocks_in;
    for (auto one = which.begin(); one != which.end();) {
      const bool was_cut = std::find(cut.begin(), cut.end(), one->first) != cut.end();
      const auto& tokens = got[one->first];
      if (!was_cut && static_cast<std::int32_t>(tokens.size()) < all[one->second].tokens) {
        ++one;
        continue;
      }
      compared += require_same_or_tied(tokens, alone.at(one->second + 1), most);
      whole += was_cut ? 0 : 1;
      got.erase(one->first);
      one = which.erase(one);
    }
  }
  std::cout << sum.steps << " steps, " << sum.mixed << " mixed, " << sum.preemptions << " preemptions, " << cut.size()
            << " cut, " << whole << " whole, " << compared << " tokens compared, " << sum.blocks_out << " blocks out, "
            << sum.blocks_in << " in" << std::endl;
  CHECK(sum.preemptions > 0);
  CHECK(compared > 1000);
  CHECK((sum.blocks_in > 100) == (host_bytes > 0));
}

}  // namespace

TEST_CASE("sequences that join, leave, pause and give way at random say what they say alone") {
  const auto lane = test::cuda_lane_or_skip();
  if (!lane) return;
  random_life(test::small_model(*lane, 3, 2048), *lane, nullptr, 0, 1, 10000);
}

TEST_CASE("the same with prompts in a queue of their own") {
  const auto lane = test::cuda_lane_or_skip();
  if (!lane) return;
  const auto model = test::small_model(*lane, 3, 2048);
  const auto prompts = lane->make_second_queue();
  REQUIRE(prompts);
  random_life(model, *lane, prompts->get(), 0, 2, 3000);
}

TEST_CASE("the same on a device that is divided, anew and anew, while both queues have work") {
  const auto lane = test::cuda_lane_or_skip();
  if (!lane) return;
  const auto model = test::small_model(*lane, 3, 2048);
  unsigned seed = 3;
  for (const std::int32_t multiprocessors : {32, 64, 0, 16})
    for (const double growth : {0.0, 1.5}) {  // all prompts on their part; or those that the planner chooses
      CAPTURE(multiprocessors, growth);
      REQUIRE(lane->divide(multiprocessors));
      const auto prompts = lane->make_second_queue();
      REQUIRE(prompts);
      random_life(model, *lane, prompts->get(), growth, seed++, 1000);
    }
  REQUIRE(lane->divide(0));
  random_life(model, *lane, nullptr, 0, seed, 1000);
}

TEST_CASE("the same with K and V in fp8") {
  const auto lane = test::cuda_lane_or_skip({{}, "fp8"});
  if (!lane) return;
  random_life(test::small_model(*lane, 3, 2048), *lane, nullptr, 0, 3, 3000,
              0.2f);  // a number between two bytes may go either way
}

TEST_CASE("the same where sequences begin alike, and what they share is read once") {
  kernels::cuda::cuda_wish wish;
  wish.least_shared_bytes = 1;
  const auto lane = test::cuda_lane_or_skip(wish);
  if (!lane) return;
  const auto model = test::small_model(*lane, 3, 2048);
  random_life(model, *lane, nullptr, 0, 4, 3000, 0.05f, true);
  std::cout << lane->steps_shared() << " steps read together what sequences share" << std::endl;
  CHECK(lane->steps_shared() > 1000);
}

TEST_CASE("the same with host memory for blocks that leave the device, bf16 and fp8, one queue and two") {
  for (const char* kv : {"", "fp8"}) {
    const auto lane = test::cuda_lane_or_skip({{}, kv});
    if (!lane) return;
    const auto model = test::small_model(*lane, 3, 2048);
    const std::int64_t bytes = 300 * lane->kv_block_bytes(model->shape().kv());
    random_life(model, *lane, nullptr, 0, 21, 3000, kv[0] != 0 ? 0.2f : 0.05f, true, bytes);
    if (kv[0] != 0) continue;
    const auto prompts = lane->make_second_queue();
    REQUIRE(prompts);
    random_life(model, *lane, prompts->get(), 1.5, 22, 3000, 0.05f, true, bytes);
  }
}

TEST_CASE("memory that a device has not is refused, and the lane goes on") {
  const auto lane = test::cuda_lane_or_skip();
  if (!lane) return;
  const auto model = test::small_model(*lane, 3, 2048);
  const auto huge = lane->make_kv({80, 64, 128}, 1 << 20);
  REQUIRE_FALSE(huge);
  CHECK(huge.why().code == errc::out_of_memory);
  std::size_t tokens = 0;
  auto steps = cli::planned_steps::create(model, *lane, {4, 64, 64}, [&](const auto&, auto) { ++tokens; });
  REQUIRE(steps);
  (*steps)->submit({1, 2, 3}, 20);
  REQUIRE((*steps)->finish());
  CHECK(tokens == 20);
}
