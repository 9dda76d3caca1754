// What a generation is asked for. Plain values: no pointers, so that a request can cross a process border.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

struct chat_message {
  std::string role;  ///< "system", "user", "assistant" or what else the model's template knows
  std::string content;
};

/// How tokens are chosen. Limits are checked at submit: finite numbers, ranges as commented.
struct sampling {
  float temperature = 1.0f;                                ///< 0 to 2; 0 is greedy
  std::int32_t top_k = 0;                                  ///< 0 is off
  float top_p = 1.0f;                                      ///< over 0, to 1
  float min_p = 0.0f;                                      ///< 0 to 1
  float repetition_penalty = 1.0f;                         ///< over 0, to 10
  float presence_penalty = 0.0f;                           ///< -2 to 2
  float frequency_penalty = 0.0f;                          ///< -2 to 2
  std::vector<std::pair<std::int32_t, float>> logit_bias;  ///< token id, -100 to 100; at most 1,024
  std::optional<std::uint64_t> seed;  ///< same seed, same text, whatever else runs; absent: the runtime picks one
};

using chat_prompt = std::vector<chat_message>;
using text_prompt = std::string;  ///< encoded as it is, control tokens not parsed
using token_prompt = std::vector<std::int32_t>;

struct request {
  std::variant<chat_prompt, text_prompt, token_prompt> prompt;
  sampling how;
  std::optional<std::int32_t> max_tokens;  ///< at least 1; absent: what the context leaves
  std::vector<std::string> stop;           ///< at most 16, each 1 to 256 bytes; not part of the text
  std::int32_t top_logprobs = -1;          ///< -1 none, 0 the chosen token's, up to 20 alternatives
  bool ignore_eos = false;                 ///< for benchmarks: go on to max_tokens
};

}  // namespace troupe
