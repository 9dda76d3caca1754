// A llama network with random weights, for measurements: no file, made where the lane keeps its matrices. Knows no
// device.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include <troupe/result.hpp>

#include "models/network.hpp"

namespace troupe::models {

/// What matrix_source is asked for.
enum class matrix_role { embedding, layer, head };
/// Random weights [rows, cols] of variance about 1 / cols.
using matrix_source =
    std::function<result<kernels::matrix>(matrix_role role, std::int64_t rows, std::int64_t cols, std::uint64_t seed)>;

/// Shapes of well-known models, without their names for weights: "llama-8b" (3.1), "llama-1b" (3.2), "qwen-0.6b"
/// (Qwen3's sizes, without its norms of Q and K), "smollm-135m". invalid_argument: another name.
result<model_shape> known_shape(std::string_view name);

result<std::unique_ptr<const network>> make_random_llama(model_shape shape, bool tied, kernels::lane& lane,
                                                         const matrix_source& source);
bool tied_shape(std::string_view name);

}  // namespace troupe::models
