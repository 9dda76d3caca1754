// The format of a kept copy, and its writing in one atomic step.
#include "memory/kept_copy.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

namespace troupe::memory {
namespace {

constexpr std::int64_t page = 4096;
constexpr std::int64_t end_bytes = 64 << 10;
constexpr std::size_t lanes = 8;                 // of a checksum
constexpr std::size_t mapped_around = 64 << 10;  // Linux's fault_around_bytes, unless somebody has changed it
constexpr std::array<char, 8> mark{'T', 'r', 'o', 'u', 'p', 'e', 'K', '1'};

struct header {
  std::array<char, 8> mark{};
  copy_key key;
  std::int64_t content_bytes = 0;
  std::uint64_t sums = 0;    ///< the checksum of the pieces' checksums
  std::uint64_t itself = 0;  ///< of the header up to here
};
static_assert(sizeof(header) % 8 == 0 && sizeof(header) <= page);

std::int64_t pieces_of(std::int64_t bytes) noexcept {
  return (bytes + kept_copy::piece_bytes - 1) / kept_copy::piece_bytes;
}

/// Where the content begins.
std::int64_t content_start(std::int64_t bytes) noexcept {
  return (page + 8 * pieces_of(bytes) + page - 1) / page * page;
}

std::uint64_t sum_of(const header& h) noexcept {
  return checksum_of({reinterpret_cast<const std::byte*>(&h), offsetof(header, itself)});
}

std::span<const std::byte> piece_of(std::span<const std::byte> content, std::int64_t piece) noexcept {
  const auto first = static_cast<std::size_t>(piece * kept_copy::piece_bytes);
  return content.subspan(first, std::min<std::size_t>(kept_copy::piece_bytes, content.size() - first));
}

error failed(const std::string& path) { return {errc::io, path + ": " + std::strerror(errno), {}}; }

error useless(const std::string& path, const char* why) { return {errc::corrupt_file, path + ": " + why, {}}; }

/// A file without a name: nothing is left of it unless it is given one.
class nameless_file {
public:
  explicit nameless_file(const std::string& folder)
      : fd_(::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, S_IRUSR)) {}
  nameless_file(const nameless_file&) = delete;
  nameless_file& operator=(const nameless_file&) = delete;
  ~nameless_file() {
    if (fd_ >= 0) ::close(fd_);
  }
  bool opened() const noexcept { return fd_ >= 0; }

  bool write(std::int64_t offset, std::span<const std::byte> bytes) const noexcept {
    while (!bytes.empty()) {
      const ssize_t done = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(done));
      offset += done;
    }
    return true;
  }

  /// In place of whatever has that name. Another process that is as far at the same moment may win.
  bool name(const std::string& path) const noexcept {
    char self[64];
    std::snprintf(self, sizeof self, "/proc/self/fd/%d", fd_);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return false;
    return ::linkat(AT_FDCWD, self, AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST;
  }

private:
  int fd_;
};

}  // namespace

std::uint64_t checksum_of(std::span<const std::byte> bytes) noexcept {
  std::array<std::uint64_t, lanes> sum{}, sums{};
  const std::size_t words = bytes.size() / 8, whole = words / lanes * lanes;
  const std::byte* at = bytes.data();
  for (std::size_t i = 0; i < whole; i += lanes, at += 8 * lanes) {
    std::array<std::uint64_t, lanes> word;
    std::memcpy(word.data(), at, sizeof word);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      sum[lane] += word[lane];
      sums[lane] += sum[lane];
    }
  }
  for (std::size_t lane = 0; lane < words - whole; ++lane, at += 8) {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    sums[lane] += sum[lane] += word;
  }
  std::uint64_t all = bytes.size();
  for (std::size_t lane = 0; lane < lanes; ++lane)
    for (const std::uint64_t part : {sum[lane], sums[lane]}) {
      all = (all ^ part) * 0xD6E8FEB86659FD93u;
      all ^= all >> 32;
    }
  return all;
}

result<copy_key> key_of(const mapped_file& source, std::uint64_t layout) {
  copy_key key{source.size(), source.modified(), source.altered(), 0, layout};
  const std::int64_t each = std::min(source.size() / 8 * 8, end_bytes);
  std::vector<std::byte> ends(static_cast<std::size_t>(2 * each));
  const std::span<std::byte> both(ends);
  const auto half = static_cast<std::size_t>(each);
  if (!source.read(0, both.first(half)) || !source.read(source.size() - each, both.last(half)))
    return error{errc::io, source.path() + ": cannot be read", {}};
  key.ends = checksum_of(ends);
  return key;
}

result<kept_copy> kept_copy::open(const std::string& path, const copy_key& key) {
  auto file = mapped_file::open(path);
  if (!file) return std::move(file).why();
  header h;
  if (!file->read(0, std::as_writable_bytes(std::span(&h, 1))) || h.mark != mark || h.itself != sum_of(h))
    return useless(path, "not a kept copy");
  if (h.key != key) return useless(path, "of another file or another layout");
  if (h.content_bytes <= 0 || h.content_bytes % 8 != 0 || h.content_bytes > file->size() ||
      content_start(h.content_bytes) + h.content_bytes != file->size())
    return useless(path, "cut short");
  const auto* sums = reinterpret_cast<const std::uint64_t*>(file->bytes().data() + page);
  const std::span<const std::uint64_t> all(sums, static_cast<std::size_t>(pieces_of(h.content_bytes)));
  if (checksum_of(std::as_bytes(all)) != h.sums) return useless(path, "damaged");
  const auto content = file->bytes().subspan(static_cast<std::size_t>(content_start(h.content_bytes)));
  return kept_copy(*std::move(file), all, content);
}

bool kept_copy::verify(std::int64_t piece) const noexcept {
  const auto bytes = piece_of(content_, piece);
  // One read brings in all pages that the kernel maps around it: a third less time than MADV_POPULATE_READ, which walks
  // the tables page by page. Where the file has been cut short the guard puts zeros, which the sum does not fit.
  const volatile std::byte* first = bytes.data();
  for (std::size_t at = 0; at < bytes.size(); at += mapped_around) [[maybe_unused]]
    const std::byte touched = first[at];
  return checksum_of(bytes) == sums_[static_cast<std::size_t>(piece)] && !lost();
}

result<void> keep_copy(const std::string& path, const copy_key& key, std::span<const std::byte> content,
                       const std::atomic<bool>& stop) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const nameless_file file(folder);
  if (!file.opened()) return failed(folder);
  header h{mark, key, static_cast<std::int64_t>(content.size()), 0, 0};
  const std::int64_t start = content_start(h.content_bytes), count = pieces_of(h.content_bytes);
  std::vector<std::uint64_t> sums;
  for (std::int64_t piece = 0; piece < count; ++piece) {
    if (stop.load(std::memory_order_relaxed)) return error{errc::cancelled, "the copy was no longer wanted", {}};
    const auto bytes = piece_of(content, piece);
    sums.push_back(checksum_of(bytes));
    if (!file.write(start + piece * kept_copy::piece_bytes, bytes)) return failed(path);
  }
  h.sums = checksum_of(std::as_bytes(std::span<const std::uint64_t>(sums)));
  h.itself = sum_of(h);
  if (!file.write(page, std::as_bytes(std::span<const std::uint64_t>(sums))) ||
      !file.write(0, std::as_bytes(std::span<const header>(&h, 1))) || !file.name(path))
    return failed(path);
  return {};
}

}  // namespace troupe::memory
