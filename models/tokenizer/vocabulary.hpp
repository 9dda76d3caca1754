// The vocabulary of a byte-level BPE tokenizer as plain data, as a model file carries it.
// Knows no file format, and promises nothing: tokenizer::create checks every id, token and merge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace troupe::models {

enum class token_kind : uint8_t {
  normal,        ///< ordinary text, reached by merging
  unknown,       ///< stands for what cannot be encoded; treated as control
  control,       ///< steers the model (<|im_start|>); never made from a user's text
  user_defined,  ///< literal text that is one token wherever it occurs
  unused,        ///< a hole in the vocabulary: never made from text
  byte,          ///< written "<0xAB>": one raw byte
};

struct vocabulary_data {
  std::vector<std::string> tokens;  ///< by id; normal tokens in GPT-2's byte-to-unicode letters, the others literally
  std::vector<token_kind> kinds;    ///< by id; empty: all normal
  std::vector<std::string> merges;  ///< "left right", best first
  std::string pre_tokenizer;        ///< "gpt-2", "smollm", "llama-bpe" or "qwen2"
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::optional<int32_t> eot;
  std::optional<int32_t> unk;
  std::vector<int32_t> more_eog;  ///< further ids that end a generation
  bool add_bos = false;           ///< whether a prompt wants bos in front; encode leaves that to its caller
};

}  // namespace troupe::models
