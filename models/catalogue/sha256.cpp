// The one file here that sees OpenSSL.
#include "models/catalogue/sha256.hpp"

#include <array>
#include <fstream>
#include <vector>

#include <openssl/evp.h>

namespace troupe::models {

struct sha256::state {
  struct free_context {
    void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, free_context> context{EVP_MD_CTX_new()};
};

sha256::sha256() : state_(std::make_unique<state>()) {
  if (!state_->context || EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) != 1)
    throw failure({errc::internal, "OpenSSL offers no SHA-256", ""});
}

sha256::~sha256() = default;
sha256::sha256(sha256&&) noexcept = default;
sha256& sha256::operator=(sha256&&) noexcept = default;

void sha256::add(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size());
}

std::string sha256::finish() {
  std::array<unsigned char, 32> digest{};
  EVP_DigestFinal_ex(state_->context.get(), digest.data(), nullptr);
  std::string text;
  for (const unsigned char byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

result<std::string> sha256_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return error{errc::io, "cannot read '" + path.string() + "'", ""};
  sha256 sum;
  std::vector<char> piece(1 << 20);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())), file.gcount() > 0)
    sum.add(std::as_bytes(std::span(piece.data(), static_cast<std::size_t>(file.gcount()))));
  if (file.bad()) return error{errc::io, "reading '" + path.string() + "' failed", ""};
  return sum.finish();
}

}  // namespace troupe::models
