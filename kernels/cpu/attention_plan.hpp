// Which query vectors of a step meet which pieces of KV, on which thread: the same in every layer. Knows block tables
// and counts; no arena and no arithmetic.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/attention_kernels.hpp"
#include "kernels/cpu/shared_prefixes.hpp"
#include "kernels/cpu/thread_team.hpp"

namespace troupe::kernels {

struct attention_shape {
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t dim = 0;  ///< of a head as it is stored
  bool operator==(const attention_shape&) const = default;
};

/// KV is cut every 128 tokens, at absolute positions. A piece's state for a vector depends on nothing else, and a
/// vector's states are merged in the order of the pieces, whoever made them: its bits depend on no cut.
class attention_plan {
public:
  /// A row of the step that attends.
  struct query_row {
    std::int32_t row;
    std::int32_t position;
  };
  /// Query vectors, rows [first_row, first_row + rows) of rows() x heads of one KV head, that meet the same pieces.
  /// What sequences share is an item, in which each has seats; a sequence's own item goes on from there.
  struct item {
    std::int64_t table = 0;  ///< where its blocks begin in the plan's copy
    std::int32_t first_row = 0;
    std::int32_t rows = 0;
    std::int32_t first_head = 0;  ///< query head
    std::int32_t heads = 0;
    std::int32_t first_piece = 0;
    std::int32_t units = 0;  ///< of the sequence that its last row sees
    bool shared = false;
    std::int32_t run = 0;         ///< which of the runs of heads it has
    std::int32_t first_seat = 0;  ///< of its own sequence, in the items that it shares
    std::int32_t seats = 0;
    std::int32_t row_of_sequence = 0;  ///< its first row's place in its sequence's
    std::int32_t first_part = 0;
    std::int32_t last_part = 0;
    std::int32_t vectors() const noexcept { return rows * heads; }
    std::int32_t last_piece() const noexcept { return (units + piece_units - 1) / piece_units; }
    bool joins_parts() const noexcept { return !shared && (seats > 0 || last_part - first_part > 1); }
  };
  /// An item's pieces [first, last) on one thread. A part that is all there is for its vectors writes the output; else
  /// its states are kept: one of all its pieces if they begin the sequence, otherwise one for each.
  struct part {
    std::int32_t item = 0;
    std::int32_t first = 0;
    std::int32_t last = 0;
    std::int64_t states = 0;  ///< in floats, from the start of all that are kept
    bool whole = false;
    std::int32_t kept() const noexcept { return whole ? 0 : first == 0 ? 1 : last - first; }
  };
  /// A sequence's place in what it shares: in items [first_item ..), one for each run of heads, from row `row` of them.
  struct seat {
    std::int32_t sequence;
    std::int32_t first_item;
    std::int32_t row;
  };

  /// Does nothing where the last call was for the same; comparing costs a look at the block tables.
  void prepare(const attention_shape& shape, std::span<const sequence_rows> batch, const thread_team& team,
               int threads);

  std::span<const query_row> rows() const noexcept { return rows_; }
  std::span<const item> items() const noexcept { return items_; }
  const item& item_of(const part& p) const noexcept { return items_[static_cast<std::size_t>(p.item)]; }
  std::span<const part> parts_of(const item& i) const noexcept {
    const auto count = static_cast<std::size_t>(i.last_part - i.first_part);
    return std::span(parts_).subspan(static_cast<std::size_t>(i.first_part), count);
  }
  /// The parts that the plan gives a thread, by their numbers, and those of some numbers.
  share share_of(int thread) const noexcept;
  std::span<const part> parts_in(share numbers) const noexcept {
    return std::span(parts_).subspan(static_cast<std::size_t>(numbers.first),
                                     static_cast<std::size_t>(numbers.last - numbers.first));
  }
  std::span<const seat> seats_of(const item& i) const noexcept {
    return std::span(seats_).subspan(static_cast<std::size_t>(i.first_seat), static_cast<std::size_t>(i.seats));
  }
  /// No item reads what another item's rows store in this step, and each KV head of a row is in one item: so the thread
  /// that reads a row's last piece can store its K and V itself, and none need wait.
  bool rows_apart() const noexcept { return rows_apart_; }
  /// Items whose vectors' states are in several parts.
  std::span<const std::int32_t> joined() const noexcept { return joined_; }
  const std::int32_t* blocks(const item& i) const noexcept { return tables_.data() + i.table; }
  std::int64_t kept_floats() const noexcept { return kept_floats_; }
  /// Units of KV that the items read, of all KV heads.
  std::int64_t units_read() const noexcept { return units_read_; }

  /// Of a state of that many vectors.
  static std::int64_t state_floats(std::int64_t vectors, std::int64_t dim) noexcept {
    return 2 * padded(vectors) + vectors * dim;
  }
  static constexpr std::int64_t padded(std::int64_t vectors) noexcept { return (vectors + 15) / 16 * 16; }

private:
  bool find_rows_apart() const noexcept;
  bool planned(std::span<const sequence_rows> batch) const noexcept;
  void remember(std::span<const sequence_rows> batch);
  void add_shared(std::span<const sequence_rows> batch);
  void add_own(std::size_t sequence, std::int32_t rows_at_once);
  void add_items(item made);
  void cut(const thread_team& team);
  void add_part(std::int32_t item, std::int32_t first, std::int32_t last);

  attention_shape shape_;
  int threads_ = 0;
  std::vector<sequence_rows> batch_;       ///< without its tables
  std::vector<std::int32_t> tables_;       ///< as far as they are used, one after the other
  std::vector<std::int64_t> first_block_;  ///< of each sequence, and the end
  shared_prefixes shared_;
  std::vector<query_row> rows_;
  std::vector<item> items_;
  std::vector<seat> seats_;
  std::vector<part> parts_;
  std::vector<std::size_t> first_part_;  ///< of each thread, and the end
  std::vector<std::int32_t> joined_;
  std::int64_t kept_floats_ = 0;
  std::int64_t units_read_ = 0;
  bool rows_apart_ = false;
};

}  // namespace troupe::kernels
