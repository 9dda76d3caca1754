// Places are counted like blocks: a node of the tree is a user, and so is an order that reads or writes them.
#include "memory/host_tier.hpp"

#include <string>
#include <utility>

namespace troupe::memory {

/// The copies at rest for longest go until a place is free. False: all that are left are on their way.
bool host_tier::make_place() {
  while (places_.free() == 0) {
    const std::int32_t oldest = tree_.oldest(prefix_tree::kind::copy);
    if (oldest == prefix_tree::none) return false;
    forget(oldest);
  }
  return true;
}

void host_tier::send_out(std::int32_t wanted) {
  while (on() && out_.size() < most_orders) {
    copy_order order{next_, copy_way::out, {}};
    while (order.copies.size() < most_copies && blocks_.free() + leaving_ < wanted) {
      const std::int32_t block = tree_.oldest(prefix_tree::kind::block);
      if (block == prefix_tree::none || !make_place()) break;
      const std::int32_t place = *places_.take();
      tree_.move(block, copy_at(place));  // the tree's use of the block is the order's from now on
      places_.share(place);
      ++leaving_;
      order.copies.push_back({block, place});
    }
    if (order.copies.empty()) return;
    out_.emplace(next_++, order.copies);
    orders_.push_back(std::move(order));
  }
}

std::uint64_t host_tier::bring_in(std::span<const std::int32_t> copies, std::span<const std::int32_t> to) {
  copy_order order{next_, copy_way::in, {}};
  for (std::size_t i = 0; i < copies.size(); ++i) {
    tree_.wake(copies[i]);
    places_.share(place_of(copies[i]));
    order.copies.push_back({to[i], place_of(copies[i])});
  }
  in_.emplace(next_, order.copies);
  orders_.push_back(std::move(order));
  return next_++;
}

void host_tier::went_out(std::uint64_t order, bool well) {
  const auto at = out_.find(order);
  if (at == out_.end()) return;
  const std::vector<block_copy> copies = std::move(at->second);
  out_.erase(at);
  for (const block_copy& one : copies) {
    --leaving_;
    blocks_.release(one.block);
    places_.release(one.place);
    if (well) tree_.rest(copy_at(one.place));
    else forget(copy_at(one.place));
  }
}

std::int32_t host_tier::came_in(std::uint64_t order, bool well) {
  const auto at = in_.find(order);
  if (at == in_.end()) return 0;
  const std::vector<block_copy> copies = std::move(at->second);
  in_.erase(at);
  std::int32_t arrived = 0;
  for (const block_copy& one : copies) {
    const std::int32_t copy = copy_at(one.place);
    well = well && tree_.holds(copy);
    if (well) {
      replace(copy, one.block);
      ++arrived;
    } else {
      forget(copy);
    }
    places_.release(one.place);
  }
  return arrived;
}

void host_tier::replace(std::int32_t copy, std::int32_t block) {
  if (!tree_.move(copy, block)) return;
  blocks_.share(block);
  places_.release(place_of(copy));
}

void host_tier::forget(std::int32_t node) {
  for (const std::int32_t gone : tree_.forget(node)) {
    if (tree_.is_copy(gone)) places_.release(place_of(gone));
    else blocks_.release(gone);
  }
}

result<void> host_tier::check() const {
  if (auto sound = places_.check(); !sound) return sound;
  std::vector<std::int32_t> users(static_cast<std::size_t>(total()), 0);
  std::int32_t leaving = 0;
  for (const auto* orders : {&out_, &in_})
    for (const auto& [number, copies] : *orders)
      for (const block_copy& one : copies) {
        ++users[static_cast<std::size_t>(one.place)];
        leaving += orders == &out_ ? 1 : 0;
        if (blocks_.count(one.block) == 0) return error{errc::internal, "host tier: a free block is being copied", {}};
        if (tree_.rests(copy_at(one.place)))
          return error{errc::internal, "host tier: a copy on its way can be found", {}};
      }
  for (std::int32_t place = 0; place < total(); ++place)
    if (users[static_cast<std::size_t>(place)] + (tree_.holds(copy_at(place)) ? 1 : 0) != places_.count(place))
      return error{errc::internal, "host tier: place " + std::to_string(place) + " is counted wrongly", {}};
  if (leaving != leaving_) return error{errc::internal, "host tier: blocks on their way out are counted wrongly", {}};
  return {};
}

}  // namespace troupe::memory
