// The one file here that sees OpenSSL.
#include "models/catalogue/sha256.hpp"

#include <array>
#include <fstream>
#include <vector>

#include <openssl/evp.h>

#include "base/opened_library.hpp"

namespace troupe::models {
namespace {

/// libcrypto, opened by the first checksum.
struct crypto_functions {
  decltype(&EVP_MD_CTX_new) create = nullptr;
  decltype(&EVP_MD_CTX_free) free = nullptr;
  decltype(&EVP_sha256) algorithm = nullptr;
  decltype(&EVP_DigestInit_ex) begin = nullptr;
  decltype(&EVP_DigestUpdate) add = nullptr;
  decltype(&EVP_DigestFinal_ex) finish = nullptr;
};

result<crypto_functions> open_crypto() {
  auto library = base::opened_library::open(TROUPE_LIBCRYPTO);
  if (!library) return library.why();
  crypto_functions f;
  auto found = library->find("EVP_MD_CTX_new", f.create, "EVP_MD_CTX_free", f.free, "EVP_sha256", f.algorithm,
                             "EVP_DigestInit_ex", f.begin, "EVP_DigestUpdate", f.add, "EVP_DigestFinal_ex", f.finish);
  if (!found) return found.why();
  return f;
}

}  // namespace

struct sha256::state {
  explicit state(const crypto_functions& f) : crypto(f), context(f.create(), f.free) {}
  const crypto_functions& crypto;
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context;
};

result<sha256> sha256::start() {
  static const result<crypto_functions> crypto = open_crypto();
  if (!crypto) return crypto.why();
  auto begun = std::make_unique<state>(*crypto);
  if (!begun->context || crypto->begin(begun->context.get(), crypto->algorithm(), nullptr) != 1)
    return error{errc::internal, "OpenSSL offers no SHA-256", ""};
  return sha256(std::move(begun));
}

sha256::sha256(std::unique_ptr<state> begun) : state_(std::move(begun)) {}
sha256::~sha256() = default;
sha256::sha256(sha256&&) noexcept = default;
sha256& sha256::operator=(sha256&&) noexcept = default;

void sha256::add(std::span<const std::byte> bytes) {
  state_->crypto.add(state_->context.get(), bytes.data(), bytes.size());
}

std::string sha256::finish() {
  std::array<unsigned char, 32> digest{};
  state_->crypto.finish(state_->context.get(), digest.data(), nullptr);
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
  auto sum = sha256::start();
  if (!sum) return std::move(sum).why();
  std::vector<char> piece(1 << 20);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())), file.gcount() > 0)
    sum->add(std::as_bytes(std::span(piece.data(), static_cast<std::size_t>(file.gcount()))));
  if (file.bad()) return error{errc::io, "reading '" + path.string() + "' failed", ""};
  return sum->finish();
}

}  // namespace troupe::models
