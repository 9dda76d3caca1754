// The tokenizer's tables kept on disk: the next start reads them and answers alike, whatever has become of the copy.
#include "models/kept_tokenizer.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <vector>

#include "memory/buffer.hpp"
#include "support/catch.hpp"
#include "support/random_seed.hpp"
#include "support/scratch_directory.hpp"
#include "tests/models/tokenizer/fixtures.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;
using namespace troupe::models;

namespace {

struct rig {
  test::scratch_directory scratch;
  std::string model = (scratch.path / "model.gguf").string();
  memory::copy_folder copies{(scratch.path / "kept").string(), 1 << 30, 0};

  rig() { REQUIRE(test::write_tiny_model(model, {})); }
  tokenizer read(bool keeps = true) const {
    return kept_tokenizer(gguf_file::open(model).value_or_throw(), keeps ? copies : memory::copy_folder{})
        .value_or_throw();
  }
  std::string copy() const { return copies.path_of(model, "tokens"); }
  /// Gives the copy a time of last use that no use has; used() says whether it has another since, remade() whether it
  /// is another file.
  void age() {
    const timespec old[2] = {{1000, 0}, {1000, 0}};
    REQUIRE(::utimensat(AT_FDCWD, copy().c_str(), old, 0) == 0);
    aged_ = about().st_ino;
  }
  bool used() const { return about().st_mtim.tv_sec > 1000; }
  bool remade() const { return about().st_ino != aged_; }

private:
  struct stat about() const {
    struct stat found = {};
    REQUIRE(::stat(copy().c_str(), &found) == 0);
    return found;
  }
  ino_t aged_ = 0;
};

std::mt19937 random_numbers(test::random_seed());

void check_alike(const tokenizer& one, const tokenizer& other) {
  REQUIRE(one.size() == other.size());
  CHECK(one.bos() == other.bos());
  CHECK(one.eos() == other.eos());
  CHECK(one.add_bos() == other.add_bos());
  std::int32_t wrong = 0;
  for (std::int32_t id = -1; id <= one.size(); ++id)
    wrong += one.token_bytes(id) != other.token_bytes(id) || one.is_control(id) != other.is_control(id) ||
             one.is_end(id) != other.is_end(id) || one.find(one.token_bytes(id)) != other.find(one.token_bytes(id));
  CHECK(wrong == 0);
  for (int i = 0; i < 50; ++i) {
    const std::string text = models::testing::random_text(random_numbers, 20);
    CHECK(*one.encode(text, i % 2 == 0) == *other.encode(text, i % 2 == 0));
  }
}

tokenizer taken_up(const tokenizer& from) {
  const auto tables = std::make_shared<const std::vector<std::byte>>(from.tables());
  return tokenizer::of_tables(*tables, tables).value_or_throw();
}

void overwrite(const std::string& path, std::int64_t at, char with) {
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(at);
  file.put(with);
}

}  // namespace

TEST_CASE("a tokenizer taken up from its tables answers as the one that was made") {
  for (const char* rules : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    INFO(rules);
    auto vocabulary = models::testing::small_vocabulary();
    vocabulary.pre_tokenizer = rules;
    vocabulary.bos = 7;
    vocabulary.add_bos = true;
    vocabulary.more_eog = {260};
    const auto made = tokenizer::create(vocabulary).value_or_throw();
    check_alike(made, taken_up(made));
    CHECK(taken_up(made).find("Ġw") == 260);
  }
  if (const auto real = models::testing::default_tokenizer()) check_alike(*real, taken_up(*real));
}

TEST_CASE("tables that end early, or of sizes that do not fit each other, are refused") {
  const auto tables = tokenizer::create(models::testing::small_vocabulary()).value_or_throw().tables();
  for (std::size_t size = 0; size < tables.size(); size += 64) {
    const auto fewer = std::make_shared<const std::vector<std::byte>>(
        tables.begin(), tables.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_FALSE(tokenizer::of_tables(*fewer, fewer).ok());
  }
  // The counts are the head's last nine words.
  constexpr std::size_t counts = 32 + 4 * 256 + 16;
  for (std::size_t which = 0; which < 9; ++which)
    for (const std::uint64_t count : {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
      auto altered = std::make_shared<std::vector<std::byte>>(tables);
      std::memcpy(altered->data() + counts + 8 * which, &count, 8);
      CHECK_FALSE(tokenizer::of_tables(*altered, altered).ok());
    }
}

TEST_CASE("the first start keeps the tables, the next one reads them") {
  rig r;
  const auto plain = r.read(false);
  CHECK_FALSE(std::filesystem::exists(r.copies.path));
  check_alike(plain, r.read());
  r.age();
  check_alike(plain, r.read());
  CHECK(r.used());
  CHECK_FALSE(r.remade());
}

TEST_CASE("tables that are damaged or cut short are made anew") {
  rig r;
  const auto plain = r.read();
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(r.copy()));
  for (int i = 0; i < 8; ++i) {
    r.age();
    const std::int64_t at = std::uniform_int_distribution<std::int64_t>(8192, size - 1)(random_numbers);
    std::ifstream was(r.copy(), std::ios::binary);
    was.seekg(at);
    overwrite(r.copy(), at, static_cast<char>(was.get() ^ 1));
    check_alike(plain, r.read());
    CHECK(r.remade());
  }
  r.age();
  std::filesystem::permissions(r.copy(), std::filesystem::perms::owner_all);
  std::filesystem::resize_file(r.copy(), static_cast<std::uintmax_t>(size / 2));
  check_alike(plain, r.read());
  CHECK(r.remade());
}

TEST_CASE("tables of a file that has changed since are made anew") {
  rig r;
  static_cast<void>(r.read());
  r.age();
  REQUIRE(test::write_tiny_model(r.model, {.tied = false}));
  check_alike(r.read(false), r.read());
  CHECK(r.remade());
}

TEST_CASE("small tables are not kept, and a folder that cannot be written is no error") {
  rig r;
  r.copies.least_bytes = 1 << 30;
  static_cast<void>(r.read());
  CHECK_FALSE(std::filesystem::exists(r.copy()));
  r.copies = {"/proc/self/nowhere", 1 << 30, 0};
  check_alike(r.read(false), r.read());
}
