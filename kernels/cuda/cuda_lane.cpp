// The op interface over one CUDA stream: ops queue kernels, steps are records in and picks out, repeated steps are
// graphs. Knows no model; the kernels are elsewhere in this folder.
#include "kernels/cuda/cuda_lane.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <vector>
#include <tuple>
#include <utility>

#include "kernels/cpu/sample_row.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/plain_ops.hpp"
#include "kernels/cuda/rows.hpp"
#include "kernels/cuda/step_buffers.hpp"

namespace troupe::kernels::cuda {
namespace {

using memory::dtype;

class cuda_matrix final : public packed_matrix {
public:
  std::vector<stored_rows> parts;
};

class cuda_kv final : public kv_arena {
public:
  device_buffer storage;
  kv_layout layout() const noexcept { return {storage.as<bf16>(), shape.layers, shape.kv_heads, shape.head_dim}; }
};

/// Sizes that fix what a graph does. 0 rows: not a step that repeats.
struct graph_key {
  std::int32_t rows = 0;
  std::int32_t longest = 0;
  bool sampled = false;
  auto operator<=>(const graph_key&) const = default;
};

class cuda_steps final : public step_space {
public:
  explicit cuda_steps(step_buffers made) : buffers(std::move(made)) {}
  step_buffers buffers;
  std::map<graph_key, graph_exec> graphs;
  // The largest batch that a graph was padded to.
  std::vector<std::int32_t> zeros;
  std::vector<sequence_rows> sequences;
  std::vector<sampling_row> sampling;
  std::vector<sampled> picks;
};

/// 1, 2, 4, 8, then by eights to 64, by 32 to 256, by 128.
std::int32_t bucket_of(std::int32_t rows) {
  if (rows <= 8) return rows <= 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : 8;
  const std::int32_t step = rows <= 64 ? 8 : rows <= 256 ? 32 : 128;
  return (rows + step - 1) / step * step;
}

std::int32_t longest_bucket(std::int32_t tokens) {
  std::int32_t bucket = 512;
  while (bucket < tokens) bucket *= 2;
  return bucket;
}

bool greedy(const sampling_row& row) {
  return row.temperature <= 0 && row.top_logprobs < 0 && row.bias.empty() && row.repetition_penalty == 1.0f &&
         row.presence_penalty == 0.0f && row.frequency_penalty == 0.0f;
}

template <class T>
T* elements(const tensor_view& of) {
  return static_cast<T*>(of.data);
}
std::int64_t stride_of(const tensor_view& of) { return of.stride_bytes / memory::info(of.type).block_bytes; }

class stream_lane final : public lane {
public:
  static constexpr std::int32_t most_in_flight = 3;

  stream_lane(stream on, std::array<event, most_in_flight> done) : stream_(std::move(on)), done_(std::move(done)) {}

  result<memory::buffer> allocate(std::int64_t bytes) override;
  result<void> write(const memory::buffer& to, std::int64_t offset, std::span<const std::byte> from) override;
  result<tensor_view> host_view(tensor_view of) override;
  dtype activation_type() const override { return dtype::bf16; }
  result<matrix> pack(std::span<const tensor_view> parts) override;
  std::int64_t kv_block_bytes(const kv_shape& shape) const override;
  result<std::unique_ptr<kv_arena>> make_kv(const kv_shape& shape, std::int32_t blocks) override;

  result<std::unique_ptr<step_space>> make_steps(const step_limits& limits) override;
  result<step_ticket> begin_step(step_space* space, const step_batch& batch, const step_ops& ops) override;
  void wait_step(step_ticket ticket) override;
  result<void> end_step() override;
  std::int32_t steps_in_flight() const override { return 2; }

  void embed(const packed_matrix& table, std::span<const std::int32_t> ids, tensor_view out) override;
  void rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) override;
  void linear(const packed_matrix& w, tensor_view x, tensor_view out) override { product(w, x, out, false); }
  void linear_add(const packed_matrix& w, tensor_view x, tensor_view out) override { product(w, x, out, true); }
  void rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer, kv_arena& kv,
                  std::span<const sequence_rows> batch) override;
  void attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                 std::span<const sequence_rows> batch, tensor_view out) override;
  void silu_mul(tensor_view gate_up, tensor_view out) override;
  void sample(tensor_view logits, std::span<const sampling_row> rows, std::span<sampled> picks) override;

private:
  struct pending_step {
    const cuda_steps* space = nullptr;
    std::uint64_t number = 0;
    std::span<sampled> picks;
    bool on_host = false;  ///< picks are set already
  };

  void product(const packed_matrix& w, tensor_view x, tensor_view out, bool add);
  result<void> run_eagerly(cuda_steps& space, const step_batch& batch, const step_ops& ops);
  result<void> run_graph(cuda_steps& space, const step_batch& batch, const graph_key& key, const step_ops& ops);
  result<graph_exec> record(cuda_steps& space, const step_batch& batch, const graph_key& key, const step_ops& ops);
  result<void> sample_on_host(const cuda_steps& space, const step_batch& batch);
  result<void> broken(result<void> outcome);

  stream stream_;
  std::array<event, most_in_flight> done_;
  pinned_buffer staging_;
  step_tables tables_;  // of the step whose ops are being called
  std::int32_t* picks_ = nullptr;
  tensor_view sampled_logits_;
  bool host_sampling_ = false;
  std::deque<pending_step> pending_;
  step_ticket begun_ = 0;
  std::optional<error> broken_;  // a CUDA error that no later call survives
};

// --- memory ---------------------------------------------------------------------------------------------------

result<memory::buffer> stream_lane::allocate(std::int64_t bytes) {
  auto made = allocate_device(bytes);
  if (!made) return made.why();
  auto held = std::make_shared<device_buffer>(*std::move(made));
  if (auto r = check(cudaMemsetAsync(held->data(), 0, static_cast<std::size_t>(bytes), stream_.get()), "clearing memory"); !r)
    return r.why();
  void* const data = held->data();
  return memory::buffer(data, bytes, [held = std::move(held)](void*) mutable { held.reset(); });
}

result<void> stream_lane::write(const memory::buffer& to, std::int64_t offset, std::span<const std::byte> from) {
  auto* at = static_cast<std::byte*>(to.data()) + offset;
  if (auto r = check(cudaMemcpyAsync(at, from.data(), from.size(), cudaMemcpyHostToDevice, stream_.get()), "writing to the device"); !r)
    return r;
  return check(cudaStreamSynchronize(stream_.get()), "writing to the device");
}

result<tensor_view> stream_lane::host_view(tensor_view of) {
  if (staging_.bytes() < of.bytes()) {
    staging_ = {};
    auto made = allocate_pinned(of.bytes());
    if (!made) return made.why();
    staging_ = *std::move(made);
  }
  const auto bytes = static_cast<std::size_t>(of.bytes());
  if (auto r = check(cudaMemcpyAsync(staging_.data(), of.data, bytes, cudaMemcpyDeviceToHost, stream_.get()), "reading from the device"); !r)
    return r.why();
  if (auto r = check(cudaStreamSynchronize(stream_.get()), "reading from the device"); !r) return r.why();
  of.data = staging_.data();
  return of;
}

result<matrix> stream_lane::pack(std::span<const tensor_view> parts) {
  auto w = std::make_unique<cuda_matrix>();
  for (const tensor_view& part : parts) {
    auto stored = store_rows(part, stream_.get());
    if (!stored) return stored.why();
    w->rows += part.rows;
    w->cols = part.cols;
    w->bytes += part.bytes();
    w->parts.push_back(*std::move(stored));
  }
  return matrix{std::move(w)};
}

std::int64_t stream_lane::kv_block_bytes(const kv_shape& shape) const {
  return std::int64_t{shape.layers} * shape.kv_heads * shape.head_dim * kv_shape::block_tokens * 2 * 2;
}

result<std::unique_ptr<kv_arena>> stream_lane::make_kv(const kv_shape& shape, std::int32_t blocks) {
  auto arena = std::make_unique<cuda_kv>();
  arena->shape = shape;
  arena->blocks = blocks;
  auto storage = allocate_device(kv_block_bytes(shape) * blocks);
  if (!storage) return storage.why();
  arena->storage = *std::move(storage);
  return std::unique_ptr<kv_arena>{std::move(arena)};
}

// --- steps ----------------------------------------------------------------------------------------------------

result<std::unique_ptr<step_space>> stream_lane::make_steps(const step_limits& limits) {
  step_limits rounded = limits;  // a graph's padding needs room too
  rounded.sequences = bucket_of(limits.sequences);
  rounded.rows = std::max(limits.rows, rounded.sequences);
  rounded.samples = std::max(limits.samples, rounded.sequences);
  auto buffers = step_buffers::create(rounded);
  if (!buffers) return buffers.why();
  return std::unique_ptr<step_space>(std::make_unique<cuda_steps>(*std::move(buffers)));
}

/// After an illegal access the whole context is lost: what failed once is the answer from then on.
result<void> stream_lane::broken(result<void> outcome) {
  if (!outcome && !broken_) broken_ = outcome.why();
  return outcome;
}

result<step_ticket> stream_lane::begin_step(step_space* space, const step_batch& batch, const step_ops& ops) {
  if (broken_) return *broken_;
  if (pending_.size() >= most_in_flight) return error{errc::internal, "too many steps in flight on the device", {}};
  auto& steps = static_cast<cuda_steps&>(*space);
  const bool on_device = std::all_of(batch.sampling.begin(), batch.sampling.end(), greedy);
  const bool repeats = on_device && batch.ids.size() == batch.sequences.size() && batch.ids.size() == batch.sample_rows.size();
  std::int32_t longest = 0;
  for (const sequence_rows& one : batch.sequences) longest = std::max(longest, one.past + one.rows);
  const auto rows = static_cast<std::int32_t>(batch.ids.size());
  const graph_key key{repeats ? bucket_of(rows) : 0, longest_bucket(longest), !batch.sampling.empty()};
  steps.buffers.write(batch, key.rows);
  host_sampling_ = !on_device;
  if (auto r = broken(repeats ? run_graph(steps, batch, key, ops) : run_eagerly(steps, batch, ops)); !r) return r.why();
  if (host_sampling_)
    if (auto r = broken(sample_on_host(steps, batch)); !r) return r.why();
  const step_ticket ticket = begun_++;
  if (auto r = broken(check(cudaEventRecord(done_[ticket % most_in_flight].get(), stream_.get()), "ending a step")); !r) return r.why();
  pending_.push_back({&steps, steps.buffers.number(), batch.sampling.empty() ? std::span<sampled>{} : batch.picks, host_sampling_});
  return ticket;
}

result<void> stream_lane::run_eagerly(cuda_steps& space, const step_batch& batch, const step_ops& ops) {
  std::int32_t longest = 0;
  for (const sequence_rows& one : batch.sequences) longest = std::max(longest, one.past + one.rows);
  tables_ = space.buffers.tables(static_cast<std::int32_t>(batch.ids.size()), static_cast<std::int32_t>(batch.sequences.size()),
                                 static_cast<std::int32_t>(batch.sample_rows.size()), longest);
  picks_ = space.buffers.picks();
  space.buffers.read_on(stream_.get(), 0);
  ops(batch);
  space.buffers.publish_on(stream_.get());
  return check(cudaGetLastError(), "queueing a step");
}

result<void> stream_lane::run_graph(cuda_steps& space, const step_batch& batch, const graph_key& key, const step_ops& ops) {
  auto at = space.graphs.find(key);
  if (at == space.graphs.end()) {
    auto made = record(space, batch, key, ops);
    if (!made) return made.why();
    at = space.graphs.emplace(key, *std::move(made)).first;
  }
  return check(cudaGraphLaunch(at->second.get(), stream_.get()), "launching a step");
}

result<graph_exec> stream_lane::record(cuda_steps& space, const step_batch& batch, const graph_key& key, const step_ops& ops) {
  const auto rows = static_cast<std::size_t>(key.rows);
  space.zeros.assign(rows, 0);
  space.sequences.clear();
  for (std::int32_t i = 0; i < key.rows; ++i) space.sequences.push_back({i, 1, 0, {}});
  std::vector<std::int32_t> each(rows);
  for (std::size_t i = 0; i < rows; ++i) each[i] = static_cast<std::int32_t>(i);
  space.sampling.assign(batch.sampling.empty() ? 0 : rows, {});
  space.picks.assign(space.sampling.size(), {});
  const step_batch padded{space.zeros, space.sequences, each, space.sampling, space.zeros, space.picks};
  tables_ = space.buffers.tables(key.rows, key.rows, key.rows, key.longest);
  picks_ = space.buffers.picks();
  if (auto r = check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "recording a step"); !r) return r.why();
  space.buffers.read_on(stream_.get(), key.rows);
  ops(padded);
  space.buffers.publish_on(stream_.get());
  cudaGraph_t recorded{};
  const auto ended = cudaStreamEndCapture(stream_.get(), &recorded);
  const graph kept(recorded);
  if (auto r = check(ended, "recording a step"); !r) return r.why();
  if (auto r = check(cudaGetLastError(), "recording a step"); !r) return r.why();
  cudaGraphExec_t exec{};
  if (auto r = check(cudaGraphInstantiate(&exec, kept.get(), 0), "preparing a step"); !r) return r.why();
  return graph_exec(exec);
}

/// Where the device has no kernel for the wanted sampling: waits, chooses here, and puts the choices where they belong.
result<void> stream_lane::sample_on_host(const cuda_steps& space, const step_batch& batch) {
  auto seen = host_view(sampled_logits_);
  if (!seen) return seen.why();
  sample_scratch scratch;
  for (std::size_t i = 0; i < batch.sampling.size(); ++i) {
    float* row = seen->f32(static_cast<std::int64_t>(i));
    batch.picks[i] = sample_row({row, static_cast<std::size_t>(seen->cols)}, batch.sampling[i], scratch);
    std::int32_t* last = space.buffers.tables(0, 0, 0, 0).last_ids + batch.sample_slots[i];
    if (auto r = check(cudaMemcpyAsync(last, &batch.picks[i].id, 4, cudaMemcpyHostToDevice, stream_.get()), "storing a choice"); !r) return r;
  }
  return check(cudaStreamSynchronize(stream_.get()), "storing choices");
}

void stream_lane::wait_step(step_ticket ticket) {
  static_cast<void>(cudaEventSynchronize(done_[ticket % most_in_flight].get()));  // end_step reports it
}

result<void> stream_lane::end_step() {
  if (pending_.empty()) return error{errc::internal, "no step is in flight", {}};
  const pending_step step = pending_.front();
  const step_ticket ticket = begun_ - pending_.size();
  pending_.pop_front();
  if (auto r = broken(check(cudaEventSynchronize(done_[ticket % most_in_flight].get()), "a step")); !r) return r;
  if (step.on_host) return {};
  const std::int32_t* ids = step.space->buffers.published(step.number);
  for (std::size_t i = 0; i < step.picks.size(); ++i) step.picks[i] = {ids[i], 0.0f, {}};
  return {};
}

// --- ops ------------------------------------------------------------------------------------------------------

void stream_lane::embed(const packed_matrix& table, std::span<const std::int32_t>, tensor_view out) {
  cuda::embed(static_cast<const cuda_matrix&>(table).parts.front(), tables_, elements<float>(out), stride_of(out), stream_.get());
}

void stream_lane::rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) {
  cuda::rms_norm(elements<float>(x), stride_of(x), elements<float>(weight), eps, x.rows, x.cols, elements<bf16>(out), stride_of(out),
                 stream_.get());
}

void stream_lane::product(const packed_matrix& w, tensor_view x, tensor_view out, bool add) {
  std::int64_t col = 0;
  for (const stored_rows& part : static_cast<const cuda_matrix&>(w).parts) {
    plain_product call{&part, elements<bf16>(x), stride_of(x), x.rows, nullptr, nullptr, stride_of(out), add};
    if (out.type == dtype::f32)
      call.out_f32 = elements<float>(out) + col;
    else
      call.out_bf16 = elements<bf16>(out) + col;
    plain_linear(call, stream_.get());
    col += part.rows;
  }
}

void stream_lane::rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer, kv_arena& kv,
                             std::span<const sequence_rows>) {
  plain_rope call{elements<bf16>(qkv), stride_of(qkv), heads, layer, rope.base, rope.dims, rope.interleaved, {},
                  static_cast<const cuda_kv&>(kv).layout()};
  std::fill(std::begin(call.factors), std::end(call.factors), 1.0f);
  std::copy(rope.factors.begin(), rope.factors.end(), call.factors);
  plain_rope_store(call, tables_, stream_.get());
}

void stream_lane::attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                            std::span<const sequence_rows>, tensor_view out) {
  plain_attention({elements<bf16>(qkv), stride_of(qkv), heads, layer, scale, static_cast<const cuda_kv&>(kv).layout(),
                   elements<bf16>(out), stride_of(out)},
                  tables_, stream_.get());
}

void stream_lane::silu_mul(tensor_view gate_up, tensor_view out) {
  cuda::silu_mul(elements<bf16>(gate_up), stride_of(gate_up), out.rows, out.cols, elements<bf16>(out), stride_of(out), stream_.get());
}

void stream_lane::sample(tensor_view logits, std::span<const sampling_row>, std::span<sampled>) {
  sampled_logits_ = logits;
  if (host_sampling_) return;
  plain_greedy(elements<float>(logits), stride_of(logits), static_cast<std::int32_t>(logits.cols), picks_, tables_, stream_.get());
}

}  // namespace

result<std::unique_ptr<lane>> make_cuda_lane() {
  if (auto found = find_device(); !found) return found.why();
  auto on = make_stream();
  if (!on) return on.why();
  std::array<event, stream_lane::most_in_flight> done;
  for (event& one : done) {
    auto made = make_event();
    if (!made) return made.why();
    one = *std::move(made);
  }
  return std::unique_ptr<lane>(std::make_unique<stream_lane>(*std::move(on), std::move(done)));
}

}  // namespace troupe::kernels::cuda
