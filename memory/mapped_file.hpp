// A regular file, mapped for reading. Knows pages, not formats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <troupe/result.hpp>

struct stat;

namespace troupe::memory {

/// Move-only; the bytes stay mapped as long as it lives. Safe to read from many threads.
/// A file that shrinks while mapped makes reads of the map past its new end fault; read() only fails.
class mapped_file {
public:
  /// Errors: not_found; invalid_argument for anything but a regular file (a directory, FIFO or device is never
  /// opened for reading, so this cannot hang); io. An empty file maps to no bytes.
  static result<mapped_file> open(const std::string& path);

  mapped_file(mapped_file&& other) noexcept;
  mapped_file& operator=(mapped_file&& other) noexcept;
  ~mapped_file();

  const std::string& path() const noexcept { return path_; }
  std::int64_t size() const noexcept { return size_; }
  /// When its content, and its content or its inode, were last changed; nanoseconds, as found when it was opened.
  std::int64_t modified() const noexcept { return modified_; }
  std::int64_t altered() const noexcept { return altered_; }
  std::span<const std::byte> bytes() const noexcept { return {data_, static_cast<std::size_t>(size_)}; }

  /// Copies the bytes from `offset` on without touching the map. False: the file has no such bytes any more, or the
  /// operating system failed.
  bool read(std::int64_t offset, std::span<std::byte> into) const noexcept;

  /// Asks the kernel to read ahead. Ranges are cut to the file.
  void prefetch(std::int64_t offset, std::int64_t bytes) const noexcept;

private:
  mapped_file(std::string path, int descriptor, std::byte* data, const struct stat& about);

  std::string path_;
  int descriptor_ = -1;
  std::byte* data_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t modified_ = 0;
  std::int64_t altered_ = 0;
};

}  // namespace troupe::memory
