// Steps of no one, before the first that counts: what is made when it is first used is made here. Knows no op.
#include <algorithm>
#include <numeric>

#include "kernels/cuda/stream_lane.hpp"
#include "memory/kept_text.hpp"

namespace troupe::kernels::cuda {

/// Begins a step of sequences so long and waits for it; all begin at the arena's first block, whatever comes of that.
result<void> stream_lane::step_now(step_space& space, std::span<const sequence_rows> shapes, const step_ops& ops) {
  std::vector<std::int32_t> blocks, last, slots;
  std::vector<sequence_rows> sequences(shapes.begin(), shapes.end());
  std::int32_t rows = 0, tokens = 0;
  for (sequence_rows& one : sequences) {
    one.first_row = rows;
    rows += one.rows;
    tokens = std::max(tokens, one.past + one.rows);
    slots.push_back(static_cast<std::int32_t>(last.size()));
    last.push_back(rows - 1);
  }
  blocks.resize(static_cast<std::size_t>((tokens + kv_shape::block_tokens - 1) / kv_shape::block_tokens));
  std::iota(blocks.begin(), blocks.end(), 0);
  for (sequence_rows& one : sequences)
    one.blocks = std::span(blocks).first(
        static_cast<std::size_t>((one.past + one.rows + kv_shape::block_tokens - 1) / kv_shape::block_tokens));
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(rows), 0);
  const std::vector<sampling_row> sampling(last.size());
  std::vector<sampled> picks(last.size());
  if (auto begun = begin_step(&space, {ids, sequences, last, sampling, slots, picks}, ops); !begun) return begun.why();
  return end_step();
}

/// One for each range of rows that the library has an algorithm for; prompts alone, beside a decode, and behind many
/// keys.
result<void> stream_lane::warm_steps(cuda_steps& space, const warm_ops& ops, std::int32_t blocks) {
  const step_limits& limits = space.buffers.limits();
  const std::int32_t tokens = std::min(limits.tokens, blocks * kv_shape::block_tokens),
                     most = std::min(limits.rows, tokens);
  for (std::int32_t rows = 1, end = 0; rows <= most; rows = end + 1) {
    end = std::min(library_range(rows), most);
    const sequence_rows prompt{0, end, 0, {}};
    if (auto r = step_now(space, {&prompt, 1}, ops.ends); !r) return r;
  }
  const std::int32_t few = std::min(most / 2, 64);
  if (few < 2) return {};
  const sequence_rows long_prompt{0, few, tokens - few, {}}, mixed[2] = {{0, 1, few, {}}, {0, few, 0, {}}};
  if (auto r = step_now(space, {&long_prompt, 1}, ops.ends); !r || limits.samples < 2) return r;
  return step_now(space, mixed, ops.ends);
}

/// All numbers of decode rows that steps are padded to. The first steps make the memory that the kernel for all layers
/// needs. Nothing is uploaded: graphs that cudaGraphUpload has placed lose 0.4 us between two kernels, at every launch
/// (bench/cuda.md).
result<void> stream_lane::warm_graphs(cuda_steps& space, const warm_ops& ops) {
  const step_limits& limits = space.buffers.limits();
  const std::vector<sequence_rows> one_each(static_cast<std::size_t>(graph_rows(limits, most_resident_rows)),
                                            sequence_rows{0, 1, 0, {}});
  if (auto r = step_now(space, one_each, ops.whole); !r) return r;
  const std::int32_t most = std::min({limits.rows, limits.sequences, limits.samples});
  for (const std::int32_t longest : {graph_tokens(limits, 1), graph_tokens(limits, limits.tokens)})
    for (std::int32_t rows = 1, padded = 0; rows <= most; rows = padded + 1) {
      padded = graph_rows(limits, rows);
      const cuda_steps::graph_key key{padded, longest, true, profiling_, beside_};
      if (space.graphs.contains(key)) continue;
      auto made = record(space, key, ops.whole);
      if (!made) return made.why();
      if (!unprepared_) space.graphs.emplace(key, *std::move(made));  // else the first step of its kind will prepare it
    }
  return {};
}

result<void> stream_lane::warm_up(step_space& space, const warm_ops& ops, std::int32_t blocks) {
  auto& steps = static_cast<cuda_steps&>(space);
  for (const std::int32_t others : {0, 1}) {
    if (others > 0 && !pair_) break;
    if (pair_) pair_->in_flight[1 - which_] = others;
    auto done = warm_steps(steps, ops, blocks);
    if (done && which_ == 0) done = warm_graphs(steps, ops);
    if (pair_) pair_->in_flight[1 - which_] = 0;
    if (!done) return done;
  }
  return {};
}

void stream_lane::find_choices(const memory::copy_folder& folder, const device_facts& device) {
  if (!folder.wanted()) return;
  choices_folder_ = folder;
  choices_path_ = library_choices_path(folder, device.name);
  fingerprint_ = device.name + "; driver " + device.driver + "; built with CUDA " + device.runtime + "; cuBLASLt " +
                 std::to_string(products_->library_version());
  auto found = library_choices::of(memory::read_kept(choices_path_), fingerprint_);
  if (found.measured() == 0) return;
  choices_ = std::make_shared<const library_choices>(std::move(found));
  products_->follow(choices_);
}

tuned_products stream_lane::tuned() const {
  if (!choices_) return {0, 0, choices_path_};
  return {choices_->measured(), choices_->unusual(), choices_path_};
}

result<tuned_products> stream_lane::tune(step_space& space, const warm_ops& ops, std::int32_t blocks) {
  if (deterministic_)
    return error{errc::invalid_argument, "Deterministic products go one way; there is nothing to tune.",
                 "deterministic"};
  library_choices timed;
  auto done = products_->tune(&timed);
  if (done) done = warm_steps(static_cast<cuda_steps&>(space), ops, blocks);
  if (auto ended = products_->tune(nullptr); done) done = ended;
  if (!done) return done.why();
  library_choices all = choices_ ? *choices_ : library_choices();
  all.add(timed);
  if (choices_folder_.wanted())
    if (auto kept = memory::keep_text(all.text(fingerprint_), choices_folder_, choices_path_); !kept) return kept.why();
  choices_ = std::make_shared<const library_choices>(std::move(all));
  products_->follow(choices_);
  if (auto warmed = warm_up(space, ops, blocks); !warmed) return warmed.why();
  return tuned();
}

}  // namespace troupe::kernels::cuda
