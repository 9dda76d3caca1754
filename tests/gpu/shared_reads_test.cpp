// What sequences are told to read together: every token once, results beside each other, and told anew whenever it
// would no longer be true. Needs no device.
#include "support/catch.hpp"

#include <limits>
#include <random>
#include <vector>

#include "kernels/cuda/shared_reads.hpp"

using namespace troupe::kernels;
using namespace troupe::kernels::cuda;

namespace {

constexpr std::int32_t block_tokens = kv_shape::block_tokens;

/// Sequences with tables of their own, each row the step's.
struct steps_of {
  std::vector<std::vector<std::int32_t>> tables;
  std::vector<std::int32_t> past, rows;

  void add(std::vector<std::int32_t> table, std::int32_t tokens, std::int32_t of_step = 1) {
    tables.push_back(std::move(table));
    past.push_back(tokens);
    rows.push_back(of_step);
  }
  std::vector<sequence_rows> batch() const {
    std::vector<sequence_rows> all;
    std::int32_t row = 0;
    for (std::size_t s = 0; s < tables.size(); ++s) {
      const auto blocks = static_cast<std::size_t>((past[s] + rows[s] + block_tokens - 1) / block_tokens);
      all.push_back({row, rows[s], past[s], std::span(tables[s]).first(blocks)});
      row += rows[s];
    }
    return all;
  }
};

/// Every token before own().from has been given to its sequence once, by its own blocks, and results are numbered from
/// 0 on.
void check_reads(const shared_reads& reads, const std::vector<sequence_rows>& batch, const shared_shape& shape) {
  if (reads.empty()) return;
  REQUIRE(reads.own().size() == batch.size());
  std::vector<std::vector<int>> times(batch.size()), results(batch.size());
  for (std::size_t s = 0; s < batch.size(); ++s) {
    times[s].resize(static_cast<std::size_t>(batch[s].past));
    results[s].resize(static_cast<std::size_t>(reads.own()[s].results));
    CHECK(reads.own()[s].from <= batch[s].past);
    CHECK((batch[s].rows == 1 || reads.own()[s].from == 0));
  }
  for (const shared_item& item : reads.items()) {
    CHECK(item.seats * (shape.heads / shape.kv_heads) <= shared_tile_rows);
    CHECK(item.first % shared_piece == 0);
    CHECK(item.tokens % shared_piece == 0);
    const auto& leader = batch[static_cast<std::size_t>(item.sequence)];
    for (const shared_seat& seat :
         reads.seats().subspan(static_cast<std::size_t>(item.first_seat), static_cast<std::size_t>(item.seats))) {
      const auto s = static_cast<std::size_t>(seat.sequence);
      ++results[s].at(static_cast<std::size_t>(seat.result + item.split));
      for (std::int32_t t = item.first; t < item.first + item.tokens; ++t) {
        ++times[s].at(static_cast<std::size_t>(t));
        const auto block = static_cast<std::size_t>(t / block_tokens);
        REQUIRE(batch[s].blocks[block] == leader.blocks[block]);
      }
    }
  }
  for (std::size_t s = 0; s < batch.size(); ++s) {
    for (std::int32_t t = 0; t < batch[s].past; ++t)
      REQUIRE(times[s][static_cast<std::size_t>(t)] == (t < reads.own()[s].from));
    for (const int count : results[s]) REQUIRE(count == 1);
  }
  CHECK(reads.items().size() <=
        static_cast<std::size_t>(shared_reads::most_items(static_cast<std::int32_t>(batch.size()))));
  CHECK(reads.seats().size() <=
        static_cast<std::size_t>(shared_reads::most_seats(static_cast<std::int32_t>(batch.size()))));
}

std::vector<std::int32_t> all_changed(std::size_t sequences) { return std::vector<std::int32_t>(sequences, 0); }

}  // namespace

TEST_CASE("a prefix that many share is one stretch in equal parts, and what is behind it each one's own") {
  steps_of steps;
  for (std::int32_t s = 0; s < 20; ++s) {
    std::vector<std::int32_t> table(64);
    for (std::int32_t b = 0; b < 64; ++b) table[static_cast<std::size_t>(b)] = b;
    for (std::int32_t b = 0; b < 10; ++b) table.push_back(1000 + s * 10 + b);
    steps.add(table, 1024 + s * 7);
  }
  const shared_shape shape{32, 8, 128, 64, 0};
  shared_reads reads;
  const auto batch = steps.batch();
  reads.find(batch, all_changed(20), shape);
  check_reads(reads, batch, shape);
  REQUIRE(reads.items().size() == 8);  // two runs of sequences, four parts: 64 works of eight KV heads
  for (const shared_item& item : reads.items()) CHECK(item.tokens == 256);
  for (const own_part& own : reads.own()) CHECK((own.from == 1024 && own.results == 4));

  shared_shape dear = shape;
  dear.least_saved_bytes = std::int64_t{19} * 1024 * 8 * 128 * 4;  // all that there is to save
  reads.find(batch, all_changed(20), dear);
  CHECK_FALSE(reads.empty());
  ++dear.least_saved_bytes;
  reads.find(batch, all_changed(20), dear);
  CHECK(reads.empty());
}

TEST_CASE("a short beginning that all have is left to the longer ones behind it") {
  steps_of steps;
  for (std::int32_t s = 0; s < 6; ++s) {
    std::vector<std::int32_t> table;
    for (std::int32_t b = 0; b < 40; ++b)
      table.push_back(b < 8 ? b : b < 32 ? 100 * (s % 2 + 1) + b : 1000 * (s + 1) + b);
    steps.add(table, 600);
  }
  const shared_shape shape{8, 8, 64, 16, 0};
  shared_reads reads;
  auto batch = steps.batch();
  reads.find(batch, all_changed(6), shape);  // 5 * 128 tokens are worth it
  check_reads(reads, batch, shape);
  CHECK(reads.seats().size() == 12);
  batch.resize(4);  // 3 * 128 are not
  reads.find(batch, all_changed(4), shape);
  check_reads(reads, batch, shape);
  CHECK(reads.seats().size() == 4);
  for (const own_part& own : reads.own()) CHECK(own.from == 512);
}

TEST_CASE("after any change of sequences what was told before is told anew where it must be") {
  std::mt19937 random(5);
  const auto below = [&](std::size_t n) { return static_cast<std::int32_t>(random() % n); };
  shared_reads reads;
  steps_of steps;
  std::vector<std::vector<std::int32_t>> shown;  // as a device would have them
  std::int32_t next = 0;
  int together = 0;
  const auto fresh_table = [&] {
    std::vector<std::int32_t> table;
    if (!steps.tables.empty() && random() % 8 > 0) {
      const auto& from = steps.tables[static_cast<std::size_t>(below(steps.tables.size()))];
      table.assign(from.begin(), from.begin() + below(from.size() + 1));
    }
    while (table.size() < 60) table.push_back(next++);
    return table;
  };
  const shared_shape shape{9, 3, 64, 9, 0};
  for (int round = 0; round < 3000; ++round) {
    const auto what = random() % 8;
    const auto s = steps.tables.empty() ? 0 : static_cast<std::size_t>(below(steps.tables.size()));
    if (what == 0 && steps.tables.size() < 40) {
      steps.add(fresh_table(), below(900), 1 + below(5) / 4);
    } else if (what == 1 && !steps.tables.empty()) {
      steps.tables.erase(steps.tables.begin() + static_cast<std::ptrdiff_t>(s));
      steps.past.erase(steps.past.begin() + static_cast<std::ptrdiff_t>(s));
      steps.rows.erase(steps.rows.begin() + static_cast<std::ptrdiff_t>(s));
    } else if (what == 2 && !steps.tables.empty()) {  // another in its place
      steps.tables[s] = fresh_table();
      steps.past[s] = below(900);
    } else if (what == 3 && !steps.tables.empty()) {  // the same blocks, not all of them computed
      steps.past[s] = below(900);
    } else if (what == 4 && !steps.tables.empty()) {
      steps.rows[s] = 3 - steps.rows[s];
    } else {
      for (std::int32_t& past : steps.past) past = std::min(past + 1, 950);
    }
    const auto batch = steps.batch();
    std::vector<std::int32_t> changed(batch.size(), std::numeric_limits<std::int32_t>::max());
    shown.resize(std::max(shown.size(), batch.size()), std::vector<std::int32_t>(61, 0));
    for (std::size_t i = 0; i < batch.size(); ++i)
      for (std::size_t b = batch[i].blocks.size(); b-- > 0;)
        if (shown[i][b] != batch[i].blocks[b]) {
          shown[i][b] = batch[i].blocks[b];
          changed[i] = static_cast<std::int32_t>(b);
        }
    reads.find(batch, changed, shape);
    check_reads(reads, batch, shape);
    together += !reads.empty();
  }
  CHECK(together > 500);
}
