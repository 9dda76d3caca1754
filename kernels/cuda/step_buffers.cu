// Records and the two kernels that move them. Knows no op.
#include <algorithm>
#include <cstring>

#include "kernels/cuda/step_buffers.hpp"

namespace troupe::kernels::cuda {
namespace {

// A record: pieces, then (to, count, from) of each piece, then the numbers. Offsets in ints; the state begins with the
// count of steps done and the counts of step_tables.
constexpr std::int32_t steps_at = 0;
constexpr std::int32_t counts_at = 1;
constexpr std::int32_t state_head = 4;
constexpr std::int32_t record_head = 4;
constexpr std::int32_t piece_ints = 128;  // a warp's: four loads in flight a lane

/// A warp a piece, so that the latency of the bus is paid three times and not once a piece.
__global__ void read_record(const std::int32_t* records, std::int32_t record_ints, std::int32_t most_pieces, std::int32_t* state) {
  wait_for_predecessor();
  const std::int32_t* record = records + state[steps_at] % step_buffers::records * record_ints;
  const std::int32_t warp = static_cast<std::int32_t>((blockIdx.x * blockDim.x + threadIdx.x) / 32);
  const std::int32_t warps = static_cast<std::int32_t>(gridDim.x * blockDim.x / 32);
  const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x % 32);
  for (std::int32_t piece = warp; piece < most_pieces; piece += warps) {
    const std::int32_t pieces = __ldcv(record);  // past the caches: the host has rewritten the record
    const std::int32_t* about = record + record_head + 3 * piece;
    const std::int32_t to = __ldcv(about);
    const std::int32_t count = __ldcv(about + 1);
    const std::int32_t from = __ldcv(about + 2);
    if (piece >= pieces) return;
    std::int32_t values[piece_ints / 32];
    for (std::int32_t i = 0; i < piece_ints / 32; ++i)
      values[i] = lane + 32 * i < count ? __ldcv(record + from + lane + 32 * i) : 0;
    for (std::int32_t i = 0; i < piece_ints / 32; ++i)
      if (lane + 32 * i < count) state[to + lane + 32 * i] = values[i];
  }
}

__global__ void write_picks(std::int32_t* state, const std::int32_t* picks, std::int32_t* published, std::int32_t samples) {
  wait_for_predecessor();
  std::int32_t* to = published + state[steps_at] % step_buffers::records * samples;
  for (std::int32_t i = static_cast<std::int32_t>(threadIdx.x); i < state[counts_at + 2]; i += static_cast<std::int32_t>(blockDim.x))
    to[i] = picks[i];
  __syncthreads();
  if (threadIdx.x == 0) ++state[steps_at];
}

}  // namespace

result<step_buffers> step_buffers::create(const step_limits& limits) {
  step_buffers made;
  made.limits_ = limits;
  const std::int32_t rows = limits.rows;
  const std::int32_t sequences = limits.sequences;
  made.table_stride_ = (limits.tokens + kv_shape::block_tokens - 1) / kv_shape::block_tokens;
  std::int64_t at = state_head;
  const auto place = [&at](std::int32_t& offset, std::int64_t count) {
    offset = static_cast<std::int32_t>(at);
    at += (count + 3) / 4 * 4;
  };
  place(made.ids_at_, rows);
  place(made.row_sequence_at_, rows);
  place(made.row_position_at_, rows);
  place(made.first_row_at_, sequences);
  place(made.row_count_at_, sequences);
  place(made.past_at_, sequences);
  place(made.sample_rows_at_, limits.samples);
  place(made.sample_slots_at_, limits.samples);
  place(made.last_ids_at_, limits.slots);
  place(made.picks_at_, limits.samples);
  place(made.block_tables_at_, std::int64_t{sequences} * made.table_stride_);
  if (at > (1 << 28)) return error{errc::out_of_memory, "block tables of so many sequences of such a length are not offered", {}};
  // The worst record: every array whole, every table changed.
  const std::int64_t most_pieces = at / piece_ints + 12 + 2 * std::int64_t{sequences};
  made.most_pieces_ = static_cast<std::int32_t>(most_pieces);
  made.record_ints_ = static_cast<std::int32_t>(record_head + 3 * most_pieces + at);
  auto state = allocate_device(at * 4);
  if (!state) return state.why();
  made.state_ = *std::move(state);
  if (auto r = check(cudaMemset(made.state_.data(), 0, static_cast<std::size_t>(at) * 4), "clearing a step's tables"); !r) return r.why();
  auto ring = allocate_pinned(std::int64_t{made.record_ints_} * 4 * records);
  if (!ring) return ring.why();
  made.records_ = *std::move(ring);
  auto published = allocate_pinned(std::int64_t{limits.samples} * 4 * records);
  if (!published) return published.why();
  made.published_ = *std::move(published);
  made.shadow_.assign(static_cast<std::size_t>(sequences) * static_cast<std::size_t>(made.table_stride_), 0);
  return result<step_buffers>(std::move(made));
}

step_tables step_buffers::tables(std::int32_t rows, std::int32_t sequences, std::int32_t samples, std::int32_t longest) const {
  const auto* state = state_.as<const std::int32_t>();
  step_tables t;
  t.rows = rows;
  t.sequences = sequences;
  t.samples = samples;
  t.longest = longest;
  t.one_row_each = rows == sequences;
  t.counts = state + counts_at;
  t.ids = state + ids_at_;
  t.row_sequence = state + row_sequence_at_;
  t.row_position = state + row_position_at_;
  t.first_row = state + first_row_at_;
  t.row_count = state + row_count_at_;
  t.past = state + past_at_;
  t.block_tables = state + block_tables_at_;
  t.table_stride = table_stride_;
  t.sample_rows = state + sample_rows_at_;
  t.sample_slots = state + sample_slots_at_;
  t.last_ids = state_.as<std::int32_t>() + last_ids_at_;
  return t;
}

void step_buffers::write(const step_batch& batch, std::int32_t bucket) {
  record_ = records_.as<std::int32_t>() + static_cast<std::int64_t>(written_ % records) * record_ints_;
  pieces_ = 0;
  payload_ = record_head + 3 * most_pieces_;
  const auto rows = static_cast<std::int32_t>(batch.ids.size());
  const auto sequences = static_cast<std::int32_t>(batch.sequences.size());
  const auto samples = static_cast<std::int32_t>(batch.sample_rows.size());
  const std::int32_t counts[3] = {rows, sequences, samples};
  add(counts_at, counts, 0);
  add(ids_at_, batch.ids, bucket);
  row_sequence_.resize(batch.ids.size());
  row_position_.resize(batch.ids.size());
  for (std::size_t s = 0; s < batch.sequences.size(); ++s) {
    const sequence_rows& one = batch.sequences[s];
    for (std::int32_t r = 0; r < one.rows; ++r) {
      row_sequence_[static_cast<std::size_t>(one.first_row + r)] = static_cast<std::int32_t>(s);
      row_position_[static_cast<std::size_t>(one.first_row + r)] = one.past + r;
    }
    add_table(static_cast<std::int32_t>(s), one.blocks);
  }
  add(row_sequence_at_, row_sequence_, bucket);
  add(row_position_at_, row_position_, bucket);
  numbers_.clear();
  for (const sequence_rows& one : batch.sequences) numbers_.push_back(one.first_row);
  add(first_row_at_, numbers_, bucket);
  numbers_.clear();
  for (const sequence_rows& one : batch.sequences) numbers_.push_back(one.rows);
  add(row_count_at_, numbers_, bucket);
  numbers_.clear();
  for (const sequence_rows& one : batch.sequences) numbers_.push_back(one.past);
  add(past_at_, numbers_, bucket);
  add(sample_rows_at_, batch.sample_rows, bucket);
  add(sample_slots_at_, batch.sample_slots, bucket);
  record_[0] = pieces_;
  ++written_;
}

void step_buffers::add(std::int32_t to, std::span<const std::int32_t> values, std::int32_t padded) {
  const std::int32_t count = std::max(static_cast<std::int32_t>(values.size()), padded);
  if (count == 0) return;
  std::int32_t* at = record_ + payload_;
  if (!values.empty()) std::memcpy(at, values.data(), values.size_bytes());
  std::fill(at + values.size(), at + count, 0);
  for (std::int32_t done = 0; done < count; done += piece_ints) {
    std::int32_t* about = record_ + record_head + 3 * pieces_++;
    about[0] = to + done;
    about[1] = std::min(piece_ints, count - done);
    about[2] = payload_ + done;
  }
  payload_ += count;
}

void step_buffers::add_table(std::int32_t sequence, std::span<const std::int32_t> blocks) {
  const auto used = std::min(blocks.size(), static_cast<std::size_t>(table_stride_));
  std::int32_t* known = shadow_.data() + std::int64_t{sequence} * table_stride_;
  const auto [from, end] = std::mismatch(known, known + used, blocks.begin());
  if (from == known + used) return;
  std::size_t last = used;
  while (known[last - 1] == blocks[last - 1]) --last;
  const auto first = static_cast<std::size_t>(from - known);
  const auto changed = blocks.subspan(first, last - first);
  std::copy(changed.begin(), changed.end(), from);
  add(block_tables_at_ + sequence * table_stride_ + static_cast<std::int32_t>(first), changed, 0);
}

void step_buffers::read_on(cudaStream_t on, std::int32_t bucket) const {
  // A decode step's record is a few pieces of each array; a prompt's rows make more.
  const std::int32_t likely = bucket > 0 ? 8 * (bucket / piece_ints + 1) + bucket : pieces_;
  const auto blocks = static_cast<unsigned>(std::clamp(likely / 32, 1, 32));
  launch(read_record, dim3(blocks), dim3(1024), 0, on, records_.as<std::int32_t>(), record_ints_, most_pieces_, state_.as<std::int32_t>());
}

void step_buffers::publish_on(cudaStream_t on) const {
  launch(write_picks, dim3(1), dim3(256), 0, on, state_.as<std::int32_t>(), picks(), published_.as<std::int32_t>(), limits_.samples);
}

const std::int32_t* step_buffers::published(std::uint64_t number) const noexcept {
  return published_.as<std::int32_t>() + static_cast<std::int64_t>(number % records) * limits_.samples;
}

}  // namespace troupe::kernels::cuda
