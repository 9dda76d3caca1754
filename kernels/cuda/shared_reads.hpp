// Which K and V a step's decode attention reads once for several sequences, found in their block tables. Host code;
// knows no device memory and no stream.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/shared_prefixes.hpp"
#include "kernels/cuda/shared_tables.hpp"
#include "kernels/step_batch.hpp"

namespace troupe::kernels::cuda {

constexpr std::int32_t most_works = 512;

struct shared_shape {
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t works = 0;              ///< items times KV heads that fill the device once; up to most_works
  std::int64_t least_saved_bytes = 0;  ///< of K and V of a layer, for two kernels to take less time than one
  bool operator==(const shared_shape&) const = default;
};

class shared_reads {
public:
  /// What the sequences with one row share, once it is worth two kernels a layer; nothing otherwise. `changed_from`: of
  /// each sequence the first place of its block table that is another than at the call before. Costs a look at each
  /// sequence; where tables changed at their beginning or sequences came and went, a sort of them too.
  void find(std::span<const sequence_rows> batch, std::span<const std::int32_t> changed_from,
            const shared_shape& shape);

  bool empty() const noexcept { return items_.empty(); }
  std::span<const shared_item> items() const noexcept { return items_; }
  std::span<const shared_seat> seats() const noexcept { return seats_; }
  std::span<const own_part> own() const noexcept { return own_; }

  static std::int32_t most_seats(std::int32_t sequences) noexcept { return 2 * sequences; }
  static std::int32_t most_items(std::int32_t sequences) noexcept { return most_works + most_seats(sequences); }

private:
  struct known_sequence {
    bool single = false;
    std::int32_t until = 0;  ///< blocks of its table that matter: what it shares, and the piece behind that
  };
  /// Stretches that are read once; those that would not pay are left to the longer ones behind them, or to each
  /// sequence.
  struct chosen {
    std::int32_t first, count, from, to;
  };

  bool known(std::span<const sequence_rows> batch, std::span<const std::int32_t> changed_from,
             const shared_shape& shape) const;
  bool may_share(std::span<const sequence_rows> batch);
  void choose(std::size_t sequences);
  void make_items();

  shared_shape shape_;
  std::vector<known_sequence> known_;
  std::vector<std::int32_t> first_blocks_;
  shared_prefixes found_;
  std::vector<chosen> chosen_;
  std::vector<shared_item> items_;
  std::vector<shared_seat> seats_;
  std::vector<own_part> own_;
};

}  // namespace troupe::kernels::cuda
