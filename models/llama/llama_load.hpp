// Makes a llama network from a GGUF file. Knows the names that such files give to shapes and weights.
#pragma once

#include <memory>

#include <troupe/result.hpp>

#include "models/network.hpp"
#include "models/weight_reader.hpp"

namespace troupe::models {

/// The keys "llama.*", checked. Errors: corrupt_file naming the key, unsupported for variants (experts, yarn).
result<model_shape> read_llama_shape(const gguf_file& file);

/// Reads and packs all weights. Errors: as weight_reader.
result<std::unique_ptr<const network>> load_llama(const gguf_file& file, kernels::lane& lane,
                                                  const load_progress& progress);

}  // namespace troupe::models
