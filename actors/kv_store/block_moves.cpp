// What a need gets: blocks that are there, blocks that leave for it, blocks whose content comes back.
#include <algorithm>

#include "actors/kv_store/kv_store.hpp"

namespace troupe::actors {

std::vector<block_grant> kv_store::reserve(const std::vector<block_need>& needs) {
  std::vector<block_grant> grants;
  grants.reserve(needs.size());
  for (const block_need& need : needs) {
    block_grant grant{need.id, {}, 0};
    const answer what = serve(need, grant);
    grant.later = what == answer::wait || what == answer::restoring;
    grants.push_back(std::move(grant));
  }
  make_room();
  return grants;
}

/// Of a sequence that enters: the blocks that hold its beginning, then the copies that go on from there.
kv_store::found_blocks kv_store::find(const block_need& need) {
  found_blocks found;
  if (!need.tokens || need.tokens->empty() || held_.contains(need.id)) return found;
  const auto most = static_cast<std::int32_t>(need.tokens->size() - 1) / block_tokens_;
  for (const std::int32_t node : tree_.match(*need.tokens, std::min(most, need.blocks))) {
    if (!tree_.is_copy(node)) found.blocks.push_back(node);
    else if (tree_.rests(node)) found.copies.push_back(node);
    else break;
  }
  found.woken = static_cast<std::int32_t>(std::count_if(found.blocks.begin(), found.blocks.end(),
                                                        [this](std::int32_t block) { return tree_.rests(block); }));
  return found;
}

kv_store::answer kv_store::serve(const block_need& need, block_grant& grant) {
  if (need.blocks < 1) return answer::refused;
  const found_blocks found = find(need);
  const std::int32_t fresh = need.blocks - static_cast<std::int32_t>(found.blocks.size());
  if (fresh + found.woken + need.spare > free()) return answer::refused;
  if (tier_.on()) {
    // What it will read is used now, so that it does not leave to make room for it.
    for (const auto* path : {&found.copies, &found.blocks})
      for (auto node = path->rbegin(); node != path->rend(); ++node)
        if (tree_.rests(*node)) tree_.rest(*node);
    const bool turn = !need.tokens || std::none_of(waiting_.begin(), waiting_.end(),
                                                   [](const waiting_need& one) { return one.need.tokens; });
    if (fresh > pool_.free() || !turn) {
      waiting_.push_back({need, fresh});
      return answer::wait;
    }
  }
  hold(need, found, grant);
  if (found.copies.empty()) return answer::granted;
  const auto targets = std::span(grant.blocks).subspan(found.blocks.size(), found.copies.size());
  restores_.emplace(tier_.bring_in(found.copies, targets), restore{need.id, {}, false});
  grant = {need.id, {}, 0};
  return answer::restoring;
}

void kv_store::hold(const block_need& need, const found_blocks& found, block_grant& grant) {
  grant.blocks = found.blocks;
  for (const std::int32_t block : grant.blocks) {  // before anything is evicted
    tree_.wake(block);
    pool_.share(block);
  }
  while (static_cast<std::int32_t>(grant.blocks.size()) < need.blocks) {
    if (pool_.free() == 0) tier_.drop_oldest();
    grant.blocks.push_back(*pool_.take());
  }
  for (const std::int32_t block : grant.blocks) use(block);
  grant.cached = static_cast<std::int32_t>(found.blocks.size()) * block_tokens_;
  holding& of = held_[need.id];
  of.blocks.insert(of.blocks.end(), grant.blocks.begin(), grant.blocks.end());
  of.offered += static_cast<std::int32_t>(found.blocks.size());
}

/// Some blocks are kept free ahead of need, so that who needs few does not wait. Where nothing can be sent, as all
/// places of the host are busy, what rests is dropped for those who wait.
void kv_store::make_room() {
  if (!tier_.on()) return;
  for (;;) {
    serve_waiting();
    std::int32_t wanted = std::min(total() / 16, tier_.total());
    for (const waiting_need& one : waiting_) wanted += one.fresh;
    tier_.send_out(wanted);
    if (waiting_.empty() || tier_.leaving() > 0 || tree_.resting() == 0) return;
    tier_.drop_oldest();
  }
}

/// In order, but who runs already and needs one more goes past those who have yet to enter.
void kv_store::serve_waiting() {
  for (const waiting_need& one : std::exchange(waiting_, {})) {
    block_grant grant{one.need.id, {}, 0};
    const answer what = serve(one.need, grant);
    if (what == answer::granted || what == answer::refused) late_.push_back(std::move(grant));
  }
}

void kv_store::copied(const memory::copy_order& order, bool well) {
  if (order.way == memory::copy_way::out) {
    tier_.went_out(order.number, well);
  } else if (const auto at = restores_.find(order.number); at != restores_.end()) {
    restore done = std::move(at->second);
    restores_.erase(at);
    holding& of = done.released ? done.of : held_[done.id];
    of.offered += tier_.came_in(order.number, well);
    if (done.released) give_back(of, {{done.id}});
    else late_.push_back({done.id, of.blocks, of.offered * block_tokens_});
  }
  make_room();
}

/// The sequence is gone before it got what was promised. True: there is nothing of it to be given back now.
bool kv_store::withdraw(generation_id id) {
  std::erase_if(late_, [id](const block_grant& grant) { return grant.id == id; });
  if (std::erase_if(waiting_, [id](const waiting_need& one) { return one.need.id == id; }) > 0 && !held_.contains(id))
    return true;
  for (auto& [order, one] : restores_) {
    if (one.id != id || one.released) continue;
    one.released = true;
    one.of = std::move(held_.at(id));
    held_.erase(id);
    unuse(one.of);
    return true;
  }
  return false;
}

}  // namespace troupe::actors
