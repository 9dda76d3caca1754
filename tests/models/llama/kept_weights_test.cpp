// Repacked weights kept on disk: the second load maps them, and whatever has become of the copy the text is the same.
#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "kernels/cpu/cpu_lane.hpp"
#include "memory/copy_folder.hpp"
#include "models/evaluate.hpp"
#include "models/model.hpp"
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;
using memory::dtype;

namespace {

constexpr std::int32_t prompt[] = {7, 40, 200, 9, 77, 12};

struct rig {
  test::scratch_directory scratch;
  test::tiny_model_options shape{.width = 256,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 64,
                                 .feed_forward = 512,
                                 .mix = {dtype::q4_1, dtype::q8_0, dtype::q6_k, dtype::bf16, dtype::f32, dtype::q4_k},
                                 .tied = false};
  std::string model = (scratch.path / "model.gguf").string();
  memory::copy_folder copies{(scratch.path / "kept").string(), 1 << 30, 0};

  rig() { REQUIRE(test::write_tiny_model(model, shape)); }

  std::unique_ptr<kernels::cpu_lane> lane(bool keeps = true) const {
    return kernels::make_cpu_lane({.threads = 2, .copies = keeps ? copies : memory::copy_folder{}}).value_or_throw();
  }
  /// Loads, answers, and waits for the copy.
  std::vector<std::int32_t> answer(kernels::cpu_lane& lane) const {
    const auto loaded = models::load_model(model, lane).value_or_throw();
    lane.wait_for_copy();
    auto evaluator = models::evaluator::create(loaded, lane, 64).value_or_throw();
    return evaluator.continue_greedily(prompt, 12).value_or_throw().greedy;
  }
  std::vector<std::int32_t> answer(bool keeps = true) const {
    const auto made = lane(keeps);
    return answer(*made);
  }
  std::string copy() const { return copies.path_of(model, "tiles"); }

  /// Which file the copy is, with a time of last use that no use has.
  ino_t aged() const {
    const timespec old[2] = {{1000, 0}, {1000, 0}};
    REQUIRE(::utimensat(AT_FDCWD, copy().c_str(), old, 0) == 0);
    return inode();
  }
  ino_t inode() const {
    struct stat about = {};
    REQUIRE(::stat(copy().c_str(), &about) == 0);
    return about.st_ino;
  }
  bool used() const {
    struct stat about = {};
    REQUIRE(::stat(copy().c_str(), &about) == 0);
    return about.st_mtim.tv_sec > 1000;
  }
};

}  // namespace

TEST_CASE("the first load keeps a copy, the next one maps it, and the text is the same") {
  const rig r;
  const auto expected = r.answer(false);
  CHECK_FALSE(std::filesystem::exists(r.copies.path));
  CHECK(r.answer() == expected);
  const auto made = r.aged();
  CHECK(r.answer() == expected);
  CHECK(r.inode() == made);
  CHECK(r.used());
  CHECK(r.copies.list().size() == 1);
}

TEST_CASE("a copy that is damaged or cut short is made anew") {
  const rig r;
  const auto expected = r.answer();
  for (const bool cut : {true, false}) {
    std::filesystem::permissions(r.copy(), std::filesystem::perms::owner_all);
    const auto size = std::filesystem::file_size(r.copy());
    if (cut) {
      std::filesystem::resize_file(r.copy(), size - 4096);
    } else {
      std::fstream file(r.copy(), std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(static_cast<std::streamoff>(size / 2));
      file << "damage";
    }
    r.aged();
    CHECK(r.answer() == expected);
    CHECK(r.used());
    r.aged();
    CHECK(r.answer() == expected);  // from the new one
    CHECK(r.used());
  }
}

TEST_CASE("a copy of another version of the file is made anew") {
  rig r;
  const auto before = r.answer();
  r.shape.seed = 99;
  REQUIRE(test::write_tiny_model(r.model, r.shape));
  const auto after = r.answer(false);
  CHECK(after != before);
  CHECK(r.answer() == after);
  r.aged();
  CHECK(r.answer() == after);
  CHECK(r.used());
  CHECK(r.copies.list().size() == 1);
}

TEST_CASE("where no copy can be kept, models load as ever") {
  rig r;
  const auto expected = r.answer(false);
  std::ofstream(r.scratch.path / "file") << "x";
  r.copies.path = (r.scratch.path / "file" / "kept").string();
  CHECK(r.answer() == expected);
  r.copies = {(r.scratch.path / "kept").string(), 1000, 0};  // less than it takes
  CHECK(r.answer() == expected);
  CHECK(r.copies.list().empty());
  r.copies = {(r.scratch.path / "kept").string(), 1 << 30};  // more than this little model takes
  CHECK(r.answer() == expected);
  CHECK(r.copies.list().empty());
}

TEST_CASE("a load that fails keeps nothing") {
  const rig r;
  {
    const auto lane = r.lane();
    CHECK_FALSE(models::load_model(r.model, *lane, [&](std::int64_t, std::int64_t) {
                  std::filesystem::resize_file(r.model, 4096);
                }).ok());
    lane->wait_for_copy();
  }
  CHECK(r.copies.list().empty());
}

TEST_CASE("starts at the same time all answer, and leave one copy") {
  const rig r;
  const auto expected = r.answer(false);
  for (int round = 0; round < 2; ++round) {  // none has a copy, then all have
    std::vector<std::int32_t> answers[3];
    std::vector<std::thread> starts;
    for (auto& one : answers) starts.emplace_back([&] { one = r.answer(); });
    for (auto& one : starts) one.join();
    for (const auto& one : answers) CHECK(one == expected);
    CHECK(r.copies.list().size() == 1);
  }
}

TEST_CASE("a copy that is cut short while it is in use fails that model alone") {
  const rig r;
  const auto expected = r.answer();
  const auto lane = r.lane();
  const auto model = models::load_model(r.model, *lane).value_or_throw();
  auto evaluator = models::evaluator::create(model, *lane, 64).value_or_throw();
  REQUIRE(evaluator.continue_greedily(prompt, 12).value_or_throw().greedy == expected);
  std::filesystem::permissions(r.copy(), std::filesystem::perms::owner_all);
  std::filesystem::resize_file(r.copy(), 8192);
  CHECK_THROWS_AS(evaluator.continue_greedily(prompt, 2), failure);
  CHECK(r.answer() == expected);
}

TEST_CASE("a copy that is deleted while it is in use stays readable") {
  const rig r;
  const auto expected = r.answer();
  const auto lane = r.lane();
  const auto model = models::load_model(r.model, *lane).value_or_throw();
  std::filesystem::remove_all(r.copies.path);
  auto evaluator = models::evaluator::create(model, *lane, 64).value_or_throw();
  CHECK(evaluator.continue_greedily(prompt, 12).value_or_throw().greedy == expected);
}
