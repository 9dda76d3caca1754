// Cuts a step's rows into blocks of KV and shares them out. Knows no instruction set.
#include "kernels/cpu/rope_writer.hpp"

#include <algorithm>

namespace troupe::kernels {
namespace {

constexpr std::int32_t block_tokens = kv_shape::block_tokens;
constexpr std::int64_t lone_elements = 16 * 1024;  // below this a dispatch costs more than a second thread saves

}  // namespace

void rope_writer::prepare(const rope_shape& rope, std::span<const sequence_rows> batch) {
  angles_.prepare(rope, batch);
  pairs_ = rope.dims / 2;
  interleaved_ = rope.interleaved;
  items_.clear();
  for (const sequence_rows& sequence : batch)
    for (std::int32_t row = 0; row < sequence.rows;) {
      const std::int32_t position = sequence.past + row;
      const std::int32_t rows = std::min(block_tokens - position % block_tokens, sequence.rows - row);
      const std::int32_t block = sequence.blocks[static_cast<std::size_t>(position / block_tokens)];
      items_.push_back({sequence.first_row + row, rows, position, block});
      row += rows;
    }
}

void rope_writer::turn(float* head, std::int64_t row, const kernel_set& kernels) const {
  kernels.attention.rotate({head, pairs_, interleaved_, angles_.cosines(row), angles_.sines(row)});
}

void rope_writer::store(const rope_store_call& call, const kernel_set& kernels, std::int64_t row, std::int32_t rows,
                        std::int32_t position, std::int32_t block, std::int32_t kv_head) const {
  const std::int32_t dim = call.kv->shape.head_dim;
  const std::int64_t at = std::int64_t{call.heads + kv_head} * dim;
  for (std::int64_t r = row; r < row + rows; ++r) turn(call.qkv.f32(r) + at, r, kernels);
  const float* k = call.qkv.f32(row) + at;
  kernels.attention.store({k, k + std::int64_t{call.kv->shape.kv_heads} * dim, call.qkv.stride_bytes / 4, rows,
                           position % block_tokens, dim, call.kv->type, call.kv->unit(block, call.layer, kv_head)});
}

void rope_writer::store_heads(const rope_store_call& call, const item& work, const kernel_set& kernels) const {
  for (std::int32_t head = 0; head < call.kv->shape.kv_heads; ++head)
    store(call, kernels, work.row, work.rows, work.position, work.block, head);
}

void rope_writer::store_share(const rope_store_call& call, const kernel_set& kernels, const thread_team& team,
                              int thread, int threads) const {
  const share mine = team.share_of(static_cast<std::int64_t>(items_.size()), thread, threads);
  for (std::int64_t i = mine.first; i < mine.last; ++i) store_heads(call, items_[static_cast<std::size_t>(i)], kernels);
}

void rope_writer::run(const rope_store_call& call, const kernel_set& kernels, thread_team& team) const {
  const std::int64_t dim = call.kv->shape.head_dim;
  const auto write_share = [&](int thread, int threads) {
    const share mine = team.share_of(static_cast<std::int64_t>(items_.size()), thread, threads);
    for (std::int64_t i = mine.first; i < mine.last; ++i) {
      const item& work = items_[static_cast<std::size_t>(i)];
      for (std::int64_t row = work.row; row < work.row + work.rows; ++row)
        for (std::int64_t head = 0; head < call.heads; ++head) turn(call.qkv.f32(row) + head * dim, row, kernels);
      store_heads(call, work, kernels);
    }
  };
  if (team.size() == 1 || items_.size() == 1 || call.qkv.rows * call.qkv.cols < lone_elements) return write_share(0, 1);
  team.run(write_share);
}

}  // namespace troupe::kernels
