// How many places each client address has taken: connections, and generations that are not a connection's only one.
// Knows no socket.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

namespace troupe::server {

/// Whom places are counted for: an IPv4 address, or the network of 64 bits that an IPv6 address is in, for whoever has
/// one of its addresses has them all.
struct client_address {
  std::uint64_t network = 0;
  bool wide = false;  ///< IPv6
  bool loopback = false;
  auto operator<=>(const client_address&) const = default;
};

/// Thread-safe; outlives its places.
class address_shares {
public:
  static constexpr std::size_t usual_limit = 256;

  /// Held while it is taken. Empty: there was none left.
  class place {
  public:
    place() = default;
    place(place&& other) noexcept : shares_(std::exchange(other.shares_, nullptr)), whose_(other.whose_) {}
    place& operator=(place&& other) noexcept {
      std::swap(shares_, other.shares_);
      std::swap(whose_, other.whose_);
      return *this;
    }
    ~place() {
      if (shares_) shares_->give_back(whose_);
    }
    explicit operator bool() const noexcept { return shares_ != nullptr; }

  private:
    friend class address_shares;
    place(address_shares& shares, const client_address& whose) noexcept : shares_(&shares), whose_(whose) {}
    address_shares* shares_ = nullptr;
    client_address whose_;
  };

  /// Without a limit: usual_limit, but any number over loopback, where a proxy or a benchmark stands for many.
  explicit address_shares(std::optional<std::size_t> limit) noexcept : limit_(limit) {}

  place take(const client_address& whose);
  bool has_limit(const client_address& whose) const noexcept { return limit_ || !whose.loopback; }

private:
  void give_back(const client_address& whose) noexcept;

  const std::optional<std::size_t> limit_;
  std::mutex guard_;
  std::map<client_address, std::size_t> taken_;  ///< only addresses that have any
};

}  // namespace troupe::server
