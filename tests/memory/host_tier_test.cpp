// The host tier against a world of one-token blocks whose bytes are spelled out: whatever is found holds what it says,
// what rests longest leaves first, and nothing is lost, whichever copies fail.
#include "memory/host_tier.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::memory;

namespace {

using tokens = std::vector<std::int32_t>;

constexpr std::int32_t letters = 3;
constexpr std::size_t longest = 4;

tokens beginning(const tokens& all, std::size_t count) {
  return {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count)};
}

/// Who reads and writes blocks, as the KV store does. The bytes of a block are the tokens from which they were
/// computed.
struct world {
  struct sequence {
    tokens text;
    std::vector<std::int32_t> blocks;
    std::size_t computed = 0;  ///< blocks whose bytes are right
    std::uint64_t order = 0;   ///< that brings in what follows; 0: none
  };

  world(std::int32_t blocks, std::int32_t places) : pool(blocks), tree(blocks, 1, places), tier(tree, pool, places) {}

  block_pool pool;
  prefix_tree tree;
  host_tier tier;
  std::map<std::int32_t, tokens> device, host;
  std::map<std::int32_t, tokens> leaving;  ///< what the blocks on their way out held at first
  std::vector<sequence> running;
  std::deque<copy_order> out, in;
  std::deque<std::int32_t> rested;  ///< blocks, in the order in which they were laid to rest
  std::deque<std::int32_t> kept;    ///< copies, in the order in which they came
  std::size_t restored = 0, sent = 0, lost = 0;

  void enter(const tokens& text) {
    sequence one{text, {}, 0, 0};
    std::vector<std::int32_t> copies;
    for (const std::int32_t node : tree.match(text, static_cast<std::int32_t>(text.size()))) {
      if (!tree.is_copy(node)) one.blocks.push_back(node);
      else if (tree.rests(node) && static_cast<std::int32_t>(copies.size()) < pool.free()) copies.push_back(node);
      else break;
    }
    for (const std::int32_t block : one.blocks) {
      tree.wake(block);
      std::erase(rested, block);
      pool.share(block);
    }
    one.computed = one.blocks.size();
    if (!copies.empty()) {
      std::vector<std::int32_t> to;
      for (std::size_t i = 0; i < copies.size(); ++i) to.push_back(*pool.take());
      one.blocks.insert(one.blocks.end(), to.begin(), to.end());
      one.order = tier.bring_in(copies, to);
      take_orders();
    }
    running.push_back(std::move(one));
    if (running.back().order == 0) compute(running.back());
  }

  /// Bytes for all of the text for which there are blocks; those that can be found are listed.
  void compute(sequence& one) {
    while (one.blocks.size() < one.text.size()) {
      if (pool.free() == 0 && tree.resting() > 0) drop_oldest();
      const auto block = pool.take();
      if (!block) break;
      one.blocks.push_back(*block);
    }
    bool listed = true;
    for (; one.computed < one.blocks.size(); ++one.computed) {
      const std::int32_t block = one.blocks[one.computed];
      device[block] = beginning(one.text, one.computed + 1);
      listed = listed && list(one, block);
    }
  }

  bool list(const sequence& one, std::int32_t block) {
    const std::int32_t parent = one.computed == 0 ? prefix_tree::none : one.blocks[one.computed - 1];
    const std::span<const std::int32_t> token(&one.text[one.computed], 1);
    if (tree.insert(parent, token, block)) return pool.share(block);
    const std::int32_t known =
        parent == prefix_tree::none || tree.holds(parent) ? tree.find(parent, token) : prefix_tree::none;
    if (known == prefix_tree::none || !tree.is_copy(known) || !tree.rests(known)) return false;
    tier.replace(known, block);
    return true;
  }

  /// Where `failed`, nobody shall find what it wrote or read.
  void leave(std::size_t which, bool failed) {
    const sequence one = running[which];
    running.erase(running.begin() + static_cast<std::ptrdiff_t>(which));
    if (failed)
      for (const std::int32_t block : one.blocks) tier.forget(block);
    std::erase_if(rested, [this](std::int32_t block) { return !tree.rests(block); });
    for (auto block = one.blocks.rbegin(); block != one.blocks.rend(); ++block) {
      pool.release(*block);
      if (!tree.holds(*block) || pool.count(*block) != 1) continue;
      tree.rest(*block);
      rested.push_back(*block);
    }
  }

  void drop_oldest() {
    const std::int32_t oldest = rested.front();
    REQUIRE(tree.oldest(prefix_tree::kind::block) == oldest);
    tier.drop_oldest();
    rested.pop_front();
    REQUIRE_FALSE(tree.holds(oldest));
  }

  void send_out(std::int32_t wanted) {
    tier.send_out(wanted);
    while (!kept.empty() && !tree.rests(kept.front())) kept.pop_front();  // gave their places
    for (const std::int32_t copy : kept) REQUIRE(tree.rests(copy));
    take_orders();
    // As many as were wanted are free or leave, or all that can leave does.
    if (tier.on() && out.size() < host_tier::most_orders && pool.free() + tier.leaving() < wanted)
      REQUIRE((tree.resting() == 0 || tier.kept() == 0));
  }

  void take_orders() {
    for (copy_order& order : tier.take_orders()) {
      if (order.way == copy_way::out)
        for (const block_copy& one : order.copies) {
          REQUIRE(one.block == rested.front());  // no other rests longer
          rested.pop_front();
          leaving[one.block] = device[one.block];
        }
      (order.way == copy_way::out ? out : in).push_back(std::move(order));
    }
  }

  void end_out(bool well) {
    if (out.empty()) return;
    const copy_order order = std::move(out.front());
    out.pop_front();
    for (const auto [block, place] : order.copies) {
      REQUIRE(device[block] == leaving.at(block));
      host[place] = well ? device[block] : tokens{-1};
      leaving.erase(block);
    }
    (well ? sent : lost) += order.copies.size();
    tier.went_out(order.number, well);
    for (const block_copy& one : order.copies)
      if (tree.rests(pool.total() + one.place)) kept.push_back(pool.total() + one.place);
  }

  void end_in(bool well) {
    if (in.empty()) return;
    const copy_order order = std::move(in.front());
    in.pop_front();
    const auto whose =
        std::find_if(running.begin(), running.end(), [&](const sequence& one) { return one.order == order.number; });
    REQUIRE(whose != running.end());
    for (const auto [block, place] : order.copies) device[block] = well ? host[place] : tokens{-1};
    const std::int32_t arrived = tier.came_in(order.number, well);
    REQUIRE((well || arrived == 0));
    whose->computed += static_cast<std::size_t>(arrived);
    whose->order = 0;
    restored += static_cast<std::size_t>(arrived);
    compute(*whose);
  }

  void require_sound() {
    for (const auto& sound : {pool.check(), tree.check(), tier.check()}) {
      INFO((sound.ok() ? "" : sound.why().text));
      REQUIRE(sound.ok());
    }
    for (const sequence& one : running)
      for (std::size_t i = 0; i < one.computed; ++i) REQUIRE(device[one.blocks[i]] == beginning(one.text, i + 1));
    require_found({});
    std::erase_if(kept, [this](std::int32_t copy) { return !tree.rests(copy); });
    REQUIRE(static_cast<std::size_t>(tier.kept()) == kept.size());
    if (!kept.empty()) REQUIRE(tree.oldest(prefix_tree::kind::copy) == kept.front());
    REQUIRE(static_cast<std::size_t>(tree.resting()) == rested.size());
    std::int32_t in_use = 0;
    for (std::int32_t block = 0; block < pool.total(); ++block)
      in_use += pool.count(block) > 0 && !tree.rests(block) ? 1 : 0;
    REQUIRE(in_use + tree.resting() + pool.free() == pool.total());
  }

  /// Everything under `text` that can be found holds what it was computed from.
  void require_found(const tokens& text) {
    if (text.size() == longest) return;
    for (std::int32_t letter = 0; letter < letters; ++letter) {
      tokens longer = text;
      longer.push_back(letter);
      const auto path = tree.match(longer, static_cast<std::int32_t>(longer.size()));
      if (path.size() < longer.size()) continue;
      const std::int32_t node = path.back();
      if (!tree.is_copy(node)) REQUIRE(device[node] == longer);
      else if (tree.rests(node)) REQUIRE(host[node - pool.total()] == longer);
      require_found(longer);
    }
  }
};

}  // namespace

TEST_CASE("what the tier brings back is what left, and nothing is lost but by a copy that fails") {
  std::size_t restored = 0, sent = 0, lost = 0;
  for (std::uint32_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto up_to = [&random](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
    world here(3 + up_to(10), up_to(12));
    for (int step = 0; step < 250; ++step) {
      switch (up_to(8)) {
        case 0:
        case 1:
          if (here.running.size() < 4) {
            tokens text(1 + random() % longest);
            for (auto& token : text) token = up_to(letters);
            here.enter(text);
          }
          break;
        case 2:
        case 3:
          if (!here.running.empty()) {
            const std::size_t which = random() % here.running.size();
            if (here.running[which].order == 0) here.leave(which, up_to(8) == 0);
          }
          break;
        case 4: here.send_out(up_to(14)); break;
        case 5:
        case 6: here.end_out(up_to(6) != 0); break;
        default: here.end_in(up_to(6) != 0);
      }
      here.require_sound();
    }
    while (!here.in.empty()) here.end_in(true);
    while (!here.out.empty()) here.end_out(true);
    while (!here.running.empty()) here.leave(0, false);
    here.require_sound();
    REQUIRE(here.pool.free() + here.tree.resting() == here.pool.total());
    restored += here.restored;
    sent += here.sent;
    lost += here.lost;
  }
  REQUIRE(sent > 1000);
  REQUIRE(restored > 100);
  REQUIRE(lost > 100);
}

TEST_CASE("a tier without places sends nothing, and what rests longest is dropped") {
  world here(3, 0);
  here.enter({0, 1, 2});
  here.leave(0, false);
  here.send_out(3);
  REQUIRE(here.out.empty());
  here.enter({2});
  REQUIRE(here.tree.match(tokens{0, 1, 2}, 3).size() == 2);
  here.require_sound();
}

TEST_CASE("orders out are few and small, so that the first blocks are free soon") {
  world here(200, 200);
  for (std::int32_t first = 0; first < 200; ++first) {
    here.enter({first});
    here.leave(0, false);
  }
  here.send_out(200);
  REQUIRE(here.out.size() == host_tier::most_orders);
  for (const copy_order& order : here.out) REQUIRE(order.copies.size() == host_tier::most_copies);
  REQUIRE(here.pool.free() == 0);
  here.end_out(true);
  REQUIRE(here.pool.free() == static_cast<std::int32_t>(host_tier::most_copies));
  here.require_sound();
}
