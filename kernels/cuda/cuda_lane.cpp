// The lane's memory: buffers, weights, KV; and its making. Knows no step.
#include "kernels/cuda/cuda_lane.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/stream_lane.hpp"

namespace troupe::kernels::cuda {
namespace {

using memory::dtype;

/// Runs of parts that take one form.
struct piece_plan {
  weight_type type;
  std::size_t first, count;
};

/// Two parts are a gate and what it gates: they are multiplied together, so one form has to hold both.
result<std::vector<piece_plan>> plan_pieces(std::span<const tensor_view> parts, std::optional<weight_type> wanted) {
  std::vector<piece_plan> plan;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const weight_type type = wanted.value_or(natural_type(parts[i].type));
    if (!packs_as(parts[i].type, type))
      return error{errc::unsupported,
                   "the GPU has no kernels for " + std::string(memory::info(parts[i].type).name) + " weights",
                   {}};
    if (!plan.empty() && plan.back().type == type) ++plan.back().count;
    else plan.push_back({type, i, 1});
  }
  if (parts.size() == 2 && plan.size() == 2) return std::vector<piece_plan>{{weight_type::f16, 0, 2}};
  return plan;
}

}  // namespace

result<memory::buffer> stream_lane::allocate(std::int64_t bytes) {
  auto made = allocate_device(bytes);
  if (!made) return made.why();
  auto held = std::make_shared<device_buffer>(*std::move(made));
  if (auto r =
          check(cudaMemsetAsync(held->data(), 0, static_cast<std::size_t>(bytes), stream_.get()), "clearing memory");
      !r)
    return r.why();
  void* const data = held->data();
  return memory::buffer(data, bytes, [held = std::move(held)](void*) mutable { held.reset(); });
}

result<void> stream_lane::write(const memory::buffer& to, std::int64_t offset, std::span<const std::byte> from) {
  auto* at = static_cast<std::byte*>(to.data()) + offset;
  if (auto r = check(cudaMemcpyAsync(at, from.data(), from.size(), cudaMemcpyHostToDevice, stream_.get()),
                     "writing to the device");
      !r)
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
  if (auto r = check(cudaMemcpyAsync(staging_.data(), of.data, bytes, cudaMemcpyDeviceToHost, stream_.get()),
                     "reading from the device");
      !r)
    return r.why();
  if (auto r = check(cudaStreamSynchronize(stream_.get()), "reading from the device"); !r) return r.why();
  of.data = staging_.data();
  return of;
}

/// Its products' workspace is taken with the next make_steps.
result<matrix> stream_lane::keep(std::vector<std::shared_ptr<device_matrix>> pieces) {
  auto w = std::make_unique<cuda_matrix>();
  std::erase_if(matrices_, [](const auto& one) { return one.expired(); });
  for (const auto& piece : pieces) {
    w->rows += piece->rows;
    w->cols = piece->cols;
    w->bytes += piece->bytes;
    matrices_.push_back(piece);
  }
  w->pieces = std::move(pieces);
  reserved_rows_ = 0;
  return matrix{std::move(w)};
}

result<void> stream_lane::expect_weights(const memory::mapped_file* file, std::int64_t bytes) {
  upload_.reset();
  if (file == nullptr) return {};
  auto started = weight_upload::start(*file, bytes);
  if (!started) return started.why();
  upload_ = *std::move(started);
  return {};
}

result<void> stream_lane::finish_weights(std::size_t&) {
  const auto ended = std::exchange(upload_, nullptr);
  return ended ? ended->finish() : result<void>{};
}

/// On its way when this returns, if the file that is expected holds it.
result<std::shared_ptr<device_matrix>> stream_lane::pack_piece(std::span<const tensor_view> parts, weight_type type,
                                                               const std::shared_ptr<device_buffer>& also) {
  if (!upload_ ||
      !std::all_of(parts.begin(), parts.end(), [&](const tensor_view& part) { return upload_->serves(part); })) {
    auto made = pack_matrix(parts, type, stream_.get());
    if (!made) return made.why();
    return std::shared_ptr<device_matrix>(*std::move(made));
  }
  std::int64_t rows = 0;
  for (const tensor_view& part : parts) rows += part.rows;
  const std::shared_ptr<device_matrix> held = shape_matrix(type, rows, parts.front().cols);
  if (auto queued = upload_->add(parts, held, also); !queued) return queued.why();
  return held;
}

result<stored_rows> stream_lane::store_table(const tensor_view& table) {
  if (!upload_ || !upload_->serves(table)) return store_rows(table, stream_.get());
  auto rows = make_rows(table);
  if (!rows) return rows;
  if (auto queued = upload_->add(table, rows->bytes); !queued) return queued.why();
  return rows;
}

/// A head, alone and with many more rows than columns, keeps its form: its errors are the choice's own.
result<matrix> stream_lane::pack(std::span<const tensor_view> parts) {
  const bool head = parts.size() == 1 && parts.front().rows > 4 * parts.front().cols;
  return pack_as(parts, head ? std::nullopt : weights_);
}

/// `also`: for the bytes of the one part, which the file that is expected holds.
result<matrix> stream_lane::pack_as(std::span<const tensor_view> parts, std::optional<weight_type> wanted,
                                    const std::shared_ptr<device_buffer>& also) {
  if (parts.empty()) return error{errc::invalid_argument, "a matrix needs at least one part", {}};
  const auto plan = plan_pieces(parts, wanted);
  if (!plan) return plan.why();
  std::vector<std::shared_ptr<device_matrix>> pieces;
  for (const piece_plan& piece : *plan) {
    auto made = pack_piece(parts.subspan(piece.first, piece.count), piece.type, also);
    if (!made) return made.why();
    pieces.push_back(*std::move(made));
  }
  return keep(std::move(pieces));
}

/// What is both a matrix and a table comes over the bus once.
result<matrix> stream_lane::pack_table(const tensor_view& table, bool tied) {
  auto w = std::make_unique<cuda_matrix>();
  w->rows = table.rows;
  w->cols = table.cols;
  const bool once = tied && upload_ && upload_->serves(table);
  if (!tied ||
      (table.type != dtype::bf16 && table.type != dtype::f16)) {  // else its rows lie in the matrix as they are
    auto rows = once ? make_rows(table) : store_table(table);
    if (!rows) return rows.why();
    w->table = *std::move(rows);
  }
  if (!tied) return matrix{std::move(w)};
  auto made = pack_as({&table, 1}, std::nullopt, once && w->table ? w->table->bytes : nullptr);
  if (!made) return made.why();
  auto& packed = static_cast<cuda_matrix&>(**made);
  packed.table = std::move(w->table);
  return made;
}

result<matrix> stream_lane::random_matrix(const std::string& type, std::int64_t rows, std::int64_t cols,
                                          std::uint64_t seed) {
  static constexpr std::pair<const char*, weight_type> known[] = {
      {"bf16", weight_type::bf16},  {"f16", weight_type::f16},   {"fp8", weight_type::fp8},
      {"q8_0", weight_type::q8_0},  {"q4_0", weight_type::q4_0}, {"q4_1", weight_type::q4_1},
      {"q6_k", weight_type::q8_16}, {"q5_k", weight_type::q8_1}};
  for (const auto& [name, kept] : known) {
    if (type != name) continue;
    auto made = cuda::random_matrix(kept, rows, cols, seed, stream_.get());
    if (!made) return made.why();
    return keep({std::shared_ptr<device_matrix>(*std::move(made))});
  }
  return error{
      errc::invalid_argument,
      "There are no weights of type '" + type + "'; bf16, f16, fp8, q8_0, q4_0, q4_1, q5_k and q6_k are known.",
      "type"};
}

std::int64_t stream_lane::kv_bytes_read(const kv_shape& shape) const {
  return kv_layout{nullptr, shape.layers, shape.kv_heads, shape.head_dim, kv_format_}.block_bytes();
}

std::int64_t stream_lane::kv_block_bytes(const kv_shape& shape) const {
  const std::int64_t wide =
      kv_format_ == kv_format::bf16 ? 0 : kv_layout{nullptr, 1, shape.kv_heads, shape.head_dim}.block_bytes();
  return kv_bytes_read(shape) + wide;
}

result<std::unique_ptr<kv_arena>> stream_lane::make_kv(const kv_shape& shape, std::int32_t blocks) {
  if (shape.head_dim != 64 && shape.head_dim != 128)
    return error{errc::unsupported,
                 "the GPU attends to heads of 64 or 128, and this model's have " + std::to_string(shape.head_dim),
                 {}};
  auto arena = std::make_unique<cuda_kv>();
  arena->shape = shape;
  arena->blocks = blocks;
  arena->format = kv_format_;
  auto storage = allocate_device(kv_block_bytes(shape) * blocks);
  if (!storage) return storage.why();
  arena->storage = *std::move(storage);
  return std::unique_ptr<kv_arena>{std::move(arena)};
}

result<std::unique_ptr<stream_lane>> stream_lane::create(stream on, std::optional<weight_type> weights, kv_format kv,
                                                         bool deterministic) {
  std::array<event, most_in_flight> done;
  for (event& one : done) {
    // Who waits for a step sleeps: a thread that spins in the driver takes a core, and slows the one that launches.
    cudaEvent_t made{};
    if (auto r =
            check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming | cudaEventBlockingSync), "making an event");
        !r)
      return r.why();
    one = event(made);
  }
  auto multiplier = products::make(deterministic);
  if (!multiplier) return multiplier.why();
  auto made = std::make_unique<stream_lane>(std::move(on), std::move(done), *std::move(multiplier));
  made->weights_ = weights;
  made->kv_format_ = kv;
  made->deterministic_ = deterministic;
  return result<std::unique_ptr<stream_lane>>(std::move(made));
}

/// A part's streams go before the part itself.
result<void> stream_lane::divide(std::int32_t multiprocessors) {
  if (auto r = check(cudaDeviceSynchronize(), "waiting for the device"); !r) return r;
  if (pair_ && pair_.use_count() > 1)
    return error{errc::invalid_argument, "the second queue must go before its device is divided anew", {}};
  if (narrow_) std::swap(stream_, unused_);
  narrow_ = false;
  unused_ = stream();
  pair_ = std::make_shared<queue_pair>();
  ++epoch_;  // graphs belong to the multiprocessors that they were recorded for
  if (multiprocessors == 0) return {};
  auto divided = device_parts::divide(multiprocessors);
  if (!divided) return divided.why();
  pair_->parts = *std::move(divided);
  return take_part();
}

result<void> stream_lane::take_part() {
  auto on = pair_->parts->make_stream(which_);
  if (!on) return on.why();
  auto changed = make_event();
  if (!changed) return changed.why();
  unused_ = *std::move(on);
  changed_ = *std::move(changed);
  return {};
}

result<std::unique_ptr<lane>> stream_lane::make_second_queue() {
  if (kv_format_ != kv_format::bf16)
    return error{errc::unsupported, "K and V of a byte a number are read by one queue only", "kv_type"};
  auto on = make_stream(stream_priority::low);
  if (!on) return on.why();
  auto made = create(*std::move(on), {}, kv_format_, deterministic_);
  if (!made) return made.why();
  if (!pair_) pair_ = std::make_shared<queue_pair>();
  (*made)->pair_ = pair_;
  (*made)->which_ = 1;
  (*made)->share_from(shareable_.least_saved_bytes);
  (*made)->matrices_ = matrices_;
  (*made)->products_->follow(choices_);
  if (pair_->parts)
    if (auto r = (*made)->take_part(); !r) return r.why();
  if (auto r = check(cudaDeviceSynchronize(), "waiting for weights"); !r) return r.why();
  return std::unique_ptr<lane>(*std::move(made));
}

result<std::unique_ptr<cuda_lane>> make_cuda_lane(const cuda_wish& wish) {
  const auto& [weights, kv, deterministic, least_shared_bytes, copies] = wish;
  std::optional<weight_type> wanted;
  if (weights == "bf16") wanted = weight_type::bf16;
  else if (weights == "f16") wanted = weight_type::f16;
  else if (weights == "fp8") wanted = weight_type::fp8;
  else if (!weights.empty())
    return error{errc::invalid_argument, "Weights cannot become '" + weights + "'; bf16, f16 and fp8 are known.",
                 "weight_type"};
  kv_format format = kv_format::bf16;
  if (kv == "fp8") format = kv_format::fp8;
  else if (kv == "q8_0") format = kv_format::q8_0;
  else if (!kv.empty() && kv != "bf16")
    return error{errc::invalid_argument,
                 "The GPU keeps K and V as bf16, fp8 or q8_0, not as '" + kv + "'; the CPU has other types.",
                 "kv_type"};
  const auto found = find_device();
  if (!found) return found.why();
  auto on = make_stream(stream_priority::high);
  if (!on) return on.why();
  auto made = stream_lane::create(*std::move(on), wanted, format, deterministic);
  if (!made) return made.why();
  (*made)->share_from(least_shared_bytes);
  if (!deterministic) (*made)->find_choices(copies, *found);
  return std::unique_ptr<cuda_lane>(*std::move(made));
}

}  // namespace troupe::kernels::cuda
