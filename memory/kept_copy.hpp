// What was made from a file, kept on disk so that the next start maps it in place of making it again. Knows neither
// what the bytes mean nor which folder they lie in.
//
// A copy is a page of header, a checksum for each piece, and the content from a page's start on. It is verified before
// it is used and never trusted: what is cut short, altered, of another file or another layout is as good as not there.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <troupe/result.hpp>

#include "memory/fault_guard.hpp"
#include "memory/mapped_file.hpp"

namespace troupe::memory {

/// What a copy was made from, and to what end.
struct copy_key {
  std::int64_t bytes = 0;     ///< of the source
  std::int64_t modified = 0;  ///< as the file system tells it, in nanoseconds
  std::int64_t altered = 0;   ///< the same for its content or its inode: nobody can set it
  std::uint64_t ends = 0;     ///< a checksum of its first and last 64 KiB
  std::uint64_t layout = 0;   ///< the maker's number for what the content is; another version has another

  bool operator==(const copy_key&) const = default;
};

/// Of a file as it is now. Reads two pieces of it; errors: io.
result<copy_key> key_of(const mapped_file& source, std::uint64_t layout);

/// Of bytes whose number is a multiple of 8. Sums and sums of sums (Fletcher 1982) in 64 bits, eight side by side: any
/// change of one word, any two words exchanged, and all that disks do by themselves. No defence against intent: who can
/// write here can write the model.
std::uint64_t checksum_of(std::span<const std::byte> bytes) noexcept;

/// Immutable. The content stays mapped as long as it lives; any thread may read.
class kept_copy {
public:
  static constexpr std::int64_t piece_bytes = 1 << 20;

  /// Checks the header and the file's length. Errors: not_found; corrupt_file (stale, of another layout, cut short).
  static result<kept_copy> open(const std::string& path, const copy_key& key);

  std::span<const std::byte> content() const noexcept { return content_; }
  std::int64_t pieces() const noexcept { return static_cast<std::int64_t>(sums_.size()); }
  /// The piece's bytes are what was written. Brings its pages in. Any thread.
  bool verify(std::int64_t piece) const noexcept;
  /// The file has been cut short since, and what was read of it may have been zeros.
  bool lost() const noexcept { return guard_->lost(); }

private:
  kept_copy(mapped_file file, std::span<const std::uint64_t> sums, std::span<const std::byte> content)
      : file_(std::move(file)), sums_(sums), content_(content), guard_(std::make_unique<fault_guard>(file_.bytes())) {}

  mapped_file file_;
  std::span<const std::uint64_t> sums_;  ///< of the pieces
  std::span<const std::byte> content_;
  std::unique_ptr<fault_guard> guard_;
};

/// Puts `content` (a multiple of 8 bytes) at `path` when it is whole: nobody sees a part of it, and what a process that
/// was killed has begun is gone with it. Looks at `stop` after each piece. Errors: io (no space, a folder that cannot
/// be written, a file system without nameless files), cancelled.
result<void> keep_copy(const std::string& path, const copy_key& key, std::span<const std::byte> content,
                       const std::atomic<bool>& stop);

}  // namespace troupe::memory
