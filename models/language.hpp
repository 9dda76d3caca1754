// What a model says and hears, apart from its weights: its tokens, its chat template, and the texts that the template
// wants to see. Knows no network and no lane.
#pragma once

#include <memory>
#include <string>

#include <troupe/result.hpp>

#include "memory/copy_folder.hpp"
#include "models/chat_template/chat_template.hpp"
#include "models/gguf/gguf_file.hpp"
#include "models/tokenizer/tokenizer.hpp"

namespace troupe::models {

struct language {
  std::shared_ptr<const models::tokenizer> tokenizer;          ///< null for files without a vocabulary, made for timing
  std::shared_ptr<const models::chat_template> chat_template;  ///< the file's, or ChatML; null without a tokenizer
  std::string bos_text;                                        ///< empty where the vocabulary has none
  std::string eos_text;
};

/// Tens of milliseconds for a large vocabulary, a few where `copies` has its tables from an earlier start. Errors:
/// corrupt_file, unsupported (tokenizer).
result<language> read_language(const gguf_file& file, const memory::copy_folder& copies = {});

}  // namespace troupe::models
