// The list of connections.
#include "server/server_state.hpp"

namespace troupe::server {

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
  if (on_leave) on_leave();
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
