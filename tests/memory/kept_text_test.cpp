// Small texts kept on disk: what is whole and of the same machine is read, everything else is as good as not there.
#include "memory/kept_text.hpp"

#include <filesystem>
#include <fstream>
#include <random>

#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

using namespace troupe;

namespace {

constexpr std::string_view heading = "troupe test lines 3", machine = "a machine; 2 of its parts";

}  // namespace

TEST_CASE("lines that were kept are read again, whatever they hold") {
  for (const std::string lines : {"", "one\n", "sum 0123456789abcdef\n", "a b c\n\nsum\nlast 7\n"}) {
    CAPTURE(lines);
    CHECK(memory::lines_of(memory::kept_text(heading, machine, lines), heading, machine) == lines);
  }
}

TEST_CASE("a text of another machine or form, cut short, continued or altered anywhere has no lines") {
  const std::string text = memory::kept_text(heading, machine, "first 1\nsecond 2\n");
  CHECK_FALSE(memory::lines_of(text, heading, "another machine"));
  CHECK_FALSE(memory::lines_of(text, "troupe test lines 4", machine));
  CHECK_FALSE(memory::lines_of(text, heading, "a machine"));
  CHECK_FALSE(memory::lines_of("", heading, machine));
  CHECK_FALSE(memory::lines_of(text + "x", heading, machine));
  for (std::size_t at = 0; at < text.size(); ++at) {
    CAPTURE(at);
    CHECK_FALSE(memory::lines_of(text.substr(0, at), heading, machine));
    std::string altered = text;
    altered[at] = static_cast<char>(altered[at] ^ 1);
    CHECK_FALSE(memory::lines_of(altered, heading, machine));
  }
}

TEST_CASE("a file is replaced whole, and a folder that cannot be written says so") {
  const test::scratch_directory scratch;
  const memory::copy_folder folder{(scratch.path / "kept").string(), 1 << 20};
  const std::string path = folder.path_of("Device 1", "lines");
  CHECK(memory::read_kept(path).empty());
  for (const std::string lines : {"a long line that was there before\n", "short\n"}) {
    const std::string text = memory::kept_text(heading, machine, lines);
    REQUIRE(memory::keep_text(text, folder, path));
    CHECK(memory::read_kept(path) == text);
  }
  CHECK(folder.list().size() == 1);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
  std::ofstream(scratch.path / "file") << "in the way";
  const memory::copy_folder blocked{(scratch.path / "file").string(), 1 << 20};
  const auto refused = memory::keep_text("x", blocked, blocked.path_of("Device 1", "lines"));
  REQUIRE_FALSE(refused);
  CHECK(refused.why().code == errc::io);
}
