// Downloads one file over HTTP, going on where an earlier attempt stopped. Knows nothing of models or checksums.
// libcurl shows in download.cpp alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include <troupe/result.hpp>

namespace troupe::models {

struct download_progress {
  std::uint64_t bytes = 0;      ///< so far, what an earlier attempt left included
  std::uint64_t total = 0;      ///< 0 while unknown
  double bytes_per_second = 0;  ///< of this attempt
};

struct download_request {
  std::string url;  ///< https; http and file too where `any_transport` is set
  std::filesystem::path to;
  /// The content is known by a checksum, so any leftover may be continued. Otherwise only one whose ETag, kept beside
  /// it, still matches: parts of two versions are never joined.
  bool content_is_fixed = false;
  /// For addresses that pip gave (a mirror on this host, a local directory) and for this host itself.
  bool any_transport = false;
  std::chrono::seconds stall_timeout{30};                     ///< no byte for so long ends the attempt
  std::function<void(const download_progress&)> on_progress;  ///< a few times a second, on the calling thread
};

/// Blocks until the file is whole. On failure (network, io) what has come stays in `to` for the next attempt.
result<void> download(const download_request& what);

/// Removes a leftover and its ETag: when its content proved wrong.
void discard_download(const std::filesystem::path& to) noexcept;

}  // namespace troupe::models
