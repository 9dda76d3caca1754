// Steps on the stream: eager, recorded, repeated; their end. Knows no op.
#include <algorithm>
#include <numeric>

#include "kernels/cpu/sample_row.hpp"
#include "kernels/cuda/stream_lane.hpp"

namespace troupe::kernels::cuda {
namespace {

/// 1, 2, 4, 8, then by eights to 64, by 32 to 256, by 128.
std::int32_t bucket_of(std::int32_t rows) {
  if (rows <= 8) return rows <= 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : 8;
  const std::int32_t step = rows <= 64 ? 8 : rows <= 256 ? 32 : 128;
  return (rows + step - 1) / step * step;
}

std::int32_t longest_of(const step_batch& batch) {
  std::int32_t longest = 0;
  for (const sequence_rows& one : batch.sequences) longest = std::max(longest, one.past + one.rows);
  return longest;
}

}  // namespace

std::int32_t stream_lane::graph_rows(const step_limits& limits, std::int32_t rows) {
  return std::min({bucket_of(rows), limits.rows, limits.sequences, limits.samples});
}

std::int32_t stream_lane::graph_tokens(const step_limits& limits, std::int32_t tokens) {
  return tokens <= most_resident_tokens ? most_resident_tokens : std::max(limits.tokens, tokens);
}

stream_lane::~stream_lane() {
  static_cast<void>(cudaStreamSynchronize(stream_.get()));
  if (pair_) pair_->in_flight[which_] = 0;
}

result<std::unique_ptr<step_space>> stream_lane::make_steps(const step_limits& limits) {
  if (limits.rows > reserved_rows_) {
    if (auto r = check(cudaStreamSynchronize(stream_.get()), "waiting for steps"); !r) return r.why();
    for (const auto& one : matrices_)
      if (const auto w = one.lock())
        if (auto r = products_->reserve(limits.rows, *w); !r) return r.why();
    reserved_rows_ = limits.rows;
    ++epoch_;
  }
  auto buffers = step_buffers::create(limits);
  if (!buffers) return buffers.why();
  return std::unique_ptr<step_space>(std::make_unique<cuda_steps>(*std::move(buffers)));
}

/// After an illegal access the whole context is lost: what failed once is the answer from then on.
result<void> stream_lane::broken(result<void> outcome) {
  if (!outcome && outcome.why().code == errc::internal && !broken_) broken_ = outcome.why();
  return outcome;
}

/// A divided device is divided only while both queues have work: each step takes the whole of it, or its part, by
/// whether the other queue has steps in flight now. Prompts beside decodes wait for those that began on the whole
/// device: the layers' kernel wants every multiprocessor at once and would wait for the last of theirs.
result<void> stream_lane::share_device() {
  beside_ = pair_ && pair_->in_flight[1 - which_] > 0;
  if (pair_ && pair_->parts && beside_ != narrow_) {
    if (auto r = check(cudaEventRecord(changed_.get(), stream_.get()), "changing streams"); !r) return r;
    std::swap(stream_, unused_);
    narrow_ = beside_;
    if (auto r = check(cudaStreamWaitEvent(stream_.get(), changed_.get(), 0), "changing streams"); !r) return r;
  }
  if (which_ == 1 && beside_ && pair_->last_wide)
    return check(cudaStreamWaitEvent(stream_.get(), pair_->last_wide, 0), "waiting for decodes");
  return {};
}

result<step_ticket> stream_lane::begin_step(step_space* space, const step_batch& batch, const step_ops& ops) {
  if (broken_) return *broken_;
  if (pending_.size() >= most_in_flight) return error{errc::internal, "too many steps in flight on the device", {}};
  if (auto r = broken(share_device()); !r) return r.why();
  auto& steps = static_cast<cuda_steps&>(*space);
  host_sampling_ = !step_buffers::lists_fit(batch.sampling);
  bool repeats = steps.begun && !host_sampling_ && batch.ids.size() == batch.sequences.size() &&
                 batch.ids.size() == batch.sample_rows.size();
  const step_limits& limits = steps.buffers.limits();
  cuda_steps::graph_key key{repeats ? graph_rows(limits, static_cast<std::int32_t>(batch.ids.size())) : 0,
                            graph_tokens(limits, longest_of(batch)), !batch.sampling.empty(), profiling_, beside_};
  steps.buffers.write(batch, key.rows);
  steps.begun = true;
  key.shared = find_shared(steps, batch);
  if (results_ > room_.shape().results) repeats = false;  // which makes room
  if (auto r = broken(repeats ? run_graph(steps, batch, key, ops) : run_eagerly(steps, batch, key.shared, ops)); !r)
    return r.why();
  if (host_sampling_)
    if (auto r = broken(sample_on_host(steps, batch)); !r) return r.why();
  const step_ticket ticket = begun_++;
  if (auto r = broken(check(cudaEventRecord(done_[ticket % most_in_flight].get(), stream_.get()), "ending a step")); !r)
    return r.why();
  pending_.push_back(
      {&steps, steps.buffers.number(), batch.sampling.empty() ? std::span<sampled>{} : batch.picks, host_sampling_});
  if (pair_) {
    ++pair_->in_flight[which_];
    if (which_ == 0) pair_->last_wide = beside_ ? nullptr : done_[ticket % most_in_flight].get();
  }
  return ticket;
}

/// Whether this step's decodes read together what they share; also counts the results of that.
bool stream_lane::find_shared(cuda_steps& space, const step_batch& batch) {
  const bool may = shareable_.works > 0;
  if (may) space.reads.find(batch.sequences, space.buffers.changed_from(), shareable_);
  const bool shared = may && !space.reads.empty();
  if (shared) {
    space.buffers.write_shared(space.reads);
    ++steps_shared_;
  }
  results_ = 0;
  if (shared)
    for (const own_part& own : space.reads.own()) results_ += own.results;
  return shared;
}

void stream_lane::start_ops(const cuda_steps& space, std::int32_t rows, std::int32_t sequences, std::int32_t samples,
                            std::int32_t longest, bool shared) {
  space_ = &space;
  shared_ = shared ? space.buffers.shared() : shared_tables();
  tables_ = space.buffers.tables(rows, sequences, samples, longest);
  tables_.processors = narrow_ ? pair_->parts->multiprocessors(which_) : 0;
  held_.start(!deterministic_ && !shared && tables_.one_row_each && which_ == 0 && !beside_ && !profiling_);
  planned_ = false;
  marked_ = 0;
  unprepared_ = false;
  op_error_.reset();
}

result<void> stream_lane::finish_ops() {
  if (op_error_) return *op_error_;
  return check(cudaGetLastError(), "queueing a step");
}

result<void> stream_lane::run_eagerly(cuda_steps& space, const step_batch& batch, bool shared, const step_ops& ops) {
  start_ops(space, static_cast<std::int32_t>(batch.ids.size()), static_cast<std::int32_t>(batch.sequences.size()),
            static_cast<std::int32_t>(batch.sample_rows.size()), longest_of(batch), shared);
  mark("");
  space.buffers.read_on(stream_.get(), 0);
  mark("read");
  ops(batch);
  settle_layers();
  space.buffers.publish_on(stream_.get());
  mark("publish");
  return finish_ops();
}

result<void> stream_lane::run_graph(cuda_steps& space, const step_batch& batch, const cuda_steps::graph_key& key,
                                    const step_ops& ops) {
  if (space.epoch != epoch_) {
    if (auto r = check(cudaStreamSynchronize(stream_.get()), "waiting for steps"); !r) return r;
    space.graphs.clear();
    space.epoch = epoch_;
  }
  auto at = space.graphs.find(key);
  if (at == space.graphs.end()) {
    auto made = record(space, key, ops);
    if (!made) return made.why();
    if (unprepared_) return run_eagerly(space, batch, key.shared, ops);  // which prepares
    at = space.graphs.emplace(key, *std::move(made)).first;
  }
  return check(cudaGraphLaunch(at->second.get(), stream_.get()), "launching a step");
}

result<graph_exec> stream_lane::record(cuda_steps& space, const cuda_steps::graph_key& key, const step_ops& ops) {
  const auto rows = static_cast<std::size_t>(key.rows);
  const std::vector<std::int32_t> zeros(rows, 0);
  std::vector<std::int32_t> each(rows);
  std::iota(each.begin(), each.end(), 0);
  std::vector<sequence_rows> sequences;
  for (const std::int32_t row : each) sequences.push_back({row, 1, 0, {}});
  const std::vector<sampling_row> sampling(key.sampled ? rows : 0);
  std::vector<sampled> picks(sampling.size());
  start_ops(space, key.rows, key.rows, key.rows, key.longest, key.shared);
  if (auto r = check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "recording a step"); !r)
    return r.why();
  capturing_ = true;
  mark("");
  space.buffers.read_on(stream_.get(), key.rows);
  mark("read");
  ops({zeros, sequences, each, sampling, zeros, picks});
  settle_layers();
  space.buffers.publish_on(stream_.get());
  mark("publish");
  capturing_ = false;
  cudaGraph_t recorded{};
  const auto ended = cudaStreamEndCapture(stream_.get(), &recorded);
  const graph kept(recorded);
  if (auto r = check(ended, "recording a step"); !r) return r.why();
  if (unprepared_) return graph_exec();
  if (auto r = finish_ops(); !r) return r.why();
  cudaGraphExec_t exec{};
  if (auto r = check(cudaGraphInstantiate(&exec, kept.get(), 0), "preparing a step"); !r) return r.why();
  return graph_exec(exec);
}

/// Where the step's lists are too long for the device: waits, chooses here, and puts the choices where they belong.
result<void> stream_lane::sample_on_host(const cuda_steps& space, const step_batch& batch) {
  auto seen = host_view(sampled_logits_);
  if (!seen) return seen.why();
  sample_scratch scratch;
  for (std::size_t i = 0; i < batch.sampling.size(); ++i) {
    float* row = seen->f32(static_cast<std::int64_t>(i));
    batch.picks[i] = sample_row({row, static_cast<std::size_t>(seen->cols)}, batch.sampling[i], scratch);
    std::int32_t* last = tables_.last_ids + batch.sample_slots[i];
    if (auto r = check(cudaMemcpyAsync(last, &batch.picks[i].id, 4, cudaMemcpyHostToDevice, stream_.get()),
                       "storing a choice");
        !r)
      return r;
  }
  static_cast<void>(space);
  return check(cudaStreamSynchronize(stream_.get()), "storing choices");
}

/// The end of an op, when ops are timed.
void stream_lane::mark(const char* op) {
  if (!profiling_) return;
  if (marked_ == marks_.size()) {
    auto made = make_event(true);
    if (!made) return note(made.why());
    marks_.push_back({op, *std::move(made)});
  }
  marks_[marked_].op = op;
  const unsigned how = capturing_ ? cudaEventRecordExternal : cudaEventRecordDefault;
  note(check(cudaEventRecordWithFlags(marks_[marked_++].after.get(), stream_.get(), how), "timing an op"));
}

result<void> stream_lane::add_marks() {
  for (std::size_t i = 1; i < marked_; ++i) {
    float milliseconds = 0;
    if (auto r = check(cudaEventElapsedTime(&milliseconds, marks_[i - 1].after.get(), marks_[i].after.get()),
                       "timing an op");
        !r)
      return r;
    profile_[marks_[i].op] += milliseconds * 1e3;
  }
  return {};
}

void stream_lane::wait_step(step_ticket ticket) {
  static_cast<void>(cudaEventSynchronize(done_[ticket % most_in_flight].get()));  // end_step reports it
}

result<void> stream_lane::end_step() {
  if (pending_.empty()) return error{errc::internal, "no step is in flight", {}};
  const pending_step step = pending_.front();
  const step_ticket ticket = begun_ - pending_.size();
  pending_.pop_front();
  if (pair_) --pair_->in_flight[which_];
  if (auto r = broken(check(cudaEventSynchronize(done_[ticket % most_in_flight].get()), "computing a step")); !r)
    return r;
  if (profiling_)
    if (auto r = add_marks(); !r) return r;
  last_times_ = step.space->buffers.times(step.number);
  if (step.on_host) return {};
  const sample_pick* from = step.space->buffers.published(step.number);
  for (std::size_t i = 0; i < step.picks.size(); ++i) {
    step.picks[i] = {from[i].id, from[i].logprob, {}};
    for (std::int32_t j = 0; j < from[i].tops; ++j)
      step.picks[i].top.emplace_back(from[i].top_ids[j], from[i].top_logprobs[j]);
  }
  return {};
}

}  // namespace troupe::kernels::cuda
