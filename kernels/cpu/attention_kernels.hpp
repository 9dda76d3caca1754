// The inner loops of rope_store and attention that each instruction set provides. They run on one thread, on vectors
// that the planner chose. Knows no thread and no arena.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kv_unit.hpp"

namespace troupe::kernels {

/// Rotates the pairs of one head in place by angles [dims / 2].
struct rotate_args {
  float* head = nullptr;
  std::int32_t pairs = 0;
  bool interleaved = true;  ///< pairs (2i, 2i + 1); else (i, i + pairs)
  const float* cosines = nullptr;
  const float* sines = nullptr;
};

/// K and V of `rows` consecutive tokens of a block, from its token `slot` on. A block's first token forgets what an
/// earlier owner left. Numbers that are not finite poison their token's scale.
struct store_args {
  const float* k = nullptr;  ///< of the first token
  const float* v = nullptr;
  std::int64_t stride = 0;  ///< floats from one token to the next
  std::int32_t rows = 0;
  std::int32_t slot = 0;
  std::int32_t head_dim = 0;
  kv_type type = kv_type::i16;
  std::byte* unit = nullptr;
};

/// A running softmax: maximum (of scores in bits: log2 of the weight), sum of weights and weighted sum of V, of each
/// vector.
struct attend_state {
  float* largest = nullptr;  ///< [vectors]
  float* total = nullptr;    ///< [vectors]
  float* mixed = nullptr;    ///< [vectors][dim]
};

/// One piece of KV for `vectors` query vectors that share a KV head.
struct attend_args {
  std::int32_t vectors = 0;
  std::int32_t head_dim = 0;
  kv_type type = kv_type::i16;
  const std::int16_t* queries = nullptr;  ///< [vectors][dim]
  const float* scales = nullptr;          ///< [vectors]: of the queries, times the softmax's scale and log2(e)
  const std::int32_t* seen = nullptr;  ///< [vectors]: tokens of the piece attended to, 1 to piece_tokens, not falling
  const std::byte* const* units = nullptr;  ///< of the piece, as many as are seen
  const std::byte* const* next = nullptr;   ///< piece_units units that will be read next, or null
  float* scores = nullptr;                  ///< scratch, [vectors][piece_tokens]
  bool first = true;                        ///< makes `state`; else the piece joins it
  attend_state state;
};

struct attention_kernels {
  static constexpr std::int32_t most_vectors = 48;  ///< that `attend` and `merge` take at once
  void (*rotate)(const rotate_args& args);
  void (*store)(const store_args& args);
  /// x = scale * out, turned where K of the type is; the rest of dim is zero.
  void (*quantise_query)(const float* x, std::int32_t head_dim, kv_type type, std::int16_t* out, float* scale);
  void (*attend)(const attend_args& args);
  /// The later tokens of `from` join `into`, with the same bits as when attend joins them.
  void (*merge)(const attend_state& into, const attend_state& from, std::int32_t vectors, std::int32_t head_dim);
  /// out[head_dim] = mixed / total, turned back where V of the type is turned.
  void (*divide)(const float* mixed, float total, std::int32_t head_dim, kv_type type, float* out);
};

/// In plain loops.
const attention_kernels& scalar_attention() noexcept;

}  // namespace troupe::kernels
