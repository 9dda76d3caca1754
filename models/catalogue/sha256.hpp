// SHA-256 (FIPS 180-4) of a stream of bytes, by OpenSSL's libcrypto, which shows in sha256.cpp alone and is opened when
// the first checksum is wanted.
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
  /// Errors: unsupported (libcrypto is not on this machine), internal (it has no memory or no SHA-256).
  static result<sha256> start();
  ~sha256();
  sha256(sha256&&) noexcept;
  sha256& operator=(sha256&&) noexcept;

  void add(std::span<const std::byte> bytes);
  /// Lower-case hexadecimal, 64 digits. Ends the stream: nothing may be added afterwards.
  std::string finish();

private:
  struct state;
  explicit sha256(std::unique_ptr<state> begun);
  std::unique_ptr<state> state_;
};

/// The checksum of a whole file.
result<std::string> sha256_of_file(const std::filesystem::path& path);

}  // namespace troupe::models
