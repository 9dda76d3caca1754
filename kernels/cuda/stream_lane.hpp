// The op interface over one CUDA stream: ops queue kernels, steps are records in and picks out, repeated steps are
// graphs. Knows no model; the kernels are elsewhere in this folder.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_room.hpp"
#include "kernels/cuda/cuda_lane.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/device_parts.hpp"
#include "kernels/cuda/held_layers.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/shared_reads.hpp"
#include "kernels/cuda/step_buffers.hpp"
#include "kernels/cuda/stored_rows.hpp"
#include "kernels/cuda/weight_upload.hpp"

namespace troupe::kernels::cuda {

/// A matrix to multiply with, a table to look up in, or both. Parts whose types need different forms are pieces of
/// their own, one below the other: a product each.
class cuda_matrix final : public packed_matrix {
public:
  std::vector<std::shared_ptr<device_matrix>> pieces;
  std::optional<stored_rows> table;
};

class cuda_kv final : public kv_arena {
public:
  device_buffer storage;  ///< narrow: all blocks, behind them room for a layer of each as bf16
  kv_format format = kv_format::bf16;
  kv_layout layout() const noexcept {
    return {storage.as<std::byte>(), shape.layers, shape.kv_heads, shape.head_dim, format};
  }
  kv_layout wide_layout() const noexcept {
    return {storage.as<std::byte>() + layout().block_bytes() * this->blocks, 1, shape.kv_heads, shape.head_dim};
  }
};

/// One owner's steps. A graph is good for one number of rows, padded, and for contexts up to `longest`.
class cuda_steps final : public step_space {
public:
  struct graph_key {
    std::int32_t rows = 0;
    std::int32_t longest = 0;
    bool sampled = false;
    bool profiled = false;
    bool beside = false;  ///< for a device that the other queue computes on
    bool shared = false;  ///< decodes read together what they share
    auto operator<=>(const graph_key&) const = default;
  };
  explicit cuda_steps(step_buffers made) : buffers(std::move(made)) {}

  step_buffers buffers;
  shared_reads reads;
  std::map<graph_key, graph_exec> graphs;
  std::uint64_t epoch = 0;  ///< of the lane, when the graphs were captured
  bool begun = false;
};

/// What the two queues of a device know of each other. One thread drives both.
struct queue_pair {
  std::unique_ptr<device_parts> parts;      // null: both compute on the whole device, whatever the other does
  std::array<std::int32_t, 2> in_flight{};  // steps: of decodes, of prompts
  cudaEvent_t last_wide = nullptr;          // ends the first queue's last step, if that has the whole device
};

class stream_lane final : public cuda_lane {
public:
  static constexpr std::int32_t most_in_flight = 3;

  /// `weights`: the form of every layer's matrices, or none: each its natural one.
  static result<std::unique_ptr<stream_lane>> create(stream on, std::optional<weight_type> weights = {},
                                                     kv_format kv = kv_format::bf16, bool deterministic = false);
  stream_lane(stream on, std::array<event, most_in_flight> done, std::unique_ptr<products> multiplier)
      : stream_(std::move(on)), done_(std::move(done)), products_(std::move(multiplier)) {}
  ~stream_lane() override;
  /// cuda_wish::least_shared_bytes; before the first step.
  void share_from(std::int64_t bytes) { shareable_.least_saved_bytes = bytes; }

  result<memory::buffer> allocate(std::int64_t bytes) override;
  result<void> write(const memory::buffer& to, std::int64_t offset, std::span<const std::byte> from) override;
  result<tensor_view> host_view(tensor_view of) override;
  memory::dtype activation_type() const override { return memory::dtype::bf16; }
  result<void> expect_weights(const memory::mapped_file* file, std::int64_t bytes) override;
  result<void> finish_weights(std::size_t& which) override;
  result<matrix> pack(std::span<const tensor_view> parts) override;
  result<matrix> pack_table(const tensor_view& table, bool tied) override;
  void profile(bool on) override { profiling_ = on; }
  std::map<std::string, double> take_profile() override { return std::exchange(profile_, {}); }
  step_times last_times() const override { return last_times_; }
  std::uint64_t steps_shared() const override { return steps_shared_; }
  result<device_limits> measure_limits() override;
  result<void> fill_random(kv_arena& kv, std::uint64_t seed) override;
  result<matrix> random_matrix(const std::string& type, std::int64_t rows, std::int64_t cols,
                               std::uint64_t seed) override;
  std::int64_t kv_block_bytes(const kv_shape& shape) const override;
  std::int64_t kv_bytes_read(const kv_shape& shape) const override;
  result<std::unique_ptr<kv_arena>> make_kv(const kv_shape& shape, std::int32_t blocks) override;

  result<std::unique_ptr<step_space>> make_steps(const step_limits& limits) override;
  result<step_ticket> begin_step(step_space* space, const step_batch& batch, const step_ops& ops) override;
  void wait_step(step_ticket ticket) override;
  result<void> end_step() override;
  std::int32_t steps_in_flight() const override { return 2; }
  result<void> divide(std::int32_t multiprocessors) override;
  result<std::unique_ptr<lane>> make_second_queue() override;
  /// Follows what is kept of this device. Before make_second_queue.
  void find_choices(const memory::copy_folder& folder, const device_facts& device);
  result<void> warm_up(step_space& space, const warm_ops& ops, std::int32_t blocks) override;
  result<tuned_products> tune(step_space& space, const warm_ops& ops, std::int32_t blocks) override;
  tuned_products tuned() const override;
  /// Never past the limits: activations have no room for more.
  static std::int32_t graph_rows(const step_limits& limits, std::int32_t rows);
  /// Kernels are chosen by whether all contexts are up to 2,048 tokens (resident layers, attention in clusters): one
  /// graph for those, one for all others.
  static std::int32_t graph_tokens(const step_limits& limits, std::int32_t tokens);

  void embed(const packed_matrix& table, std::span<const std::int32_t> ids, tensor_view out) override;
  void rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) override;
  void linear(const packed_matrix& w, tensor_view x, tensor_view out) override;
  void linear_add(const packed_matrix& w, tensor_view x, tensor_view out) override;
  void norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, tensor_view scratch,
                   tensor_view out) override;
  void rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer, kv_arena& kv,
                  std::span<const sequence_rows> batch) override;
  void attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                 std::span<const sequence_rows> batch, tensor_view out) override;
  void keep_rows(tensor_view x, std::span<const std::int32_t> rows) override;
  void silu_mul(tensor_view gate_up, tensor_view out) override;
  void gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, const packed_matrix& down,
                 const mlp_scratch& scratch) override;
  void sample(tensor_view logits, std::span<const sampling_row> rows, std::span<sampled> picks) override;

private:
  struct pending_step {
    const cuda_steps* space = nullptr;
    std::uint64_t number = 0;
    std::span<sampled> picks;
    bool on_host = false;  ///< picks are set already
  };

  result<std::shared_ptr<device_matrix>> pack_piece(std::span<const tensor_view> parts, weight_type type,
                                                    const std::shared_ptr<device_buffer>& also);
  result<stored_rows> store_table(const tensor_view& table);
  result<matrix> pack_as(std::span<const tensor_view> parts, std::optional<weight_type> wanted,
                         const std::shared_ptr<device_buffer>& also = {});
  result<matrix> keep(std::vector<std::shared_ptr<device_matrix>> pieces);
  void multiply(const packed_matrix& w, product what);
  void release_layers();
  void settle_products();
  void settle_layers();
  bool room_for(const rope_shape& rope, std::int32_t heads, const kv_arena& kv);
  void note(result<void> outcome);
  void mark(const char* op);
  result<void> add_marks();

  void start_ops(const cuda_steps& space, std::int32_t rows, std::int32_t sequences, std::int32_t samples,
                 std::int32_t longest, bool shared);
  result<void> finish_ops();
  result<void> run_eagerly(cuda_steps& space, const step_batch& batch, bool shared, const step_ops& ops);
  result<void> run_graph(cuda_steps& space, const step_batch& batch, const cuda_steps::graph_key& key,
                         const step_ops& ops);
  result<graph_exec> record(cuda_steps& space, const cuda_steps::graph_key& key, const step_ops& ops);
  result<void> warm_steps(cuda_steps& space, const warm_ops& ops, std::int32_t blocks);
  result<void> warm_graphs(cuda_steps& space, const warm_ops& ops);
  result<void> step_now(step_space& space, std::span<const sequence_rows> shapes, const step_ops& ops);
  result<void> sample_on_host(const cuda_steps& space, const step_batch& batch);
  result<void> broken(result<void> outcome);
  bool find_shared(cuda_steps& space, const step_batch& batch);
  result<void> take_part();
  result<void> share_device();

  std::shared_ptr<queue_pair> pair_;  // null: there is no other queue
  std::size_t which_ = 0;             // of the two this is
  stream stream_;                     // in use
  stream unused_;                     // of a divided device: on this queue's part, or on all, as stream_ is not
  event changed_;                     // from one of them to the other
  bool narrow_ = false;               // stream_ is the one on the part
  bool beside_ = false;               // the step in hand has the other queue beside it
  std::array<event, most_in_flight> done_;
  std::unique_ptr<products> products_;
  std::shared_ptr<const library_choices> choices_;  // null: products go the usual ways
  memory::copy_folder choices_folder_;
  std::string choices_path_, fingerprint_;
  std::optional<weight_type> weights_;
  kv_format kv_format_ = kv_format::bf16;
  bool deterministic_ = false;
  pinned_buffer staging_;
  std::unique_ptr<weight_upload> upload_;               // while a file's weights are expected
  std::vector<std::weak_ptr<device_matrix>> matrices_;  // whose products need workspace
  std::int32_t reserved_rows_ = 0;
  attention_room room_;
  shared_shape shareable_;    // of that room; works 0: nothing is read together
  std::int64_t results_ = 0;  // of what sequences share, that the step in hand needs room for
  device_buffer resident_room_;
  std::uint64_t epoch_ = 0;  // moves when memory that graphs know has moved
  // The step whose ops are being called.
  const cuda_steps* space_ = nullptr;
  step_tables tables_;
  held_layers held_;
  shared_tables shared_;
  bool planned_ = false;  // its plan is queued
  bool capturing_ = false;
  bool unprepared_ = false;  // an op needed memory that cannot be made while capturing
  std::optional<error> op_error_;
  std::int32_t rope_heads_ = 0;
  tensor_view sampled_logits_;
  bool host_sampling_ = false;

  // With profiling: an event after each op of the step in hand.
  struct op_mark {
    const char* op = "";
    event after;
  };
  bool profiling_ = false;
  std::vector<op_mark> marks_;
  std::size_t marked_ = 0;
  std::map<std::string, double> profile_;

  std::deque<pending_step> pending_;
  step_ticket begun_ = 0;
  std::uint64_t steps_shared_ = 0;
  step_times last_times_;
  std::optional<error> broken_;  // a CUDA error that no later call survives
};

}  // namespace troupe::kernels::cuda
