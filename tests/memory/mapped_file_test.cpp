// Mapping of regular files, and the refusal of everything else.
#include "memory/mapped_file.hpp"

#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>

#include "memory/buffer.hpp"
#include "support/catch.hpp"
#include "tests/support/tiny_model.hpp"

using troupe::errc;
using troupe::memory::mapped_file;
using troupe::test::scratch_path;

namespace {

void write(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

std::string text_of(const mapped_file& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

TEST_CASE("a mapped file shows the file's bytes and outlives the file's name") {
  std::string bytes(100'000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 + i / 4096);
  mapped_file moved = [&] {
    const scratch_path path(".bin");
    write(path.string(), bytes);
    auto file = mapped_file::open(path.string());
    REQUIRE(file.ok());
    return *std::move(file);
  }();
  CHECK(moved.size() == 100'000);
  CHECK(text_of(moved) == bytes);
}

TEST_CASE("prefetched pages read the same, whatever the range") {
  const scratch_path path(".bin");
  const std::string bytes(50'000, 'x');
  write(path.string(), bytes);
  const auto file = mapped_file::open(path.string());
  REQUIRE(file.ok());
  for (const auto& [offset, size] : std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 50'000},
                                                                                       {1, 1},
                                                                                       {4096, 8192},
                                                                                       {49'999, 1},
                                                                                       {50'000, 10},
                                                                                       {-5, 10},
                                                                                       {10, -5},
                                                                                       {3, INT64_MAX},
                                                                                       {INT64_MAX, 1}}) {
    file->prefetch(offset, size);
    CHECK(text_of(*file) == bytes);
  }
}

TEST_CASE("reading copies the file's bytes, and fails where there are none") {
  const scratch_path path(".bin");
  std::string bytes(50'000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + i / 256);
  write(path.string(), bytes);
  const auto file = mapped_file::open(path.string());
  REQUIRE(file.ok());
  const auto read = [&](std::int64_t offset, std::size_t size, std::string* into = nullptr) {
    std::string copy(size, '\0');
    const bool done = file->read(offset, std::as_writable_bytes(std::span(copy)));
    if (into != nullptr) *into = copy;
    return done;
  };
  for (const auto& [offset, size] :
       std::vector<std::pair<std::int64_t, std::size_t>>{{0, 50'000}, {4097, 9000}, {49'999, 1}, {50'000, 0}}) {
    std::string copy;
    REQUIRE(read(offset, size, &copy));
    CHECK(copy == bytes.substr(static_cast<std::size_t>(offset), size));
  }
  CHECK_FALSE(read(-1, 1));
  CHECK_FALSE(read(50'000, 1));
  CHECK_FALSE(read(49'000, 1001));
  std::filesystem::resize_file(path.string(), 10'000);
  CHECK(read(0, 10'000));
  CHECK_FALSE(read(0, 10'001));
}

TEST_CASE("an empty file maps to no bytes") {
  const scratch_path path(".bin");
  write(path.string(), "");
  const auto file = mapped_file::open(path.string());
  REQUIRE(file.ok());
  CHECK(file->bytes().empty());
}

TEST_CASE("what is no regular file is refused at once (row 72)") {
  const scratch_path fifo(".fifo");
  REQUIRE(::mkfifo(fifo.string().c_str(), 0600) == 0);
  for (const std::string& path :
       {fifo.string(), std::string("/"), std::string("/dev/random"), std::string("/dev/null")}) {
    INFO(path);
    const auto file = mapped_file::open(path);
    REQUIRE_FALSE(file.ok());
    CHECK(file.why().code == errc::invalid_argument);
    CHECK(file.why().text.find(path) == 0);
  }
  CHECK(mapped_file::open("/no/such/file").why().code == errc::not_found);
}

TEST_CASE("host buffers are zero, aligned and of any sensible size") {
  for (const std::int64_t bytes : {1, 4096, 5 << 20}) {
    const auto buffer = troupe::memory::allocate_host(bytes);
    REQUIRE(buffer.ok());
    CHECK(buffer->bytes() == bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer->data()) % (bytes >= 2 << 20 ? 2 << 20 : 64) == 0);
    const std::string zeros(static_cast<std::size_t>(bytes), '\0');
    CHECK(std::memcmp(buffer->data(), zeros.data(), zeros.size()) == 0);
  }
  CHECK(troupe::memory::allocate_host(0).ok());
  CHECK(troupe::memory::allocate_host(-1).why().code == errc::out_of_memory);
  CHECK(troupe::memory::allocate_host(INT64_MAX).why().code == errc::out_of_memory);
  CHECK(troupe::memory::allocate_host(std::int64_t{1} << 60).why().code == errc::out_of_memory);
}
