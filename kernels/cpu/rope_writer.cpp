// Cuts rope_store into blocks of KV and shares them out. Knows no instruction set.
#include "kernels/cpu/rope_writer.hpp"

#include <algorithm>

namespace troupe::kernels {
namespace {

constexpr std::int32_t block_tokens = kv_shape::block_tokens;
constexpr std::int64_t lone_elements = 16 * 1024;  // below this a dispatch costs more than a second thread saves

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
  const std::int64_t first = work.sequence->first_row + work.row;
  for (std::int64_t row = first; row < first + work.rows; ++row)
    for (std::int32_t head = 0; head < call.heads + kv_heads; ++head)
      kernels.attention.rotate({call.qkv.f32(row) + std::int64_t{head} * dim, call.rope.dims / 2, call.rope.interleaved,
                                angles_.cosines(row), angles_.sines(row)});
  const std::int32_t position = work.sequence->past + work.row;
  const std::int32_t block = work.sequence->blocks[static_cast<std::size_t>(position / block_tokens)];
  for (std::int32_t head = 0; head < kv_heads; ++head) {
    const float* k = call.qkv.f32(first) + std::int64_t{call.heads + head} * dim;
    kernels.attention.store({k, k + std::int64_t{kv_heads} * dim, call.qkv.stride_bytes / 4, work.rows,
                             position % block_tokens, dim, call.kv->type, call.kv->unit(block, call.layer, head)});
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
