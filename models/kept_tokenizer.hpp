// The tokenizer of a model's file, from the tables that an earlier start has left on disk where there are some.
// Knows no network and no template.
#pragma once

#include <troupe/result.hpp>

#include "memory/copy_folder.hpp"
#include "models/gguf/gguf_file.hpp"
#include "models/tokenizer/tokenizer.hpp"

namespace troupe::models {

/// Made from the file's vocabulary, its tables are kept in `copies`; what is there of another version of the file or of
/// another layout, damaged or cut short, is made anew. What is used is read into memory: nobody who changes the copy
/// later changes the tokenizer. That tables cannot be kept is no error. Errors: corrupt_file, unsupported.
result<tokenizer> kept_tokenizer(const gguf_file& file, const memory::copy_folder& copies);

}  // namespace troupe::models
