// The store with host memory behind its blocks: who waits for which copies, and what a copy that fails takes with it.
#include "actors/kv_store/kv_store.hpp"
#include "support/catch.hpp"

using namespace troupe;
using namespace troupe::actors;
using memory::copy_way;

namespace {

using tokens = std::vector<std::int32_t>;

std::shared_ptr<const tokens> shared(tokens all) { return std::make_shared<const tokens>(std::move(all)); }

constexpr std::int32_t all_kept = 1 << 20;

/// Computes all blocks of a prompt of one token each, and goes.
void compute(kv_store& store, generation_id id, const std::shared_ptr<const tokens>& prompt) {
  REQUIRE(store.reserve({{id, static_cast<std::int32_t>(prompt->size()), 0, prompt}}).at(0).blocks.size() ==
          prompt->size());
  store.release({{id, prompt, static_cast<std::int32_t>(prompt->size())}, false});
}

std::size_t end_copies(kv_store& store, copy_way way, bool well = true) {
  std::size_t blocks = 0;
  for (const auto& order : store.take_orders()) {
    REQUIRE(order.way == way);
    blocks += order.copies.size();
    store.copied(order, well);
    REQUIRE(store.check().ok());
  }
  return blocks;
}

}  // namespace

TEST_CASE("who needs blocks that are cached gets them when they have been copied out, not before") {
  kv_store store(4, 1, all_kept, 8);
  compute(store, 1, shared({1, 2, 3, 4}));
  const auto need = store.reserve({{2, 3, 0, shared({7, 8, 9})}}).at(0);
  REQUIRE(need.blocks.empty());
  REQUIRE(need.later);
  REQUIRE(store.take_late().empty());
  REQUIRE(end_copies(store, copy_way::out) == 3);
  const auto late = store.take_late();
  REQUIRE(late.size() == 1);
  REQUIRE(late[0].blocks.size() == 3);
  REQUIRE(store.cached_on_host() == 3);
  REQUIRE(store.free() == 1);
  REQUIRE(store.reserve({{3, 2}}).at(0).later == false);  // there is too little: no promise
}

TEST_CASE("a beginning on the host is promised, and granted when it is back; the tail is left to be computed") {
  kv_store store(4, 1, all_kept, 8);
  compute(store, 1, shared({1, 2, 3, 4}));
  store.reserve({{2, 4, 0, shared({7, 8, 9, 10})}});
  REQUIRE(end_copies(store, copy_way::out) == 4);
  store.release({{2}, false});
  store.take_late();
  REQUIRE(store.cached() == 0);
  const auto need = store.reserve({{3, 4, 0, shared({1, 2, 3, 4})}}).at(0);
  REQUIRE(need.later);
  REQUIRE(store.free() == 0);
  REQUIRE(store.take_late().empty());
  REQUIRE(end_copies(store, copy_way::in) == 3);
  const auto late = store.take_late().at(0);
  REQUIRE(late.blocks.size() == 4);
  REQUIRE(late.cached == 3);
  REQUIRE(store.cached_on_host() == 1);  // its end, which must be computed again
  store.offer({3, shared({1, 2, 3, 4}), 4});
  REQUIRE(store.cached_on_host() == 0);  // and was
  store.release({{3, shared({1, 2, 3, 4}), 4}, false});
  REQUIRE(store.check().ok());
  REQUIRE(store.reserve({{4, 5, 0, shared({1, 2, 3, 4, 5})}}).at(0).blocks.empty());
}

TEST_CASE("a copy that fails on its way out is forgotten, and one that fails on its way in is computed again") {
  kv_store store(4, 1, all_kept, 8);
  compute(store, 1, shared({1, 2, 3, 4}));
  store.reserve({{2, 2, 0, shared({7, 8})}});
  REQUIRE(end_copies(store, copy_way::out, false) == 2);
  REQUIRE(store.cached_on_host() == 0);
  REQUIRE(store.take_late().at(0).blocks.size() == 2);
  store.release({{2}, false});
  REQUIRE(store.reserve({{3, 4, 0, shared({7, 8, 9, 10})}}).at(0).later);
  REQUIRE(end_copies(store, copy_way::out) == 2);
  REQUIRE(store.take_late().size() == 1);
  store.release({{3}, false});
  REQUIRE(store.reserve({{4, 3, 0, shared({1, 2, 3})}}).at(0).later);
  REQUIRE(end_copies(store, copy_way::in, false) == 2);
  const auto late = store.take_late().at(0);
  REQUIRE(late.blocks.size() == 3);
  REQUIRE(late.cached == 0);
  REQUIRE(store.cached_on_host() == 0);
}

TEST_CASE("what a failed sequence read is not trusted when it comes back for another") {
  kv_store store(6, 1, all_kept, 8);
  const auto prompt = shared({1, 2, 3, 4});
  compute(store, 1, prompt);
  store.reserve({{2, 4, 0, shared({7, 8, 9, 10})}});  // pushes out the end of the prompt
  REQUIRE(end_copies(store, copy_way::out) == 2);
  store.release({{2}, false});
  store.take_late();
  REQUIRE(store.reserve({{3, 2, 0, shared({1, 2})}}).at(0).cached == 1);
  REQUIRE(store.reserve({{4, 4, 0, shared({1, 2, 3, 4})}}).at(0).later);
  store.release({{3, shared({1, 2}), 1}, true});
  REQUIRE(end_copies(store, copy_way::in) == 1);
  REQUIRE(store.take_late().at(0).cached == 2);
  REQUIRE(store.cached_on_host() == 0);
  store.release({{4}, false});
  REQUIRE(store.check().ok());
  REQUIRE(store.free() == 6);
  REQUIRE(store.cached() == 0);
}

TEST_CASE("one that goes while its beginning comes back keeps its blocks until then, and others find them") {
  kv_store store(4, 1, all_kept, 8);
  compute(store, 1, shared({1, 2, 3, 4}));
  store.reserve({{2, 4, 0, shared({7, 8, 9, 10})}});
  end_copies(store, copy_way::out);
  store.release({{2}, false});
  store.take_late();
  REQUIRE(store.reserve({{3, 4, 0, shared({1, 2, 3, 4})}}).at(0).later);
  REQUIRE(store.release({{3}, false}) == 4);
  const auto other = store.reserve({{5, 4, 0, shared({20, 21, 22, 23})}}).at(0);
  REQUIRE(other.later);  // all blocks are still written to
  REQUIRE(end_copies(store, copy_way::in) == 3);
  REQUIRE(end_copies(store, copy_way::out) == 3);
  const auto late = store.take_late();
  REQUIRE(late.size() == 1);
  REQUIRE(late[0].id == 5);
  REQUIRE(late[0].blocks.size() == 4);
}

TEST_CASE("who runs and needs a block does not wait behind one that has yet to enter") {
  kv_store store(5, 1, all_kept, 8);
  REQUIRE(store.reserve({{1, 1, 0, shared({50})}}).at(0).blocks.size() == 1);
  compute(store, 2, shared({1, 2, 3, 4}));
  REQUIRE(store.reserve({{3, 4, 0, shared({7, 8, 9, 10})}, {4, 4, 0, shared({30, 31, 32, 33})}, {1, 1}}).at(2).later);
  const auto first = store.take_orders();
  REQUIRE(first.size() == 1);
  store.copied(first[0], true);
  const auto late = store.take_late();
  REQUIRE(late.size() == 3);  // what has become too much is to be asked for again
  REQUIRE(late[0].blocks.size() == 4);
  REQUIRE(late[1].blocks.empty());
  REQUIRE(late[2].blocks.empty());
  REQUIRE(store.check().ok());
}

TEST_CASE("where the host is full its copies unused for longest go first, from the end of their path") {
  kv_store store(4, 1, all_kept, 4);
  compute(store, 1, shared({1, 2, 3, 4}));
  for (generation_id id = 2; id <= 3; ++id) {
    const auto next = static_cast<std::int32_t>(id) * 10;
    const auto prompt = shared({next, next + 1});
    REQUIRE(store.reserve({{id, 2, 0, prompt}}).at(0).later);
    REQUIRE(end_copies(store, copy_way::out) == 2);
    store.take_late();
    store.release({{id, prompt, 2}, false});
  }
  REQUIRE(store.cached_on_host() == 4);
  REQUIRE(store.reserve({{4, 2, 0, shared({60, 61})}}).at(0).later);
  REQUIRE(end_copies(store, copy_way::out) == 2);
  store.take_late();
  store.release({{4}, false});
  REQUIRE(store.cached_on_host() == 4);
  REQUIRE(store.reserve({{5, 4, 0, shared({1, 2, 3, 4})}}).at(0).later);
  REQUIRE(end_copies(store, copy_way::out) ==
          2);  // what it waits for pushes out others, not the copies that it will read
  REQUIRE(end_copies(store, copy_way::in) == 2);  // 3 and 4 went before
  REQUIRE(store.take_late().at(0).cached == 2);
}
