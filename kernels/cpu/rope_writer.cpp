// Cuts rope_store into blocks of KV and shares them out. Knows no instruction set.
#include "kernels/cpu/rope_writer.hpp"

#include <algorithm>

namespace troupe::kernels {
namespace {

constexpr std::int32_t block_tokens = kv_shape::block_tokens;
constexpr std::int64_t lone_elements = 16 * 1024;  // below this a dispatch costs more than a second thread saves

void rotate_head(float* head, const rope_shape& rope, const float* cosines, const float* sines) {
  const std::int32_t pairs = rope.dims / 2;
  const std::int32_t far = rope.interleaved ? 1 : pairs;
  const std::int32_t step = rope.interleaved ? 2 : 1;
  for (std::int32_t i = 0; i < pairs; ++i) {
    float& first = head[i * step];
    float& second = head[i * step + far];
    const float rotated = first * cosines[i] - second * sines[i];
    second = first * sines[i] + second * cosines[i];
    first = rotated;
  }
}

}  // namespace

void rope_writer::plan(std::span<const sequence_rows> batch) {
  items_.clear();
  for (const sequence_rows& sequence : batch)
    for (std::int32_t row = 0; row < sequence.rows;) {
      const std::int32_t slot = (sequence.past + row) % block_tokens;
      const std::int32_t rows = std::min(block_tokens - slot, sequence.rows - row);
      items_.push_back({&sequence, row, rows});
      row += rows;
    }
}

void rope_writer::write(const rope_store_call& call, const item& work, const kernel_set& kernels) const {
  const std::int32_t dim = call.kv->shape.head_dim;
  const std::int32_t kv_heads = call.kv->shape.kv_heads;
  const std::int32_t position = work.sequence->past + work.row;
  const std::int64_t block = work.sequence->blocks[static_cast<std::size_t>(position / block_tokens)];
  for (std::int32_t r = 0; r < work.rows; ++r) {
    const std::int64_t row = work.sequence->first_row + work.row + r;
    float* values = call.qkv.f32(row);
    for (std::int32_t head = 0; head < call.heads + kv_heads; ++head)
      rotate_head(values + std::int64_t{head} * dim, call.rope, angles_.cosines(row), angles_.sines(row));
    const std::int32_t slot = position % block_tokens + r;
    for (std::int32_t head = 0; head < kv_heads; ++head) {
      const float* k = values + std::int64_t{call.heads + head} * dim;
      std::uint16_t* to = call.kv->head(call.layer, head) + block * call.kv->block_stride();
      kernels.store_f16(k, dim, to + slot, block_tokens);
      kernels.store_f16(k + std::int64_t{kv_heads} * dim, dim, to + (block_tokens + slot) * std::int64_t{dim}, 1);
    }
  }
}

void rope_writer::run(const rope_store_call& call, std::span<const sequence_rows> batch, const kernel_set& kernels,
                      thread_team& team) {
  angles_.prepare(call.rope, batch);
  plan(batch);
  const auto write_share = [&](int thread, int threads) {
    const share mine = team.share_of(static_cast<std::int64_t>(items_.size()), thread, threads);
    for (std::int64_t i = mine.first; i < mine.last; ++i) write(call, items_[static_cast<std::size_t>(i)], kernels);
  };
  if (team.size() == 1 || items_.size() == 1 || call.qkv.rows * call.qkv.cols < lone_elements) return write_share(0, 1);
  team.run(write_share);
}

}  // namespace troupe::kernels
