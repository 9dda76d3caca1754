// One counter an address.
#include "server/address_shares.hpp"

#include <limits>

namespace troupe::server {

address_shares::place address_shares::take(const client_address& whose) {
  const auto limit = limit_.value_or(whose.loopback ? std::numeric_limits<std::size_t>::max() : usual_limit);
  const std::scoped_lock lock(guard_);
  const auto it = taken_.try_emplace(whose, 0).first;
  if (it->second >= limit) {
    if (it->second == 0) taken_.erase(it);
    return {};
  }
  ++it->second;
  return {*this, whose};
}

void address_shares::give_back(const client_address& whose) noexcept {
  const std::scoped_lock lock(guard_);
  const auto it = taken_.find(whose);
  if (--it->second == 0) taken_.erase(it);
}

}  // namespace troupe::server
