// Which sequences of a step have the same KV at their beginning, so that attention can read it once. Knows block tables
// alone: no arena, no head, no thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/kv_unit.hpp"
#include "kernels/step_batch.hpp"

namespace troupe::kernels {

/// Pieces [first_piece, last_piece) of KV that several sequences have in common: members order[first] to
/// order[first + count - 1], and no other.
struct shared_stretch {
  std::int32_t first = 0;
  std::int32_t count = 0;
  std::int32_t first_piece = 0;
  std::int32_t last_piece = 0;
};

struct shared_prefixes {
  std::vector<std::int32_t> order;        ///< of the sequences that may share, by their places in the batch
  std::vector<shared_stretch> stretches;  ///< a sequence's come in the order of its pieces
  std::vector<std::int32_t> own_from;     ///< of each sequence: the first piece that it has for itself
};

/// Sequences share their leading pieces as far as their tables name the same blocks. Only pieces that lie before the
/// step's rows count, and only sequences of at most `most_rows` rows: more make good use of what they read. Costs a
/// sort of the sequences, and where blocks are shared a look at each of them.
void find_shared_prefixes(std::span<const sequence_rows> batch, std::int32_t most_rows, shared_prefixes& into);

}  // namespace troupe::kernels
