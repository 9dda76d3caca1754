// Weights to f32, element by element as the GGUF specification states each type: the oracle for packed weights.
#pragma once

#include <vector>

#include "memory/tensor_view.hpp"

namespace troupe::test {

/// All rows of `view`, one after another, [rows * cols].
std::vector<float> dequantise(const memory::tensor_view& view);

}  // namespace troupe::test
