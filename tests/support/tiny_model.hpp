// Writes a very small llama model with seeded random weights, a 300-token byte-level vocabulary and a ChatML template,
// so that tests of actors, pipelines and the server need no download. What it says is noise, but always the same noise.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/tensor_view.hpp"
#include "tests/models/gguf/gguf_writer.hpp"
#include "tests/support/random_rows.hpp"

namespace troupe::test {

struct tiny_model_options {
  std::int32_t layers = 2;
  std::int32_t width = 64;
  std::int32_t heads = 2;
  std::int32_t kv_heads = 1;
  std::int32_t head_dim = 32;
  std::int32_t feed_forward = 96;
  std::int32_t context = 512;
  memory::dtype weights = memory::dtype::q4_0;    ///< of the layers' matrices
  memory::dtype embedding = memory::dtype::q8_0;  ///< of token_embd (and of output, if untied)
  std::vector<memory::dtype> mix = {};            ///< if any: all matrices take these types in turn instead
  bool tied = true;
  bool vocabulary = true;             ///< false: tokenizer model "none", as files for timing have
  bool may_end = false;               ///< false: end tokens never win, so greedy text runs to its limit
  bool rope_factors = false;          ///< with rope_freqs.weight, as Llama 3.1 has
  std::int32_t embedding_rows = 300;  ///< other than tiny_vocabulary_size: a table padded or too small
  std::uint64_t seed = 1;
};

inline constexpr std::int32_t tiny_vocabulary_size = 300;

/// Ids of the vocabulary: 0 to 2 are <|endoftext|>, <|im_start|>, <|im_end|> (eos), 3 to 258 the bytes, then merges.
gguf_writer make_tiny_model(const tiny_model_options& options = {});

/// The same as a file. False: the path cannot be written.
bool write_tiny_model(const std::string& path, const tiny_model_options& options = {});

/// Where a test may put a file: a fresh name in the system's folder for temporary files, deleted with the object.
class scratch_path {
public:
  explicit scratch_path(const std::string& ending);
  scratch_path(const scratch_path&) = delete;
  scratch_path& operator=(const scratch_path&) = delete;
  ~scratch_path();
  const std::string& string() const noexcept { return path_; }

private:
  std::string path_;
};

}  // namespace troupe::test
