// Reads the tokenizer's keys of a GGUF file into plain data. Knows the keys' names, not how to tokenize.
// Source: the GGUF specification's "tokenizer.ggml.*" and "tokenizer.chat_template" keys.
#pragma once

#include <string>

#include <troupe/result.hpp>

#include "models/gguf/gguf_file.hpp"
#include "models/tokenizer/vocabulary.hpp"

namespace troupe::models {

/// Errors: corrupt_file naming the key (missing, wrong type, ids or counts that do not fit), unsupported for
/// tokenizer models other than "gpt2". Copies the texts; limits are checked before.
result<vocabulary_data> read_vocabulary(const gguf_file& file);

/// True for files without a vocabulary ("none", or no tokenizer key at all), as made for timing.
bool lacks_vocabulary(const gguf_file& file);

/// The template's source, or empty where the file has none.
result<std::string> read_chat_template(const gguf_file& file);

}  // namespace troupe::models
