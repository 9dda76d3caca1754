// A loaded model: one immutable value with all that generating needs, and the way to make it from a file.
// Knows no actor and no request.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <troupe/result.hpp>

#include "kernels/lane.hpp"
#include "memory/copy_folder.hpp"
#include "models/network.hpp"

namespace troupe::models {

class tokenizer;
class chat_template;
class gguf_file;

/// Shared and read by many threads; `network` is computed with on the lane that it was loaded for, which outlives it.
struct loaded_model {
  std::string path;
  std::string architecture;  ///< "llama"
  std::string name;          ///< "general.name", or empty
  std::int64_t file_bytes = 0;
  std::shared_ptr<const gguf_file> file;  ///< mapped as long as matrices may refer to it
  std::unique_ptr<const models::network> network;
  std::shared_ptr<const models::tokenizer> tokenizer;          ///< null for files without a vocabulary, made for timing
  std::shared_ptr<const models::chat_template> chat_template;  ///< the file's, or ChatML; null without a tokenizer
  std::string bos_text;  ///< as the template wants to see them; empty where the vocabulary has none
  std::string eos_text;

  const model_shape& shape() const noexcept { return network->shape(); }
};

/// Takes as long as packing does: about file bytes over the memory's bandwidth. Errors: not_found, io, corrupt_file,
/// unsupported (architecture, tokenizer, tensor type: named with what is known), out_of_memory. `copies`: where the
/// tokenizer's tables are kept for the next start; the lane knows by itself where its weights are.
result<std::shared_ptr<const loaded_model>> load_model(const std::string& path, kernels::lane& lane,
                                                       const load_progress& progress = {},
                                                       const memory::copy_folder& copies = {});

/// The architectures that load_model knows, comma-separated.
std::string known_architectures();

}  // namespace troupe::models
