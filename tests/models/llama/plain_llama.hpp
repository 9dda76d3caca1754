// The llama forward pass in the plainest form, in double but for K and V, whole sequence at once: the oracle for the
// real one. Source: the same papers as models/llama/llama.hpp; interleaved rotary pairs, as GGUF files store Q and K.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/gguf/gguf_file.hpp"
#include "models/network.hpp"

namespace troupe::test {

/// Logits [ids][vocabulary] of a file whose shape is given.
std::vector<std::vector<double>> plain_llama(const models::gguf_file& file, const models::model_shape& shape,
                                             std::span<const std::int32_t> ids);

}  // namespace troupe::test
