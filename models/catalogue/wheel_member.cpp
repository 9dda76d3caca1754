// Streams a zip member to a file and through its checksum.
#include "models/catalogue/wheel_member.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include <unistd.h>
#include <zip.h>

#include "base/opened_library.hpp"
#include "models/catalogue/sha256.hpp"

namespace troupe::models {
namespace {

/// libzip, opened by the first wheel.
struct zip_functions {
  decltype(&zip_open) open = nullptr;
  decltype(&zip_discard) discard = nullptr;
  decltype(&zip_stat) stat = nullptr;
  decltype(&zip_fopen_index) open_member = nullptr;
  decltype(&zip_fread) read = nullptr;
  decltype(&zip_fclose) close_member = nullptr;
  decltype(&zip_strerror) text_of = nullptr;
  decltype(&zip_file_strerror) member_text_of = nullptr;
};

result<zip_functions> open_zip() {
  auto library = base::opened_library::open(TROUPE_LIBZIP);
  if (!library) return library.why();
  zip_functions f;
  auto found = library->find("zip_open", f.open, "zip_discard", f.discard, "zip_stat", f.stat, "zip_fopen_index",
                             f.open_member, "zip_fread", f.read, "zip_fclose", f.close_member, "zip_strerror",
                             f.text_of, "zip_file_strerror", f.member_text_of);
  if (!found) return found.why();
  return f;
}

using archive_handle = std::unique_ptr<zip_t, decltype(&zip_discard)>;
using member_handle = std::unique_ptr<zip_file_t, decltype(&zip_fclose)>;
struct closes {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};
using file_handle = std::unique_ptr<std::FILE, closes>;

error broken(const std::filesystem::path& archive, const std::string& why) {
  return {errc::corrupt_file, "'" + archive.string() + "': " + why, ""};
}

error unwritable(const std::filesystem::path& to) {
  return {errc::io, "writing '" + to.string() + "' failed: " + std::strerror(errno), ""};
}

}  // namespace

result<std::string> unpack_member(const std::filesystem::path& archive, const std::string& member,
                                  std::uint64_t expected_bytes, const std::filesystem::path& to,
                                  const std::function<void(std::uint64_t)>& on_progress) {
  static const result<zip_functions> opened = open_zip();
  if (!opened) return opened.why();
  const zip_functions& f = *opened;
  int code = 0;
  const archive_handle zip(f.open(archive.c_str(), ZIP_RDONLY, &code), f.discard);
  if (!zip) return broken(archive, "not a wheel");
  zip_stat_t about;
  if (f.stat(zip.get(), member.c_str(), ZIP_FL_ENC_RAW, &about) != 0) return broken(archive, "holds no " + member);
  if ((about.valid & ZIP_STAT_SIZE) == 0 || about.size != expected_bytes)
    return broken(archive, member + " is not " + std::to_string(expected_bytes) + " bytes long");
  const member_handle source(f.open_member(zip.get(), about.index, 0), f.close_member);
  if (!source) return broken(archive, f.text_of(zip.get()));
  const file_handle target(std::fopen(to.c_str(), "wb"));
  if (!target) return unwritable(to);

  auto sum = sha256::start();
  if (!sum) return std::move(sum).why();
  std::vector<char> piece(1 << 20);
  std::uint64_t done = 0;
  for (;;) {
    const auto count = f.read(source.get(), piece.data(), piece.size());
    if (count < 0) return broken(archive, f.member_text_of(source.get()));
    if (count == 0) break;
    const auto bytes = static_cast<std::size_t>(count);
    done += bytes;
    if (done > expected_bytes) return broken(archive, member + " unpacks to more than it says");
    sum->add(std::as_bytes(std::span(piece.data(), bytes)));
    if (std::fwrite(piece.data(), 1, bytes, target.get()) != bytes) return unwritable(to);
    if (on_progress) on_progress(done);
  }
  if (done != expected_bytes) return broken(archive, member + " ends early");
  if (std::fflush(target.get()) != 0 || fsync(fileno(target.get())) != 0) return unwritable(to);
  return sum->finish();
}

}  // namespace troupe::models
