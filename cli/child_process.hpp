// Runs another program to its end, with a time limit. Knows nothing of what it prints.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <troupe/result.hpp>

namespace troupe::cli {

struct child_command {
  std::vector<std::string> arguments;  ///< the program's path first, then what it is given
  std::filesystem::path directory;     ///< where it runs
  std::chrono::milliseconds limit{};   ///< after this, it and what it started are killed
};

struct child_output {
  std::string out;
  std::string err;
};

/// Blocks until the program has ended. not_found: there is no such program; deadline_exceeded: it took longer than its
/// limit; internal: it ended by a signal or with another status than 0, or printed over 16 MiB. The text says which,
/// with its last words. The child dies with the calling thread, so that an interrupted command leaves none behind.
result<child_output> run_child(const child_command& command);

}  // namespace troupe::cli
