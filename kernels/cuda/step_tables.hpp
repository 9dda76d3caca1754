// What the kernels of one step read beside activations and weights: which row is which token of which sequence, and
// where its KV lies. Device pointers at addresses that never change, so that captured graphs stay valid; the lane
// fills them before the step. Knows no model.
#pragma once

#include <cstdint>

namespace troupe::kernels::cuda {

/// T = rows, S = sequences, R = sample rows. In a captured graph the host numbers are those of its bucket, and `counts`
/// says how many are real: kernels that write KV, attend or sample stop there; what is left of a bucket's rows holds
/// token 0 and is computed for nothing.
struct step_tables {
  std::int32_t rows = 0;       ///< T; grids are made from these
  std::int32_t sequences = 0;  ///< S
  std::int32_t samples = 0;    ///< R
  std::int32_t longest = 0;  ///< at least past + row_count of every sequence; a power of two times 512 or so in a graph
  bool one_row_each = false;                   ///< every sequence has one row: row i is sequence i
  std::int32_t processors = 0;                 ///< multiprocessors that the step has for itself; 0: all
  const std::int32_t* counts = nullptr;        ///< [0] real T, [1] real S, [2] real R
  const std::int32_t* ids = nullptr;           ///< [T]; -1 - s: the id that slot s sampled last
  const std::int32_t* row_sequence = nullptr;  ///< [T]
  const std::int32_t* row_position = nullptr;  ///< [T]
  const std::int32_t* first_row = nullptr;     ///< [S]
  const std::int32_t* row_count = nullptr;     ///< [S]
  const std::int32_t* past = nullptr;          ///< [S]
  const std::int32_t* block_tables = nullptr;  ///< [S][table_stride] block numbers; what a sequence has not is 0
  std::int32_t table_stride = 0;               ///< covers `longest`
  const std::int32_t* sample_slots = nullptr;  ///< [R] where last_ids takes the row's choice
  std::int32_t* last_ids = nullptr;            ///< [slots] written by sampling; -1 after logits that were no numbers
};

}  // namespace troupe::kernels::cuda
