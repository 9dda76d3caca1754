// Runs given tokens through a model and measures its logits. Knows no text.
#include "models/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

namespace troupe::models {
namespace {

using logits_row = std::span<const float>;

error not_finite() { return {errc::numeric, "the model's logits are not numbers", {}}; }

/// log(sum(exp(row))), in double: the sum has as many terms as the vocabulary. NaN where it has no meaning.
double log_sum(logits_row row) {
  const float best = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float x : row) sum += std::exp(static_cast<double>(x) - best);
  return best + std::log(sum);
}

/// The `count` largest, best first; ties go to the lowest id.
std::vector<std::pair<std::int32_t, float>> best_of(logits_row row, std::int32_t count, double log_total) {
  std::vector<std::int32_t> ids(row.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto wanted = static_cast<std::ptrdiff_t>(std::min<std::size_t>(static_cast<std::size_t>(count), ids.size()));
  const auto at = [&row](std::int32_t id) { return row[static_cast<std::size_t>(id)]; };
  std::partial_sort(ids.begin(), ids.begin() + wanted, ids.end(),
                    [&](std::int32_t a, std::int32_t b) { return at(a) != at(b) ? at(a) > at(b) : a < b; });
  std::vector<std::pair<std::int32_t, float>> best;
  for (auto id = ids.begin(); id != ids.begin() + wanted; ++id) {
    best.emplace_back(*id, static_cast<float>(at(*id) - log_total));
  }
  return best;
}

/// From the sum of log-likelihoods to their mean.
perplexity_score averaged(perplexity_score sum) {
  sum.nll /= static_cast<double>(sum.tokens);
  sum.perplexity = std::exp(sum.nll);
  return sum;
}

}  // namespace

result<evaluator> evaluator::create(std::shared_ptr<const loaded_model> model, kernels::lane& lane,
                                    std::int32_t capacity, std::int32_t chunk) {
  capacity = std::min(capacity, model->shape().context);
  if (capacity < 1 || chunk < 1) return error{errc::invalid_argument, "an evaluation needs room for a token", {}};
  auto scratch = forward_scratch::create(lane, model->shape(), std::min(chunk, capacity), std::min(chunk, capacity));
  if (!scratch) return std::move(scratch).why();
  constexpr std::int32_t per_block = kernels::kv_shape::block_tokens;
  auto kv = lane.make_kv(model->shape().kv(), (capacity - 1) / per_block + 1);
  if (!kv) return std::move(kv).why();
  auto steps = lane.make_steps({scratch->max_rows(), 1, scratch->max_sample_rows(), capacity, 1});
  if (!steps) return std::move(steps).why();
  return evaluator(std::move(model), lane, *std::move(scratch), *std::move(kv), *std::move(steps), capacity);
}

evaluator::evaluator(std::shared_ptr<const loaded_model> model, kernels::lane& lane, forward_scratch scratch,
                     std::unique_ptr<kernels::kv_arena> kv, std::unique_ptr<kernels::step_space> steps,
                     std::int32_t capacity)
    : model_(std::move(model)), lane_(&lane), scratch_(std::move(scratch)), kv_(std::move(kv)),
      steps_(std::move(steps)), capacity_(capacity) {
  blocks_.resize(static_cast<std::size_t>(kv_->blocks));
  std::iota(blocks_.begin(), blocks_.end(), 0);
  rows_.resize(static_cast<std::size_t>(scratch_.max_rows()));
  std::iota(rows_.begin(), rows_.end(), 0);
}

result<void> evaluator::check(std::span<const std::int32_t> ids, std::int64_t tokens) const {
  if (ids.empty()) return error{errc::invalid_argument, "no token ids", "ids"};
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= model_->shape().vocabulary) {
      return error{errc::invalid_argument,
                   "token id " + std::to_string(id) + " is outside the vocabulary of " +
                       std::to_string(model_->shape().vocabulary),
                   "ids"};
    }
  }
  if (tokens > capacity_) {
    return error{errc::context_length_exceeded,
                 std::to_string(tokens) + " tokens do not fit the context of " + std::to_string(capacity_), "ids"};
  }
  return {};
}

result<memory::tensor_view> evaluator::run(std::span<const std::int32_t> ids, std::int32_t past, bool all) {
  const auto rows = static_cast<std::int32_t>(ids.size());
  const kernels::sequence_rows sequence{0, rows, past, blocks_};
  const std::span<const std::int32_t> every(rows_.data(), ids.size());
  const step_batch batch{ids, {&sequence, 1}, all ? every : every.last(1)};
  auto begun = lane_->begin_step(steps_.get(), batch, [this](const step_batch& b) {
    model_->network->forward(*lane_, {0, model_->shape().layers}, b, scratch_, *kv_);
  });
  if (!begun) return std::move(begun).why();
  if (auto ended = lane_->end_step(); !ended) return std::move(ended).why();
  return lane_->host_view(scratch_.logits(static_cast<std::int64_t>(batch.sample_rows.size())));
}

template <class Visit>
result<void> evaluator::each_position(std::span<const std::int32_t> ids, std::int64_t first, Visit visit) {
  const auto chunk = static_cast<std::size_t>(scratch_.max_rows());
  for (std::size_t at = 0; at < ids.size(); at += chunk) {
    const auto part = ids.subspan(at, std::min(chunk, ids.size() - at));
    const bool wanted = static_cast<std::int64_t>(at + part.size()) > first;
    const auto ran = run(part, static_cast<std::int32_t>(at), wanted);
    if (!ran) return ran.why();
    const memory::tensor_view& logits = *ran;
    for (std::int64_t row = 0; wanted && row < logits.rows; ++row) {
      const std::int64_t position = static_cast<std::int64_t>(at) + row;
      if (position < first) continue;
      const logits_row values(logits.f32(row), static_cast<std::size_t>(logits.cols));
      const double total = log_sum(values);
      if (!std::isfinite(total)) return not_finite();
      visit(position, values, total);
    }
  }
  return {};
}

result<scored_tokens> evaluator::score(std::span<const std::int32_t> ids, std::int32_t best) {
  if (auto fits = check(ids, static_cast<std::int64_t>(ids.size())); !fits) return std::move(fits).why();
  scored_tokens scored;
  double sum = 0;
  auto done = each_position(ids, 0, [&](std::int64_t position, logits_row row, double total) {
    scored.top.push_back(best_of(row, std::max(best, 0), total));
    const auto next = static_cast<std::size_t>(position + 1);
    if (next < ids.size()) sum += total - row[static_cast<std::size_t>(ids[next])];
  });
  if (!done) return std::move(done).why();
  if (ids.size() > 1) scored.nll = sum / static_cast<double>(ids.size() - 1);
  return scored;
}

result<greedy_tokens> evaluator::continue_greedily(std::span<const std::int32_t> ids, std::int32_t count) {
  count = std::max(count, 0);
  if (auto fits = check(ids, static_cast<std::int64_t>(ids.size()) + count); !fits) return std::move(fits).why();
  const auto chunk = static_cast<std::size_t>(scratch_.max_rows());
  greedy_tokens answer;
  memory::tensor_view logits;
  for (std::size_t at = 0; at < ids.size(); at += chunk) {
    auto ran = run(ids.subspan(at, std::min(chunk, ids.size() - at)), static_cast<std::int32_t>(at), false);
    if (!ran) return std::move(ran).why();
    logits = *ran;
  }
  for (std::int32_t i = 0; i < count; ++i) {
    const logits_row row(logits.f32(), static_cast<std::size_t>(logits.cols));
    if (!std::isfinite(log_sum(row))) return not_finite();
    const auto best = best_of(row, 2, 0.0);
    answer.greedy.push_back(best.front().first);
    answer.margin.push_back(best.size() > 1 ? best[0].second - best[1].second : 0.0f);
    if (i + 1 == count) break;
    auto ran = run({&best.front().first, 1}, static_cast<std::int32_t>(ids.size()) + i, false);
    if (!ran) return std::move(ran).why();
    logits = *ran;
  }
  return answer;
}

result<void> evaluator::add_window(std::span<const std::int32_t> window, std::int64_t first, perplexity_score& score) {
  return each_position(window, first, [&](std::int64_t position, logits_row row, double total) {
    const auto predicted = static_cast<std::size_t>(position + 1);
    if (predicted >= window.size()) return;
    score.nll += total - row[static_cast<std::size_t>(window[predicted])];
    ++score.tokens;
  });
}

result<perplexity_score> evaluator::perplexity(std::span<const std::int32_t> ids, std::int32_t window,
                                               std::int32_t stride) {
  if (window < 2 || window > capacity_ || stride < 1 || stride >= window) {
    return error{errc::invalid_argument,
                 "a window has 2 to " + std::to_string(capacity_) + " tokens and moves by fewer", "stride"};
  }
  if (auto fits = check(ids, 1); !fits) return std::move(fits).why();
  if (ids.size() < 2) return error{errc::invalid_argument, "one token has no predecessor to be predicted from", "ids"};
  perplexity_score score;
  // `next` is the first token not scored yet; the window's row next - 1 - start predicts it.
  for (std::size_t start = 0, next = 1; next < ids.size(); start += static_cast<std::size_t>(stride)) {
    const auto part = ids.subspan(start, std::min(static_cast<std::size_t>(window), ids.size() - start));
    if (auto done = add_window(part, static_cast<std::int64_t>(next - 1 - start), score); !done)
      return std::move(done).why();
    next = start + part.size();
  }
  return averaged(score);
}

result<perplexity_score> evaluator::perplexity_of_halves(std::span<const std::int32_t> ids, std::int32_t window,
                                                         std::optional<std::int32_t> first) {
  if (window < 4 || window > capacity_) {
    return error{errc::invalid_argument, "a window has 4 to " + std::to_string(capacity_) + " tokens", "window"};
  }
  if (auto fits = check(ids, 1); !fits) return std::move(fits).why();
  const auto size = static_cast<std::size_t>(window);
  if (ids.size() < size) {
    return error{errc::invalid_argument,
                 std::to_string(ids.size()) + " tokens fill no window of " + std::to_string(window), "ids"};
  }
  perplexity_score score;
  std::vector<std::int32_t> part;
  for (std::size_t start = 0; start + size <= ids.size(); start += size) {
    part.assign(ids.begin() + static_cast<std::ptrdiff_t>(start),
                ids.begin() + static_cast<std::ptrdiff_t>(start + size));
    if (first) part.front() = *first;
    if (auto done = add_window(part, window / 2, score); !done) return std::move(done).why();
  }
  return averaged(score);
}

}  // namespace troupe::models
