// One token from each row of logits, for a whole step in one launch: the same order of operations, generator and
// weights as the CPU's sample_row, so the same seed and logits give the same choice. Knows no text and no request.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/step_tables.hpp"

namespace troupe::kernels::cuda {

constexpr std::int32_t most_top_logprobs = 20;

/// kernels::sampling_row as the device reads it. Lists are ranges of sample_call's arrays.
struct sample_parameters {
  float temperature = 0.0f;  ///< 0: greedy
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::int32_t top_k = 0;
  std::int32_t top_logprobs = -1;
  std::uint64_t seed = 0;
  std::uint64_t counter = 0;
  std::int32_t first_seen = 0, seen = 0;  ///< each token once
  std::int32_t first_bias = 0, biases = 0;
  std::int32_t count_row = -1;  ///< row of sample_call::counts that this sequence's tokens are counted in; -1: none
};

struct seen_token {
  std::int32_t id;
  std::int32_t in_output;
};
struct token_bias {
  std::int32_t id;
  float value;
};

/// What the host reads a step later.
struct sample_pick {
  std::int32_t id;  ///< -1: NaN, +inf, or nothing but -inf
  float logprob;    ///< where top_logprobs >= 0
  std::int32_t tops;
  std::int32_t top_ids[most_top_logprobs];
  float top_logprobs[most_top_logprobs];
};

/// Counts on the device make penalties independent of the host: [count_rows][vocab], in_prompt | times generated.
constexpr std::uint16_t in_prompt = 0x8000;

struct sample_call {
  const step_tables* tables = nullptr;  ///< counts[2] rows are sampled; last_ids[sample_slots[r]] takes the choice
  const float* logits = nullptr;        ///< [R][stride]; overwritten where the device has no clusters
  std::int64_t stride = 0;
  std::int32_t vocab = 0;
  const sample_parameters* parameters = nullptr;  ///< device [R]
  const seen_token* seen = nullptr;
  const token_bias* biases = nullptr;
  std::uint16_t* counts = nullptr;  ///< a row's choice is counted
  sample_pick* picks = nullptr;     ///< [R], on the device or pinned on the host
};

/// The largest vocabulary that fits the device's shared memory.
std::int32_t most_vocab();

/// Reads each row once. A cluster of eight blocks holds a row in shared memory; thresholds come from histograms,
/// nothing is sorted but what lies in one bin of them.
void sample(const sample_call& call, cudaStream_t on);

}  // namespace troupe::kernels::cuda
