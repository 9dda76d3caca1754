// The list of connections, and what is said where there is no room.
#include "server/server_state.hpp"

namespace troupe::server {

error server_state::too_many_from_one_address() const {
  const auto limit = std::to_string(options.max_per_address.value_or(address_shares::usual_limit));
  return {errc::overloaded,
          "One address may have " + limit + " connections and generations at a time here: let some end first.",
          {}};
}

error server_state::memory_is_low() {
  return {errc::out_of_memory, "The server has hardly any memory left and takes no new request: try again later.", {}};
}

void server_state::join(const std::shared_ptr<connection>& one) {
  const std::scoped_lock lock(guard_);
  connections_.emplace(one.get(), one);
  ++metrics.open_connections;
}

void server_state::leave(const connection* one) {
  {
    const std::scoped_lock lock(guard_);
    if (connections_.erase(one) == 0) return;
    --metrics.open_connections;
  }
  if (!on_leave) return;
  try {
    on_leave();
  } catch (const std::exception&) {  // no memory to tell the listener: the next one that leaves will
    ++metrics.faults;
  }
}

std::vector<std::shared_ptr<connection>> server_state::connected() const {
  std::vector<std::shared_ptr<connection>> all;
  const std::scoped_lock lock(guard_);
  for (const auto& [key, one] : connections_)
    if (auto alive = one.lock()) all.push_back(std::move(alive));
  return all;
}

std::size_t server_state::size() const {
  const std::scoped_lock lock(guard_);
  return connections_.size();
}

}  // namespace troupe::server
