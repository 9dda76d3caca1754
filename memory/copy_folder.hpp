// The folder that kept copies lie in: their names, how much they may take in all, and which go first. Knows no content.
// Everything in it may be deleted at any time: a copy in use stays readable until it is let go.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/result.hpp>

namespace troupe::memory {

struct listed_copy {
  std::string path;
  std::int64_t bytes = 0;
  std::int64_t used = 0;  ///< when a start last mapped it or made it; nanoseconds
};

/// A plain value. With an empty path or no bytes allowed nothing is looked up and nothing kept.
struct copy_folder {
  std::string path;
  std::int64_t most_bytes = 0;
  std::int64_t least_bytes = 16 << 20;  ///< less than this is made again as fast as it is found

  bool wanted() const noexcept { return !path.empty() && most_bytes > 0; }
  /// Where the copy of a kind ("tiles") made from `source` is, or will be: one for each source, whatever its version.
  std::string path_of(const std::string& source, std::string_view kind) const;
  /// Makes the folder (for this user alone) and deletes the longest unused copies until `bytes` more fit, the one at
  /// `replaced` not counted. Errors: io; out_of_memory (over most_bytes by itself, or the disk would be left with less
  /// than it takes).
  result<void> make_room(std::int64_t bytes, const std::string& replaced) const;
  /// So that it is not the next to go.
  static void mark_used(const std::string& copy) noexcept;
  /// Longest unused first.
  std::vector<listed_copy> list() const;
};

}  // namespace troupe::memory
