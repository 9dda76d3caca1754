// Copies on disk: what is whole and of the same file is used, everything else is as good as not there.
#include "memory/kept_copy.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "memory/copy_folder.hpp"
#include "support/catch.hpp"
#include "support/random_seed.hpp"
#include "support/scratch_directory.hpp"

using namespace troupe;
using memory::copy_folder;
using memory::copy_key;
using memory::keep_copy;
using memory::kept_copy;

namespace {

const std::atomic<bool> never{false};
const copy_key some_key{1234, 5, 6, 7, 8};

std::vector<std::byte> random_bytes(std::size_t count) {
  static std::mt19937_64 random(test::random_seed());
  std::vector<std::byte> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

bool whole(const kept_copy& copy) {
  for (std::int64_t piece = 0; piece < copy.pieces(); ++piece)
    if (!copy.verify(piece)) return false;
  return true;
}

bool usable(const std::string& path, const copy_key& key = some_key) {
  const auto copy = kept_copy::open(path, key);
  return copy.ok() && whole(*copy);
}

void flip(const std::string& path, std::int64_t offset) {
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(offset);
  const int was = file.get();
  file.seekp(offset);
  file.put(static_cast<char>(was ^ 0x10));
}

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

}  // namespace

TEST_CASE("a copy shows what was kept, at every size") {
  const test::scratch_directory folder;
  const std::string path = folder.path / "a.kept";
  for (const std::size_t size : {std::size_t{8}, std::size_t{4096}, std::size_t{1 << 20}, std::size_t{(1 << 20) + 8},
                                 std::size_t{(3 << 20) - 64}}) {
    const auto content = random_bytes(size);
    REQUIRE(keep_copy(path, some_key, content, never).ok());
    const auto copy = kept_copy::open(path, some_key);
    REQUIRE(copy.ok());
    CHECK(whole(*copy));
    CHECK(std::equal(content.begin(), content.end(), copy->content().begin(), copy->content().end()));
    CHECK(reinterpret_cast<std::uintptr_t>(copy->content().data()) % 4096 == 0);
  }
  CHECK(files_in(folder.path) == 1);
}

TEST_CASE("a copy of another file or another layout is not used") {
  const test::scratch_directory folder;
  const std::string path = folder.path / "a.kept";
  REQUIRE(keep_copy(path, some_key, random_bytes(4096), never).ok());
  CHECK(usable(path));
  for (std::uint64_t i = 0; i < 5; ++i) {
    copy_key other = some_key;
    (i == 0 ? other.bytes : i == 1 ? other.modified : other.altered) += i < 3;
    (i == 3 ? other.ends : other.layout) += i >= 3;
    REQUIRE_FALSE(other == some_key);
    const auto copy = kept_copy::open(path, other);
    REQUIRE_FALSE(copy.ok());
    CHECK(copy.why().code == errc::corrupt_file);
  }
  CHECK(kept_copy::open(folder.path / "none.kept", some_key).why().code == errc::not_found);
}

TEST_CASE("a copy that was cut short or altered anywhere is not used") {
  const test::scratch_directory folder;
  const std::string path = folder.path / "a.kept";
  const auto content = random_bytes((2 << 20) + 4096);
  REQUIRE(keep_copy(path, some_key, content, never).ok());
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path));
  for (const std::int64_t offset :
       {std::int64_t{0}, std::int64_t{9}, std::int64_t{70}, std::int64_t{4096}, std::int64_t{4096 + 20},
        std::int64_t{8192}, std::int64_t{8192 + (1 << 20) + 77}, size - 1}) {
    INFO(offset);
    flip(path, offset);
    CHECK_FALSE(usable(path));
    flip(path, offset);
    CHECK(usable(path));
  }
  for (const std::int64_t left :
       {size - 1, size - 8, size / 2, std::int64_t{8192}, std::int64_t{100}, std::int64_t{0}}) {
    INFO(left);
    std::filesystem::resize_file(path, static_cast<std::uintmax_t>(left));
    CHECK_FALSE(usable(path));
  }
  REQUIRE(keep_copy(path, some_key, content, never).ok());  // in place of what was left
  CHECK(usable(path));
}

TEST_CASE("a copy that is cut short after it was opened fails its verification, and nothing else") {
  const test::scratch_directory folder;
  const std::string path = folder.path / "a.kept";
  REQUIRE(keep_copy(path, some_key, random_bytes(4 << 20), never).ok());
  const auto copy = kept_copy::open(path, some_key);
  REQUIRE(copy.ok());
  std::filesystem::resize_file(path, (1 << 20) + 8192);
  CHECK(copy->verify(0));
  CHECK_FALSE(copy->verify(2));
}

TEST_CASE("checksums tell apart what differs in one word, in order or in length") {
  auto bytes = random_bytes(4096);
  const auto sum = memory::checksum_of(bytes);
  CHECK(memory::checksum_of(std::span(bytes).first(4088)) != sum);
  std::swap_ranges(bytes.begin(), bytes.begin() + 8, bytes.begin() + 64);  // the same lane
  CHECK(memory::checksum_of(bytes) != sum);
  std::swap_ranges(bytes.begin(), bytes.begin() + 8, bytes.begin() + 64);
  CHECK(memory::checksum_of(bytes) == sum);
  std::swap_ranges(bytes.begin(), bytes.begin() + 8, bytes.begin() + 8);  // two lanes
  CHECK(memory::checksum_of(bytes) != sum);
  const std::vector<std::byte> zeros(4096), fewer(2048);
  CHECK(memory::checksum_of(zeros) != memory::checksum_of(fewer));
}

TEST_CASE("a file that changes has another key, even where its size and its time stay") {
  const test::scratch_directory folder;
  const std::string path = folder.path / "model.gguf";
  const auto key = [&] { return memory::key_of(memory::mapped_file::open(path).value_or_throw(), 1).value_or_throw(); };
  const auto content = random_bytes(300'000);
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(content.data()), 300'000);
  const auto before = key();
  CHECK(key() == before);
  const auto time = std::filesystem::last_write_time(path);
  flip(path, 299'999);
  std::filesystem::last_write_time(path, time);
  CHECK_FALSE(key() == before);
  CHECK(key().ends != before.ends);
  CHECK(key().bytes == before.bytes);
  flip(path, 299'999);
  CHECK(key().ends == before.ends);
  CHECK_FALSE(memory::key_of(memory::mapped_file::open(path).value_or_throw(), 2).value_or_throw() == key());
}

TEST_CASE("writing that is stopped, or has no room, leaves nothing behind") {
  const test::scratch_directory folder;
  const std::string path = folder.path / "a.kept";
  const auto content = random_bytes(4 << 20);
  const std::atomic<bool> stopped{true};
  CHECK(keep_copy(path, some_key, content, stopped).why().code == errc::cancelled);
  CHECK(files_in(folder.path) == 0);

  // A limit on the size of files stands for a full disk.
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  const rlimit small{1 << 20, old.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const auto kept = keep_copy(path, some_key, content, never);
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, before);
  REQUIRE_FALSE(kept.ok());
  CHECK(kept.why().code == errc::io);
  CHECK(files_in(folder.path) == 0);

  CHECK(keep_copy(folder.path / "none" / "a.kept", some_key, content, never).why().code == errc::io);
}

TEST_CASE("processes that keep the same copy at once leave one whole copy") {
  const test::scratch_directory folder;
  const std::string path = folder.path / "a.kept";
  const auto content = random_bytes(3 << 20);
  std::atomic<int> good{0};
  std::vector<std::thread> all;
  for (int i = 0; i < 4; ++i)
    all.emplace_back([&] {
      for (int round = 0; round < 5; ++round) good += keep_copy(path, some_key, content, never).ok();
    });
  for (auto& one : all) one.join();
  CHECK(good == 20);
  CHECK(usable(path));
  CHECK(files_in(folder.path) == 1);
}

TEST_CASE("a folder keeps what was used last within its limit, and touches nothing else") {
  const test::scratch_directory scratch;
  const copy_folder folder{(scratch.path / "kept").string(), 10 << 20};
  CHECK(folder.list().empty());
  REQUIRE(folder.make_room(1000, "").ok());
  std::vector<std::string> paths;
  for (const char* name : {"/x/a.gguf", "/y/a.gguf", "/x/b.gguf"}) {
    paths.push_back(folder.path_of(name, "tiles"));
    REQUIRE(keep_copy(paths.back(), some_key, random_bytes(3 << 20), never).ok());
    const timespec old[2] = {{static_cast<time_t>(1000 + paths.size()), 0},
                             {static_cast<time_t>(1000 + paths.size()), 0}};
    REQUIRE(::utimensat(AT_FDCWD, paths.back().c_str(), old, 0) == 0);
  }
  CHECK(paths[0] != paths[1]);
  std::ofstream(folder.path + "/a stranger's") << std::string(5 << 20, 'x');
  REQUIRE(folder.list().size() == 3);
  CHECK(folder.list().front().path == paths[0]);

  copy_folder::mark_used(paths[0]);
  CHECK(folder.list().front().path == paths[1]);
  REQUIRE(folder.make_room(3 << 20, paths[2]).ok());  // replaces one of them: all fit
  CHECK(folder.list().size() == 3);
  REQUIRE(folder.make_room(3 << 20, "").ok());
  REQUIRE(folder.list().size() == 2);
  CHECK(folder.list().back().path == paths[0]);
  CHECK_FALSE(folder.make_room(11 << 20, "").ok());
  CHECK(folder.list().size() == 2);
  CHECK(files_in(folder.path) == 3);
  CHECK_FALSE(copy_folder{"", 1 << 20}.wanted());
  CHECK_FALSE(copy_folder{"/tmp", 0}.wanted());
}

TEST_CASE("a folder that cannot be made is an error") {
  const test::scratch_directory scratch;
  std::ofstream(scratch.path / "file") << "x";
  const copy_folder folder{(scratch.path / "file" / "kept").string(), 10 << 20};
  CHECK(folder.make_room(1000, "").why().code == errc::io);
  CHECK(folder.list().empty());
}
