// A file cut short while it is mapped: zeros and a mark where a guard is, the usual signal where none is.
#include "memory/fault_guard.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>

#include "memory/mapped_file.hpp"
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

using namespace troupe;
using memory::fault_guard;
using memory::mapped_file;

namespace {

std::string file_of(const std::filesystem::path& folder, const char* name) {
  std::ofstream(folder / name, std::ios::binary) << std::string(64 << 10, 'x');
  return (folder / name).string();
}

char at(const mapped_file& file, std::size_t i) {
  return static_cast<char>(*const_cast<const volatile std::byte*>(&file.bytes()[i]));
}

}  // namespace

TEST_CASE("a guarded map that is cut short reads as zeros and says so, each for itself") {
  const test::scratch_directory folder;
  const std::string path = file_of(folder.path, "a");
  const auto file = mapped_file::open(path), other = mapped_file::open(file_of(folder.path, "b"));
  REQUIRE(file.ok());
  REQUIRE(other.ok());
  const fault_guard guard(file->bytes()), other_guard(other->bytes());
  CHECK(at(*file, 40'000) == 'x');
  std::filesystem::resize_file(path, 4096);
  CHECK_FALSE(guard.lost());
  CHECK(at(*file, 10) == 'x');
  CHECK_FALSE(guard.lost());
  CHECK(at(*file, 40'000) == 0);
  CHECK(guard.lost());
  CHECK(at(*file, 65'535) == 0);
  CHECK(at(*other, 65'535) == 'x');
  CHECK_FALSE(other_guard.lost());
}

TEST_CASE("more ranges than there is room for are simply not guarded, and places come free again") {
  const test::scratch_directory folder;
  const std::string path = file_of(folder.path, "a");
  const auto file = mapped_file::open(path);
  REQUIRE(file.ok());
  {
    std::vector<std::unique_ptr<fault_guard>> many;
    for (int i = 0; i < 100; ++i) many.push_back(std::make_unique<fault_guard>(file->bytes().subspan(0, 4096)));
    CHECK_FALSE(many.back()->lost());
  }
  const fault_guard guard(file->bytes());
  std::filesystem::resize_file(path, 0);
  CHECK(at(*file, 100) == 0);
  CHECK(guard.lost());
}

TEST_CASE("a fault outside of guarded ranges ends the process as it would have") {
  const test::scratch_directory folder;
  const std::string path = file_of(folder.path, "a");
  const auto file = mapped_file::open(path), other = mapped_file::open(file_of(folder.path, "b"));
  REQUIRE(file.ok());
  const fault_guard guard(other->bytes());
  std::filesystem::resize_file(path, 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(at(*file, 100));
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK_FALSE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
}
