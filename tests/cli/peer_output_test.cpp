// What benchmark programs print, and what they print when they are not well.
#include "cli/peer_output.hpp"

#include "support/catch.hpp"

namespace troupe::cli {
namespace {

constexpr bench_test prefill{512, 0, 0, 1, 2};
constexpr bench_test decode{0, 128, 0, 1, 2};
constexpr bench_test batched{0, 128, 0, 8, 2};

result<measured> llama(const std::string& out, const bench_test& test = decode) {
  return read_llama_bench({out, ""}, test);
}

const std::string table =
    "main: n_kv_max = 4096\n\n"
    "|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |\n"
    "|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|\n"
    "|     1 |    128 |    4 |    516 |    0.033 |   244.28 |    0.249 |   111.00 |    0.282 |   255.52 |\n"
    "|     1 |    128 |    8 |   1032 |    0.033 |   244.28 |    0.249 |   257.25 |    0.282 |   255.52 |\n";

}  // namespace

TEST_CASE("a workload has the name that the peers give it") {
  CHECK(prefill.name() == "pp512");
  CHECK(bench_test{0, 128, 4096, 1, 2}.name() == "tg128@d4096");
  CHECK(bench_test{0, 128, 4096, 8, 2, 2048, 0}.name() == "tg128@d4096s2048");
  CHECK(bench_test{0, 128, 1024, 8, 2, 0, 16384}.name() == "tg128@d1024l16384");
}

TEST_CASE("workloads come depth by depth, prompts first, then batches") {
  bench_options o;
  o.prompt = {0, 512};
  o.generate = {32, 0};
  o.depth = {0, 64};
  o.batch = {1, 8};
  std::string names;
  for (const auto& test : tests_of(o, 3)) {
    names += test.name() + "x" + std::to_string(test.batch) + " ";
    CHECK(test.threads == 3);
  }
  CHECK(names == "pp512x1 tg32x1 tg32x8 pp512@d64x1 tg32@d64x1 tg32@d64x8 ");
}

TEST_CASE("what sequences share is part of their depth, in whole blocks, and one alone shares nothing") {
  bench_options o;
  o.prompt = {512};
  o.generate = {32};
  o.depth = {0, 64, 512};
  o.batch = {1, 8};
  o.shared_prefix = 100;
  o.longest = 300;
  std::string found;
  for (const auto& test : tests_of(o, 2))
    found += test.name() + "x" + std::to_string(test.batch) + ":" + std::to_string(test.depth_of(0)) + "," +
             std::to_string(test.depth_of(1)) + " ";
  CHECK(found ==
        "pp512x1:0,0 tg32@d0l300x1:300,0 tg32@d0l300x8:300,0 pp512@d64x1:64,64 tg32@d64l300x1:300,64 "
        "tg32@d64s64l300x8:300,64 pp512@d512x1:512,512 tg32@d512x1:512,512 tg32@d512s96x8:512,512 ");
}

TEST_CASE("our own row is read with its share") {
  auto found = read_troupe_bench({R"({"test":"tg128","tokens_per_s":321.5,"share_of_limit":0.75})"
                                  "\n",
                                  "limits ..."},
                                 decode);
  REQUIRE(found.ok());
  CHECK(found->tokens_per_s == 321.5);
  CHECK(found->share_of_limit == 0.75);
  CHECK_FALSE(read_troupe_bench({"", "error: no such model"}, decode).ok());
}

TEST_CASE("the median of llama-bench's samples counts, of the row that was asked for") {
  const std::string both = R"([{"n_prompt":512,"n_gen":0,"samples_ts":[900,1000,800],"model_type":"x"},
                               {"n_prompt":0,"n_gen":128,"avg_ts":7,"samples_ts":[90.5,10,100]}])";
  CHECK(llama(both)->tokens_per_s == 90.5);
  CHECK(llama(both, prefill)->tokens_per_s == 900);
  CHECK(llama("load: something\n" + both)->tokens_per_s == 90.5);
}

TEST_CASE("llama-bench's nonsense is refused") {
  for (const std::string nonsense :
       {"", "nonsense", "[", "[]", "[1]", "{}", R"([{"n_prompt":0,"n_gen":128}])",
        R"([{"n_prompt":0,"n_gen":64,"samples_ts":[1]}])", R"([{"n_prompt":0,"n_gen":128,"samples_ts":[]}])",
        R"([{"n_prompt":0,"n_gen":128,"samples_ts":["fast"]}])", R"([{"n_prompt":0,"n_gen":128,"samples_ts":[0]}])",
        R"([{"n_prompt":0,"n_gen":128,"samples_ts":[-5]}])", R"([{"n_prompt":0,"n_gen":128,"samples_ts":[1e999]}])"}) {
    INFO(nonsense);
    CHECK_FALSE(llama(nonsense).ok());
  }
}

TEST_CASE("the batched table is found on either stream, and its row by batch") {
  CHECK(read_batched_bench({table, ""}, batched)->tokens_per_s == 257.25);
  CHECK(read_batched_bench({"", table}, batched)->tokens_per_s == 257.25);
  CHECK_FALSE(read_batched_bench({table, ""}, {0, 128, 0, 16, 2}).ok());
  CHECK_FALSE(read_batched_bench({table, ""}, {0, 64, 0, 8, 2}).ok());
  CHECK_FALSE(read_batched_bench({"| a | b |\n|||\n| 1 |", ""}, batched).ok());
  CHECK_FALSE(read_batched_bench({"", ""}, batched).ok());
}

}  // namespace troupe::cli
