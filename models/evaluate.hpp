// Measures of a model on given tokens: log-likelihood, best candidates, greedy continuation. What `troupe eval` and the
// tests against reference answers run. Knows no text, no request and no scheduler.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <troupe/result.hpp>

#include "kernels/lane.hpp"
#include "models/model.hpp"

namespace troupe::models {

struct scored_tokens {
  std::optional<double> nll;  ///< mean over positions 1.., in nats; none for a single token
  std::vector<std::vector<std::pair<std::int32_t, float>>> top;  ///< by position: the best [id, log-probability]
};

struct greedy_tokens {
  std::vector<std::int32_t> greedy;
  std::vector<float> margin;  ///< best minus second logit, at each
};

struct perplexity_score {
  double nll = 0.0;         ///< mean, in nats
  double perplexity = 0.0;  ///< exp(nll)
  std::int64_t tokens = 0;  ///< scored
};

/// One sequence at a time, on the caller's thread, with a KV arena of its own. The lane outlives it.
/// Errors of all calls: invalid_argument (no ids, an id outside the vocabulary), context_length_exceeded (more than
/// the capacity), numeric (logits that are NaN or only -inf), those of the lane's steps.
class evaluator {
public:
  /// Room for `capacity` tokens (at most the model's context), run in chunks of `chunk` rows.
  static result<evaluator> create(std::shared_ptr<const loaded_model> model, kernels::lane& lane, std::int32_t capacity,
                                  std::int32_t chunk = 64);

  result<scored_tokens> score(std::span<const std::int32_t> ids, std::int32_t best = 10);
  /// `count` greedy tokens after `ids`; end tokens do not stop it.
  result<greedy_tokens> continue_greedily(std::span<const std::int32_t> ids, std::int32_t count);
  /// Over a text of any length in windows of `window` tokens that move by `stride`: each token but the text's first is
  /// scored once, with at least window - stride tokens before it where the text has them.
  result<perplexity_score> perplexity(std::span<const std::int32_t> ids, std::int32_t window, std::int32_t stride);
  /// Over windows side by side, of which the second half is scored and a last, shorter one is left out; `first` takes
  /// the place of each window's first token. llama.cpp's llama-perplexity reckons so (bos is its first, where a model
  /// wants it).
  result<perplexity_score> perplexity_of_halves(std::span<const std::int32_t> ids, std::int32_t window,
                                                std::optional<std::int32_t> first);

private:
  evaluator(std::shared_ptr<const loaded_model> model, kernels::lane& lane, forward_scratch scratch,
            std::unique_ptr<kernels::kv_arena> kv, std::unique_ptr<kernels::step_space> steps, std::int32_t capacity);
  result<void> check(std::span<const std::int32_t> ids, std::int64_t tokens) const;
  /// Logits of the rows of `ids` at positions past..; only of the last where !all. At most one chunk.
  result<memory::tensor_view> run(std::span<const std::int32_t> ids, std::int32_t past, bool all);
  /// Adds to score.nll and score.tokens what positions `first`.. of the window say of the tokens after them.
  result<void> add_window(std::span<const std::int32_t> window, std::int64_t first, perplexity_score& score);
  /// Calls visit(position, logits row) for each position of `ids`, from `first` on.
  template <class Visit>
  result<void> each_position(std::span<const std::int32_t> ids, std::int64_t first, Visit visit);

  std::shared_ptr<const loaded_model> model_;
  kernels::lane* lane_;
  forward_scratch scratch_;
  std::unique_ptr<kernels::kv_arena> kv_;
  std::unique_ptr<kernels::step_space> steps_;
  std::vector<std::int32_t> blocks_;
  std::vector<std::int32_t> rows_;  ///< 0, 1, 2, ...
  std::int32_t capacity_;
};

}  // namespace troupe::models
