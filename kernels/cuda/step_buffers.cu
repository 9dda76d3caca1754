// Records and the two kernels that move them. Knows no op.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "kernels/cuda/step_buffers.hpp"

namespace troupe::kernels::cuda {
namespace {

// A record: how many pieces, then (to, count, from, 0) of each, then the numbers, each piece's at a multiple of 16
// bytes, so that the bus sees few, large reads. Offsets in ints; the state begins with the count of steps done, the
// counts of step_tables and the step's beginning.
constexpr std::int32_t steps_at = 0;
constexpr std::int32_t counts_at = 1;
constexpr std::int32_t began_at = 4;  // nanoseconds of the device's clock
constexpr std::int32_t state_head = 8;
constexpr std::int32_t record_head = 4;
constexpr std::int32_t piece_ints = 128;  // a warp's: 16 bytes a lane

__device__ std::uint64_t device_time() {
  std::uint64_t nanoseconds = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(nanoseconds));
  return nanoseconds;
}

/// A warp a piece, 16 bytes a lane: the latency of the bus is paid twice, for a block's part of the list and for the
/// numbers. The bus takes few reads at a time, so the list comes in large ones. Past L1, which may hold the record of
/// four steps ago.
__global__ void read_record(const std::int32_t* records, std::int32_t record_ints, std::int32_t most_pieces,
                            std::int32_t* state) {
  __shared__ int4 list[32];
  __shared__ std::int32_t pieces;
  wait_for_predecessor();
  if (blockIdx.x == 0 && threadIdx.x == 0) *reinterpret_cast<std::uint64_t*>(state + began_at) = device_time();
  const std::int32_t* record = records + state[steps_at] % step_buffers::records * record_ints;
  const auto warp = static_cast<std::int32_t>(threadIdx.x / 32);
  const auto lane = static_cast<std::int32_t>(threadIdx.x % 32);
  for (auto first = static_cast<std::int32_t>(blockIdx.x * 32); first < most_pieces;
       first += static_cast<std::int32_t>(gridDim.x * 32)) {
    __syncthreads();
    if (warp == 0) {
      const std::int32_t all = __ldcg(record);
      if (first + lane < most_pieces)
        list[lane] = __ldcg(reinterpret_cast<const int4*>(record + record_head) + first + lane);
      if (lane == 0) pieces = all;
    }
    __syncthreads();
    if (first >= pieces) return;
    if (first + warp >= pieces) continue;
    const int4 about = list[warp];
    const std::int32_t left = about.y - 4 * lane;
    if (left <= 0) continue;
    const int4 some = __ldcg(reinterpret_cast<const int4*>(record + about.z) + lane);
    std::int32_t* to = state + about.x + 4 * lane;
    to[0] = some.x;
    if (left > 1) to[1] = some.y;
    if (left > 2) to[2] = some.z;
    if (left > 3) to[3] = some.w;
  }
}

/// A thread a row; where there are top log-probabilities, a warp a row, only as far as there are any.
__global__ void write_picks(std::int32_t* state, const sample_pick* picks, step_times* times, sample_pick* published,
                            std::int32_t samples) {
  wait_for_predecessor();
  const std::int32_t record = state[steps_at] % step_buffers::records;
  sample_pick* to = published + record * samples;
  const std::int32_t rows = state[counts_at + 2];
  bool tops = false;
  for (auto row = static_cast<std::int32_t>(threadIdx.x); row < rows; row += static_cast<std::int32_t>(blockDim.x)) {
    to[row].id = picks[row].id;
    to[row].logprob = picks[row].logprob;
    to[row].tops = picks[row].tops;
    tops |= picks[row].tops > 0;
  }
  if (__syncthreads_or(tops)) {
    const auto lane = static_cast<std::int32_t>(threadIdx.x % 32);
    for (auto row = static_cast<std::int32_t>(threadIdx.x / 32); row < rows;
         row += static_cast<std::int32_t>(blockDim.x / 32)) {
      const sample_pick& pick = picks[row];
      if (lane >= pick.tops) continue;
      to[row].top_ids[lane] = pick.top_ids[lane];
      to[row].top_logprobs[lane] = pick.top_logprobs[lane];
    }
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  ++state[steps_at];
  times[record] = {*reinterpret_cast<const std::uint64_t*>(state + began_at), device_time()};
}

constexpr std::int32_t most_seen = 64 * 1024;  // of a record; longer lists are sampled on the host
constexpr std::int32_t most_biases = 8 * 1024;

template <class Values>
std::span<const std::int32_t> as_ints(const Values& values) {
  static_assert(sizeof(*values.data()) % 4 == 0);
  return {reinterpret_cast<const std::int32_t*>(values.data()), values.size() * sizeof(*values.data()) / 4};
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
  place(made.sample_slots_at_, limits.samples);
  place(made.last_ids_at_, limits.slots);
  place(made.picks_at_, limits.samples * std::int64_t{sizeof(sample_pick) / 4});
  place(made.parameters_at_, limits.samples * std::int64_t{sizeof(sample_parameters) / 4});
  place(made.seen_at_, most_seen * std::int64_t{sizeof(seen_token) / 4});
  place(made.biases_at_, most_biases * std::int64_t{sizeof(token_bias) / 4});
  place(made.items_there_at_, 1);
  place(made.items_at_, shared_reads::most_items(sequences) * std::int64_t{sizeof(shared_item) / 4});
  place(made.seats_at_, shared_reads::most_seats(sequences) * std::int64_t{sizeof(shared_seat) / 4});
  place(made.own_at_, sequences * std::int64_t{sizeof(own_part) / 4});
  place(made.block_tables_at_, std::int64_t{sequences} * made.table_stride_);
  if (at > (1 << 28))
    return error{errc::out_of_memory, "block tables of so many sequences of such a length are not offered", {}};
  // The worst record: every array whole, every table changed.
  const std::int64_t most_pieces = at / piece_ints + 16 + 2 * std::int64_t{sequences};
  made.most_pieces_ = static_cast<std::int32_t>(most_pieces);
  made.record_ints_ =
      static_cast<std::int32_t>(record_head + 4 * most_pieces + at + 4 * std::int64_t{sequences});  // rounded up
  auto state = allocate_device(at * 4);
  if (!state) return state.why();
  made.state_ = *std::move(state);
  if (auto r = check(cudaMemset(made.state_.data(), 0, static_cast<std::size_t>(at) * 4), "clearing a step's tables");
      !r)
    return r.why();
  // It has only been queued, on a stream that the lane's do not wait for.
  if (auto r = check(cudaStreamSynchronize(cudaStreamLegacy), "clearing a step's tables"); !r) return r.why();
  auto ring = allocate_pinned(std::int64_t{made.record_ints_} * 4 * records);
  if (!ring) return ring.why();
  made.records_ = *std::move(ring);
  auto times = allocate_pinned(std::int64_t{sizeof(step_times)} * records);
  if (!times) return times.why();
  made.times_ = *std::move(times);
  auto published = allocate_pinned(std::int64_t{limits.samples} * std::int64_t{sizeof(sample_pick)} * records);
  if (!published) return published.why();
  made.published_ = *std::move(published);
  made.shadow_.assign(static_cast<std::size_t>(sequences) * static_cast<std::size_t>(made.table_stride_), 0);
  return result<step_buffers>(std::move(made));
}

step_tables step_buffers::tables(std::int32_t rows, std::int32_t sequences, std::int32_t samples,
                                 std::int32_t longest) const {
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
  t.sample_slots = state + sample_slots_at_;
  t.last_ids = state_.as<std::int32_t>() + last_ids_at_;
  return t;
}

void step_buffers::write(const step_batch& batch, std::int32_t bucket) {
  record_ = records_.as<std::int32_t>() + static_cast<std::int64_t>(written_ % records) * record_ints_;
  pieces_ = 0;
  payload_ = record_head + 4 * most_pieces_;
  const auto rows = static_cast<std::int32_t>(batch.ids.size());
  const auto sequences = static_cast<std::int32_t>(batch.sequences.size());
  const auto samples = static_cast<std::int32_t>(batch.sample_rows.size());
  const std::int32_t counts[3] = {rows, sequences, samples};
  add(counts_at, counts, 0);
  add(ids_at_, batch.ids, bucket);
  row_sequence_.resize(batch.ids.size());
  row_position_.resize(batch.ids.size());
  changed_from_.assign(batch.sequences.size(), std::numeric_limits<std::int32_t>::max());
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
  add(sample_slots_at_, batch.sample_slots, bucket);
  add_sampling(batch.sampling);
  record_[0] = pieces_;
  ++written_;
}

void step_buffers::write_shared(const shared_reads& reads) {
  const std::array<std::int32_t, 1> there{static_cast<std::int32_t>(reads.items().size())};
  add_changed(items_there_at_, there, shown_items_there_);
  add_changed(items_at_, as_ints(reads.items()), shown_items_);
  add_changed(seats_at_, as_ints(reads.seats()), shown_seats_);
  add_changed(own_at_, as_ints(reads.own()), shown_own_);
  record_[0] = pieces_;
}

shared_tables step_buffers::shared() const {
  const auto* state = state_.as<const std::int32_t>();
  return {state + items_there_at_, reinterpret_cast<const shared_item*>(state + items_at_),
          reinterpret_cast<const shared_seat*>(state + seats_at_), reinterpret_cast<const own_part*>(state + own_at_)};
}

void step_buffers::add(std::int32_t to, std::span<const std::int32_t> values, std::int32_t padded) {
  const std::int32_t count = std::max(static_cast<std::int32_t>(values.size()), padded);
  if (count == 0) return;
  std::int32_t* at = record_ + payload_;
  if (!values.empty()) std::memcpy(at, values.data(), values.size_bytes());
  std::fill(at + values.size(), at + count, 0);
  for (std::int32_t done = 0; done < count; done += piece_ints) {
    std::int32_t* about = record_ + record_head + 4 * pieces_++;
    about[0] = to + done;
    about[1] = std::min(piece_ints, count - done);
    about[2] = payload_ + done;
  }
  payload_ += (count + 3) / 4 * 4;
}

void step_buffers::add_table(std::int32_t sequence, std::span<const std::int32_t> blocks) {
  const auto used = std::min(blocks.size(), static_cast<std::size_t>(table_stride_));
  std::int32_t* known = shadow_.data() + std::int64_t{sequence} * table_stride_;
  const auto [from, end] = std::mismatch(known, known + used, blocks.begin());
  if (from == known + used) return;
  std::size_t last = used;
  while (known[last - 1] == blocks[last - 1]) --last;
  const auto first = static_cast<std::size_t>(from - known);
  changed_from_[static_cast<std::size_t>(sequence)] = static_cast<std::int32_t>(first);
  const auto changed = blocks.subspan(first, last - first);
  std::copy(changed.begin(), changed.end(), from);
  add(block_tables_at_ + sequence * table_stride_ + static_cast<std::int32_t>(first), changed, 0);
}

/// From the first number that differs from what the device has to the last.
void step_buffers::add_changed(std::int32_t to, std::span<const std::int32_t> values,
                               std::vector<std::int32_t>& shown) {
  if (shown.size() < values.size()) shown.resize(values.size(), 0);  // as the device's state begins
  const auto first = std::mismatch(values.begin(), values.end(), shown.begin()).first - values.begin();
  auto last = static_cast<std::ptrdiff_t>(values.size());
  while (last > first && values[static_cast<std::size_t>(last - 1)] == shown[static_cast<std::size_t>(last - 1)])
    --last;
  const auto changed = values.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first));
  std::copy(changed.begin(), changed.end(), shown.begin() + first);
  add(to + static_cast<std::int32_t>(first), changed, 0);
}

bool step_buffers::lists_fit(std::span<const sampling_row> sampling) {
  std::size_t seen = 0;
  std::size_t biases = 0;
  for (const sampling_row& row : sampling) {
    seen += row.seen.size();
    biases += row.bias.size();
    if (row.top_logprobs > most_top_logprobs) return false;
  }
  return seen <= most_seen && biases <= most_biases;
}

void step_buffers::add_sampling(std::span<const sampling_row> rows) {
  parameters_.clear();
  seen_.clear();
  biases_.clear();
  for (const sampling_row& row : rows) {
    sample_parameters p;
    p.temperature = row.temperature;
    p.top_p = row.top_p;
    p.min_p = row.min_p;
    p.repetition_penalty = row.repetition_penalty;
    p.presence_penalty = row.presence_penalty;
    p.frequency_penalty = row.frequency_penalty;
    p.top_k = row.top_k;
    p.top_logprobs = row.top_logprobs;
    if (row.temperature > 0.0f) p.seed = row.seed, p.counter = row.counter;  // else nobody draws, and nothing changes
    p.first_seen = static_cast<std::int32_t>(seen_.size());
    p.seen = static_cast<std::int32_t>(row.seen.size());
    p.first_bias = static_cast<std::int32_t>(biases_.size());
    p.biases = static_cast<std::int32_t>(row.bias.size());
    for (const token_count& one : row.seen) seen_.push_back({one.id, one.in_output});
    for (const auto& [id, value] : row.bias) biases_.push_back({id, value});
    parameters_.push_back(p);
  }
  add_changed(parameters_at_, as_ints(parameters_), shown_parameters_);
  add(seen_at_, as_ints(seen_), 0);
  add(biases_at_, as_ints(biases_), 0);
}

sample_call step_buffers::sampling(const step_tables& tables) const {
  auto* state = state_.as<std::int32_t>();
  sample_call call;
  call.tables = &tables;
  call.parameters = reinterpret_cast<const sample_parameters*>(state + parameters_at_);
  call.seen = reinterpret_cast<const seen_token*>(state + seen_at_);
  call.biases = reinterpret_cast<const token_bias*>(state + biases_at_);
  call.picks = reinterpret_cast<sample_pick*>(state + picks_at_);
  return call;
}

void step_buffers::read_on(cudaStream_t on, std::int32_t bucket) const {
  // A decode step's record is a few pieces of each array; a prompt's rows make more.
  const std::int32_t likely = bucket > 0 ? 8 * (bucket / piece_ints + 1) + bucket + bucket * 18 / piece_ints : pieces_;
  const auto blocks = static_cast<unsigned>(std::clamp(likely / 32, 1, 32));
  launch(read_record, dim3(blocks), dim3(1024), 0, on, records_.as<std::int32_t>(), record_ints_, most_pieces_,
         state_.as<std::int32_t>());
}

void step_buffers::publish_on(cudaStream_t on) const {
  launch(write_picks, dim3(1), dim3(1024), 0, on, state_.as<std::int32_t>(),
         reinterpret_cast<const sample_pick*>(state_.as<std::int32_t>() + picks_at_), times_.as<step_times>(),
         published_.as<sample_pick>(), limits_.samples);
}

const sample_pick* step_buffers::published(std::uint64_t number) const noexcept {
  return published_.as<const sample_pick>() + static_cast<std::int64_t>(number % records) * limits_.samples;
}

}  // namespace troupe::kernels::cuda
