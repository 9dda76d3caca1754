// The lane's memory: buffers, weights, KV; and its making. Knows no step.
#include "kernels/cuda/cuda_lane.hpp"

#include <algorithm>
#include <string>

#include "kernels/cuda/stream_lane.hpp"

namespace troupe::kernels::cuda {
namespace {

using memory::dtype;

/// How weights of a file's type are kept. Floats of several types become bf16.
result<weight_type> type_for(std::span<const tensor_view> parts) {
  const auto kept = [](dtype type) -> std::optional<weight_type> {
    switch (type) {
      case dtype::f32: case dtype::bf16: return weight_type::bf16;
      case dtype::f16: return weight_type::f16;
      case dtype::q4_0: return weight_type::q4_0;
      case dtype::q4_1: return weight_type::q4_1;
      case dtype::q8_0: return weight_type::q8_0;
      default: return std::nullopt;
    }
  };
  std::optional<weight_type> all;
  for (const tensor_view& part : parts) {
    const auto one = kept(part.type);
    if (!one) return error{errc::unsupported, "the GPU has no kernels for " + std::string(memory::info(part.type).name) + " weights yet", {}};
    const bool floats = memory::info(part.type).block == 1;
    if (all && *all != *one && !floats)
      return error{errc::unsupported, "the GPU cannot stack weights of several block types yet", {}};
    all = all && *all != *one ? weight_type::bf16 : *one;
  }
  return *all;
}

}  // namespace

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

/// Its products' workspace is taken with the next make_steps.
result<matrix> stream_lane::keep(std::unique_ptr<device_matrix> made) {
  auto w = std::make_unique<cuda_matrix>();
  w->rows = made->rows;
  w->cols = made->cols;
  w->bytes = made->bytes;
  w->product = std::move(made);
  std::erase_if(matrices_, [](const auto& one) { return one.expired(); });
  matrices_.push_back(w->product);
  reserved_rows_ = 0;
  return matrix{std::move(w)};
}

result<matrix> stream_lane::pack(std::span<const tensor_view> parts) {
  if (parts.empty()) return error{errc::invalid_argument, "a matrix needs at least one part", {}};
  const auto type = type_for(parts);
  if (!type) return type.why();
  auto made = pack_matrix(parts, *type, stream_.get());
  if (!made) return made.why();
  return keep(*std::move(made));
}

result<matrix> stream_lane::pack_table(const tensor_view& table, bool tied) {
  auto w = std::make_unique<cuda_matrix>();
  if (tied) {
    auto made = pack({&table, 1});
    if (!made) return made.why();
    w.reset(static_cast<cuda_matrix*>(made->release()));
    if (table.type == dtype::bf16 || table.type == dtype::f16) return matrix{std::move(w)};  // its rows lie as they are
  }
  auto rows = store_rows(table, stream_.get());
  if (!rows) return rows.why();
  w->table = *std::move(rows);
  w->rows = table.rows;
  w->cols = table.cols;
  return matrix{std::move(w)};
}

result<matrix> stream_lane::random_matrix(const std::string& type, std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  static constexpr std::pair<const char*, weight_type> known[] = {{"bf16", weight_type::bf16}, {"f16", weight_type::f16},
                                                                  {"fp8", weight_type::fp8},   {"q8_0", weight_type::q8_0},
                                                                  {"q4_0", weight_type::q4_0}, {"q4_1", weight_type::q4_1}};
  for (const auto& [name, kept] : known) {
    if (type != name) continue;
    auto made = cuda::random_matrix(kept, rows, cols, seed, stream_.get());
    if (!made) return made.why();
    return keep(*std::move(made));
  }
  return error{errc::invalid_argument, "There are no weights of type '" + type + "'; bf16, f16, fp8, q8_0, q4_0 and q4_1 are known.", "type"};
}

std::int64_t stream_lane::kv_block_bytes(const kv_shape& shape) const {
  return kv_layout{nullptr, shape.layers, shape.kv_heads, shape.head_dim}.block_bytes();
}

result<std::unique_ptr<kv_arena>> stream_lane::make_kv(const kv_shape& shape, std::int32_t blocks) {
  if (shape.head_dim != 64 && shape.head_dim != 128)
    return error{errc::unsupported, "the GPU attends to heads of 64 or 128, and this model's have " + std::to_string(shape.head_dim), {}};
  auto arena = std::make_unique<cuda_kv>();
  arena->shape = shape;
  arena->blocks = blocks;
  auto storage = allocate_device(kv_block_bytes(shape) * blocks);
  if (!storage) return storage.why();
  arena->storage = *std::move(storage);
  return std::unique_ptr<kv_arena>{std::move(arena)};
}

result<std::unique_ptr<stream_lane>> stream_lane::create(stream on) {
  std::array<event, most_in_flight> done;
  for (event& one : done) {
    // Who waits for a step sleeps: a thread that spins in the driver takes a core, and slows the one that launches.
    cudaEvent_t made{};
    if (auto r = check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming | cudaEventBlockingSync), "making an event"); !r) return r.why();
    one = event(made);
  }
  auto multiplier = products::make();
  if (!multiplier) return multiplier.why();
  return std::make_unique<stream_lane>(std::move(on), std::move(done), *std::move(multiplier));
}

result<void> stream_lane::divide(std::int32_t multiprocessors) {
  if (auto r = check(cudaDeviceSynchronize(), "waiting for the device"); !r) return r;
  alone_ = multiprocessors == 0;
  ++epoch_;  // graphs belong to the multiprocessors that they were recorded for
  std::shared_ptr<device_parts> parts;
  auto made = make_stream(stream_priority::high);
  if (multiprocessors > 0) {
    auto divided = device_parts::divide(multiprocessors);
    if (!divided) return divided.why();
    parts = *std::move(divided);
    made = parts->make_stream(0);
  }
  if (!made) return made.why();
  stream_ = *std::move(made);
  parts_ = std::move(parts);
  return {};
}

result<std::unique_ptr<lane>> stream_lane::make_second_queue() {
  auto on = parts_ ? parts_->make_stream(1) : make_stream(stream_priority::low);
  if (!on) return on.why();
  auto made = create(*std::move(on));
  if (!made) return made.why();
  (*made)->parts_ = parts_;
  (*made)->matrices_ = matrices_;
  (*made)->alone_ = alone_ = false;  // two kernels that wait for all their blocks could wait for each other
  ++epoch_;
  if (auto r = check(cudaDeviceSynchronize(), "waiting for weights"); !r) return r.why();
  return std::unique_ptr<lane>(*std::move(made));
}

result<std::unique_ptr<cuda_lane>> make_cuda_lane() {
  if (auto found = find_device(); !found) return found.why();
  auto on = make_stream(stream_priority::high);
  if (!on) return on.why();
  auto made = stream_lane::create(*std::move(on));
  if (!made) return made.why();
  return std::unique_ptr<cuda_lane>(*std::move(made));
}

}  // namespace troupe::kernels::cuda
