// The op interface: what a model's forward() may ask of a device. One lane is one ordered execution queue
// (a team of CPU threads, a CUDA stream); ops run in the order of the calls. Knows no model and no file format.
//
// Shapes: T = rows (tokens) of the step; the residual stream and logits are f32, other activations activation_type().
// Threads: a lane is driven by one thread at a time, but for wait_step. Errors: shapes are the caller's contract
// (checked in Debug); allocation returns result.
// Row results do not depend on the other rows of the batch, on chunking or on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <troupe/result.hpp>

#include "kernels/step_batch.hpp"
#include "memory/buffer.hpp"
#include "memory/mapped_file.hpp"
#include "memory/tensor_view.hpp"

namespace troupe::kernels {

using memory::tensor_view;

/// A weight matrix [rows, cols] in the layout that its lane computes with best. Made by lane::pack, used by the
/// same lane only; owns its bytes, or refers to the mapped file, which must outlive it.
class packed_matrix {
public:
  virtual ~packed_matrix() = default;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t bytes = 0;  ///< read by one product with one row: the floor of its time
};
using matrix = std::unique_ptr<packed_matrix>;

/// How KV is laid out. One block holds 16 tokens of every layer, K and V; its inner layout is the lane's own.
struct kv_shape {
  std::int32_t layers = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  static constexpr std::int32_t block_tokens = 16;
};

/// The KV arena of one model on one lane: `blocks` blocks, addressed by number.
class kv_arena {
public:
  virtual ~kv_arena() = default;
  kv_shape shape;
  std::int32_t blocks = 0;
};

struct rope_shape {
  float base = 10000.0f;
  std::int32_t dims = 0;           ///< rotated dimensions of a head
  bool interleaved = true;         ///< pairs (2i, 2i+1), as GGUF llama weights are permuted; else (i, i + dims/2)
  std::span<const float> factors;  ///< per-pair frequency divisors (Llama 3 "rope_freqs"), or empty
};

/// Where gated_mlp may leave what lies between its ops.
struct mlp_scratch {
  tensor_view normed;   ///< [T, n]
  tensor_view gate_up;  ///< [T, 2F]
  tensor_view gated;    ///< [T, F]
};

class lane {
public:
  virtual ~lane() = default;

  // --- memory -------------------------------------------------------------------------------------------------
  virtual result<memory::buffer> allocate(std::int64_t bytes) = 0;
  /// Copies host bytes to `offset` of a buffer that this lane allocated.
  virtual result<void> write(const memory::buffer& to, std::int64_t offset, std::span<const std::byte> from);
  /// What a computed tensor holds, readable by the host until the lane's next call. Waits for the steps begun.
  virtual result<tensor_view> host_view(tensor_view of) { return of; }
  /// Of all activations but the residual stream and logits.
  virtual memory::dtype activation_type() const { return memory::dtype::f32; }
  /// The views given to pack from now on show bytes of `file`'s map (null: plain memory), `bytes` of them in all. A
  /// lane may read the file in place of touching the map, which faults where the file has been cut short, and see
  /// beforehand that there is memory. Default: the file is read ahead. The file must outlive the matrices of a lane
  /// that does not copy.
  virtual result<void> expect_weights(const memory::mapped_file* file, std::int64_t bytes);
  /// All that expect_weights announced has been given to pack: from now on products may be asked for. A lane may do the
  /// packing of a file's matrices only here, all at once, and keep what it made for the next start. Errors: as pack's,
  /// of the matrix whose number in the order of those calls is left in `which` (how many there were: of none).
  virtual result<void> finish_weights(std::size_t& /*which*/) { return {}; }
  /// Stacks `parts` (equal cols) into one matrix, so that inputs are read and quantised once (Q|K|V, gate|up).
  virtual result<matrix> pack(std::span<const tensor_view> parts) = 0;
  /// An embedding: what `embed` looks rows up in, and `linear` multiplies with where the model's head is `tied` to it.
  virtual result<matrix> pack_table(const tensor_view& table, bool tied);
  virtual std::int64_t kv_block_bytes(const kv_shape& shape) const = 0;
  virtual result<std::unique_ptr<kv_arena>> make_kv(const kv_shape& shape, std::int32_t blocks) = 0;

  // --- steps --------------------------------------------------------------------------------------------------
  // Steps begin in order, and end in that order. What follows is a CPU's way: a step has ended when begin_step returns.

  /// Null where the lane needs none.
  virtual result<std::unique_ptr<step_space>> make_steps(const step_limits&) { return std::unique_ptr<step_space>(); }
  /// Calls ops(batch), or repeats what they did for another batch of such sizes. A device may call them with a batch
  /// padded to a round size, and has only queued them on return. At most steps_in_flight() at once; the batch's `picks`
  /// live until the step's end, all else until the return.
  virtual result<step_ticket> begin_step(step_space* space, const step_batch& batch, const step_ops& ops);
  /// Returns when the step is computed, or failed. Any thread.
  virtual void wait_step(step_ticket) {}
  /// The oldest step begun is over (waits for it): its picks are set.
  virtual result<void> end_step() { return {}; }
  virtual std::int32_t steps_in_flight() const { return 1; }

  // --- ops ----------------------------------------------------------------------------------------------------
  /// out[T, cols] = rows `ids` of table
  virtual void embed(const packed_matrix& table, std::span<const std::int32_t> ids, tensor_view out) = 0;
  /// out[T, n] = x[T, n] / rms(x) * weight[1, n]
  virtual void rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) = 0;
  /// out[T, w.rows] = x[T, w.cols] . w^T
  virtual void linear(const packed_matrix& w, tensor_view x, tensor_view out) = 0;
  /// linear, for logits: a lane may keep what `sample` can use of them, so nobody else may write `logits` in between.
  virtual void head(const packed_matrix& w, tensor_view x, tensor_view logits) { linear(w, x, logits); }
  /// out[T, w.rows] += x . w^T   (the residual stream)
  virtual void linear_add(const packed_matrix& w, tensor_view x, tensor_view out) = 0;
  /// Composite, default = rms_norm into `scratch`, then linear. Overridden where fusing saves a pass.
  virtual void norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, tensor_view scratch,
                           tensor_view out);
  /// In place on qkv[T, (heads + 2 * kv_heads) * head_dim]: rotates Q and K, then writes K and V of `layer` to the
  /// arena.
  virtual void rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer, kv_arena& kv,
                          std::span<const sequence_rows> batch) = 0;
  /// out[T, heads * head_dim] = causal attention of the Q part of qkv over each sequence's paged K and V, scaled.
  virtual void attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                         std::span<const sequence_rows> batch, tensor_view out) = 0;
  /// Composite, default = rope_store, then attention. Leaves in qkv what it likes.
  virtual void rope_attention(tensor_view qkv, std::int32_t heads, const rope_shape& rope, float scale,
                              std::int32_t layer, kv_arena& kv, std::span<const sequence_rows> batch, tensor_view out);
  /// Row rows[j] of x becomes its row j; those behind them hold anything then. `rows` rise. Default: in the host's
  /// memory.
  virtual void keep_rows(tensor_view x, std::span<const std::int32_t> rows);
  /// out[T, n] = silu(gate_up[T, 0:n]) * gate_up[T, n:2n]
  virtual void silu_mul(tensor_view gate_up, tensor_view out) = 0;
  /// Composite, default = silu_mul into `scratch`, then linear_add: out += (silu(gate) * up) . w^T
  virtual void silu_linear_add(tensor_view gate_up, const packed_matrix& w, tensor_view scratch, tensor_view out);
  /// Composite, default = norm_linear into `gate_up`, then silu_linear_add: x += (silu(g) * u) . down^T, g|u = norm(x)
  /// . w^T
  virtual void gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w,
                         const packed_matrix& down, const mlp_scratch& scratch);
  /// Samples one token from each row of logits[R, vocab]; may overwrite logits. rows[r] and picks[r] belong to row r.
  /// Within a step: rows and picks are the batch's.
  virtual void sample(tensor_view logits, std::span<const sampling_row> rows, std::span<sampled> picks) = 0;
};

}  // namespace troupe::kernels
