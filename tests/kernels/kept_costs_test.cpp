// What products cost, kept on disk: what is whole and of this machine is used, everything else is measured anew; and a
// lane takes the ways that they say.
#include "kernels/cpu/kept_costs.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "kernels/cpu/cpu_lane.hpp"
#include "support/catch.hpp"
#include "support/random_seed.hpp"
#include "support/scratch_directory.hpp"
#include "tests/kernels/test_tensors.hpp"

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

namespace {

constexpr std::string_view machine = "Some CPU, 1; avx2; 2 threads of 2";

const std::vector<way_cost> some_costs{{dtype::q8_0, 1, {isa::avx2, 4}, 1234},
                                       {dtype::q8_0, 24, {isa::avx512bf16, 8}, 987654321012345},
                                       {dtype::iq4_xs, 64, {isa::neon_i8mm, 6}, 1}};

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

/// Counts what it is asked for.
struct fake_meter {
  std::vector<dtype> asked;
  cost_meter function() {
    return [this](dtype type) {
      asked.push_back(type);
      return std::vector<way_cost>{{type, 1, {isa::avx2, 4}, 100}, {type, 64, {isa::avx2, 8}, 200}};
    };
  }
};

struct folder_of_a_test {
  test::scratch_directory directory;
  memory::copy_folder folder{(directory.path / "kept").string(), 1 << 30};
  fake_meter meter;

  known_costs ask(const std::vector<dtype>& types, std::string_view fingerprint = machine, bool anew = false) {
    meter.asked.clear();
    return costs_for(types, fingerprint, folder, meter.function(), anew);
  }
  std::string path(std::string_view fingerprint = machine) const { return costs_path(folder, fingerprint); }
};

}  // namespace

TEST_CASE("costs come back from their text as they were, for the same machine alone") {
  const std::string text = text_of(machine, some_costs);
  CHECK(costs_of(text, machine) == some_costs);
  CHECK(costs_of(text, "Another CPU").empty());
  CHECK(costs_of(text_of(machine, {}), machine).empty());
}

TEST_CASE("a text that is cut short, altered or random is no text") {
  const std::string text = text_of(machine, some_costs);
  for (std::size_t length = 0; length < text.size(); ++length)
    CHECK(costs_of(std::string_view(text).substr(0, length), machine).empty());
  std::mt19937 random(test::random_seed());
  for (std::size_t at = 0; at < text.size(); ++at) {
    std::string altered = text;
    altered[at] = static_cast<char>(altered[at] ^ (1 << random() % 8));
    INFO(altered);
    CHECK(costs_of(altered, machine).empty());
  }
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random() % 300, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    CHECK(costs_of(bytes, machine).empty());
  }
}

TEST_CASE("lines that make no sense are refused even where their sum is right") {
  const std::string good = text_of(machine, some_costs);
  // A sum is made of whatever stands above it: the fingerprint may carry any line.
  for (const char* line :
       {"Q8_0 1 avx2/4", "Q8_0 1 avx2 7", "Q8_0 0 avx2/4 7", "Q8_0 1 avx2/4 -7", "Q8_0 1 avx9/4 7", "Q9 1 avx2/4 7", "",
        "Q8_0 1 avx2/4 7 ", "Q8_0 99999999999 avx2/4 7", "Q8_0 1 avx2/4 99999999999999999999", "I32 1 avx2/4 7"}) {
    const std::string text = text_of(std::string(machine) + "\n" + line, some_costs);
    INFO(line);
    CHECK(costs_of(text, machine).empty());
  }
  CHECK(costs_of(text_of(std::string(machine) + "\nQ8_0 1 avx2/4 7", some_costs), machine).size() ==
        some_costs.size() + 1);
}

TEST_CASE("what has been measured is not measured again, and a new type joins it") {
  folder_of_a_test kept;
  const auto first = kept.ask({dtype::q8_0, dtype::q4_0});
  CHECK(first.measured);
  CHECK(kept.meter.asked == std::vector{dtype::q8_0, dtype::q4_0});
  const auto second = kept.ask({dtype::q4_0, dtype::q8_0});
  CHECK_FALSE(second.measured);
  CHECK(kept.meter.asked.empty());
  CHECK(second.costs == first.costs);
  CHECK(kept.ask({dtype::q6_k, dtype::q4_0}).measured);
  CHECK(kept.meter.asked == std::vector{dtype::q6_k});
  CHECK(kept.ask({}).costs.size() == 6);
  CHECK(kept.ask({dtype::q8_0}, machine, true).measured);
  struct stat about = {};
  REQUIRE(::stat(kept.path().c_str(), &about) == 0);
  CHECK((about.st_size > 0 && about.st_size < 4096));
  CHECK_FALSE(std::filesystem::exists(kept.path() + ".part"));
}

TEST_CASE("another machine, another mask or another number of threads has costs of its own") {
  folder_of_a_test kept;
  kept.ask({dtype::q8_0});
  CHECK(kept.ask({dtype::q8_0}, "Another CPU").measured);
  CHECK_FALSE(kept.ask({dtype::q8_0}).measured);
  const std::vector<isa> all{isa::scalar, isa::avx2}, masked{isa::scalar};
  CHECK(fingerprint(2, all) == fingerprint(2, all));
  CHECK(fingerprint(2, all) != fingerprint(2, masked));
  CHECK(fingerprint(2, all) != fingerprint(1, all));
  // Carried to another machine under its name, a file is not believed.
  std::filesystem::copy_file(kept.path(), kept.path("Third CPU"));
  CHECK(kept.ask({dtype::q8_0}, "Third CPU").measured);
}

TEST_CASE("a damaged file is measured anew and written over") {
  folder_of_a_test kept;
  const auto good = kept.ask({dtype::q8_0});
  const std::string text = read(kept.path());
  for (const std::string& bad :
       {std::string(), text.substr(0, text.size() / 2), text + text, std::string(100000, 'x'), std::string(50, '\0')}) {
    write(kept.path(), bad);
    const auto again = kept.ask({dtype::q8_0});
    CHECK(again.measured);
    CHECK(again.costs == good.costs);
    CHECK(read(kept.path()) == text);
  }
  write(kept.path() + ".part", "what a process that was killed has left");
  write(kept.path(), "");
  kept.ask({dtype::q8_0});
  CHECK(read(kept.path()) == text);
}

TEST_CASE("a folder that cannot be written costs the measurement and no more") {
  folder_of_a_test kept;
  write(kept.folder.path, "a file in the folder's place");
  for (int start = 0; start < 2; ++start) {
    const auto known = kept.ask({dtype::q8_0});
    CHECK(known.measured);
    CHECK(known.costs.size() == 2);
  }
  kept.folder = {};
  CHECK(kept.ask({dtype::q8_0}).measured);
}

TEST_CASE("a lane takes the ways that kept costs say, and computes the same bits") {
  random_source random(5);
  const isa best = best_isa();
  const auto usable = usable_sets(best);
  const auto ways = ways_for(dtype::q4_0, 64, usable);
  if (ways.size() < 2) return;
  for (const product_way fastest : ways) {
    folder_of_a_test kept;
    std::vector<way_cost> costs;
    for (const std::int32_t rows : costed_rows)
      for (const product_way way : ways_for(dtype::q4_0, rows, usable))
        costs.push_back({dtype::q4_0, rows, way, way == fastest ? 10 : 100});
    std::filesystem::create_directories(kept.folder.path);
    const std::string here = fingerprint(2, usable);
    write(kept.path(here), text_of(here, costs));

    const auto plain = make_cpu_lane({2, best, true}).value_or_throw();
    cpu_lane_options options{2, best, true};
    options.costs = kept.folder;
    const auto chosen = make_cpu_lane(options).value_or_throw();
    stored w(dtype::q4_0, 100, 256, random);
    dense x(40, 256, random);
    const auto product = [&](cpu_lane& lane) {
      const matrix packed = lane.pack(std::vector{w.view()}).value_or_throw();
      std::size_t which = 0;
      REQUIRE(lane.finish_weights(which).ok());
      dense out(40, 100);
      lane.linear(*packed, x.view(), out.view());
      return out.values;
    };
    INFO(to_string(fastest.set) << "/" << fastest.together);
    CHECK(same_bits(product(*chosen), product(*plain)));
    CHECK(chosen->ways().way(dtype::q4_0, 64) == fastest);
    CHECK(plain->ways() == product_ways(best));
  }
}

TEST_CASE("a lane without costs measures its types, which are there at its next start") {
  random_source random(6);
  folder_of_a_test kept;
  cpu_lane_options options{1, best_isa(), true};
  options.costs = kept.folder;
  const auto usable = usable_sets(best_isa());
  if (ways_for(dtype::q8_0, 64, usable).size() < 2) return;
  const auto start = [&] {
    const auto lane = make_cpu_lane(options).value_or_throw();
    stored w(dtype::q8_0, 32, 64, random);
    const matrix packed = lane->pack(std::vector{w.view()}).value_or_throw();
    std::size_t which = 0;
    REQUIRE(lane->finish_weights(which).ok());
    return lane->ways();
  };
  const product_ways first = start();
  const std::string here = fingerprint(1, usable), text = read(kept.path(here));
  if (text.empty()) {
    WARN("this machine is too busy to measure anything: not checked");
    return;
  }
  const auto costs = costs_of(text, here);
  for (const std::int32_t rows : costed_rows)
    CHECK(std::any_of(costs.begin(), costs.end(), [&](const way_cost& one) {
      return one.type == dtype::q8_0 && one.rows == rows && one.nanoseconds > 0;
    }));
  CHECK(start() == first);
  CHECK(read(kept.path(here)) == text);
}
