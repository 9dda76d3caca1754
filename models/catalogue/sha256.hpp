// SHA-256 (FIPS 180-4) of a stream of bytes, by OpenSSL, which shows in sha256.cpp alone.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include <troupe/result.hpp>

namespace troupe::models {

class sha256 {
public:
  sha256();  ///< throws failure where OpenSSL has no memory or no SHA-256
  ~sha256();
  sha256(sha256&&) noexcept;
  sha256& operator=(sha256&&) noexcept;

  void add(std::span<const std::byte> bytes);
  /// Lower-case hexadecimal, 64 digits. Ends the stream: nothing may be added afterwards.
  std::string finish();

private:
  struct state;
  std::unique_ptr<state> state_;
};

/// The checksum of a whole file.
result<std::string> sha256_of_file(const std::filesystem::path& path);

}  // namespace troupe::models
