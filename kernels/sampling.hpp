// What one row of logits needs to be sampled, and what comes out. Plain values; knows no request and no text.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace troupe::kernels {

/// A token already seen by the sequence and how often; penalties read it.
struct token_count {
  std::int32_t id = 0;
  std::int32_t in_output = 0;  ///< times generated: presence and frequency penalties (as OpenAI defines them)
  bool in_prompt = false;      ///< repetition_penalty counts prompt tokens too (as in the CTRL paper)
};

/// Order of operations: bias and penalties, log-probabilities taken, temperature, top_k, top_p, min_p, choice.
/// The choice is a pure function of (logits, these fields): same seed and counter, same token, whatever the batch.
struct sampling_row {
  float temperature = 0.0f;  ///< 0 = greedy; ties go to the lowest id
  std::int32_t top_k = 0;    ///< 0 = off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::span<const token_count> seen;
  std::span<const std::pair<std::int32_t, float>> bias;
  std::uint64_t seed = 0;          ///< key of a counter-based generator (Philox 4x32-10, Salmon et al. 2011)
  std::uint64_t counter = 0;       ///< index of the token in the generation
  std::int32_t top_logprobs = -1;  ///< -1 = none wanted, 0 = the chosen token's only, up to 20
};

struct sampled {
  std::int32_t id = -1;  ///< -1: the row held NaN or only -inf; the request fails with errc::numeric
  float logprob = 0.0f;  ///< natural log, before temperature and truncation; set where top_logprobs >= 0
  std::vector<std::pair<std::int32_t, float>> top;
};

}  // namespace troupe::kernels
